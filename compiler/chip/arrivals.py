"""When words of activations that post-processors send may be read, and when a stream may begin that reads behind them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jobs import Place
from ..lower.boxes import Box, positions, segments_of
from ..lower.layer import Region
from .gang_jobs import turn_of
from .operation_plan import Reference

Ints = NDArray[np.int64]


@dataclass
class Arrivals:
    """Words of a unit over a region, from ``place`` on, that jobs of post-processors send.

    Members
    -------
    last : int
        The first cycle in which its bank may read all of them.
    """

    place: Place
    region: Region
    last: int = 0
    _sent: list[tuple[int, tuple[int, int], tuple[int, int], int, int]] = field(default_factory=list)

    def add(self, target: Place, size: tuple[int, int], strides: tuple[int, int], first: int, period: int) -> None:
        """A job sends ``size`` (rows, columns) words to ``target`` and on, that are ``strides`` apart from row to row and column to
        column; the first may be read in cycle ``first``, and one more every ``period`` cycles."""
        self._sent.append((target.base - self.place.base, size, strides, first, period))
        self.last = max(self.last, first + (size[0] * size[1] - 1) * period)

    @cached_property
    def _cycles(self) -> Ints:
        """The first cycle in which each word may be read, in images, rows and columns of the region."""
        found = np.zeros(self.region.words, np.int64)
        for base, (rows, columns), (down, right), first, period in self._sent:
            at = base + down * np.arange(rows)[:, None] + right * np.arange(columns)
            # Several jobs write slots of the same words.
            found[at] = np.maximum(found[at], first + period * np.arange(rows * columns).reshape(rows, columns))
        return found.reshape(self.region.images, self.region.height, self.region.width)

    def begin(self, region: Region, box: Box, stride: tuple[int, int], offset: tuple[int, int], order: Ints) -> int:
        """The first cycle in which a bank may read the first word of a stream.

        ``region``: as the reader sees it, whose padding may be other than that of who had it sent. ``box``: accumulators for which
        it reads a word each, one per cycle, at strides and from an offset in rows and columns. ``order``: which each is, in the
        shape of the box.
        """
        (image, images), (row, rows), (column, columns) = box
        top, left = row * stride[0] + offset[0] - region.top, column * stride[1] + offset[1] - region.left
        image -= region.image
        down, right = (
            slice(top, top + (rows - 1) * stride[0] + 1, stride[0]),
            slice(left, left + (columns - 1) * stride[1] + 1, stride[1]),
        )
        return int((self._cycles[image : image + images, down, right] - order).max())


class Held(NamedTuple):
    """Where a unit over a region lies, and when its words may be read, if not from the beginning."""

    region: Region
    place: Place
    arrivals: Arrivals | None = None


class Source(NamedTuple):
    """What a K step reads: the number of its source, and how it lies there (`GangJobs.source`)."""

    reference: Reference
    number: int
    held: Held
    stride: tuple[int, int]
    offset: tuple[int, int]

    def begin(self, box: Box, order: Ints) -> int:
        """`Arrivals.begin`; 0 for what is there from the beginning."""
        held = self.held
        return held.arrivals.begin(held.region, box, self.stride, self.offset, order) if held.arrivals else 0


@lru_cache(maxsize=1 << 14)
def stream_order(lengths: tuple[int, int, int], split: int, part: int, emits: bool, slot: int, least: int = 1) -> Ints:
    """Of a step of one of ``split`` parts of K over a box of those lengths, in which cycle each accumulator has its word.

    ``slot``: cycles of a turn. ``least``: as of `segments_of`.
    """
    images, rows, columns = lengths
    segments, walks = segments_of(((0, images), (0, rows), (0, columns)), split, least)
    order = np.zeros(lengths, np.int64)
    if emits:
        boxes = [(segment, turn_of(part, number, split) * slot) for number, segment in enumerate(segments) if segment]
    else:
        walked = [walk.at(number) for walk in walks for number in range(walk.boxes)]
        begins = itertools.accumulate(map(positions, walked[:-1]), initial=0)
        boxes = list(zip(walked, begins, strict=True))
    for box, first in boxes:
        where = tuple(slice(origin, origin + length) for origin, length in box)
        order[where] = first + np.arange(positions(box)).reshape([length for _, length in box])
    return order
