"""The way from Python to a simulated accelerator: its registers, memory and interrupt, one synchronous call after the other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import ErrorRange
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from ..build.simulate import NoVerdictError, SimulationError, check_verdict, log_tail
from .accelerator_task import ACCESSES, Reply
from .chip_task import Readback

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


class BusError(SimulationError):
    """A register access was answered with an error; the message names it."""


class SimulatedBus:
    """An accelerator in a simulator that runs as long as a session, and only while it is asked for something.

    ``memory``: all of it, bytes; what is written here is read there at once, and the other way round. ``cycles``: simulated so
    far. Every method raises `SimulationError`, with the end of the simulator's log, if the simulation is at its end.
    """

    def __init__(
        self,
        config: ChipConfig,
        process: subprocess.Popen,
        connection: Connection,
        directory: Path,
        memory: NDArray[np.uint8],
        timing: HbmTiming,
    ):
        self.config, self.memory, self.timing = config, memory, timing
        self._process, self._connection, self._directory = process, connection, directory
        self.cycles = 0
        self.inject(())
        self.reset()

    def read32(self, offset: int) -> int:
        (value,) = self._play([_access(offset)])
        return value

    def write32(self, offset: int, value: int) -> None:
        self.write_many([(offset, value)])

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """(offset, value) of registers, in order; raises `BusError` for the first refused; those behind it may be written."""
        for begin in range(0, len(writes), ACCESSES):
            self._play([_access(offset, value) for offset, value in writes[begin : begin + ACCESSES]])

    def read_memory(self, address: int, size: int) -> NDArray[np.uint8]:
        self._within(address, size)
        return np.array(self.memory[address : address + size])

    def write_memory(self, address: int, data: NDArray[np.uint8]) -> None:
        self._within(address, len(data))
        self.memory[address : address + len(data)] = data

    def wait_interrupt(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        """Whether the interrupt is raised within ``max_cycles``; ``progress`` is told of cycles so far about twice a second."""
        done, burst = 0, _FIRST_BURST
        while True:
            began = time.perf_counter()
            ran, raised = self._ask("interrupt", min(burst, max_cycles - done))
            done += ran
            self.cycles += ran
            if raised or done >= max_cycles:
                self.check_rules()
                return raised
            if progress:
                progress(done)
            seconds = max(time.perf_counter() - began, 1e-6)
            burst = min(_LONGEST_BURST, max(64, int(burst * min(2.0, _BURST_SECONDS / seconds))))

    def advance(self, cycles: int) -> None:
        """Let time pass."""
        while cycles > 0:
            ran = self._ask("advance", min(cycles, _LONGEST_BURST))
            self.cycles += ran
            cycles -= ran

    def reset(self) -> None:
        """Pulse ``rst``. Memory stays as it is."""
        self.cycles += self._ask("reset")

    def inject(self, errors: Sequence[ErrorRange]) -> None:
        """From now on the memory answers with ``errors``, and with no others; only while no run is on."""
        size = len(self.memory) // self.config.managers
        tables = [
            self.timing.of_channel(m).table(base=m * size, end=(m + 1) * size, errors=errors) for m in range(self.config.managers)
        ]
        self._ask("configure", tables)

    def bank(self, region: Readback) -> NDArray[Any]:
        """Words of a bank past all ports: int8 (words, lanes) of an X or W bank, int32 of a P bank."""
        return self._ask("bank", region)

    def node_array(self, which: Any, node: int) -> NDArray[np.uint8]:
        """An array of a node past all ports, (words, bytes); ``which`` as in `tb.sim.nodes.NodeArrays`."""
        return self._ask("words", which, node)

    def peak_bytes(self) -> int:
        """The most memory that the simulator has had so far."""
        peak: int = self._ask("peak_bytes")
        return peak

    def check_rules(self) -> None:
        """Raise `SimulationError` if a manager has broken a rule of AXI4 since the last reset."""
        for manager, word in enumerate(self._ask("violations")):
            broken = [what for bit, what in enumerate(_VIOLATIONS) if word >> bit & 1]
            if broken:
                raise SimulationError(f"AXI4 manager {manager}: {'; '.join(broken)}")

    def close(self) -> None:
        """End the simulation; raises `SimulationError` if it was not in order."""
        if self._connection.closed:
            return
        try:
            self.check_rules()
            self._connection.send(("close", ()))
            self._connection.close()
            self._process.wait(_CLOSING_SECONDS)
        except SimulationError:
            self.kill()
            raise
        except (OSError, subprocess.TimeoutExpired) as error:
            self.kill()
            raise NoVerdictError(f"the simulator did not end in order:\n{log_tail(self._directory)}") from error
        check_verdict(SERVER, self._directory, self._process.returncode)

    def kill(self) -> None:
        """End the simulator, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _play(self, accesses: list[int]) -> list[int]:
        cycles, results = self._ask("play", np.array(accesses, np.uint64), ANSWER_CYCLES)
        self.cycles += cycles
        if results is None:
            raise SimulationError(f"no answer to a register access within {ANSWER_CYCLES} cycles")
        for access, result in zip(accesses, results.tolist(), strict=True):
            if result >> 32:
                way = "write" if access & _WRITE else "read"
                raise BusError(
                    f"{way} of the register at {access >> 32 & 0x7FFFFFFF:#05x} was answered with {_RESPONSES[result >> 32]}"
                )
        return [result & 0xFFFFFFFF for result in results.tolist()]

    def _ask(self, command: str, *arguments: Any) -> Any:
        try:
            self._connection.send((command, arguments))
            reply: Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            self.kill()
            raise NoVerdictError(f"the simulator has ended:\n{log_tail(self._directory)}") from error
        if reply.failure:
            self.kill()
            raise (SimulationError if reply.found else NoVerdictError)(f"{reply.failure}\n{log_tail(self._directory)}")
        return reply.value

    def _within(self, address: int, size: int) -> None:
        if address < 0 or address + size > len(self.memory):
            raise ValueError(f"bytes {address:#x} to {address + size:#x} are not in a memory of {len(self.memory):#x} bytes")


def _access(offset: int, value: int | None = None) -> int:
    """An access as the harness takes it: a read without ``value``."""
    if value is None:
        return offset << 32
    if not 0 <= value < 1 << 32:
        raise ValueError(f"a register has 32 bits, got {value}")
    return _WRITE | offset << 32 | value
