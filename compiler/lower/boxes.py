"""How the output positions of a layer are cut: into epochs that fit the banks, and chunks that fit the accumulators."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

Rect = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(begin, end) in images, rows and columns."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(origin, size) in images, rows and columns of output positions."""


@dataclass(frozen=True)
class Partition:
    """Sizes into which a box is cut, per axis."""

    images: int
    rows: int
    columns: int


def pieces(total: int, size: int) -> list[tuple[int, int]]:
    """``total`` cut into the fewest pieces of at most ``size``, as even as can be: (origin, length) each.

    >>> pieces(10, 4)
    [(0, 3), (3, 3), (6, 4)]
    """
    count = -(-total // size)
    edges = [total * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def cut(box: Box, part: Partition) -> list[Box]:
    """A box cut into boxes of at most ``part``, in row-major order."""
    axes = [
        [(origin + a, n) for a, n in pieces(length, size)]
        for (origin, length), size in zip(box, (part.images, part.rows, part.columns), strict=True)
    ]
    return [(i, r, c) for i in axes[0] for r in axes[1] for c in axes[2]]


def positions(box: Box) -> int:
    return box[0][1] * box[1][1] * box[2][1]


def largest(shape: tuple[int, int, int], fits: Callable[[int, int, int], bool]) -> Partition | None:
    """The partition with the fewest pieces that ``fits`` accepts: whole images before whole rows before columns.

    ``fits(images, rows, columns)`` must be monotonic: what fits still fits when made smaller. None if not even 1 x 1 x 1 does.
    """
    images, rows, columns = shape
    if not fits(1, 1, 1):
        return None
    if not fits(1, 1, columns):
        return Partition(1, 1, _search(columns, lambda n: fits(1, 1, n)))
    if not fits(1, rows, columns):
        return Partition(1, _search(rows, lambda n: fits(1, n, columns)), columns)
    return Partition(_search(images, lambda n: fits(n, rows, columns)), rows, columns)


def _search(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n from 1 to ``limit`` that fits; 1 is known to."""
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
