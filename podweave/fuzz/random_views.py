"""Random networks of few tensors with many readers, each of which sees them in its own way: a part, enlarged, some of the
channels, behind padding of any value on any side, with strides and dilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Shape, Upsampling, Window

from ..runs.jobs import Job
from .choices import Choices
from .random_layers import with_data

Size = tuple[int, int]
LARGEST = 16
"""Rows and columns of what is seen."""


@dataclass(frozen=True)
class View:
    """A tensor as it is ``seen``, which has a ``shape`` then, and the first row and column of the part that is read."""

    source: str
    seen: Upsampling
    shape: Shape
    corner: Size


class _Growing:
    """A graph that grows; ``values``: the few that stand in padding, so that readers may share what they load."""

    def __init__(self, rng: Choices, size: Size):
        self.rng = rng
        self.inputs: dict[str, Shape] = {}
        self.operations: list[Linear] = []
        self.live: dict[str, Shape] = {}
        self.values = [self.between(-128, 127) for _ in range(2)]
        self.batch = self.between(1, 2)
        self.input(size)

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def one_of(self, count: int) -> bool:
        """True once in so many times."""
        return bool(self.rng.integers(0, count) == count - 1)

    def input(self, size: Size) -> None:
        name = f"in{len(self.inputs)}"
        self.inputs[name] = self.live[name] = (self.batch, *size, self.between(1, 10))

    def source(self) -> str:
        """Mostly one of the first tensors, which many read."""
        names = list(self.live)
        return names[min(int(self.rng.geometric(0.4)) - 1, len(names) - 1)]

    def seen(self, source: str) -> tuple[Upsampling, Shape]:
        """How a tensor is seen, and its shape as it is seen."""
        shape, views = self.live[source], [AS_IT_IS] * 4
        for rows, columns in ((2, 2), (1, 2), (3, 1)):
            if shape[1] * rows <= LARGEST and shape[2] * columns <= LARGEST:
                views.append(Upsampling(rows, columns))
                if source not in self.inputs and shape[3] % (rows * columns) == 0:
                    views.append(Upsampling(rows, columns, interleaved=True))
        view = views[int(self.rng.integers(0, len(views)))]
        return view, view.of(shape)

    def part(self, size: int) -> tuple[int, int]:
        """The first row of a part and how many it has; half of the time it is all."""
        if self.one_of(2):
            return 0, size
        length = self.between(1, size)
        return self.between(0, size - length), length

    def beside(self, size: Size, taken: Collection[str] = ()) -> View | None:
        """A tensor, none of ``taken``, that has so many rows and columns, if one is drawn that has."""
        source = self.source()
        seen, shape = self.seen(source)
        _, high, wide, _ = shape
        if source in taken or high < size[0] or wide < size[1]:
            return None
        return View(source, seen, shape, (self.between(0, high - size[0]), self.between(0, wide - size[1])))

    def padding(self, size: int, extent: int) -> tuple[int, int]:
        """Before and behind; as much as the kernel needs."""
        before, behind = (self.between(0, 3) if self.one_of(2) else 0 for _ in range(2))
        return before, behind + max(0, extent - size - before - behind)

    def views(self) -> tuple[list[View], Size]:
        """Some view of a tensor, or of several of which the channels are one after the other, and its rows and columns."""
        source = self.source()
        seen, shape = self.seen(source)
        spans = self.part(shape[1]), self.part(shape[2])
        (row, column), size = (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])
        views = [View(source, seen, shape, (row, column))]
        while self.one_of(3) and (other := self.beside(size, [view.source for view in views])):
            views.insert(self.between(0, 1), other)
        return views, size

    def operand(self, name: str) -> Operand:
        views, size = self.views()
        kernel = (self.between(1, 3), self.between(1, 3))
        stride = (self.between(1, 2), self.between(1, 2)) if self.one_of(4) else (1, 1)
        dilation = (self.between(1, 2), self.between(1, 2)) if self.one_of(4) else (1, 1)
        extents = [(of - 1) * by + 1 for of, by in zip(kernel, dilation, strict=True)]
        padding = self.padding(size[0], extents[0]), self.padding(size[1], extents[1])
        more: dict[str, Any] = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
        return self.of_views(name, views, size, more)

    def pooled(self, name: str) -> Linear:
        """A pooling of what is seen: of all in a window, or of what is no padding."""
        views, size = self.views()
        padding = self.padding(size[0], 1), self.padding(size[1], 1)
        padded = size[0] + sum(padding[0]), size[1] + sum(padding[1])
        operand = self.of_views(name, views, size, {"padding": padding}, is_pooled=True)
        window = self.window(padded, 3)
        node = Linear(name, (operand,), window, identity=operand.is_diagonal)
        if window.reduce == "sum" and min(map(min, node.inside)) > 0 and self.one_of(2):
            node = dataclasses.replace(node, window=dataclasses.replace(window, leaves_pads_out=True))
        return node

    def of_views(
        self, name: str, views: list[View], size: Size, more: dict[str, Any], outputs: int = 0, *, is_pooled: bool = False
    ) -> Operand:
        """One that reads ``size`` of each view; ``more``: of its layer; ``outputs``: 0 for any number of them; ``is_pooled``: each
        output is a channel."""
        total, taken = sum(view.shape[3] for view in views), None
        if total > 1 and self.one_of(4):
            count = self.between(1, total - 1)
            taken, total = (self.between(0, total - count), count), count
        outputs = total if is_pooled else outputs or self.outputs(total)
        common = [each for each in range(1, total + 1) if total % each == 0 and outputs % each == 0]
        groups = total if is_pooled else common[int(self.rng.integers(0, len(common)))] if self.one_of(3) else 1
        layer = Layer(
            name=name, batch=self.batch, height=size[0], width=size[1], channels=total, outputs=outputs, groups=groups, **more
        )
        value = self.values[self.between(0, 1)]
        corners, seen = tuple(view.corner for view in views), tuple(view.seen for view in views)
        if all(view.shape[1:3] == size for view in views):
            corners = ()
        return Operand(
            tuple(view.source for view in views),
            layer,
            value,
            taken,
            corners=corners,
            upsampled=() if all(view == AS_IT_IS for view in seen) else seen,
        )

    def outputs(self, channels: int) -> int:
        """As many as there are channels now and then, or a multiple of four, which may be seen interleaved."""
        kind = self.between(0, 3)
        return channels if kind == 3 else 4 * self.between(1, 4) if kind == 2 else self.between(1, 9)

    def added(self, name: str, size: Size, outputs: int) -> Operand | None:
        """A second operand of so many positions: of a part of them, with padding around."""
        inside = size[0] - self.between(0, min(2, size[0] - 1)), size[1] - self.between(0, min(2, size[1] - 1))
        view = self.beside(inside)
        if view is None:
            return None
        pads = [(before := self.between(0, all_of - of), all_of - of - before) for all_of, of in zip(size, inside, strict=True)]
        return self.of_views(f"{name}.added", [view], inside, {"padding": (pads[0], pads[1])}, outputs)

    def window(self, size: Size, most: int = 2) -> Window:
        """Of at most so many rows and columns."""
        kernel = self.between(1, min(most, size[0])), self.between(1, min(most, size[1]))
        return Window("max" if self.one_of(2) else "sum", kernel, (self.between(1, 2), self.between(1, 2)))

    def summed(self, name: str) -> Linear:
        """One operand, or two, perhaps with a window over their sums."""
        operands = [self.operand(name)]
        size, outputs = operands[0].layer.output_size, operands[0].layer.outputs
        if self.one_of(3) and (other := self.added(name, size, outputs)):
            operands.append(other)
        return Linear(name, tuple(operands), self.window(size) if self.one_of(4) else None)

    def grow(self) -> None:
        """One node more."""
        name = f"n{len(self.operations)}"
        if self.one_of(8):
            self.input(self.live["in0"][1:3])
        node = self.pooled(name) if self.one_of(5) else self.summed(name)
        self.operations.append(node)
        self.live[name] = node.output


def views_graph(seed: int, rng: Choices | None = None) -> Graph:
    """Three to eight nodes; what no node reads is an output, and some others."""
    choices = rng or Choices([seed, 16])
    growing = _Growing(choices, (int(choices.integers(2, 11)), int(choices.integers(2, 11))))
    for _ in choices.several(3, 9):
        growing.grow()
    graph = Graph(f"views {seed}", growing.inputs, tuple(growing.operations))
    more = (each.name for each in graph.operations if choices.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def views_job(seed: int, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(views_graph(seed, rng), seed)
