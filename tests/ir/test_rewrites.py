"""ir.rewrites: averages in steps give the same sums."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.constants import identity_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.rewrites import with_averages_in_steps, with_constants
from podweave.ir.verify import verify


@pytest.mark.parametrize(
    ("size", "window", "kernel", "left"),
    [
        # 144 positions in rows of 12; 65, of which 13 in a column are too many to be left; windows side by side; few enough.
        ((12, 12), ((12, 12), (1, 1)), (1, 12), (12, 1)),
        ((13, 5), ((13, 5), (1, 1)), (13, 1), (1, 5)),
        ((12, 24), ((6, 12), (6, 12)), (1, 6), (6, 2)),
        ((4, 4), ((4, 4), (1, 1)), (1, 1), (4, 4)),
        # Windows that overlap, and begin at every position.
        ((12, 12), ((7, 7), (1, 1)), (1, 1), (7, 7)),
    ],
)
def test_averages_in_steps(
    size: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]], kernel: tuple[int, int], left: tuple[int, int]
) -> None:
    """At most 40 positions, or 12 of those whose sums take several steps."""
    layer = Layer(name="mean", batch=2, height=size[0], width=size[1], channels=6, outputs=6, groups=6)
    graph = Graph("g", {"in": (2, *size, 6)}, (Linear("mean", (Operand(("in",), layer),), Window("sum", *window), identity=True),))
    stepped = with_averages_in_steps(graph, 40, 12, 16)
    (operation,) = stepped.operations
    assert (operation.operands[0].layer.kernel, operation.window.kernel) == (kernel, left)
    assert (stepped is graph) == (kernel == (1, 1))
    rng = np.random.default_rng(4)
    inputs = {"in": rng.integers(-128, 128, (2, *size, 6), dtype=np.int8)}
    held = {"mean": identity_parameters(graph.operations[0])}
    found = evaluate(stepped, with_constants(verify(stepped), held), inputs)["mean"]
    np.testing.assert_array_equal(found, evaluate(graph, held, inputs)["mean"], strict=True)
