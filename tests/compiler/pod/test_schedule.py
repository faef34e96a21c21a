"""compiler.pod.schedule: start times by hand, and the proof that none can be earlier."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from podweave.compiler.pod.schedule import start_times


@pytest.mark.parametrize(
    ("rows", "words", "load_of", "loads", "streams"),
    [
        # The first tile waits for its own weights.
        ([4], [7], [0], [0], [4]),
        # Streams of 6 hide the next load of 4.
        ([4, 4, 4], [6, 6, 6], [0, 1, 2], [0, 4, 10], [4, 10, 16]),
        # Streams of 2 do not: the array waits for 4 rows each time.
        ([4, 4, 4], [2, 2, 2], [0, 1, 2], [0, 4, 8], [4, 8, 12]),
        # A tile in three chunks counts as a whole.
        ([4, 3], [1, 2, 5, 9], [0, 0, 0, 1], [0, 4], [4, 5, 7, 12]),
        # A short last load after a short stream.
        ([8, 8, 1], [3, 9, 5], [0, 1, 2], [0, 8, 16], [8, 16, 25]),
    ],
)
def test_by_hand(rows: list[int], words: list[int], load_of: list[int], loads: list[int], streams: list[int]) -> None:
    found = start_times(np.array(rows), np.array(words), np.array(load_of))
    assert found[0].tolist() == loads
    assert found[1].tolist() == streams


def broken_rules(
    load_start: list[int], stream_start: list[int], rows: list[int], words: list[int], load_of: list[int]
) -> list[str]:
    """The rules of the pod, written out job by job."""
    broken = []
    first_job = [load_of.index(load) for load in range(len(rows))]
    for load, start in enumerate(load_start):
        if start < 0:
            broken.append(f"load {load} starts before the epoch")
        if load and start < load_start[load - 1] + rows[load - 1]:
            broken.append(f"load {load} starts while the engine is busy")
        if load and start < stream_start[first_job[load - 1]]:
            broken.append(f"load {load} overwrites weights that were not swapped in")
    for job, start in enumerate(stream_start):
        if job and start < stream_start[job - 1] + words[job - 1]:
            broken.append(f"stream {job} starts while the engine is busy")
        load = load_of[job]
        if job == first_job[load] and start < load_start[load] + rows[load]:
            broken.append(f"stream {job} swaps in weights that are not complete")
    return broken


@st.composite
def epochs(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    rows = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    jobs = [draw(st.integers(1, 3)) for _ in rows]
    load_of = [load for load, count in enumerate(jobs) for _ in range(count)]
    return rows, [draw(st.integers(1, 12)) for _ in load_of], load_of


@settings(derandomize=True, deadline=None, max_examples=200)
@given(epochs())
def test_no_rule_is_broken_and_no_job_could_start_a_cycle_earlier(case: tuple[list[int], list[int], list[int]]) -> None:
    rows, words, load_of = case
    arrays: list[NDArray[np.int64]] = [np.array(part) for part in case]
    loads, streams = (times.tolist() for times in start_times(*arrays))
    assert broken_rules(loads, streams, rows, words, load_of) == []
    for times in (loads, streams):
        for job in range(len(times)):
            times[job] -= 1
            assert broken_rules(loads, streams, rows, words, load_of)
            times[job] += 1
