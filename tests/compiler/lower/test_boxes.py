"""compiler.lower.boxes: even pieces, and segments of boxes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.lower.boxes import Box, Walk, pieces, segments_of


@pytest.mark.parametrize(
    ("total", "size", "expected"),
    [
        (1, 1, [(0, 1)]),
        (8, 8, [(0, 8)]),
        (8, 100, [(0, 8)]),
        (9, 8, [(0, 4), (4, 5)]),
        (10, 4, [(0, 3), (3, 3), (6, 4)]),
        (3, 1, [(0, 1), (1, 1), (2, 1)]),
    ],
)
def test_pieces_by_hand(total: int, size: int, expected: list[tuple[int, int]]) -> None:
    assert pieces(total, size) == expected


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(1, 500), st.integers(1, 60))
def test_pieces_are_few_even_and_complete(total: int, size: int) -> None:
    found = pieces(total, size)
    lengths = [length for _, length in found]
    assert len(found) == -(-total // size)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert [origin for origin, _ in found] == [sum(lengths[:i]) for i in range(len(lengths))]
    assert sum(lengths) == total


def places(box: Box) -> list[tuple[int, int, int]]:
    """Its positions, row by row."""
    return list(itertools.product(*(range(origin, origin + length) for origin, length in box)))


def walked(walk: Walk) -> list[tuple[int, int, int]]:
    image, row, (left, width) = walk.box
    return [at for number in range(walk.boxes) for at in places((image, row, (left + number * width, width)))]


@settings(derandomize=True, deadline=None, max_examples=400)
@given(*[st.integers(1, most) for most in (3, 20, 20)], st.sampled_from([1, 2, 4, 8, 16, 32]), st.sampled_from([1, 32]))
def test_segments_are_the_box_and_walks_are_the_segments(images: int, rows: int, columns: int, split: int, least: int) -> None:
    box = ((2, images), (5, rows), (7, columns))
    segments, walks = segments_of(box, split, least)
    assert len(segments) == split
    found = [segment for segment in segments if segment]
    # Those that are not there come last.
    assert segments[: len(found)] == found
    one_by_one = [at for segment in found for at in places(segment)]
    assert sorted(one_by_one) == places(box)
    assert [at for walk in walks for at in walked(walk)] == one_by_one
    if images == 1:
        assert len(walks) <= 2


@pytest.mark.parametrize(
    ("rows", "columns", "split", "least", "largest", "walks"),
    [
        # Ten rows of ten as 3 x 5 boxes of 4 x 2, in one walk over five boxes side by side.
        (10, 10, 16, 1, 8, 1),
        # No width but one divides 19.
        (19, 19, 4, 1, 95, 1),
        (1, 19, 4, 1, 5, 2),
        # Four boxes of 12 take more cycles than 32; of smaller ones it does not matter.
        (4, 12, 4, 32, 12, 1),
        (1, 12, 4, 32, 6, 1),
    ],
)
def test_segments_by_hand(rows: int, columns: int, split: int, least: int, largest: int, walks: int) -> None:
    segments, found = segments_of(((0, 1), (0, rows), (0, columns)), split, least)
    assert max(len(places(segment)) for segment in segments if segment) == largest
    assert len(found) == walks
