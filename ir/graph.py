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
    ``residual``: it is added with one scale per channel, which nobody trained: no multiplications of the network.
    """

    sources: tuple[str, ...]
    layer: Layer
    pad_value: int = 0
    channels: tuple[int, int] | None = None
    residual: bool = False

    @property
    def is_diagonal(self) -> bool:
        """Each output is one channel at the same position, times a weight."""
        layer = self.layer
        return layer.groups == layer.channels == layer.outputs > 1 and layer.kernel == layer.stride == (1, 1)

    def __post_init__(self) -> None:
        if self.residual and not self.is_diagonal and self.layer.outputs > 1:
            raise WorkloadError(f"{self.layer.name}: a residual multiplies each channel by one weight, 1x1, stride 1")
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
    def sources(self) -> tuple[str, ...]:
        """The tensors that it reads, once for every time that it does."""
        return tuple(source for operand in self.operands for source in operand.sources)

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
        """Multiplications of the network; those of a pooling or a residual are not counted."""
        return 0 if self.identity else sum(operand.layer.macs for operand in self.operands if not operand.residual)


@dataclass(frozen=True)
class Graph:
    """The structure of a network; `podweave.ir.constants` has what its nodes multiply by, `podweave.ir.verify` its rules.

    Parameters
    ----------
    inputs : dict
        Tensors that come from outside, by name.
    nodes : tuple
        In an order in which each reads only earlier tensors.
    outputs : tuple of str, optional
        Tensors that leave: each computed by a node, and read by others or not. By default those that no node reads.
    """

    name: str
    inputs: dict[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...] = None  # type: ignore[assignment]  # Always a tuple once it is made.

    def __post_init__(self) -> None:
        if self.outputs is None:
            object.__setattr__(self, "outputs", tuple(node.name for node in self.nodes if node.name not in self.read))

    @property
    def read(self) -> set[str]:
        """Tensors that some node reads."""
        return {source for node in self.nodes for source in node.sources}

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor by its name."""
        if name in self.inputs:
            return self.inputs[name]
        return next(node.output for node in self.nodes if node.name == name)
