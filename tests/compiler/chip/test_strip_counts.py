"""compiler.chip.strips: pieces in which inputs are loaded, for each block of pods, with little halo."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.patches import Patches
from podweave.compiler.chip.strips import largest_strip, strip_counts

SIZES = st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40))


@pytest.mark.parametrize(
    ("shape", "size", "blocks", "counts"),
    [
        # 44 x 64 of four, not 11 x 256; 22 x 32 of sixteen, not 44 x 16 or 11 x 64.
        ((1, 44, 256), (1, 11, 8), 4, (1, 4)),
        ((1, 44, 256), (1, 1, 8), 16, (2, 8)),
        ((1, 64, 64), (1, 8, 16), 4, (3, 2)),
        ((1, 64, 64), (1, 32, 16), 4, (2, 2)),
        # Patches are whole.
        ((1, 44, 256), (1, 4, 256), 4, (4, 1)),
        ((1, 4, 4), (1, 4, 4), 4, (1, 1)),
        # Of two images, half as many of each.
        ((2, 64, 64), (1, 4, 16), 4, (2, 1)),
    ],
)
def test_strips_have_little_halo(
    shape: tuple[int, int, int], size: tuple[int, int, int], blocks: int, counts: tuple[int, int]
) -> None:
    assert strip_counts(Patches.of(shape, size), blocks, in_rows=False) == counts


def test_strips_in_rows_are_whole_rows_as_long_as_there_are_enough() -> None:
    assert strip_counts(Patches.of((1, 44, 256), (1, 11, 8)), 4, in_rows=True) == (4, 1)
    assert strip_counts(Patches.of((1, 44, 256), (1, 11, 8)), 16, in_rows=True) == (4, 4)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SIZES, SIZES, st.sampled_from([1, 2, 4, 16]), st.booleans())
def test_there_is_a_strip_for_each_block(
    shape: tuple[int, int, int], size: tuple[int, int, int], blocks: int, in_rows: bool
) -> None:
    patches = Patches.of(shape, size)
    rows, columns = strip_counts(patches, blocks, in_rows=in_rows)
    assert rows <= len(patches.rows)
    assert columns <= len(patches.columns)
    assert len(patches.images) * rows * columns >= min(blocks, len(patches))
    number, largest = largest_strip(patches, blocks, in_rows=in_rows)
    assert number == len(patches.images) * rows * columns
    assert all(one <= of for one, of in zip(largest, shape, strict=True))
