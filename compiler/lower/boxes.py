"""Boxes of output positions, and even pieces of an axis."""

from __future__ import annotations

import itertools
from typing import NamedTuple

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


class Walk(NamedTuple):
    """Boxes of one size, ``box`` and those beside it in further columns, each position by position."""

    box: Box
    boxes: int = 1


def segments_of(box: Box, split: int, least: int = 1) -> tuple[list[Box | None], list[Walk]]:
    """A box cut into up to ``split`` boxes, of which the largest is as small as can be, unless it is smaller than that share of
    ``least``; and the walks, as few as can be, that are all of these one after the other.

    >>> segments_of(((0, 1), (0, 2), (0, 6)), 4)[1]
    [Walk(box=((0, 1), (0, 2), (0, 3)), boxes=2)]
    """
    image, (row, rows), (column, columns) = box
    if image[1] > 1:
        return _segments_of_images(box, split)
    counts = ((high, wide) for high in range(1, min(split, rows) + 1) for wide in range(1, min(split // high, columns) + 1))

    def cycles(high: int, wide: int) -> int:
        return max(least, -(-rows // high) * -(-columns // wide) * split)

    # Of those with the same largest box, the ones that walk along one run of words, then along the longest rows.
    high, wide = min(counts, key=lambda n: (cycles(*n), columns % n[1] > 0, n[1]))
    widths = [columns // wide + (number < columns % wide) for number in range(wide)]
    segments: list[Box | None] = []
    walks: list[Walk] = []
    left = column
    for width, alike in itertools.groupby(widths):
        count = len(list(alike))
        walks.append(Walk((image, (row, rows), (left, width)), count))
        for _ in range(count):
            segments += [(image, (row + first, length), (left, width)) for first, length in pieces(rows, -(-rows // high))]
            left += width
    return segments + [None] * (split - len(segments)), walks


def _segments_of_images(box: Box, split: int) -> tuple[list[Box | None], list[Walk]]:
    """The same of several images: whole images first, then parts of them."""
    counts, left = [], split
    for _, length in box:
        counts.append(min(left, 1 << (length.bit_length() - 1)))
        left //= counts[-1]
    axes = []
    for (origin, length), count in zip(box, counts, strict=True):
        edges = [length * i // count for i in range(count + 1)]
        axes.append([(origin + a, b - a) for a, b in itertools.pairwise(edges)])
    boxes: list[Box] = [(i, r, c) for i in axes[0] for r in axes[1] for c in axes[2]]
    in_order = counts[1:] == [1, 1]
    return [*boxes, *[None] * (split - len(boxes))], [Walk(box)] if in_order else [Walk(each) for each in boxes]
