"""Boxes of output positions, and even pieces of an axis."""

from __future__ import annotations

import itertools

Rect = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(begin, end) in images, rows and columns."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(origin, size) in images, rows and columns of output positions."""


def pieces(total: int, size: int) -> list[tuple[int, int]]:
    """``total`` cut into the fewest pieces of at most ``size``, as even as can be: (origin, length) each.

    >>> pieces(10, 4)
    [(0, 3), (3, 3), (6, 4)]
    """
    count = -(-total // size)
    edges = [total * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def positions(box: Box) -> int:
    return box[0][1] * box[1][1] * box[2][1]
