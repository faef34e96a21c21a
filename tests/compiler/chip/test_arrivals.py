"""compiler.chip.arrivals: streams begin behind words as they arrive, as early as can be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.arrivals import Arrivals, stream_order
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.jobs import Place, ProgramError
from podweave.compiler.lower.boxes import positions, segments_of
from podweave.compiler.lower.layer import Region

from .chip_graphs import chain, chip


def test_by_hand() -> None:
    # 2 x 3 words: the upper row from cycle 10 on, one every 2 cycles; the lower one from cycle 30 on, from right to left.
    found = Arrivals(Place(3, 100), Region(0, 1, 5, 2, 7, 3))
    found.add(Place(3, 100), (1, 3), (0, 1), 10, 2)
    found.add(Place(3, 105), (1, 3), (0, -1), 30, 1)
    assert found.last == 32
    box, here = ((0, 1), (5, 2), (7, 3)), found.region
    in_order = stream_order((1, 2, 3), 1, 0, True, 6)
    # The word on the lower left is read in the fourth cycle, and is there in cycle 32.
    assert found.begin(here, box, (1, 1), (0, 0), in_order) == 32 - 3
    # The upper row alone: its last word in the third cycle.
    assert found.begin(here, ((0, 1), (5, 1), (7, 3)), (1, 1), (0, 0), in_order[:, :1]) == 14 - 2
    # Every second word of the upper row, as a reader with a stride of 2 sees it, whose rows have other numbers.
    other = Region(0, 1, 0, 2, 0, 3)
    assert found.begin(other, ((0, 1), (0, 1), (0, 2)), (1, 2), (0, 0), np.arange(2).reshape(1, 1, 2)) == 14 - 1
    # Another slot of the same words, later.
    found = Arrivals(Place(0, 0), Region(0, 1, 0, 1, 0, 2))
    found.add(Place(0, 0), (1, 2), (0, 1), 10, 1)
    found.add(Place(0, 0), (1, 1), (0, 1), 20, 1)
    assert found.begin(found.region, ((0, 1), (0, 1), (0, 2)), (1, 1), (0, 0), np.arange(2).reshape(1, 1, 2)) == 20


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)), st.integers(0, 4), st.booleans(), st.sampled_from([1, 32])
)
def test_parts_take_turns(lengths: tuple[int, int, int], log: int, emits: bool, least: int) -> None:
    split, words = 1 << log, int(np.prod(lengths))
    images, rows, columns = lengths
    segments, _ = segments_of(((0, images), (0, rows), (0, columns)), split, least)
    slot = max(positions(segment) for segment in segments if segment)
    orders = [stream_order(lengths, split, part, emits, slot, least) for part in range(split)]
    for order in orders:
        assert order.shape == lengths
        assert len(np.unique(order)) == words
    if not emits:
        assert all(sorted(order.ravel()) == list(range(words)) for order in orders)
        return
    # No two parts have the same accumulator in a cycle, and all are done when all turns are.
    assert all((one != other).all() for i, one in enumerate(orders) for other in orders[:i])
    assert max(int(order.max()) for order in orders) < slot * split


@pytest.mark.parametrize("outputs", [(4, 4), (16, 4), (4, 16)])
def test_streams_begin_before_all_is_there_and_not_too_early(outputs: tuple[int, int]) -> None:
    graph, config = chain((1, 8, 8, 4), *outputs), chip(16, 4, 4)
    program = compile_graph(graph, config)
    check_chip(program)
    sent = program.operation_of_post == 0
    posts, streams = program.posts, program.streams
    ends = posts["start"] + posts["n2"] * posts["n3"] * posts["n0"] * posts["n1"] + config.post_latency + config.network_latency
    last = {bank: int(ends[sent & (posts["x_bank"] == bank)].max()) for bank in np.unique(posts["x_bank"][sent]).tolist()}
    reads = np.flatnonzero(program.operation_of_stream == 1)
    begin = {bank: int(streams["start"][reads][streams["x_bank"][reads] == bank].min()) for bank in last}
    assert any(begin[bank] + config.network_latency < last[bank] for bank in last)
    # All of the first layer sent one cycle later.
    late = {**posts, "start": posts["start"] + sent}
    with pytest.raises(ProgramError, match=r"reads X bank \d+ address \d+ in cycle (\d+), but a word of it arrives in cycle \1"):
        check_chip(dataclasses.replace(program, posts=late))
