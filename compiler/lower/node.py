"""Lowering of the nodes of a graph: words of activations hold a block of channels of one tensor, as post-processors write them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from podweave.ir.graph import Graph, Node, Operand
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig

from .layer import ColumnTile, Lowered, Origin, Step, Unit, lower


@dataclass(frozen=True)
class Lowering:
    """A node as the arrays see it: one lowered operand each, all with the same column tiles.

    ``needs``: tensors that nodes compute and that it reads or comes after.
    """

    operands: tuple[Lowered, ...]
    needs: frozenset[str] = frozenset()

    @property
    def tiles(self) -> tuple[ColumnTile, ...]:
        return self.operands[0].tiles

    @property
    def is_external(self) -> bool:
        """All that it reads comes from outside."""
        return not any(unit.is_computed for operand in self.operands for unit in operand.units)


def lower_graph(graph: Graph, config: ChipConfig) -> tuple[Lowering, ...]:
    """All nodes as the arrays see them; raises `WorkloadError` for a reduction that would wrap."""
    lowerings = []
    for node in graph.nodes:
        reduction = sum(operand.layer.reduction for operand in node.operands)
        limit = config.array.max_reduction
        if reduction > limit:
            raise WorkloadError(
                f"{node.name}: the reduction K is {reduction}, {reduction - limit} more than psum_width "
                f"{config.array.psum_width} sums without wrapping ({limit})"
            )
        lowerings.append(lower_node(graph, node, config.array))
    return tuple(lowerings)


def lower_node(graph: Graph, node: Node, array: ArrayConfig) -> Lowering:
    """A node whose only operand comes from outside may put several kernel taps into one word; others read channel blocks."""
    needs = frozenset(name for name in (*node.sources, *node.after) if name not in graph.inputs)
    if len(node.operands) == 1:
        operand = node.operands[0]
        if operand.layer.groups == 1 and all(source in graph.inputs for source in operand.sources):
            return Lowering((lower(operand.layer, array),), needs)
    return Lowering(tuple(_lower_blocks(graph, operand, array) for operand in node.operands), needs)


def _lower_blocks(graph: Graph, operand: Operand, array: ArrayConfig) -> Lowered:
    layer = operand.layer
    units: list[Unit] = []
    for begin, end, source, first in _blocks(graph, operand, array.rows):
        channel = np.arange(begin, end)
        taps_of = (np.zeros_like(channel), np.zeros_like(channel), channel)
        if source in graph.inputs:
            units.append(Unit(*taps_of, len(channel), Origin.EXTERNAL, source, first))
        else:
            units.append(Unit(*taps_of, array.rows, Origin.COMPUTED, source, first, first % array.rows))
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    taps = list(itertools.product(range(layer.kernel[0]), range(layer.kernel[1])))
    tiles = []
    for begin in range(0, layer.outputs, array.cols):
        outputs = np.arange(begin, min(begin + array.cols, layer.outputs))
        first, last = outputs[0] // out_group * in_group, (outputs[-1] // out_group + 1) * in_group
        steps = tuple(
            Step(number, kh * layer.dilation[0], kw * layer.dilation[1], np.full(unit.lanes, kh), np.full(unit.lanes, kw))
            for number, unit in enumerate(units)
            if unit.channel[0] < last and unit.channel[-1] >= first
            for kh, kw in taps
        )
        tiles.append(ColumnTile(outputs, steps))
    return Lowered(layer, tuple(units), tuple(tiles))


def _blocks(graph: Graph, operand: Operand, rows: int) -> list[tuple[int, int, str, int]]:
    """Channels [begin, end) of an operand, cut where a tensor ends and where a word of that tensor ends.

    With the tensor that each piece is of, and which of its channels the first one is.
    """
    if operand.channels is not None:
        (source,), (first, count) = operand.sources, operand.channels
        edges = [0, *(edge - first for edge in range(first - first % rows + rows, first + count, rows)), count]
        return [(begin, end, source, first + begin) for begin, end in itertools.pairwise(edges)]
    blocks, offset = [], 0
    for source in operand.sources:
        channels = graph.shape(source)[3]
        blocks += [(offset + b, offset + min(b + rows, channels), source, b) for b in range(0, channels, rows)]
        offset += channels
    return blocks
