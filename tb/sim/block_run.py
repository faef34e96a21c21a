"""Drives a block harness: loads a table of inputs, runs, saves the table of outputs; as often as there are tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from .backdoor import array
from .clock import Clock
from .memory import configure, open_memory


@cocotb.test()
async def run_block(dut: Any) -> None:
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    stimulus = array("block_harness", "stimulus", task["depth"], task["widths"][0])
    trace = array("block_harness", "trace", task["depth"], task["widths"][1])
    clock = Clock(dut, "block_harness")

    async def reset() -> None:
        dut.rst.value = 1
        await clock.advance(3)
        dut.rst.value = 0

    for index, run in enumerate(task["runs"]):
        rows = np.load(f"stimulus{index}.npy")
        stimulus[:] = 0
        stimulus[: len(rows), : rows.shape[1]] = rows
        if run["memory"]:
            open_memory(Path(run["memory"]))
        for scope, table in run["tables"].items():
            configure(scope, np.array(table, np.uint32))
        if task["reset"]:
            await reset()
        else:
            dut.rst.value = 0
        if task["reset_at"] is not None:
            await clock.advance(task["reset_at"])
            await reset()
        await clock.advance(len(rows))
        np.save(f"trace{index}.npy", trace[: len(rows)].copy())
