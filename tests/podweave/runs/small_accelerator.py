"""The accelerator that most tests run: two managers, four pods of 4 x 4, 256 words per bank."""

from __future__ import annotations

from typing import Any

from podweave.compiler.compile_network import CompileOptions
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from tests.rtl.accelerator.accelerator_runs import CONFIGS, FAST, bench

CONFIG = CONFIGS[FAST]
FROM_MEMORY = CompileOptions(from_memory=True)


def small_bench() -> AcceleratorBench:
    """The simulator of `CONFIG` that the tests of the accelerator build, or have built."""
    return bench(FAST)


def with_residual(side: int, channels: int) -> Graph:
    """A tensor of which a 3x3 convolution, and the sum of that and of itself, are computed."""
    shape: dict[str, Any] = {"height": side, "width": side, "channels": channels, "outputs": channels}
    first = Linear("first", (Operand(("in",), Layer(name="first", **shape)),))
    around = Linear("around", (Operand(("first",), Layer(name="around", kernel=(3, 3), padding=((1, 1), (1, 1)), **shape)),))
    itself = Operand(("first",), Layer(name="sum/residual", groups=channels, **shape))
    added = Linear("sum", (Operand(("around",), Layer(name="sum", **shape)), itself))
    return Graph("with_residual", {"in": (1, side, side, channels)}, (first, around, added))
