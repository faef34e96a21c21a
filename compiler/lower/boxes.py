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


def segments_of(box: Box, split: int) -> tuple[list[Box | None], bool]:
    """A box cut into up to ``split`` boxes, and whether one after the other they are the box in its own order."""
    counts, left = [], split
    for _, length in box:
        counts.append(min(left, 1 << (length.bit_length() - 1)))
        left //= counts[-1]
    axes = []
    for (origin, length), count in zip(box, counts, strict=True):
        edges = [length * i // count for i in range(count + 1)]
        axes.append([(origin + a, b - a) for a, b in itertools.pairwise(edges)])
    boxes: list[Box | None] = [(i, r, c) for i in axes[0] for r in axes[1] for c in axes[2]]
    first_long = next((axis for axis, (_, length) in enumerate(box) if length > 1), 2)
    in_order = all(count == 1 for axis, count in enumerate(counts) if axis != first_long)
    return boxes + [None] * (split - len(boxes)), in_order
