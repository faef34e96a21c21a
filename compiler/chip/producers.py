"""Operations that have been scheduled: what their P banks hold, and from when on."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.ir.operations import Linear

from ..jobs import Place
from ..lower.boxes import Box, Rect
from ..lower.operation import LoweredOperation
from .epoch_program import Accumulated
from .patches import Patches
from .work import Mapping

_BEFORE = -(1 << 40)
"""A cycle before any epoch."""


Span = tuple[int, int]
"""(origin, length) in rows or columns."""


def _runs(values: Sequence[int], origin: int, length: int) -> Iterator[tuple[int, Span]]:
    """Values from ``origin`` on, each with where it stands until another one comes."""
    for value, run in itertools.groupby(range(origin, origin + length), key=values.__getitem__):
        where = list(run)
        yield value, (where[0], len(where))


@dataclass(frozen=True)
class Fragment:
    """Accumulators of a column tile for a box of positions, row by row from ``place`` on.

    ``arrival``: the cycle in which the first finished word enters the bank; the others follow, one per cycle.
    """

    box: Box
    place: Place
    arrival: int


@dataclass
class Producer:
    """An operation that has been scheduled: what its P banks hold from when on.

    ``mapping``: how it is spread over pods, if pods have computed it. ``blocks``: by patch and first column tile of a gang, the
    first pod of its block.
    """

    index: int
    operation: Linear
    lowering: LoweredOperation
    patches: Patches
    mapping: Mapping | None = None
    blocks: dict[tuple[int, int], int] = field(default_factory=dict)
    fragments: dict[tuple[int, int], list[Fragment]] = field(default_factory=dict)
    complete: int = 0
    ready: NDArray[np.int64] = field(init=False)
    """Per output row and column, when all its accumulators may be read."""

    def carried(self) -> Producer:
        """The same in a later epoch: all is there from the beginning."""
        fragments = {key: [Fragment(f.box, f.place, _BEFORE) for f in of_patch] for key, of_patch in self.fragments.items()}
        return Producer(self.index, self.operation, self.lowering, self.patches, self.mapping, self.blocks, fragments)

    def __post_init__(self) -> None:
        self.ready = np.zeros(self.operation.output[1:3], np.int64)
        self._border = frozenset(self.operation.border_counts)
        self._edges = [[origin for origin, _ in axis] for axis in (self.patches.images, self.patches.rows, self.patches.columns)]

    def add(self, patch: int, box: Box, tile: int, fragment: Fragment, ready: int) -> None:
        self.fragments.setdefault((patch, tile), []).append(fragment)
        _, (row, rows), (column, columns) = box
        part = self.ready[row : row + rows, column : column + columns]
        np.maximum(part, ready, out=part)
        self.complete = max(self.complete, ready)

    def place(self, patch: int, tile: int, box: Box) -> Place:
        """Where its accumulators of a box of a patch lie."""
        return next(fragment.place for fragment in self.fragments[patch, tile] if fragment.box == box)

    def accumulated(self) -> Iterator[Accumulated]:
        """Where its accumulators lie, in the order in which they were placed."""
        for (_, tile), fragments in self.fragments.items():
            for fragment in fragments:
                rect = tuple((origin, origin + length) for origin, length in fragment.box)
                yield Accumulated(self.index, tile, rect, fragment.place)  # type: ignore[arg-type]

    def scaled_alike(self, row: int, rows: int, column: int, columns: int) -> Iterator[tuple[Span, Span, int]]:
        """Boxes (origin, length) of some rows and columns of outputs, and of how many positions their windows are, 0 of all.

        Those that leave pads out have other scales at the border; all others are one box.
        """
        if not self._border:
            yield (row, rows), (column, columns), 0
            return
        inside = self.operation.inside
        for high, down in _runs(inside[0], row, rows):
            for wide, across in _runs(inside[1], column, columns):
                yield down, across, high * wide if high * wide in self._border else 0

    def overlapping(self, rect: Rect, tile: int) -> Iterator[tuple[Rect, Fragment]]:
        """Fragments with accumulators of outputs in ``rect``, and the outputs that each has."""
        ranges = []
        for edges, (begin, end) in zip(self._edges, rect, strict=True):
            ranges.append(range(bisect_right(edges, begin) - 1, bisect_right(edges, end - 1)))
        rows, columns = len(self._edges[1]), len(self._edges[2])
        axes = (self.patches.images, self.patches.rows, self.patches.columns)
        (first, end), (top, bottom), (left, right) = rect
        for i in ranges[0]:
            for r in ranges[1]:
                for c in ranges[2]:
                    for fragment in self.fragments[(i * rows + r) * columns + c, tile]:
                        # Of windows, what a patch has of the sums is more than its outputs.
                        box = (axes[0][i], axes[1][r], axes[2][c]) if self.operation.window else fragment.box
                        (image, images), (row, high), (column, wide) = box
                        common = (
                            (max(image, first), min(image + images, end)),
                            (max(row, top), min(row + high, bottom)),
                            (max(column, left), min(column + wide, right)),
                        )
                        if common[0][0] < common[0][1] and common[1][0] < common[1][1] and common[2][0] < common[2][1]:
                            yield common, fragment
