"""compiler.chip.reservations: reservations against an array of booleans, one per cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.reservations import Timeline, earliest

SPAN = 400
INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=14)


def filled(intervals: list[tuple[int, int]]) -> tuple[Timeline, np.ndarray]:
    """A timeline and its model; what overlaps must be refused, and leave no trace."""
    line, taken = Timeline(), np.zeros(SPAN, bool)
    for time, length in intervals:
        if taken[time : time + length].any():
            with pytest.raises(ValueError, match=f"^cycles {time} to {time + length - 1} are taken$"):
                line.add(time, length)
        else:
            line.add(time, length)
            taken[time : time + length] = True
    return line, taken


def first_free(taken: np.ndarray, time: int, length: int) -> int:
    return next(t for t in range(time, SPAN) if not taken[t : t + length].any())


@settings(derandomize=True, deadline=None, max_examples=300)
@given(INTERVALS, st.integers(0, 70), st.integers(1, 12))
def test_next_free(intervals: list[tuple[int, int]], time: int, length: int) -> None:
    line, taken = filled(intervals)
    assert line.next_free(time, length) == first_free(taken, time, length)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(INTERVALS)
def test_intervals_are_those_of_the_model(intervals: list[tuple[int, int]]) -> None:
    """Sorted, and adjacent ones merged: as few as there can be."""
    line, taken = filled(intervals)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], taken, [False]]).astype(int)))
    assert line.starts == edges[::2].tolist()
    assert line.ends == edges[1::2].tolist()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(INTERVALS, st.integers(0, 60), st.integers(1, 9))
def test_what_is_given_back(intervals: list[tuple[int, int]], time: int, length: int) -> None:
    """A piece in the middle, or of no reservation alone; of what is not all taken, nothing."""
    line, taken = filled(intervals)
    if taken[time : time + length].all():
        line.remove(time, length)
        taken[time : time + length] = False
    else:
        with pytest.raises(ValueError, match=f"^cycles {time} to {time + length - 1} are not all taken$"):
            line.remove(time, length)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], taken, [False]]).astype(int)))
    assert line.starts == edges[::2].tolist()
    assert line.ends == edges[1::2].tolist()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(INTERVALS, min_size=1, max_size=4), st.integers(0, 70), st.integers(1, 9), st.integers(2, 4), st.integers(0, 120))
def test_earliest_of_a_phase_before_a_cycle(
    lines: list[list[tuple[int, int]]], time: int, length: int, beats: int, before: int
) -> None:
    made = [filled(intervals) for intervals in lines]
    taken = np.any([model for _, model in made], axis=0)
    for phase in range(beats):
        expected = next(t for t in range(time, SPAN) if t % beats == phase and not taken[t : t + length].any())
        assert earliest([line for line, _ in made], time, length, phase=phase, beats=beats) == expected
        found = earliest([line for line, _ in made], time, length, phase=phase, beats=beats, before=before)
        assert found == expected if expected < before else found >= before


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(INTERVALS, min_size=1, max_size=4), st.integers(0, 70), st.integers(1, 9))
def test_earliest_of_several(lines: list[list[tuple[int, int]]], time: int, length: int) -> None:
    made = [filled(intervals) for intervals in lines]
    taken = np.any([model for _, model in made], axis=0)
    found = earliest([line for line, _ in made], time, length)
    assert found == first_free(taken, time, length)
    for line, _ in made:
        line.add(found, length)
