"""Random networks of a few layers, of few channels: what four pods of 4 x 4 with banks of 256 words hold in several epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Upsampling, Window

from ..runs.jobs import Job
from .choices import Choices


def conv(name: str, sources: tuple[str, ...], size: int, channels: int, outputs: int, kernel: int = 1, **more: Any) -> Operand:
    """A convolution of square images, as large as what it reads."""
    padding = ((kernel // 2, kernel // 2),) * 2
    layer = Layer(
        name=name, height=size, width=size, channels=channels, outputs=outputs, kernel=(kernel, kernel), padding=padding, **more
    )
    return Operand(sources, layer)


class GrowingGraph:
    """A graph that grows; ``more``: kinds of nodes that not all have; ``live``: tensors that were made, as (name, height and width,
    channels)."""

    def __init__(self, rng: Choices, size: int = 0, batch: int = 1, more: Sequence[str] = ()):
        self.rng = rng
        self.size, self.batch = size, batch
        if not size:
            self.size = 2 * int(self.rng.integers(2, 5))
            self.batch = int(self.rng.integers(1, 3)) if self.size == 4 else 1
        self.kinds = ["1x1", "3x3", "residual", "pool", "wide", "concatenation", "input", *more]
        self.inputs: dict[str, tuple[int, int, int, int]] = {}
        self.operations: list[Linear] = []
        self.live = [self.input("image", self.size)]

    def channels(self) -> int:
        return int(self.rng.integers(1, 13))

    def input(self, name: str, size: int) -> tuple[str, int, int]:
        self.inputs[name] = (self.batch, size, size, self.channels())
        return name, size, self.inputs[name][3]

    def another(self, size: int, *names: str) -> tuple[str, int, int] | None:
        """A tensor of that size but those ``names``."""
        found = [tensor for tensor in self.live if tensor[1] == size and tensor[0] not in names]
        return found[int(self.rng.integers(len(found)))] if found else None

    def grow(self) -> None:
        """One node more, that reads one of the last tensors and perhaps another."""
        kind, batch = str(self.rng.choice(self.kinds)), self.batch
        recent = self.live[-3:]
        source, size, count = recent[int(self.rng.integers(len(recent)))]
        name, outputs = f"{kind}_{len(self.operations)}", self.channels()
        if kind == "pool" and size > 2 and count > 1:
            window = Window("max" if self.rng.integers(2) else "sum", (2, 2), (2, 2))
            operand = conv(name, (source,), size, count, count, groups=count, batch=batch)
            self.add(Linear(name, (operand,), window, identity=True))
            return
        if kind == "average" and size % 2 == 0 and count > 1:
            # Over what is in the image: windows at its border have fewer positions.
            stride = int(self.rng.integers(1, 3))
            window = Window("sum", (3, 3), (stride, stride), leaves_pads_out=True)
            operand = conv(name, (source,), size, count, count, groups=count, batch=batch)
            layer = dataclasses.replace(operand.layer, padding=((1, stride % 2), (1, stride % 2)))
            self.add(Linear(name, (dataclasses.replace(operand, layer=layer),), window, identity=bool(self.rng.integers(2))))
            return
        if kind in ("upsampled", "interleaved") and 3 * size <= 24:
            self.upsampled(name, source, size, count, outputs, interleaved=kind == "interleaved")
            return
        if kind == "part" and size > 3:
            self.part(name, source, size, count, outputs)
            return
        operands = [conv(name, (source,), size, count, outputs, 3 if kind == "3x3" else 1, batch=batch)]
        if kind == "residual" and (other := self.another(size)) and other[2] > 1:
            outputs = other[2]
            operands = [
                conv(name, (source,), size, count, outputs, batch=batch),
                conv(f"{name}.other", (other[0],), size, outputs, outputs, groups=outputs, batch=batch),
            ]
        if kind == "concatenation" and (other := self.another(size, source)):
            operands = [conv(name, (source, other[0]), size, count + other[2], outputs, batch=batch)]
        if kind == "input":
            fed = self.input(f"fed_{len(self.operations)}", size)
            operands.append(conv(f"{name}.fed", (fed[0],), size, fed[2], outputs, batch=batch))
        if kind == "wide" and size == 4:
            # Two column tiles for each pod: in small W banks, a node that is split.
            operands = [conv(name, (source,), size, count, 32, 3 if count > 3 else 1, batch=batch)]
        self.add(Linear(name, tuple(operands)))

    def upsampled(self, name: str, source: str, size: int, count: int, outputs: int, *, interleaved: bool) -> None:
        """A node that sees a tensor enlarged, perhaps with one of that size behind it; or what a convolution makes for that."""
        factor = int(self.rng.integers(2, 4))
        seen = Upsampling(factor, factor, interleaved)
        if interleaved:
            parts = seen.positions * int(self.rng.choice([2, 4, 5, 8]))
            kernel = 3 if self.rng.integers(2) else 1
            self.add(Linear(f"{name}.parts", (conv(f"{name}.parts", (source,), size, count, parts, kernel, batch=self.batch),)))
            source, count = f"{name}.parts", parts // seen.positions
            if count % 4:
                # Nobody else reads what is filled up.
                self.live.pop()
        sources: tuple[str, ...] = (source,)
        views: tuple[Upsampling, ...] = (seen,)
        other = self.another(factor * size, source)
        if other and self.rng.integers(2):
            sources, views, count = (source, other[0]), (seen, Upsampling()), count + other[2]
            if self.rng.integers(2):
                sources, views = sources[::-1], views[::-1]
        operand = conv(name, sources, factor * size, count, outputs, 3 if self.rng.integers(2) else 1, batch=self.batch)
        self.add(Linear(name, (dataclasses.replace(operand, upsampled=views),)))

    def part(self, name: str, source: str, size: int, count: int, outputs: int) -> None:
        """A node that sees some rows and columns of a tensor, perhaps with padding around them, where the tensor goes on."""
        seen = int(self.rng.integers(3, size))
        row, column = (int(self.rng.integers(0, size - seen + 1)) for _ in range(2))
        operand = conv(name, (source,), seen, count, outputs, 3 if self.rng.integers(3) else 1, batch=self.batch)
        value = int(self.rng.integers(-128, 128))
        self.add(Linear(name, (dataclasses.replace(operand, corners=((row, column),), pad_value=value),)))

    def graph(self, name: str) -> Graph:
        return Graph(name, self.inputs, tuple(self.operations))

    def add(self, node: Linear) -> None:
        self.operations.append(node)
        self.live.append((node.name, node.output[1], node.output[3]))


def random_graph(seed: int, rng: Choices | None = None) -> Graph:
    """Three to seven nodes; what no node reads is an output, and some others. ``rng``: what decides, in place of the seed."""
    growing = GrowingGraph(rng or Choices(seed))
    for _ in growing.rng.several(3, 8):
        growing.grow()
    graph = growing.graph(f"random {seed}")
    # Some that are read leave as well.
    more = (node.name for node in graph.operations if growing.rng.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def with_data(graph: Graph, seed: int) -> Job:
    """A graph with random parameters and inputs."""
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)


def random_job(seed: int, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(random_graph(seed, rng), seed)


def upsampled_graph(seed: int, size: int = 0, rng: Choices | None = None) -> Graph:
    """Like `random_graph`, and nodes see tensors enlarged, or average what is no padding; ``size``: of its images, by default
    chosen."""
    growing = GrowingGraph(rng or Choices(seed), size, more=("upsampled", "interleaved", "pool", "average"))
    while not any(operand.upsampled for node in growing.operations for operand in node.operands):
        for _ in growing.rng.several(2, 5):
            growing.grow()
    graph = growing.graph(f"upsampled {seed}")
    more = (name for name, *_ in growing.live if name not in graph.inputs and growing.rng.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def upsampled_job(seed: int, size: int = 0, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(upsampled_graph(seed, size, rng), seed)


def parts_graph(seed: int, size: int = 0, rng: Choices | None = None) -> Graph:
    """Like `random_graph`, and nodes see parts of tensors; ``size``: of its images, by default chosen."""
    growing = GrowingGraph(rng or Choices(seed), size, more=("part",) * 5)
    image = growing.live[0]
    growing.part("part", *image, growing.channels())
    for _ in growing.rng.several(2, 6):
        growing.grow()
    return growing.graph(f"parts {seed}")


def parts_job(seed: int, size: int = 0, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(parts_graph(seed, size, rng), seed)
