"""Places of a tensor in memory, with the padding that its readers see around it, or around a part of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.ir.operations import Shape

from ..lower.boxes import Rect
from .words import Runs

Span = tuple[int, int]
Edges = tuple[int | None, int | None]


@dataclass
class Frame:
    """Rows and columns ``spans`` of a tensor, and ``value`` around them: ``pads`` before and behind rows and columns.

    ``of_pass``: each pass has one to itself.
    """

    shape: Shape
    rows: int
    of_pass: bool
    value: int | None
    spans: tuple[Span, Span]
    pads: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    places: dict[int, int] = field(default_factory=dict)
    """By channel, its first byte."""

    @property
    def is_whole(self) -> bool:
        return self.spans == ((0, self.shape[1]), (0, self.shape[2]))

    @property
    def height(self) -> int:
        (begin, end), pads = self.spans[0], self.pads[0]
        return end - begin + int(pads.sum())

    @property
    def width(self) -> int:
        (begin, end), pads = self.spans[1], self.pads[1]
        return end - begin + int(pads.sum())

    @property
    def words(self) -> int:
        return -(-self.shape[3] // self.rows) * self.shape[0] * self.height * self.width

    def word(self, block: int, image: int, row: int, column: int) -> int:
        """The number of a word; ``row`` and ``column`` are the tensor's own."""
        row += int(self.pads[0, 0]) - self.spans[0][0]
        column += int(self.pads[1, 0]) - self.spans[1][0]
        return ((block * self.shape[0] + image) * self.height + row) * self.width + column

    def inside(self, box: Rect) -> Rect | None:
        """What it has of a box, if it has some."""
        rows, columns = (
            (max(begin, first), min(end, last)) for (begin, end), (first, last) in zip(box[1:], self.spans, strict=True)
        )
        return (box[0], rows, columns) if rows[0] < rows[1] and columns[0] < columns[1] else None

    def runs(self, node: int, base: int, block: int, box: Rect, address: int, stride: int, within: Rect | None = None) -> Runs:
        """A box of positions of a block of channels that is a part of ``within`` (all of it, if that is None), which lies in a
        bank, position by position, from word ``base`` on."""
        (image, image_end), (row, row_end), (column, column_end) = box
        (first_image, _), (first_row, last_row), (first_column, last_column) = within or box
        images, high, wide = image_end - image, row_end - row, column_end - column
        line, plane = last_column - first_column, (last_column - first_column) * (last_row - first_row)
        base += (image - first_image) * plane + (row - first_row) * line + column - first_column
        first = address + stride * self.word(block, image, row, column)
        line_bytes, plane_bytes = stride * self.width, stride * self.width * self.height
        if wide == line == self.width:
            if high * wide == plane == self.height * self.width:
                return Runs(node, base, images * plane, first)
            high, wide = 1, high * wide
        one, two = (line, line_bytes), (plane, plane_bytes)
        if high == 1:
            return Runs(node, base, wide, first, images, *(two if images > 1 else (0, 0)))
        if images == 1:
            return Runs(node, base, wide, first, high, *one)
        return Runs(node, base, wide, first, high, *one, images, *two)


@dataclass
class _Readers:
    """Who may read a tensor in the same frame: ``value`` stands in their padding, and the tensor ends at ``edges`` for them: None
    where nobody reads beyond.

    ``boxes``, ``parts``: rows and columns around all that they read, with padding and without; ``parts`` is None if there is none.
    """

    value: int
    edges: tuple[Edges, ...]
    boxes: list[Span]
    parts: list[Span | None]

    def joined(self, other: _Readers) -> tuple[Edges, ...] | None:
        """The edges of both together; None if they cannot share a frame."""
        if self.value != other.value:
            return None
        found: list[Edges] = []
        for mine, others, *parts in zip(self.edges, other.edges, self.parts, other.parts, strict=True):
            if any(a is not None is not b and a != b for a, b in zip(mine, others, strict=True)):
                return None
            begin, end = (b if a is None else a for a, b in zip(mine, others, strict=True))
            for part in parts:
                if part is not None and ((begin is not None and part[0] < begin) or (end is not None and end < part[1])):
                    return None
            found.append((begin, end))
        return tuple(found)

    def add(self, other: _Readers, edges: tuple[Edges, ...]) -> None:
        self.edges = edges
        self.boxes = [_around(*pair) for pair in zip(self.boxes, other.boxes, strict=True)]
        self.parts = [b if a is None else a if b is None else _around(a, b) for a, b in zip(self.parts, other.parts, strict=True)]


class Frames:
    """All places of a tensor, as few as serve its readers: one for each value that stands in their padding, and for each part of it
    around which it stands.

    ``needs_whole``: there is one for all of it.
    """

    def __init__(self, shape: Shape, rows: int, of_pass: bool, needs_whole: bool):
        self.shape, self.rows, self.of_pass, self.needs_whole = shape, rows, of_pass, needs_whole
        self._padded: list[_Readers] = []
        self._plain: set[Rect] = set()
        self._all: list[Frame] | None = None

    def see(self, value: int, box: Rect, part: Rect) -> None:
        """Someone reads ``box``, of which ``part`` is of the tensor, and ``value`` stands in the rest."""
        if box == part:
            self._plain.add(box)
            return
        one = _readers(value, box, part)
        for readers in self._padded:
            edges = readers.joined(one)
            if edges is not None:
                readers.add(one, edges)
                return
        self._padded.append(one)

    @property
    def all(self) -> list[Frame]:
        """Made when all have been seen."""
        if self._all is None:
            self._all = [self._made(readers) for readers in self._padded]
            # Who reads no padding finds the tensor in any frame that has enough of it.
            plain = all(any(frame.inside(box) == box for frame in self._all) for box in self._plain)
            if not plain or not self._all or (self.needs_whole and not any(frame.is_whole for frame in self._all)):
                self._all.append(Frame(self.shape, self.rows, self.of_pass, None, ((0, self.shape[1]), (0, self.shape[2]))))
        return self._all

    def of(self, value: int, box: Rect, part: Rect) -> Frame:
        """Where someone reads ``box``."""
        if box == part:
            return next(frame for frame in self.all if frame.inside(box) == box)
        one = _readers(value, box, part)
        frames = zip(self._padded, self.all, strict=False)
        # Those who were before it in `see` have no frame for it now either: theirs only got narrower.
        return next(frame for readers, frame in frames if readers.joined(one) == readers.edges)

    @property
    def whole(self) -> Frame:
        return next(frame for frame in self.all if frame.is_whole)

    def _made(self, readers: _Readers) -> Frame:
        spans: list[Span] = []
        pads = np.zeros((2, 2), np.int64)
        for axis, ((begin, end), size, box) in enumerate(zip(readers.edges, self.shape[1:3], readers.boxes, strict=True)):
            span = begin or 0, size if end is None else end
            pads[axis] = max(0, span[0] - box[0]), max(0, box[1] - span[1])
            spans.append(span)
        return Frame(self.shape, self.rows, self.of_pass, readers.value, (spans[0], spans[1]), pads)


def _readers(value: int, box: Rect, part: Rect) -> _Readers:
    """One that reads ``box``, of which ``part`` is of the tensor."""
    pairs = list(zip(box[1:], part[1:], strict=True))
    edges = tuple((inner[0] if outer[0] < inner[0] else None, inner[1] if inner[1] < outer[1] else None) for outer, inner in pairs)
    return _Readers(value, edges, list(box[1:]), [inner if inner[0] < inner[1] else None for _, inner in pairs])


def _around(one: Span, other: Span) -> Span:
    return min(one[0], other[0]), max(one[1], other[1])
