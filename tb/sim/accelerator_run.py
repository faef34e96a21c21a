"""Serves an accelerator harness: does what the other end of a connection asks for, in as many cycles as that takes."""

from __future__ import annotations

import os
import pickle
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
from .memory import configure_channel, open_memory
from .nodes import NodeArrays

HARNESS = "accelerator_harness"
RESET_CYCLES = 3


class Server:
    """What may be asked for, by name; `tb.benches.simulated_bus.SimulatedBus` is who asks."""

    def __init__(self, dut: Any, job: dict):
        self.dut, self.config = dut, job["config"]
        config: ChipConfig = self.config
        open_memory(Path(job["memory"]))
        self.channels = [f"{HARNESS}.channels[{i}].memory" for i in range(config.managers)]
        self.accesses = array(HARNESS, "accesses", ACCESSES, 64).view(np.uint64)[:, 0]
        self.results = array(HARNESS, "results", ACCESSES, 64).view(np.uint64)[:, 0]
        self.count = array(HARNESS, "access_count", 1, 32).view(np.uint32)
        self.irq = array(HARNESS, "irq", 1, 1)
        self.recorded = array(HARNESS, "violations", config.managers, 32).view(np.uint32)[:, 0]
        self.clock = Clock(dut, HARNESS, job["run"])

    async def configure(self, tables: list[NDArray[np.uint32]]) -> None:
        for scope, table in zip(self.channels, tables, strict=True):
            configure_channel(scope, table)

    async def reset(self) -> int:
        """The cycles that it took."""
        self.dut.go.value = 0
        self.dut.rst.value = 1
        await self.clock.advance(RESET_CYCLES)
        self.dut.rst.value = 0
        await self.clock.advance(1)
        self.nodes = NodeArrays(self.config, f"{HARNESS}.accelerator.chip")
        return RESET_CYCLES + 1

    async def play(self, accesses: NDArray[np.uint64], limit: int) -> tuple[int, NDArray[np.uint64] | None]:
        """Cycles, and the results of register accesses; None if the last was not answered within ``limit`` cycles."""
        self.accesses[: len(accesses)] = accesses
        self.count[0] = len(accesses)
        self.dut.go.value = 1
        cycles = await self.clock.advance(limit, "played")
        if cycles == limit:
            return cycles, None
        self.dut.go.value = 0
        await self.clock.advance(1)
        return cycles + 1, self.results[: len(accesses)].copy()

    async def advance(self, cycles: int) -> int:
        return await self.clock.advance(cycles)

    async def interrupt(self, limit: int) -> tuple[int, bool]:
        """Cycles until it is raised, ``limit`` at most; whether it is."""
        return await self.clock.advance(limit, "irq"), bool(self.irq[0, 0])

    async def peak_bytes(self) -> int:
        return peak_bytes()

    async def violations(self) -> list[int]:
        return [int(word) for word in self.recorded]

    async def bank(self, region: Readback) -> NDArray[Any]:
        return self.nodes.read(region)

    async def words(self, which: Any, node: int) -> NDArray[np.uint8]:
        return self.nodes.view(which, node).copy()


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
