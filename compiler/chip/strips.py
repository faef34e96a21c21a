"""Strips: patches of an operation whose inputs are loaded together, so that no halo is loaded twice."""

from __future__ import annotations

from collections.abc import Callable

from ..lower.boxes import Box, pieces
from .patches import Patches
from .work import Mapping

Axis = tuple[tuple[int, int], ...]


def strip_counts(patches: Patches, blocks: int, *, in_rows: bool) -> tuple[int, int]:
    """In how many pieces rows and columns of patches are cut, so that there is a strip for each of ``blocks`` blocks of pods: those
    with the least around them, and of them the fewest columns; or, ``in_rows``, whole rows as long as there are enough."""
    each = -(-blocks // len(patches.images))
    most_rows, most_columns = min(len(patches.rows), each), len(patches.columns)
    counts = [(rows, min(most_columns, -(-each // rows))) for rows in ((most_rows,) if in_rows else range(1, most_rows + 1))]
    enough = min(each, max(rows * columns for rows, columns in counts))
    high, wide = (_length(axis, 0, len(axis)) for axis in (patches.rows, patches.columns))
    around = {
        (-(-high // rows) - (-wide // columns), columns): (rows, columns) for rows, columns in counts if rows * columns >= enough
    }
    return around[min(around)]


def largest_strip(patches: Patches, blocks: int, *, in_rows: bool) -> tuple[int, tuple[int, int, int]]:
    """How many strips there are, and images, rows and columns of the largest."""
    counts = strip_counts(patches, blocks, in_rows=in_rows)
    sizes = []
    for axis, count in zip((patches.rows, patches.columns), counts, strict=True):
        sizes.append(max(_length(axis, *group) for group in pieces(len(axis), -(-len(axis) // count))))
    number = len(patches.images) * counts[0] * counts[1]
    return number, (max(length for _, length in patches.images), sizes[0], sizes[1])


def strip(mapping: Mapping, patch: Box, blocks: int, words: Callable[[Box], int], most: int, *, in_rows: bool) -> Box:
    """The box of the patches that are loaded with a patch.

    There are not fewer such boxes than ``blocks`` of pods, each of which has a copy of what it works on. ``words``: that a box
    takes, of which there may be ``most`` if it is more than a patch.
    """
    patches = mapping.patches
    rows, columns = strip_counts(patches, blocks, in_rows=in_rows)
    while True:
        box = patch[0], _around(patches.rows, patch[1], rows), _around(patches.columns, patch[2], columns)
        if words(box) <= most or (rows, columns) == (len(patches.rows), len(patches.columns)):
            return box
        if rows < len(patches.rows):
            rows = min(2 * rows, len(patches.rows))
        else:
            columns = min(2 * columns, len(patches.columns))


def _length(axis: Axis, first: int, count: int) -> int:
    """Of so many pieces of an axis that follow each other."""
    return sum(axis[first + count - 1]) - axis[first][0]


def _around(axis: Axis, piece: tuple[int, int], count: int) -> tuple[int, int]:
    """Of pieces of an axis in ``count`` groups, the group with one of them: its origin and length."""
    number = axis.index(piece)
    first, length = next(group for group in pieces(len(axis), -(-len(axis) // count)) if group[0] <= number < sum(group))
    return axis[first][0], _length(axis, first, length)
