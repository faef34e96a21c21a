"""compiler.chip.epoch_scheduler: an epoch that went back from what did not fit is the one that never tried."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest
from hypothesis import given, settings

from podweave.compiler.chip import epoch_cutter
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.epoch_scheduler import EpochScheduler, Progress
from podweave.compiler.chip.frontier import Frontier
from podweave.compiler.chip.state import SchedulerState
from podweave.ir.layers import WorkloadError
from tests.compiler.chip.chip_graphs import HEALTH, equal
from tests.compiler.chip.policies import policy
from tests.compiler.chip.test_epoch_cutter import Case, cases


def require_same(found: SchedulerState, expected: SchedulerState) -> None:
    """All that later epochs see, and all that would decide what comes next in this one."""
    assert vars(found.storage) == vars(expected.storage)
    for name in ("free", "swapped"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("resident", "mappings", "sets", "promised_sets", "scheduled"):
        assert getattr(found, name) == getattr(expected, name), name
    assert {key: known for key, known in found.places.items() if known} == expected.places
    assert found.producers.keys() == expected.producers.keys()
    assert found.weight_words.keys() == expected.weight_words.keys()
    lines = [[*state.p_ports, *(line for plane in state.wires for wire in plane for line in wire)] for state in (found, expected)]
    for one, other in zip(*lines, strict=True):
        assert (one.starts, one.ends) == (other.starts, other.ends)


class Twice(EpochScheduler):
    """Compiles each epoch again, with as many operations as were found to fit."""

    went_back = 0

    def __init__(self, state: SchedulerState):
        super().__init__(state)
        self.before = copy.deepcopy(state)

    def run_longest(
        self, frontier: Frontier, progress: Progress | None = None, most_bytes: float | None = None
    ) -> EpochProgram | None:
        program = super().run_longest(frontier, progress, most_bytes)
        count = len(program.operations) if program else 0
        if program:
            again = EpochScheduler(self.before)
            assert equal(program, again.run(frontier, count))
        if count < frontier.left:
            Twice.went_back += 1
        if program or count < frontier.left:
            require_same(self.state, self.before)
        return program


def test_going_back_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_cutter, "EpochScheduler", Twice)

    @settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=HEALTH)
    @given(cases())
    def run(case: Case) -> None:
        with contextlib.suppress(WorkloadError):
            epoch_cutter.compile_epochs(case.graph, case.config, policy(case.share), partition=case.partition)

    run()
    assert Twice.went_back > 20
