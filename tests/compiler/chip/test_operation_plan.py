"""compiler.chip.operation_plan: parts of a reduction."""

from __future__ import annotations

import pytest

from podweave.compiler.chip.operation_plan import OperationPlan
from podweave.compiler.lower.operation import lower_graph
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand
from tests.compiler.chip.chip_graphs import chip, conv

CONFIG = chip(4, 4, 4)
SHAPE = (1, 6, 6, 8)


def joined(kernel: int, computed: int) -> OperationPlan:
    """A convolution of two words of channels that were stored, and of some that are computed, one behind the other."""
    first = Linear("first", (Operand(("in",), conv("first", SHAPE, computed)),))
    layer = conv("both", (*SHAPE[:3], SHAPE[3] + computed), 4, kernel)
    graph = Graph("g", {"in": SHAPE, "skip": SHAPE}, (first, Linear("both", (Operand(("skip", "first"), layer),))))
    lowered = lower_graph(graph, CONFIG, ("in", "skip"))
    return OperationPlan.of(1, graph.operations[1], lowered[1])


def stored(plan: OperationPlan, split: int) -> list[int]:
    """Of each part, how many steps read what was stored."""
    units = plan.lowering.operands[0].units
    parts = plan.parts(split)
    assert sorted(step for part in parts for step in part) == sorted(plan.shared)
    return [sum(units[plan.step(0, step).unit].is_stored for step in part) for part in parts]


@pytest.mark.parametrize("kernel", [1, 3])
def test_parts_have_as_much_of_what_was_stored(kernel: int) -> None:
    taps = kernel * kernel
    plan = joined(kernel, 8)
    assert stored(plan, 1) == [2 * taps]
    assert stored(plan, 2) == [taps, taps]
    # A word in two parts would be there twice.
    assert stored(plan, 4) == [taps, taps, 0, 0]


def test_parts_that_cannot_have_as_much_follow_each_other() -> None:
    # Two words and three.
    assert stored(joined(3, 12), 2) == [18, 0 + 0]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        # Four words have twelve rows of taps, two have six: there are nine taps.
        (1, [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (0, 0, 1)]),
        (2, [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1)]),
    ],
)
def test_steps_are_in_the_order_of_fewer_jobs(split: int, expected: list[tuple[int, int, int]]) -> None:
    layer = conv("conv", (*SHAPE[:3], 16), 4, 3)
    graph = Graph("g", {"in": (*SHAPE[:3], 16)}, (Linear("conv", (Operand(("in",), layer),)),))
    plan = OperationPlan.of(0, graph.operations[0], lower_graph(graph, CONFIG)[0])
    steps = [plan.step(0, reference) for reference in plan.parts(split)[0]]
    assert [(step.unit, step.dh, step.dw) for step in steps[:5]] == expected
    assert len(set(plan.parts(split)[0])) == 36 // split
