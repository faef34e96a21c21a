"""Drives a block harness: loads a table of inputs, runs, saves the table of outputs; as often as there are tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb

from ..benches.storage import stride
from .backdoor import contents
from .clock import Clock
from .memory import configure, open_memory


@cocotb.test()
async def run_block(dut: Any) -> None:
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    row_bits, trace_bits = task["widths"]
    stimulus = contents("block_harness", "stimulus", task["depth"], row_bits)
    trace = contents("block_harness", "trace", task["depth"], trace_bits)
    row, traced = stride(row_bits), stride(trace_bits)
    clock = Clock(dut, "block_harness")

    async def reset() -> None:
        dut.rst.value = 1
        await clock.advance(3)
        dut.rst.value = 0

    for index, run in enumerate(task["runs"]):
        rows = Path(f"stimulus{index}").read_bytes()
        cycles = len(rows) // row
        stimulus[:] = rows.ljust(len(stimulus), b"\0")
        if run["memory"]:
            open_memory(Path(run["memory"]))
        for scope, table in run["tables"].items():
            configure(scope, table)
        if task["reset"]:
            await reset()
        else:
            dut.rst.value = 0
        if task["reset_at"] is not None:
            await clock.advance(task["reset_at"])
            await reset()
        await clock.advance(cycles)
        Path(f"trace{index}").write_bytes(trace[: cycles * traced])
