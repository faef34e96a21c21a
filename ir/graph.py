"""Graphs of layers: what the compiler for a chip takes.

A node multiplies one or several operands by weights into the same accumulators (a residual connection is an operand with
a diagonal of weights), reduces windows of them if asked to (pooling), and post-processes: bias, requantisation,
activation table. Its output is an int8 tensor (B, H, W, C) that other nodes read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .layers import Layer, WorkloadError

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Operand:
    """``sources``: tensors whose channels, one after the other, are the channels of ``layer`` (concatenation).

    ``pad_value``: what stands in the padding of ``layer`` (-128 for a max-pool, else 0).
    ``channels``: (first, count) of the channels that are read of a single source, as a head of attention does; else all.
    """

    sources: tuple[str, ...]
    layer: Layer
    pad_value: int = 0
    channels: tuple[int, int] | None = None

    @property
    def is_diagonal(self) -> bool:
        """Each output is one channel at the same position, times a weight: a residual, or what a pooling reads."""
        layer = self.layer
        return layer.groups == layer.channels == layer.outputs > 1 and layer.kernel == layer.stride == (1, 1)

    def __post_init__(self) -> None:
        if self.channels is None:
            return
        if len(self.sources) != 1:
            raise WorkloadError(f"{self.layer.name}: channels are taken of one source, got {len(self.sources)}")
        first, count = self.channels
        if first < 0 or count < 1:
            raise WorkloadError(f"{self.layer.name}: channels must be (first, count) with at least one, got {self.channels}")


@dataclass(frozen=True)
class Window:
    """Reduction of accumulators over windows of output positions of the operands, without padding (that is the operand's)."""

    reduce: Literal["max", "sum"]
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class Node:
    """One node of a graph; its output tensor has its name.

    ``identity``: its weights are a diagonal of ones (pooling): nothing to be trained or loaded but the diagonal.
    ``after``: nodes that must be complete before this one starts, beside those whose outputs it reads.
    """

    name: str
    operands: tuple[Operand, ...]
    window: Window | None = None
    identity: bool = False
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.operands:
            raise WorkloadError(f"{self.name}: a node needs at least one operand")
        first = self.operands[0].layer
        for operand in self.operands[1:]:
            layer = operand.layer
            if (layer.batch, *layer.output_size, layer.outputs) != (first.batch, *first.output_size, first.outputs):
                raise WorkloadError(
                    f"{self.name}: operands must give the same output, got {(first.batch, *first.output_size, first.outputs)} and "
                    f"{(layer.batch, *layer.output_size, layer.outputs)}"
                )
        if self.window:
            for axis, size, kernel in zip(("height", "width"), first.output_size, self.window.kernel, strict=True):
                if kernel > size:
                    raise WorkloadError(f"{self.name}: the window spans {kernel} in {axis}, but there are {size} positions")

    @property
    def accumulated(self) -> Shape:
        """Shape of the accumulators, before the reduction."""
        layer = self.operands[0].layer
        return (layer.batch, *layer.output_size, layer.outputs)

    @property
    def output(self) -> Shape:
        batch, height, width, outputs = self.accumulated
        if self.window:
            (kh, kw), (sh, sw) = self.window.kernel, self.window.stride
            height, width = (height - kh) // sh + 1, (width - kw) // sw + 1
        return (batch, height, width, outputs)

    @property
    def macs(self) -> int:
        """Multiplications of the network; those by the diagonal of a pooling or a residual are not counted."""
        return 0 if self.identity else sum(operand.layer.macs for operand in self.operands if not operand.is_diagonal)


@dataclass(frozen=True)
class Graph:
    """``inputs``: tensors that the host provides. ``nodes``: in an order in which each reads only earlier tensors."""

    name: str
    inputs: dict[str, Shape]
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        shapes = dict(self.inputs)
        for node in self.nodes:
            if node.name in shapes:
                raise WorkloadError(f"{self.name}: two tensors are named {node.name}")
            for operand in node.operands:
                layer, total = operand.layer, 0
                for source in operand.sources:
                    if source not in shapes:
                        raise WorkloadError(f"{self.name}: {node.name} reads {source}, which no earlier node gives")
                    batch, height, width, channels = shapes[source]
                    if operand.channels:
                        first, count = operand.channels
                        if first + count > channels:
                            raise WorkloadError(
                                f"{self.name}: {node.name} reads channels {first} to {first + count - 1} of {source}, "
                                f"which has {channels}"
                            )
                        channels = count
                    total += channels
                    if (batch, height, width) != (layer.batch, layer.height, layer.width):
                        raise WorkloadError(
                            f"{self.name}: {node.name} expects images of {(layer.batch, layer.height, layer.width)}, "
                            f"but {source} is {(batch, height, width)}"
                        )
                if total != layer.channels:
                    raise WorkloadError(f"{self.name}: {node.name} expects {layer.channels} channels, its sources have {total}")
            for name in node.after:
                if name not in shapes:
                    raise WorkloadError(f"{self.name}: {node.name} comes after {name}, which no earlier node gives")
            shapes[node.name] = node.output

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor by its name."""
        if name in self.inputs:
            return self.inputs[name]
        return next(node.output for node in self.nodes if node.name == name)
