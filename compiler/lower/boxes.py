"""Boxes of output positions, and even pieces of an axis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

Rect = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(begin, end) in images, rows and columns."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(origin, size) in images, rows and columns of output positions."""

_UNEVEN = 4 / 3
"""How much larger than need be the largest segment of a box may be: halves line up with those of readers, and take fewer jobs."""


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

    def at(self, number: int) -> Box:
        """One of its boxes."""
        image, row, (left, width) = self.box
        return image, row, (left + number * width, width)


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
    counts = _segment_counts(tuple(length for _, length in box), split)
    axes = []
    for (origin, length), count in zip(box, counts, strict=True):
        edges = [length * i // count for i in range(count + 1)]
        axes.append([(origin + a, b - a) for a, b in itertools.pairwise(edges)])
    boxes: list[Box] = [(i, r, c) for i in axes[0] for r in axes[1] for c in axes[2]]
    in_order = counts[1:] == (1, 1)
    return [*boxes, *[None] * (split - len(boxes))], [Walk(box)] if in_order else [Walk(each) for each in boxes]


@lru_cache(maxsize=1 << 14)
def _segment_counts(lengths: tuple[int, ...], split: int) -> tuple[int, ...]:
    """Into how many pieces each axis is cut: halves of halves, or, if the largest box is a third larger then than it need be, what
    makes it the smallest."""
    halves, left = [], split
    for length in lengths:
        halves.append(min(left, 1 << (length.bit_length() - 1)))
        left //= halves[-1]
    cuts = []
    for images in _piece_counts(lengths[0], split):
        for rows in _piece_counts(lengths[1], split // images):
            # Of those alike, the fewest pieces, and rows that are whole.
            columns = _piece_counts(lengths[2], split // (images * rows))[-1]
            cuts.append((_largest(lengths, (images, rows, columns)), images * rows * columns, columns, rows, images))
    least, _, columns, rows, images = min(cuts)
    return tuple(halves) if _largest(lengths, halves) <= _UNEVEN * least else (images, rows, columns)


def _largest(lengths: Sequence[int], counts: Sequence[int]) -> int:
    return prod(-(-length // count) for length, count in zip(lengths, counts, strict=True))


def _piece_counts(length: int, most: int) -> list[int]:
    """The fewest pieces, up to ``most``, for each size that the largest of them may have."""
    return sorted({count for size in range(1, length + 1) if (count := -(-length // size)) <= most})
