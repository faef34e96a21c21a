"""Random networks of which the weights of one column tile are more than four W banks of 256 words hold."""

from __future__ import annotations

import dataclasses

from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window

from ..runs.jobs import Job
from .choices import Choices
from .random_layers import with_data

Shape = tuple[int, int, int, int]


class _Growing:
    """A graph that grows; all tensors have the same images."""

    def __init__(self, rng: Choices):
        self.rng = rng
        self.size = int(self.rng.integers(2, 5))
        self.inputs: dict[str, Shape] = {"image": (1, self.size, self.size, self.among(40, 150))}
        self.operations: list[Linear] = []
        self.channels = {"image": self.inputs["image"][3]}

    def among(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def source(self) -> str:
        names = list(self.channels)
        return names[-1 - min(int(self.rng.geometric(0.6)) - 1, len(names) - 1)]

    def layer(self, name: str, channels: int, outputs: int, kernel: int, groups: int = 1) -> Layer:
        pad = kernel // 2, kernel - 1 - kernel // 2
        return Layer(
            name=name,
            height=self.size,
            width=self.size,
            channels=channels,
            outputs=outputs,
            kernel=(kernel, kernel),
            padding=(pad, pad),
            groups=groups,
        )

    def operand(self, name: str, outputs: int) -> Operand:
        """A convolution of some tensor: of all of it, of some channels, or of two one after the other."""
        first, kernel = self.source(), int(self.rng.choice([1, 3, 3, 5]))
        sources = (first, self.source()) if self.rng.integers(4) == 0 else (first,)
        total = sum(self.channels[source] for source in sources)
        if self.rng.integers(3) == 0:
            begin = self.among(0, total // 3 + 1)
            count = self.among(total // 3 + 1, total - begin + 1)
            return Operand(sources, self.layer(name, count, outputs, kernel), channels=(begin, count))
        return Operand(sources, self.layer(name, total, outputs, kernel))

    def grow(self) -> None:
        name = f"n{len(self.operations)}"
        kind = str(self.rng.choice(["plain", "plain", "residual", "two", "window", "groups"]))
        outputs = self.among(1, 30)
        operands, window = [self.operand(name, outputs)], None
        if kind == "residual":
            other = self.source()
            outputs = min(self.channels[other], 40)
            operands = [self.operand(name, outputs)]
            if outputs > 1:
                taken = None if outputs == self.channels[other] else (self.among(0, self.channels[other] - outputs), outputs)
                operands.append(Operand((other,), self.layer(f"{name}.other", outputs, outputs, 1, outputs), channels=taken))
        elif kind == "two":
            operands.append(self.operand(f"{name}.two", outputs))
        elif kind == "window":
            window = Window("max" if self.rng.integers(2) else "sum", (2, 2), (1, 1))
        elif kind == "groups":
            source = self.source()
            groups = int(self.rng.choice([g for g in range(1, 6) if self.channels[source] % g == 0]))
            outputs = groups * self.among(1, 12)
            operands = [Operand((source,), self.layer(name, self.channels[source], outputs, 3, groups))]
        self.operations.append(Linear(name, tuple(operands), window))
        if window is None:
            # Others have other images.
            self.channels[name] = outputs


def sums_graph(seed: int, rng: Choices | None = None) -> Graph:
    """Two to five operations; what none reads is an output, and some others."""
    growing = _Growing(rng or Choices([seed, 15]))
    for _ in growing.rng.several(2, 6):
        growing.grow()
    graph = Graph(f"sums {seed}", growing.inputs, tuple(growing.operations))
    more = (each.name for each in graph.operations if growing.rng.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def sums_job(seed: int, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(sums_graph(seed, rng), seed)
