"""Serves a harness of accelerators: does what the other end of a connection asks for, in as many cycles as that takes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig

from ..benches.accelerator_task import ACCESSES, CHANNEL, Reply
from ..benches.chip_task import Readback
from .backdoor import array, peak_bytes
from .clock import Clock
from .memory import configure, open_memory
from .nodes import NodeArrays

HARNESS = "accelerator_harness"
RESET_CYCLES = 3


class Host:
    """The tables of the host of a chip."""

    def __init__(self, chip: int):
        scope = f"{HARNESS}.hosts[{chip}].host"
        self.accesses = array(scope, "accesses", ACCESSES, 64).view(np.uint64)[:, 0]
        self.results = array(scope, "results", ACCESSES, 64).view(np.uint64)[:, 0]
        self.count, self.delay = _words(scope, "access_count", 1), _words(scope, "delay", 1)

    def give(self, accesses: NDArray[np.uint64], delay: int) -> None:
        self.accesses[: len(accesses)] = accesses
        self.count[0], self.delay[0] = len(accesses), delay


class Server:
    """What may be asked for, by name; `tb.benches.simulator.Simulator` is who asks."""

    def __init__(self, dut: Any, job: dict):
        self.dut, self.config, self.chips = dut, job["config"], job["chips"]
        config: ChipConfig = self.config
        open_memory(Path(job["memory"]))
        self.hosts = [Host(i) for i in range(self.chips)]
        self.irq = array(HARNESS, "irq", 1, self.chips)
        self.broken = _words(HARNESS, "violations", self.chips * config.managers)
        self.broken_links = _words(HARNESS, "link_violations", self.chips if config.links else 0)
        self.clock = Clock(dut, HARNESS, job["run"])

    async def configure(self, chip: int, tables: list[NDArray[np.uint32]]) -> None:
        for manager, table in enumerate(tables):
            configure(f"{HARNESS}.channels[{chip * len(tables) + manager}].memory", table)

    async def configure_links(self, tables: list[NDArray[np.uint32]]) -> None:
        for chip, table in enumerate(tables):
            configure(f"{HARNESS}.links[{chip}].link", table)

    async def reset(self, chips: list[int]) -> int:
        """The cycles that it took, in which the other chips go on."""
        self.dut.go.value = 0
        self.dut.awaited.value = 0
        self.dut.rst.value = _mask(chips)
        await self.clock.advance(RESET_CYCLES)
        self.dut.rst.value = 0
        await self.clock.advance(1)
        accelerators = [f"system.c{i}" for i in range(self.chips)] if self.chips > 1 else ["accelerator"]
        self.nodes = [NodeArrays(self.config, f"{HARNESS}.{name}.chip") for name in accelerators]
        return RESET_CYCLES + 1

    async def play(
        self, accesses: dict[int, NDArray[np.uint64]], delays: dict[int, int], limit: int
    ) -> tuple[int, dict[int, NDArray[np.uint64]] | None]:
        """Cycles, and the results of register accesses, by chip; None if not all were answered within ``limit`` cycles."""
        for chip, table in accesses.items():
            self.hosts[chip].give(table, delays[chip])
        self.dut.go.value = _mask(accesses)
        cycles = await self.clock.advance(limit, "played")
        if cycles == limit:
            return cycles, None
        self.dut.go.value = 0
        await self.clock.advance(1)
        return cycles + 1, {chip: self.hosts[chip].results[: len(table)].copy() for chip, table in accesses.items()}

    async def advance(self, cycles: int) -> int:
        return await self.clock.advance(cycles)

    async def interrupts(self, chips: list[int], limit: int) -> tuple[int, dict[int, bool]]:
        """Cycles until all are raised, ``limit`` at most; whether each is."""
        self.dut.awaited.value = _mask(chips)
        cycles = await self.clock.advance(limit, "raised")
        return cycles, {chip: bool(self.irq[0, 0] >> chip & 1) for chip in chips}

    async def peak_bytes(self) -> int:
        return peak_bytes()

    async def violations(self) -> tuple[list[int], list[int]]:
        return self.broken.tolist(), self.broken_links.tolist()

    async def bank(self, chip: int, region: Readback) -> NDArray[Any]:
        return self.nodes[chip].read(region)

    async def words(self, chip: int, which: Any, node: int) -> NDArray[np.uint8]:
        return self.nodes[chip].view(which, node).copy()


def _words(scope: str, name: str, count: int) -> NDArray[np.uint32]:
    """A live view of a public array of words of 32 bits."""
    return array(scope, name, count, 32).view(np.uint32)[:, 0]


def _mask(chips: Iterable[int]) -> int:
    return sum(1 << chip for chip in chips)


@cocotb.test()
async def serve(dut: Any) -> None:
    with Path("job.pickle").open("rb") as handle:
        server = Server(dut, pickle.load(handle))
    with Connection(int(os.environ[CHANNEL])) as connection:
        while True:
            try:
                command, arguments = connection.recv()
            except EOFError:
                # Whoever asked is gone.
                return
            if command == "close":
                return
            try:
                reply = Reply(await getattr(server, command)(*arguments))
            except Exception as error:
                connection.send(Reply(None, f"{type(error).__name__}: {error}", isinstance(error, AssertionError)))
                raise
            connection.send(reply)
