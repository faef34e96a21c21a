"""compiler.chip.frontier: nodes in the order in which their inputs are complete, at a cost that grows with nodes alone."""

from __future__ import annotations

import pytest

from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_scheduler import EpochScheduler
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
