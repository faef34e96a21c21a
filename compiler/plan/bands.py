"""Bands: what a part of the positions of some tensors needs of all that they are computed from, and the graph that computes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from podweave.ir.graph import Graph
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Shape, Upsampling

from ..lower.boxes import Rect

_RISE = 1.19
"""From a number of bands to the next that is tried."""
Corner = tuple[int, int, int]
"""Image, row and column at which a band's tensor begins in that of the network."""
Sight = tuple[tuple[int, int], tuple[int, int]]
"""In rows and columns, the first sum that sees something of each operand, and the last one that does."""


@dataclass(frozen=True)
class Grid:
    """In how many pieces tensors are cut along images, rows and columns."""

    images: int = 1
    rows: int = 1
    columns: int = 1

    def __len__(self) -> int:
        return self.images * self.rows * self.columns

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return ((i, r, c) for i in range(self.images) for r in range(self.rows) for c in range(self.columns))

    def share(self, shape: Shape, number: tuple[int, int, int]) -> Rect | None:
        """The positions of a tensor that a band computes for others; the pieces are alike, but for the last of an axis."""
        spans = []
        for size, count, index in zip(shape[:3], (self.images, self.rows, self.columns), number, strict=True):
            length = -(-size // count)
            if index * length >= size:
                return None
            spans.append((index * length, min(size, (index + 1) * length)))
        return spans[0], spans[1], spans[2]


def band_counts(least: int, most: int) -> list[int]:
    """Numbers of bands that are tried."""
    found, count = [], least
    while count <= most:
        found.append(count)
        count = max(count + 1, int(count * _RISE))
    return found


def grids_of(counts: Sequence[int], batch: int, high: int, wide: int, *, is_square: bool) -> list[Grid]:
    """At least so many bands each: of images, then of whole rows, as long as there are some; or of images, then of boxes as wide as
    they are high."""
    found = []
    for count in counts:
        images = min(count, batch)
        left = -(-count // images)
        columns = min(wide, max(1, round((left * wide / high) ** 0.5))) if is_square else 1
        rows = min(-(-left // columns), high)
        columns = min(-(-left // rows), wide)
        if is_square or columns == 1:
            found.append(Grid(images, rows, columns))
    return list(dict.fromkeys(found))


def are_apart(grid: Grid, shapes: Sequence[Shape]) -> bool:
    """Whether what the last band has of tensors of several sizes is further apart than the band is long."""
    for count, sizes in zip((grid.rows, grid.columns), zip(*(shape[1:3] for shape in shapes), strict=True), strict=True):
        lengths = [-(-size // count) / size for size in sizes]
        if (count - 1) * (max(lengths) - min(lengths)) > min(lengths):
            return True
    return False


@dataclass(frozen=True)
class Segment:
    """Operations [``begin``, ``end``) of a graph, computed in the bands of ``grid``. ``cost``: in cycles."""

    begin: int
    end: int
    grid: Grid
    cost: float = 0.0


@dataclass(frozen=True)
class Band:
    """A part of the positions of a segment.

    Members
    -------
    graph : Graph
        What computes it; operations have the names that they have in the network, and layers the sizes of the band.
    corners : dict
        Where its tensors, inputs among them, begin in those of the network.
    shares : dict
        Of tensors that leave, the positions, in the network's tensor, that are this band's to give.
    """

    graph: Graph
    corners: dict[str, Corner]
    shares: dict[str, Rect]


def _read(operand: Operand, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the image of an operand that some rows and columns of its sums need, padding included."""
    layer, spans = operand.layer, []
    for (begin, end), stride, extent, (before, _) in zip(
        (rows, columns), layer.stride, layer.kernel_extent, layer.padding, strict=True
    ):
        spans.append((begin * stride - before, (end - 1) * stride + extent - before))
    return spans[0], spans[1]


def _summed(operation: Linear, rect: Rect, sight: Sight | None) -> Rect:
    """The sums that are made for some outputs: those that they need, and of what no output needs, as many as see something."""
    if operation.window is None and sight is None:
        return rect
    (kh, kw), (sh, sw) = (operation.window.kernel, operation.window.stride) if operation.window else ((1, 1), (1, 1))
    images, (row, row_end), (column, column_end) = rect
    rows, columns = (row * sh, (row_end - 1) * sh + kh), (column * sw, (column_end - 1) * sw + kw)
    if sight:
        high, wide = operation.accumulated[1:3]
        rows = rows[0], max(rows[1], min(high, sight[0][0] + 1))
        columns = columns[0], max(columns[1], min(wide, sight[1][0] + 1))
    return images, rows, columns


def sights(operations: Sequence[Linear]) -> dict[str, Sight]:
    """Of operations with sums that see nothing but padding of an operand, the sums between which each sees something of each.

    A layer has at least one row and column of its image, so a band has one that is seen, too (`_seeing`).
    """
    found: dict[str, Sight] = {}
    for operation in operations:
        if any(map(_is_blind, operation.operands)):
            found[operation.name] = _sight(operation.operands)
    for one, other in ((each.name, each.adds_to) for each in (*operations, *reversed(operations)) if each.adds_to):
        # Parts of a reduction have the same sums.
        both = [found[name] for name in (one, other) if name in found]
        if both:
            joined = [(max(a for a, _ in axis), min(b for _, b in axis)) for axis in zip(*both, strict=True)]
            found[one] = found[other] = joined[0], joined[1]
    return found


def _is_blind(operand: Operand) -> bool:
    """Some sums may see nothing but padding."""
    layer = operand.layer
    return any(max(pads) >= extent for pads, extent in zip(layer.padding, layer.kernel_extent, strict=True))


def _sight(operands: Sequence[Operand]) -> Sight:
    spans = []
    for axis in range(2):
        firsts, lasts = [], []
        for layer in (operand.layer for operand in operands):
            size, extent = (layer.height, layer.width)[axis], layer.kernel_extent[axis]
            stride, before = layer.stride[axis], layer.padding[axis][0]
            firsts.append(max(0, -((extent - 1 - before) // stride)))
            lasts.append((size - 1 + before) // stride)
        spans.append((max(firsts), min(lasts)))
    return spans[0], spans[1]


def _seeing(operation: Linear, rect: Rect, sight: Sight) -> Rect:
    """Outputs of which the sums see something of every operand; among them those in ``rect``."""
    window = operation.window
    kernels, strides = (window.kernel, window.stride) if window else ((1, 1), (1, 1))
    spans = []
    for (begin, end), (first, last), size, kernel, stride in zip(
        rect[1:], sight, operation.output[1:3], kernels, strides, strict=True
    ):
        spans.append((min(begin, last // stride), max(end, min(size, -((kernel - 1 - first) // stride) + 1))))
    return rect[0], spans[0], spans[1]


def _clipped(span: tuple[int, int], size: int) -> tuple[int, int]:
    """What a span has of an image, which is never nothing: if it ends before the image, its stride leaves the image over."""
    return max(span[0], 0), max(1, min(span[1], size))


def _whole(span: tuple[int, int], first: int, by: int) -> tuple[int, int]:
    """The positions of which each is seen as ``by``, of which a span, from ``first`` on, sees some."""
    return (span[0] + first) // by, -(-(span[1] + first) // by)


def as_stored(operations: Sequence[Linear], views: Mapping[str, Upsampling]) -> tuple[Linear, ...]:
    """Operations of a segment, reading tensors of ``views`` that others have stored as they lie in memory."""
    outside = views.keys() - {operation.name for operation in operations}
    return tuple(
        replace(operation, operands=tuple(_as_stored(operand, outside) for operand in operation.operands))
        if outside.intersection(operation.sources)
        else operation
        for operation in operations
    )


def _as_stored(operand: Operand, outside: Collection[str]) -> Operand:
    seen = tuple(AS_IT_IS if source in outside else operand.upsampling(source) for source in operand.sources)
    return replace(operand, upsampled=() if all(each == AS_IT_IS for each in seen) else seen)


def enlarged(rect: Rect, seen: Upsampling) -> Rect:
    """A box of a tensor in the tensor as it is seen."""
    images, (row, row_end), (column, column_end) = rect
    return images, (row * seen.rows, row_end * seen.rows), (column * seen.columns, column_end * seen.columns)


def needed(operations: Sequence[Linear], shares: Mapping[str, Rect], far: Mapping[str, Sight]) -> dict[str, Rect]:
    """Of every tensor that operations give or read, the smallest box with all positions that shares need; none if nothing is.
    ``far``: `sights` of the operations."""
    found = dict(shares)
    for operation in reversed(operations):
        rect = found.get(operation.name)
        if rect is None:
            continue
        sight = far.get(operation.name)
        if sight:
            rect = found[operation.name] = _seeing(operation, rect, sight)
        if operation.adds_to:
            found[operation.adds_to] = rect
        images, rows, columns = _summed(operation, rect, sight)
        for operand in operation.operands:
            layer = operand.layer
            high, wide = _read(operand, rows, columns)
            high, wide = _clipped(high, layer.height), _clipped(wide, layer.width)
            for source in operand.sources:
                (row, column), seen = operand.corner(source), operand.upsampling(source)
                box = (images, _whole(high, row, seen.rows), _whole(wide, column, seen.columns))
                found[source] = _hull(found[source], box) if source in found else box
    return found


def _hull(one: Rect, other: Rect) -> Rect:
    spans = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True)]
    return spans[0], spans[1], spans[2]


def band(name: str, operations: Sequence[Linear], shapes: Mapping[str, Shape], shares: Mapping[str, Rect]) -> Band:
    """The band that gives ``shares``. ``operations``: of the segment, in order, as `as_stored` has them; ``shapes``: of all tensors
    of the network, as they are read."""
    far = sights(operations)
    rects = needed(operations, shares, far)
    inside = {operation.name for operation in operations}
    made = tuple(_cut(operation, rects, inside, far.get(operation.name)) for operation in operations if operation.name in rects)
    inputs = {
        source: (*_sizes(rects[source]), shapes[source][3])
        for operation in made
        for source in operation.sources
        if source not in inside
    }
    corners = {tensor: (rect[0][0], rect[1][0], rect[2][0]) for tensor, rect in rects.items()}
    return Band(Graph(name, inputs, made, tuple(shares)), corners, dict(shares))


def _sizes(rect: Rect) -> tuple[int, int, int]:
    (i, i_end), (r, r_end), (c, c_end) = rect
    return i_end - i, r_end - r, c_end - c


def _cut(operation: Linear, rects: Mapping[str, Rect], inside: Collection[str], sight: Sight | None) -> Linear:
    """The operation over a box of its positions, reading boxes of its sources."""
    images, rows, columns = _summed(operation, rects[operation.name], sight)
    operands = []
    for operand in operation.operands:
        layer = operand.layer
        spans = _read(operand, rows, columns)
        inner = [_clipped(span, size) for span, size in zip(spans, (layer.height, layer.width), strict=True)]
        padding = [(a[0] - b[0], max(0, b[1] - a[1])) for a, b in zip(inner, spans, strict=True)]
        cut = replace(
            layer,
            batch=images[1] - images[0],
            height=inner[0][1] - inner[0][0],
            width=inner[1][1] - inner[1][0],
            padding=(padding[0], padding[1]),
            is_gemm=False,
        )
        corners = []
        for source in operand.sources:
            (row, column), seen = operand.corner(source), operand.upsampling(source)
            _, (top, _), (left, _) = rects[source]
            corners.append((inner[0][0] + row - top * seen.rows, inner[1][0] + column - left * seen.columns))
        operands.append(replace(operand, layer=cut, corners=tuple(corners)))
    after = tuple(name for name in operation.after if name in inside and name in rects)
    return replace(operation, operands=tuple(operands), after=after)


def size_of(rect: Rect) -> int:
    """Positions of a box."""
    return prod(end - begin for begin, end in rect)
