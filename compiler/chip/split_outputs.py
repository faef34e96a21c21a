"""Operations whose weights are too many for an epoch become several, each with some of the outputs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters, identity_parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand, Upsampling
from podweave.ir.rewrites import copy_of, fresh_name
from podweave.spec.config import ChipConfig

from ..lower.boxes import pieces
from .policy import BankPolicy

_FILL = 0.9
"""Of all W banks, what an operation may take that is not split gladly: words do not spread evenly."""


@dataclass(frozen=True)
class SplitGraph:
    """``parts``: of each operation that was split, the names of its parts and the outputs [begin, end) that each has."""

    graph: Graph
    parts: dict[str, tuple[tuple[str, int, int], ...]]

    def constants(self, whole: Mapping[str, Parameters]) -> Constants:
        """Those of the parts, and of copies of them, from those of the operations."""
        found: dict[str, Parameters] = {}
        for name, values in whole.items():
            if name in self.parts:
                found |= {part: values.outputs(begin, end) for part, begin, end in self.parts[name]}
            else:
                found[name] = values
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

    Of operations that read inputs of the graph, more than the first epoch's. Parts have whole column tiles, and one for each pod if
    one epoch can hold as many. An operation of which some reader takes channels, or with a diagonal operand of several sources, is
    only split if all banks are too small for it, where no reader takes channels of two parts and no part those of two sources; one
    with groups that are not a diagonal stays whole. Who sees one interleaved reads a copy of all of its parts.
    """
    return _Splitter(graph, config, policy).run()


