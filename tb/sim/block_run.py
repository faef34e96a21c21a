"""Drives a block harness: loads the table of inputs, runs, saves the table of outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import Timer

from tb.sim.backdoor import array

PERIOD = 2


@cocotb.test()
async def run_block(dut: Any) -> None:
    task = json.loads(Path("task.json").read_text())
    rows = np.load("stimulus.npy")
    stimulus = array("block_harness", "stimulus", task["depth"], task["widths"][0])
    trace = array("block_harness", "trace", task["depth"], task["widths"][1])
    stimulus[:] = 0
    stimulus[: len(rows), : rows.shape[1]] = rows

    async def reset() -> None:
        dut.rst.value = 1
        await Timer(3 * PERIOD, "ns")
        dut.rst.value = 0

    Clock(dut.clk, PERIOD, "ns").start()
    # Away from the edges, so that no write races with one.
    await Timer(1.5, "ns")
    await reset()
    if task["reset_at"] is not None:
        await Timer(task["reset_at"] * PERIOD, "ns")
        await reset()
    await Timer(task["cycles"] * PERIOD, "ns")
    np.save("trace.npy", trace[: task["cycles"]].copy())
