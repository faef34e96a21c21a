"""Operations whose weights are too many for an epoch become several, each with some of the outputs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters, identity_parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand
from podweave.ir.rewrites import copy_of, fresh_name, narrowed
from podweave.spec.config import ChipConfig

from ..lower.boxes import pieces
from .bank_words import zero_word
from .policy import BankPolicy
from .split_sums import PartOfSums, keeps_sums, least_bank_words, tiles_of_sums

_FILL = 0.9
"""Of all W banks, what an operation may take that is not split gladly: words do not spread evenly."""


@dataclass(frozen=True)
class SplitGraph:
    """A graph some of whose operations were split: by outputs, and those then by parts of their reduction.

    ``parts``: of each operation that was split by outputs, the names of its parts and the outputs [begin, end) that each has.
    ``sums``: of each operation, or part of one, that became several that add to the same sums, those; the last has its name.
    """

    graph: Graph
    parts: dict[str, tuple[tuple[str, int, int], ...]]
    sums: dict[str, tuple[PartOfSums, ...]] = field(default_factory=dict)

    def names(self, whole: str) -> tuple[str, ...]:
        """All operations that an operation has become; itself, if it was not split."""
        parts = [name for name, *_ in self.parts.get(whole, ((whole,),))]
        return tuple(each for name in parts for each in (*(part.name for part in self.sums.get(name, ())[:-1]), name))

    def constants(self, whole: Mapping[str, Parameters]) -> Constants:
        """Those of the parts, and of copies of them, from those of the operations."""
        found: dict[str, Parameters] = {}
        for name, values in whole.items():
            if name in self.parts:
                found |= {part: values.outputs(begin, end) for part, begin, end in self.parts[name]}
            else:
                found[name] = values
        for name, of_sums in self.sums.items():
            values = found[name]
            found |= {part.name: part.constants(values) for part in of_sums}
        copies = (operation for operation in self.graph.operations if operation.name not in found)
        return Constants(found | {operation.name: identity_parameters(operation) for operation in copies})

    def join(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Tensors by the names of the operations, from tensors by the names of parts."""
        whole = dict(outputs)
        for name, parts in self.parts.items():
            if all(part in whole for part, *_ in parts):
                whole[name] = np.concatenate([whole.pop(part) for part, *_ in parts], axis=3)
        return whole


def split_outputs(graph: Graph, config: ChipConfig, policy: BankPolicy) -> SplitGraph:
    """Split operations whose weights, spread over all W banks, take more than an epoch's share of them.

    Of operations that read inputs of the graph, more than the first epoch's. Parts have whole column tiles and whole groups, or
    column tiles of one group, and there is one for each pod if one epoch can hold as many. An operation of which some reader takes
    channels, or with a diagonal operand of several sources, is only split if all banks are too small for it. Who sees one
    interleaved reads a copy of all of its parts.
    """
    return _Splitter(graph, config, policy).run()


