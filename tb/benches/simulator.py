"""The way from Python to a simulator of one accelerator or several: what is common to all of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from podweave.spec.config import ChipConfig

from ..build.simulate import NoVerdictError, SimulationError, check_verdict, log_tail
from .accelerator_task import Reply

ANSWER_CYCLES = 1_000_000
"""Cycles after which a register access is given up: the chip may be using a load port that NODE_DATA waits for."""
_FIRST_BURST, _LONGEST_BURST = 4096, 1 << 20
_BURST_SECONDS = 0.5
_CLOSING_SECONDS = 20
_WRITE = 1 << 63
_RESPONSES = {1: "EXOKAY", 2: "SLVERR", 3: "DECERR"}
SERVER = "podweave.tb.sim.accelerator_run"
_VIOLATIONS = (
    "AR changed while it waited",
    "AW changed while it waited",
    "W changed while it waited",
    "a burst crosses 4 KiB",
    "WLAST at the wrong beat",
    "bursts under way at a start",
)
_LINK_VIOLATIONS = ("a flit changed while it waited",)


class BusError(SimulationError):
    """A register access was answered with an error; the message names it."""


class Simulator:
    """The process that simulates accelerators as long as a session lasts, and only while it is asked for something.

    Every method raises `SimulationError`, with the end of the simulator's log, if the simulation is at its end.

    Members
    -------
    config, count : ChipConfig, int
        Of each accelerator, and how many they are.
    cycles : int
        Simulated so far.
    process, directory
        The simulator, and the folder in which it runs.
    """

    def __init__(self, config: ChipConfig, count: int, process: subprocess.Popen, connection: Connection, directory: Path):
        self.config, self.count, self.process, self.directory = config, count, process, directory
        self._connection = connection
        self.cycles = 0

    def play(
        self, accesses: Mapping[int, Sequence[tuple[int, int | None]]], delays: Mapping[int, int] | None = None
    ) -> dict[int, list[int]]:
        """Accesses to registers by chip, all chips at the same time.

        Parameters
        ----------
        accesses : mapping of int to sequence of (int, int or None)
            By chip, the offset of a register and the value to write, or None to read; up to `ACCESSES` each.
        delays : mapping of int to int
            Cycles by which the first access of a chip comes later than without; 0 by default.

        Returns the values read, and 0 for writes. Raises `BusError` for the first access of a chip that is refused; those behind it
        may be done.
        """
        tables = {chip: np.array([_access(*each) for each in some], np.uint64) for chip, some in accesses.items()}
        waits = {chip: (delays or {}).get(chip, 0) for chip in tables}
        cycles, results = self.ask("play", tables, waits, ANSWER_CYCLES + max(waits.values(), default=0))
        self.cycles += cycles
        if results is None:
            raise SimulationError(f"no answer to a register access within {ANSWER_CYCLES} cycles")
        for chip, table in tables.items():
            for access, result in zip(table.tolist(), results[chip].tolist(), strict=True):
                if result >> 32:
                    way = "write" if access & _WRITE else "read"
                    raise BusError(
                        f"{self.named(chip)}{way} of the register at {access >> 32 & 0x7FFFFFFF:#05x} was answered with "
                        f"{_RESPONSES[result >> 32]}"
                    )
        return {chip: [result & 0xFFFFFFFF for result in found.tolist()] for chip, found in results.items()}

    def wait_interrupts(
        self, chips: Sequence[int], max_cycles: int, progress: Callable[[int], None] | None = None
    ) -> dict[int, bool]:
        """By chip, whether its interrupt is raised: when all are, or after ``max_cycles``. ``progress`` is told of cycles so far
        about twice a second."""
        done, burst = 0, _FIRST_BURST
        while True:
            began = time.perf_counter()
            ran, raised = self.ask("interrupts", list(chips), min(burst, max_cycles - done))
            done += ran
            self.cycles += ran
            if all(raised.values()) or done >= max_cycles:
                self.check_rules()
                return raised
            if progress:
                progress(done)
            seconds = max(time.perf_counter() - began, 1e-6)
            burst = min(_LONGEST_BURST, max(64, int(burst * min(2.0, _BURST_SECONDS / seconds))))

    def advance(self, cycles: int) -> None:
        """Let time pass."""
        while cycles > 0:
            ran = self.ask("advance", min(cycles, _LONGEST_BURST))
            self.cycles += ran
            cycles -= ran

    def reset(self) -> None:
        """Reset everything. Memory stays as it is."""
        self.reset_chips(range(self.count))

    def reset_chips(self, chips: Iterable[int]) -> None:
        """Pulse ``rst`` of some accelerators, and of what is at their AXI ports; what is under way on links stays, unless all are
        reset."""
        self.cycles += self.ask("reset", list(chips))

    def peak_bytes(self) -> int:
        """The most memory that the simulator has had so far."""
        peak: int = self.ask("peak_bytes")
        return peak

    def check_rules(self) -> None:
        """Raise `SimulationError` if a manager has broken a rule of AXI4, or a transmitter one of links, since the last reset."""
        managers, links = self.ask("violations")
        for port, word in enumerate(managers):
            chip, manager = divmod(port, self.config.managers)
            _require_none(word, _VIOLATIONS, f"{self.named(chip)}AXI4 manager {manager}")
        for chip, word in enumerate(links):
            _require_none(word, _LINK_VIOLATIONS, f"{self.named(chip)}link to the next chip")

    def named(self, chip: int) -> str:
        """What messages begin with, if there are several chips."""
        return f"chip {chip}: " if self.count > 1 else ""

    def close(self) -> None:
        """End the simulation; raises `SimulationError` if it was not in order."""
        if self._connection.closed:
            return
        try:
            self.check_rules()
            self._connection.send(("close", ()))
            self._connection.close()
            self.process.wait(_CLOSING_SECONDS)
        except SimulationError:
            self.kill()
            raise
        except (OSError, subprocess.TimeoutExpired) as error:
            self.kill()
            raise NoVerdictError(f"the simulator did not end in order:\n{log_tail(self.directory)}") from error
        check_verdict(SERVER, self.directory, self.process.returncode)

    def kill(self) -> None:
        """End the simulator, whatever it does."""
        self._connection.close()
        self.process.kill()
        self.process.wait()

    def ask(self, command: str, *arguments: Any) -> Any:
        """What the simulator's side (`tb.sim.accelerator_run.Server`) answers."""
        try:
            self._connection.send((command, arguments))
            reply: Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            self.kill()
            raise NoVerdictError(f"the simulator has ended:\n{log_tail(self.directory)}") from error
        if reply.failure:
            self.kill()
            raise (SimulationError if reply.found else NoVerdictError)(f"{reply.failure}\n{log_tail(self.directory)}")
        return reply.value


def _require_none(word: int, violations: Sequence[str], who: str) -> None:
    broken = [what for bit, what in enumerate(violations) if word >> bit & 1]
    if broken:
        raise SimulationError(f"{who}: {'; '.join(broken)}")


def _access(offset: int, value: int | None) -> int:
    """An access as a host takes it: a read without ``value``."""
    if value is None:
        return offset << 32
    if not 0 <= value < 1 << 32:
        raise ValueError(f"a register has 32 bits, got {value}")
    return _WRITE | offset << 32 | value
