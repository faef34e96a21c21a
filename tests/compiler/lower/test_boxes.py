"""compiler.lower.boxes: even pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.lower.boxes import pieces


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
