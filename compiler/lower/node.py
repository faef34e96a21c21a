"""Lowering of the nodes of a graph: words of activations hold a block of channels of one tensor, as post-processors write them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from podweave.ir.graph import Graph, Node, Operand
from podweave.ir.layers import WorkloadError
from podweave.spec.config_parts import ArrayConfig

from .layer import ColumnTile, Lowered, Step, Unit, lower


def lower_node(graph: Graph, node: Node, array: ArrayConfig) -> Lowering:
    """A node whose only operand comes from the host may put several kernel taps into one word; others read channel blocks."""
    if len(node.operands) == 1:
        operand = node.operands[0]
        if operand.layer.groups == 1 and all(source in graph.inputs for source in operand.sources):
            return Lowering((lower(operand.layer, array),))
    return Lowering(tuple(_lower_blocks(graph, operand, array) for operand in node.operands))


def unit_source(graph: Graph, operand: Operand, first_channel: int) -> tuple[str, int]:
    """The tensor that a channel of an operand belongs to, and its number there."""
    if operand.channels is not None:
        return operand.sources[0], operand.channels[0] + first_channel
    for source in operand.sources:
        channels = graph.shape(source)[3]
        if first_channel < channels:
            return source, first_channel
        first_channel -= channels
    raise IndexError(first_channel)


def _lower_blocks(graph: Graph, operand: Operand, array: ArrayConfig) -> Lowered:
    layer = operand.layer
    host = [source for source in operand.sources if source in graph.inputs]
    if host and len(host) < len(operand.sources):
        other = next(source for source in operand.sources if source not in graph.inputs)
        raise WorkloadError(
            f"{layer.name}: {host[0]}, which the host provides, is concatenated with {other}, which a node computes"
        )
    units: list[Unit] = []
    for begin, end in _blocks(graph, operand, array.rows):
        channel = np.arange(begin, end)
        units.append(Unit(np.zeros_like(channel), np.zeros_like(channel), channel))
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


def _blocks(graph: Graph, operand: Operand, rows: int) -> list[tuple[int, int]]:
    """Channels of an operand, cut where a tensor ends and where a word of that tensor ends."""
    if operand.channels is not None:
        first, count = operand.channels
        edges = [*range(first - first % rows + rows, first + count, rows)]
        return list(itertools.pairwise([0, *(edge - first for edge in edges), count]))
    blocks, offset = [], 0
    for source in operand.sources:
        channels = graph.shape(source)[3]
        blocks += [(offset + b, offset + min(b + rows, channels)) for b in range(0, channels, rows)]
        offset += channels
    return blocks


@dataclass(frozen=True)
class Lowering:
    """A node as the arrays see it: one lowered operand each, all with the same column tiles."""

    operands: tuple[Lowered, ...]

    @property
    def tiles(self) -> tuple[ColumnTile, ...]:
        return self.operands[0].tiles