class _Splitter:
    def __init__(self, graph: Graph, config: ChipConfig, policy: BankPolicy):
        self.graph, self.config, self.policy = graph, config, policy
        self.parts: dict[str, tuple[tuple[str, int, int], ...]] = {}
        self.shapes = graph.inputs | {operation.name: operation.output for operation in graph.operations}
        """Of the tensors of the graph, and of parts of them."""
        self.taken = set(self.shapes)
        self.joined: dict[str, str] = {}
        """By tensor that was split and is seen interleaved, the copy of all of it."""
        operands = [operand for operation in graph.operations for operand in operation.operands]
        self.interleaved = {each for one in operands for each in one.sources if one.upsampling(each).interleaved}
        self.sliced = {source for operand in operands if operand.channels for source in operand.sources}
        """Tensors of which some reader takes channels."""

    def run(self) -> SplitGraph:
        operations: list[Linear] = []
        for whole in self.graph.operations:
            pieces = self._pieces(whole)
            if len(pieces) < 2:
                operations.append(self._rewritten(whole, whole.name, 0, whole.output[3], pieces))
                continue
            made = []
            for begin, end in pieces:
                name = fresh_name(f"{whole.name}/{begin}", self.taken)
                self.taken.add(name)
                operations.append(self._rewritten(whole, name, begin, end, pieces))
                made.append((name, begin, end))
            self.parts[whole.name] = tuple(made)
            if whole.name in self.interleaved:
                name = self.joined[whole.name] = fresh_name(f"{whole.name}/joined", self.taken)
                self.taken.add(name)
                operations.append(copy_of(name, tuple(part for part, *_ in made), whole.output))
                self.shapes[name] = whole.output
        kept = tuple(part for name in self.graph.outputs for part in self._names(name))
        return SplitGraph(replace(self.graph, operations=tuple(operations), outputs=kept), self.parts)

    def _names(self, tensor: str) -> tuple[str, ...]:
        return tuple(name for name, *_ in self.parts[tensor]) if tensor in self.parts else (tensor,)

    def _seen(self, operand: Operand, source: str) -> tuple[str, ...]:
        """What an operand reads in the place of a source."""
        if operand.upsampling(source).interleaved and source in self.joined:
            return (self.joined[source],)
        return self._names(source)

    def _pieces(self, operation: Linear) -> list[tuple[int, int]]:
        """The outputs [begin, end) of each part."""
        array, memory = self.config.array, self.config.memory
        banks, outputs = memory.w_words * memory.banks, operation.output[3]
        tiles = -(-outputs // array.cols)
        words = tiles * self._tile_words(operation)
        # One pod works on a column tile at a time: with fewer tiles, others would idle, and so would their managers.
        begins = all(source in self.graph.inputs for source in operation.sources)
        room = self.policy.bank_share * (self.policy.first_epoch_share if begins else 1) * banks
        count, windowed = min(-(-words // max(1, int(room))), max(1, tiles // self.config.pods)), self._least_windowed(operation)
        count = min(tiles, max(count, -(-words // banks), windowed))
        gladly = not (operation.name in self.sliced or self._joints(operation) or any(map(_is_grouped, operation.operands)))
        size, read = (
            min(-(-tiles // count), banks * tiles // words),
            replace(operation, operands=tuple(map(self._reading, operation.operands))),
        )
        if not gladly and words <= _FILL * banks and windowed < 2:
            size = tiles
        while size and least_bank_words(read, size, self.shapes, self.graph.inputs, self.config) > memory.w_words:
            size -= 1
        # With all sums of more column tiles in P banks at a time, activations are loaded less often.
        wide = min(tiles, tiles_of_sums(operation, self.config))
        if wide > size and windowed < 2 and keeps_sums(read, wide, self.shapes, self.graph.inputs, self.config):
            size = wide
        # What is larger than all banks is smaller in no way: of a column tile that is, the reduction is split.
        size = size or min(tiles, self.config.pods)
        return list(itertools.pairwise(self._edges(operation, size))) if size < tiles else [(0, outputs)]

    def _tile_words(self, operation: Linear) -> int:
        """Words of weights of a column tile, about."""
        array, reduction, steps = self.config.array, 0, 0
        for operand in operation.operands:
            layer = operand.layer
            if _is_grouped(operand):
                groups = min(layer.groups, -(-array.cols // (layer.outputs // layer.groups)))
                steps += prod(layer.kernel) * -(-groups * (layer.channels // layer.groups) // array.rows)
            else:
                reduction += layer.reduction
        return (-(-reduction // array.rows) + steps) * array.rows

    def _edges(self, operation: Linear, size: int) -> list[int]:
        """Outputs at which parts of about ``size`` column tiles end: each has whole groups, or is of one group."""
        cols, outputs = self.config.array.cols, operation.output[3]
        sizes = {operand.layer.outputs // operand.layer.groups for operand in operation.operands if operand.layer.groups > 1}
        together = lcm(*sizes)
        if cols % together == 0:
            return [tile * cols for tile, _ in pieces(-(-outputs // cols), size)] + [outputs]
        if together > size * cols and len(sizes - {1}) == 1:
            tiles = [tile * cols for tile, _ in pieces(-(-together // cols), size)]
            return [*(first + tile for first in range(0, outputs, together) for tile in tiles), outputs]
        whole = lcm(cols, together)
        most = size * cols // whole * whole or max(1, size * cols // together) * together
        return [*range(0, outputs, most), outputs]

    def _least_windowed(self, operation: Linear) -> int:
        """Parts of a pooling of which one output position reads more than X banks hold, so that one is read in half of them, or
        has more sums than P banks hold."""
        if operation.window is None or not all(operand.is_diagonal for operand in operation.operands):
            return 1
        array, memory = self.config.array, self.config.memory
        window, outputs = prod(operation.window.kernel), operation.output[3]
        words, room = window * -(-outputs // array.rows) * len(operation.operands), memory.x_words * memory.banks
        tiles = zero_word(self.config) // window * memory.banks
        summed = -(-outputs // (array.cols * max(1, tiles)))
        return max(summed, 1 if words <= _FILL * room else -(-2 * words // room))

    def _joints(self, operation: Linear) -> bool:
        """Whether a diagonal operand goes on with another source."""
        return any(
            operand.is_diagonal and sum(len(self._seen(operand, source)) for source in operand.sources) > 1 and not operand.channels
            for operand in operation.operands
        )

    def _rewritten(self, operation: Linear, name: str, begin: int, end: int, parts: list[tuple[int, int]]) -> Linear:
        """A part of an operation, or all of it, reading parts of what it read."""
        operands = []
        for operand in operation.operands:
            read = self._reading(operand)
            operands.append(read if len(parts) < 2 else self._part(read, name, begin, end))
        after = tuple(part for tensor in operation.after for part in self._names(tensor))
        part = replace(operation, name=name, operands=tuple(operands), after=after)
        self.shapes[name] = part.output
        return part

    def _reading(self, operand: Operand) -> Operand:
        """The operand, reading parts in the place of what was split."""
        if not any(source in self.parts for source in operand.sources):
            return operand
        pairs = [(part, source) for source in operand.sources for part in self._seen(operand, source)]
        made = replace(
            operand,
            sources=tuple(part for part, _ in pairs),
            corners=tuple(operand.corner(source) for _, source in pairs) if operand.corners else (),
            upsampled=tuple(operand.upsampling(source) for _, source in pairs) if operand.upsampled else (),
        )
        return narrowed(made, 0, operand.layer.channels, operand.layer, self.shapes)

    def _part(self, operand: Operand, name: str, begin: int, end: int) -> Operand:
        """What the outputs [begin, end) take of an operand."""
        whole = operand.layer
        if whole.groups == 1:
            return replace(operand, layer=replace(whole, name=name, outputs=end - begin))
        of_group, inputs = whole.outputs // whole.groups, whole.channels // whole.groups
        first, last = begin // of_group, -(-end // of_group)
        channels = (last - first) * inputs
        layer = replace(whole, name=name, outputs=end - begin, channels=channels, groups=last - first)
        return narrowed(operand, first * inputs, last * inputs, layer, self.shapes)


def _is_grouped(operand: Operand) -> bool:
    """Whether it has groups, which are more than a diagonal."""
    return operand.layer.groups > 1 and not operand.is_diagonal
