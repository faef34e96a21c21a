"""Drives a prefetch engine whose memory is in its harness."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray

from .backdoor import array
from .clock import Clock

SCOPE = "prefetch_harness"
_POLL = 64

Advance = Callable[[int], Awaitable[None]]


class Harness:
    """The public arrays of the harness."""

    def __init__(self, widths: list[int], depths: list[int]):
        self.rows = array(SCOPE, "rows", depths[0], widths[0])
        self.memory = array(SCOPE, "memory", depths[1], widths[1])
        self.cycles = array(SCOPE, "cycles", 1, 32).view(np.uint32)[0]
        self.settings = array(SCOPE, "settings", 16, 32).view(np.uint32)[:, 0]

    def prepare(self, settings: list[int], memory: NDArray[np.uint8]) -> None:
        self.settings[: len(settings)] = settings
        flat = self.memory.reshape(-1)
        flat[: len(memory)] = memory

    def recorded(self) -> NDArray[np.uint8]:
        return self.rows[: int(self.cycles[0])].copy()


def clear_inputs(dut: Any, names: list[str]) -> None:
    """What is not driven may be anything, with a random initial state."""
    for name in names:
        getattr(dut, name).value = 0


async def run_phases(dut: Any, phases: list[dict[str, Any]], advance: Advance) -> None:
    for phase in phases:
        for name, value in phase["inputs"].items():
            getattr(dut, name).value = value
        dut.rst.value = int(phase["reset"])
        left = phase["cycles"]
        while left:
            step = min(left, _POLL) if phase["until_quiet"] else left
            await advance(step)
            left -= step
            if phase["until_quiet"] and dut.settled.value == 1:
                break


@cocotb.test()
async def run_prefetch(dut: Any) -> None:
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    harness = Harness(task["widths"], task["depths"])
    clock = Clock(dut, SCOPE)

    async def advance(cycles: int) -> None:
        await clock.advance(cycles)

    dut.internal.value = 1
    clear_inputs(dut, task["inputs"])
    for i, scenario in enumerate(task["scenarios"]):
        harness.prepare(scenario["settings"], np.load(f"memory_{i}.npy"))
        dut.rst.value = 1
        await clock.advance(3)
        harness.cycles[0] = 0
        dut.rst.value = 0
        await run_phases(dut, scenario["phases"], advance)
        np.save(f"rows_{i}.npy", harness.recorded())
        np.save(f"memory_after_{i}.npy", harness.memory.reshape(-1))
