"""compiler.chip.frontier: nodes in the order in which their inputs are complete, at a cost that grows with nodes alone."""

from __future__ import annotations

import pytest

from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_scheduler import EpochScheduler
from podweave.compiler.chip.frontier import Frontier
from podweave.compiler.lower.operation import lower_graph
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand
from tests.compiler.chip.policies import policy
from tests.compiler.chip.test_epoch_scheduler import chip, conv


@pytest.mark.parametrize("count", [20, 80])
def test_what_is_scheduled_does_not_grow_with_epochs_times_nodes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Nodes side by side, each an output and an epoch of its own: every attempt ends at the first that does not fit."""
    nodes = tuple(Linear(f"n{i}", (Operand(("in",), conv(f"n{i}", (1, 1, 1, 4), 32)),)) for i in range(count))
    scheduled = []
    original = EpochScheduler._schedule
    monkeypatch.setattr(EpochScheduler, "_schedule", lambda self, plan: (scheduled.append(plan.index), original(self, plan)))
    programs = compile_epochs(Graph("wide", {"in": (1, 1, 1, 4)}, nodes), chip(2, 4, 4).replace(parameter_sets=8), policy(0.5))
    assert len(programs) > count // 2
    assert len(scheduled) <= 4 * count


def test_some_operations() -> None:
    """They need nothing more of others; in their order, and of them alone."""
    graph = Graph(
        "g",
        {"in": (1, 1, 1, 4)},
        tuple(
            Linear(name, (Operand((source,), conv(name, (1, 1, 1, 4), 4)),))
            for name, source in (("a", "in"), ("b", "a"), ("c", "b"), ("d", "in"), ("e", "c"))
        ),
    )
    lowered = lower_graph(graph, chip(2, 4, 4))
    frontier = Frontier(lowered, graph, [1, 2, 4])
    assert frontier.left == 3
    producers = {operation.name: Complete() for operation in graph.operations}
    assert list(frontier.order(producers)) == [1, 2, 4]  # type: ignore[arg-type]
    frontier.remove([1])
    assert (frontier.left, list(frontier.order(producers))) == (2, [2, 4])  # type: ignore[arg-type]


class Complete:
    """An operation that was computed before."""

    complete = 0
