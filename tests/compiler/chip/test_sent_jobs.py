"""compiler.chip.sent_jobs: as many jobs as are written down when an operation is scheduled, and every piece that is read counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.bank_words import BankWords, zero_word
from podweave.compiler.chip.epoch_scheduler import EpochScheduler
from podweave.compiler.chip.operation_plan import OperationPlan
from podweave.compiler.chip.policy import WHOLE_CHIP
from podweave.compiler.chip.sent_jobs import SentJobs, _Axis
from podweave.compiler.chip.state import SchedulerState
from podweave.compiler.lower.boxes import pieces
from podweave.compiler.lower.operation import lower_graph
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand, Upsampling, Window

from .chip_graphs import chip, conv


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_pieces_are_those_of_positions_that_are_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, kernel, stride, seen = (int(rng.integers(1, most)) for most in (30, 5, 4, 4))
    window, before = (int(rng.integers(1, 4)), int(rng.integers(1, 3))), int(rng.integers(0, 3))
    first = int(rng.integers(0, 6))
    outputs = int(rng.integers(1, 12))
    edges = np.unique([0, *rng.integers(0, -(-(first + size) // seen), 4)])
    axis = _Axis(edges, window, stride, kernel - 1, before, first, size, seen)
    parts = pieces(outputs, int(rng.integers(1, outputs + 1)))
    expected = 0
    for origin, length in parts:
        sums = {output * window[1] + tap for output in range(origin, origin + length) for tap in range(window[0])}
        # All between the first and the last position are sent.
        read = range(min(sums) * stride - before, max(sums) * stride - before + kernel)
        there = {(first + position) // seen for position in read if 0 <= position < size}
        expected += len({int(np.flatnonzero(edges <= position)[-1]) for position in there})
    assert axis.pieces(parts) == expected


POOL = Window("max", (3, 3), (2, 2))
READERS = {
    "kernel": ((9, 11), {"kernel": 3}, None, ()),
    "padding": ((9, 11), {"kernel": 3, "padding": ((1, 1), (2, 0))}, None, ()),
    "stride": ((9, 11), {"kernel": 2, "stride": (2, 3)}, None, ()),
    "windows": ((9, 11), {}, POOL, ()),
    "enlarged": ((18, 33), {"kernel": 3}, None, (Upsampling(2, 3),)),
}


@pytest.mark.parametrize("partition", [None, 20, 7])
@pytest.mark.parametrize("reader", READERS)
def test_jobs_are_as_many_as_are_written_down(reader: str, partition: int | None) -> None:
    (high, wide), options, window, seen = READERS[reader]
    config = chip(4, 4, 4)
    first = Linear("first", (Operand(("in",), conv("first", (2, 9, 11, 6), 11)),))
    layer = conv("second", (2, high, wide, 11), 4, **options)
    second = Linear("second", (Operand(("first",), layer, upsampled=seen),), window)
    graph = Graph("two", {"in": (2, 9, 11, 6)}, (first, second))
    lowered = lower_graph(graph, config)
    state = SchedulerState(graph, config, lowered, {}, partition, WHOLE_CHIP, BankWords(config))
    scheduler = EpochScheduler(state)
    scheduler._add(0)
    plan = OperationPlan.of(1, second, lowered[1])
    found = SentJobs(state, plan)
    scheduler._add(1)
    # One column tile: each patch is sent to once. Padding is of other jobs, which read the zero word.
    written = [post for post in state.book.posts if post[0] == 0 and post[7] != zero_word(config)]
    mapping = state.chosen["second"]
    parts = [{plan.step(0, each).unit for each in plan.shared[part]} for part in _parts(len(plan.shared), mapping.split)]
    sent = found.of(mapping.patches) * sum(map(len, parts)) / len(set.union(*parts))
    # Of positions that are seen as several, some that a piece begins with may be none of a region's.
    assert (len(written) <= sent < 1.4 * len(written)) if seen else sent == len(written) > 0


def _parts(steps: int, split: int) -> list[slice]:
    return [slice(steps * k // split, steps * (k + 1) // split) for k in range(split)]