class _Splitter:
    def __init__(self, graph: Graph, config: ChipConfig, policy: BankPolicy):
        self.graph, self.config, self.policy = graph, config, policy
        self.parts: dict[str, tuple[tuple[str, int, int], ...]] = {}
        self.taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
        self.joined: dict[str, str] = {}
        """By tensor that was split and is seen interleaved, the copy of all of it."""
        self.sliced: dict[str, list[tuple[int, int]]] = {}
        """By tensor, the channels [begin, end) that readers take of it."""
        operands = [operand for operation in graph.operations for operand in operation.operands]
        self.interleaved = {each for one in operands for each in one.sources if one.upsampling(each).interleaved}
        for operand in operands:
            if operand.channels and not operand.upsampling(operand.sources[0]).interleaved:
                first, count = operand.channels
                self.sliced.setdefault(operand.sources[0], []).append((first, first + count))

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
        reduction = sum(o.layer.reduction for o in operation.operands)
        words = tiles * -(-reduction // array.rows) * array.rows
        # One pod works on a column tile at a time: with fewer tiles, others would idle, and so would their managers.
        begins = all(source in self.graph.inputs for source in operation.sources)
        room = self.policy.bank_share * (self.policy.first_epoch_share if begins else 1) * banks
        count = min(-(-words // max(1, int(room))), max(1, tiles // self.config.pods))
        count = min(tiles, max(count, -(-words // banks), self._least_windowed(operation)))
        if count < 2 or not all(map(_divisible, operation.operands)):
            return [(0, outputs)]
        # What is larger than all banks is smaller in no way.
        size = min(-(-tiles // count), max(1, banks * tiles // words))
        edges = [tile * array.cols for tile, _ in pieces(tiles, size)] + [outputs]
        joints = self._joints(operation)
        if operation.name in self.sliced or joints:
            if words <= _FILL * banks and self._least_windowed(operation) < 2:
                return [(0, outputs)]
            edges = self._moved_edges(operation, edges, joints)
        return list(itertools.pairwise(edges))

    def _least_windowed(self, operation: Linear) -> int:
        """Parts of a pooling of which one output position reads more than X banks hold, so that one is read in half of them."""
        if operation.window is None or not all(operand.is_diagonal for operand in operation.operands):
            return 1
        array, memory = self.config.array, self.config.memory
        words = prod(operation.window.kernel) * -(-operation.output[3] // array.rows) * len(operation.operands)
        room = memory.x_words * memory.banks
        return 1 if words <= _FILL * room else -(-2 * words // room)

    def _joints(self, operation: Linear) -> set[int]:
        """Outputs at which a diagonal operand goes on with its next source."""
        found: set[int] = set()
        for operand in operation.operands:
            views = [(name, operand.upsampling(source)) for source in operand.sources for name in self._seen(operand, source)]
            if operand.is_diagonal and len(views) > 1 and not operand.channels:
                sizes = [self._channels(*view) for view in views]
                found.update(itertools.accumulate(sizes[:-1]))
        return found

    def _channels(self, name: str, seen: Upsampling) -> int:
        """Of a tensor, or a part or copy of one, as it is seen."""
        whole = {copied: of for of, copied in self.joined.items()}.get(name, name)
        parts = {part: end - begin for parts in self.parts.values() for part, begin, end in parts}
        channels = parts[name] if name in parts else self.graph.shape(whole)[3]
        return seen.of((1, 1, 1, channels))[3]

    def _moved_edges(self, operation: Linear, edges: list[int], joints: set[int]) -> list[int]:
        """Parts end where sources do as well, and not inside of what a reader takes; all of it, if that leaves no place for one."""
        taken = [(begin, end) for begin, end in self.sliced.get(operation.name, []) if (begin, end) != (0, edges[-1])]
        cols = self.config.array.cols
        if any(joint % cols for joint in joints):
            return [0, edges[-1]]
        found = {0, edges[-1]}
        for edge in sorted({*edges, *joints}):
            while any(begin < edge < end for begin, end in taken):
                edge -= cols
            found.add(max(0, edge))
        good = all(not any(begin < joint < end for begin, end in taken) for joint in joints)
        return sorted(found) if good else [0, edges[-1]]

    def _rewritten(self, operation: Linear, name: str, begin: int, end: int, parts: list[tuple[int, int]]) -> Linear:
        """A part of an operation, or all of it, reading parts of what it read."""
        operands = []
        for operand in operation.operands:
            made = self._reading(operand)
            operands.append(made if len(parts) < 2 else self._part(made, name, begin, end))
        after = tuple(part for tensor in operation.after for part in self._names(tensor))
        return replace(operation, name=name, operands=tuple(operands), after=after)

    def _reading(self, operand: Operand) -> Operand:
        """The operand, reading parts in the place of what was split."""
        seen = tuple((part, operand.upsampling(each)) for each in operand.sources for part in self._seen(operand, each))
        channels = operand.channels
        if channels and operand.sources[0] in self.parts and not seen[0][1].interleaved:
            first, count = channels
            parts = [part for part in self.parts[operand.sources[0]] if part[1] < first + count and part[2] > first]
            seen = tuple((name, operand.upsampling(operand.sources[0])) for name, *_ in parts)
            if len(parts) == 1 and parts[0][1:] != (first, first + count):
                channels = (first - parts[0][1], count)
            else:
                assert (parts[0][1], parts[-1][2]) == (first, first + count)
                channels = None
        upsampled = tuple(view for _, view in seen) if operand.upsampled else ()
        return replace(operand, sources=tuple(name for name, _ in seen), channels=channels, upsampled=upsampled)

    def _part(self, operand: Operand, name: str, begin: int, end: int) -> Operand:
        layer = operand.layer
        if layer.groups == 1:
            return replace(operand, layer=replace(layer, name=name, outputs=end - begin))
        count = end - begin
        first, sources = operand.channels[0] if operand.channels else 0, operand.sources
        at = 0
        for source in operand.sources if len(operand.sources) > 1 else ():
            channels = self._channels(source, operand.upsampling(source))
            if at <= begin and end <= at + channels:
                sources, first = (source,), -at
            at += channels
        assert len(sources) == 1
        whole = first + begin == 0 and count == self._channels(sources[0], operand.upsampling(sources[0]))
        return replace(
            operand,
            sources=sources,
            layer=replace(layer, name=name, outputs=count, channels=count, groups=count),
            channels=None if whole and operand.sources != sources else (first + begin, count),
            upsampled=(operand.upsampling(sources[0]),) if operand.upsampled else (),
        )


def _divisible(operand: Operand) -> bool:
    return operand.layer.groups == 1 or operand.is_diagonal
