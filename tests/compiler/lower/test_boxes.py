"""compiler.lower.boxes: even pieces, boxes that cover exactly, and the largest partition."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.lower.boxes import Box, Partition, cut, largest, pieces, positions


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


def test_cut_by_hand_in_row_major_order() -> None:
    box = ((5, 1), (10, 3), (20, 4))
    assert cut(box, Partition(1, 2, 2)) == [
        ((5, 1), (10, 1), (20, 2)),
        ((5, 1), (10, 1), (22, 2)),
        ((5, 1), (11, 2), (20, 2)),
        ((5, 1), (11, 2), (22, 2)),
    ]
    assert [positions(part) for part in cut(box, Partition(1, 2, 2))] == [2, 2, 4, 4]


axes = st.tuples(st.integers(0, 5), st.integers(1, 7))
sizes = st.integers(1, 8)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.tuples(axes, axes, axes), st.builds(Partition, sizes, sizes, sizes))
def test_cut_covers_every_position_once(box: Box, part: Partition) -> None:
    boxes = cut(box, part)
    seen = [point for one in boxes for point in itertools.product(*(range(o, o + n) for o, n in one))]
    assert len(seen) == len(set(seen)) == positions(box)
    assert set(seen) == set(itertools.product(*(range(o, o + n) for o, n in box)))
    assert all(n <= most for one in boxes for (_, n), most in zip(one, (part.images, part.rows, part.columns), strict=True))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, None),
        (1, Partition(1, 1, 1)),
        (6, Partition(1, 1, 6)),
        (7, Partition(1, 1, 7)),
        (13, Partition(1, 1, 7)),
        (14, Partition(1, 2, 7)),
        (34, Partition(1, 4, 7)),
        (35, Partition(1, 5, 7)),
        (69, Partition(1, 5, 7)),
        (70, Partition(2, 5, 7)),
        (105, Partition(3, 5, 7)),
        (10**6, Partition(3, 5, 7)),
    ],
)
def test_largest_by_hand(limit: int, expected: Partition | None) -> None:
    # 3 images of 5 rows of 7 columns.
    assert largest((3, 5, 7), lambda images, rows, columns: images * rows * columns <= limit) == expected


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.tuples(sizes, sizes, sizes),
    st.integers(0, 700),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(sizes, sizes, sizes),
)
def test_largest_fits_and_the_next_larger_does_not(
    shape: tuple[int, int, int], words: int, halo: tuple[int, int], most: tuple[int, int, int]
) -> None:
    def fits(images: int, rows: int, columns: int) -> bool:
        sizes_fit = all(n <= m for n, m in zip((images, rows, columns), most, strict=True))
        return sizes_fit and images * (rows + halo[0]) * (columns + halo[1]) <= words

    found = largest(shape, fits)
    if found is None:
        assert not fits(1, 1, 1)
        return
    images, rows, columns = found.images, found.rows, found.columns
    assert fits(images, rows, columns)
    if columns < shape[2]:
        assert (images, rows) == (1, 1)
        assert not fits(1, 1, columns + 1)
    elif rows < shape[1]:
        assert images == 1
        assert not fits(1, rows + 1, columns)
    elif images < shape[0]:
        assert not fits(images + 1, rows, columns)
    assert images <= shape[0]
    assert rows <= shape[1]
    assert columns <= shape[2]
