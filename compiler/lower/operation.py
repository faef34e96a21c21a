"""Lowering of operations: words of activations hold a block of channels of one tensor, as post-processors write them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Shape
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from .layer import ColumnTile, Origin, PackedLayer, Step, Unit, pack_layer

_WORD_COST = 2
"""Of a network that is cut, what a beat of inputs costs, in cycles of all pods: what spares bytes is worth some of those."""


@dataclass(frozen=True)
class LoweredOperation:
    """An operation as the arrays see it: one lowered operand each, all with the same column tiles.

    ``needs``: operations that it reads, comes after, or adds to. ``read_with``: column tiles of tensors that operations compute and
    that one operation reads, the most of those that read this one's.
    """

    operands: tuple[PackedLayer, ...]
    needs: frozenset[str] = frozenset()
    read_with: int = 0

    @property
    def tiles(self) -> tuple[ColumnTile, ...]:
        return self.operands[0].tiles

    @property
    def is_external(self) -> bool:
        """All that it reads comes from outside."""
        return not any(unit.is_computed for operand in self.operands for unit in operand.units)


def lower_graph(
    graph: Graph, config: ChipConfig, stored: Collection[str] = (), *, spare_words: bool = False
) -> tuple[LoweredOperation, ...]:
    """All operations as the arrays see them; raises `WorkloadError` for a reduction that would wrap.

    ``stored``: inputs of the graph that lie in memory as post-processors have written them. ``spare_words``: inputs are packed into
    few words, and not only for few steps.
    """
    lowered = []
    summed: dict[str, int] = {}
    for operation in graph.operations:
        reduction = sum(operand.layer.reduction for operand in operation.operands) + summed.get(operation.adds_to, 0)
        summed[operation.name] = reduction
        limit = config.array.max_reduction
        if reduction > limit:
            raise WorkloadError(
                f"{operation.name}: the reduction K is {reduction}, {reduction - limit} more than psum_width "
                f"{config.array.psum_width} sums without wrapping ({limit})"
            )
        word_steps = input_word_steps(operation, config) if spare_words else None
        lowered.append(lower_operation(graph, operation, config.array, stored, word_steps=word_steps))
    together: dict[str, int] = {}
    for operation in graph.operations:
        tiles = tiles_read(graph, operation, config.array)
        together |= {source: max(tiles, together.get(source, 0)) for source in operation.sources}
    pairs = zip(graph.operations, lowered, strict=True)
    return tuple(replace(each, read_with=together.get(operation.name, 0)) for operation, each in pairs)


def tiles_read(graph: Graph, operation: Linear, array: ArrayConfig) -> int:
    """Column tiles of tensors that operations compute, of all that an operation reads; parts of a tile count as one."""
    tiles = {
        (source, tile)
        for operand in operation.operands
        for source in operand.sources
        if source not in graph.inputs
        for tile in _tiles(*(operand.channels or (0, graph.shape(source)[3])), array.cols)
    }
    return len(tiles)


def _tiles(first: int, count: int, cols: int) -> range:
    """Column tiles of so many channels."""
    return range(first // cols, -(-(first + count) // cols))


def input_word_steps(operation: Linear, config: ChipConfig) -> float:
    """Steps of an operation that cost as much as a word of input for each output position: those are streamed by all pods, one
    column tile each, while the buses bring it."""
    beats = memory_stride(config, HostSelect.X) / (config.managers * config.host_bits // 8)
    return _WORD_COST * beats * config.pods / -(-operation.output[3] // config.array.cols)


def lower_operation(
    graph: Graph, operation: Linear, array: ArrayConfig, stored: Collection[str] = (), *, word_steps: float | None = None
) -> LoweredOperation:
    """An operation whose only operand comes from outside may put several kernel taps into one word; others read channel blocks.

    ``word_steps``: as for `pack_layer`.
    """
    found = (*operation.sources, *operation.after, *([operation.adds_to] if operation.adds_to else ()))
    needs = frozenset(name for name in found if name not in graph.inputs)
    if len(operation.operands) == 1:
        operand = operation.operands[0]
        if operand.layer.groups == 1 and all(source in graph.inputs and source not in stored for source in operand.sources):
            return LoweredOperation((pack_layer(operand.layer, array, word_steps=word_steps),), needs)
    return LoweredOperation(tuple(_lower_blocks(graph, operand, array, stored) for operand in operation.operands), needs)


def _lower_blocks(graph: Graph, operand: Operand, array: ArrayConfig, stored: Collection[str]) -> PackedLayer:
    layer = operand.layer
    units: list[Unit] = []
    shapes = {source: graph.shape(source) for source in operand.sources}
    for begin, end, source, first in words_of_operand(shapes, operand, array.rows):
        channel = np.arange(begin, end)
        taps_of = (np.zeros_like(channel), np.zeros_like(channel), channel)
        if source in graph.inputs and source not in stored:
            units.append(Unit(*taps_of, len(channel), Origin.EXTERNAL, source, first))
        else:
            _require_whole_words(operand, source, graph.shape(source)[3], array)
            if source in stored and operand.upsampling(source) != AS_IT_IS:
                raise ValueError(f"{layer.name} sees {source} enlarged, which is stored: nobody enlarges what is loaded")
            origin = Origin.STORED if source in stored else Origin.COMPUTED
            units.append(Unit(*taps_of, array.rows, origin, source, first, first % array.rows))
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
    return PackedLayer(layer, tuple(units), tuple(tiles))


def _require_whole_words(operand: Operand, source: str, channels: int, array: ArrayConfig) -> None:
    """Raises `WorkloadError` for parts of a word of outputs that would go to several positions."""
    seen, lanes = operand.upsampling(source), min(array.rows, array.cols)
    if seen.interleaved and (part := channels // seen.positions) % lanes:
        raise WorkloadError(
            f"{operand.layer.name}: of {source}, each of {seen.positions} interleaved positions has {part} channels, which is no "
            f"multiple of the {lanes} lanes of a word of outputs"
        )


def words_of_operand(shapes: Mapping[str, Shape], operand: Operand, rows: int) -> list[tuple[int, int, str, int]]:
    """Channels [begin, end) of an operand, cut where a tensor ends and where a word of that tensor ends.

    With the tensor that each piece is of, and which of its channels the first one is.
    """
    sizes = [operand.upsampling(source).of(shapes[source])[3] for source in operand.sources]
    first, count = operand.channels or (0, sum(sizes))
    blocks, offset = [], -first
    for source, channels in zip(operand.sources, sizes, strict=True):
        for begin in range(0, channels, rows):
            low, high = max(0, offset + begin), min(count, offset + begin + rows, offset + channels)
            if low < high:
                blocks.append((low, high, source, low - offset))
        offset += channels
    return blocks
