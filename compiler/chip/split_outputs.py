"""Operations whose weights are too many for an epoch become several, each with some of the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand
from podweave.ir.rewrites import fresh_name, renamed_reads
from podweave.spec.config import ChipConfig

from ..lower.boxes import pieces
from .policy import BankPolicy


@dataclass(frozen=True)
class SplitGraph:
    """``parts``: of each operation that was split, the names of its parts and the outputs [begin, end) that each has."""

    graph: Graph
    parts: dict[str, tuple[tuple[str, int, int], ...]]

    def constants(self, whole: Mapping[str, Parameters]) -> Constants:
        """Those of the parts, from those of the operations."""
        found: dict[str, Parameters] = {}
        for name, values in whole.items():
            if name in self.parts:
                found |= {part: values.outputs(begin, end) for part, begin, end in self.parts[name]}
            else:
                found[name] = values
        return Constants(found)

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
    one epoch can hold as many. An operation of which some reader takes channels, with groups that are not a diagonal, or with a
    diagonal operand of several sources, stays whole.
    """
    array, memory = config.array, config.memory
    banks = memory.w_words * memory.banks
    sliced = {s for operation in graph.operations for o in operation.operands if o.channels for s in o.sources}
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    parts: dict[str, tuple[tuple[str, int, int], ...]] = {}
    names: dict[str, tuple[str, ...]] = {}
    operations: list[Linear] = []
    for whole in graph.operations:
        outputs = whole.output[3]
        tiles = -(-outputs // array.cols)
        reduction = sum(o.layer.reduction for o in whole.operands)
        words = tiles * -(-reduction // array.rows) * array.rows
        # One pod works on a column tile at a time: with fewer tiles, others would idle, and so would their managers.
        begins = all(source in graph.inputs for source in whole.sources)
        room = policy.bank_share * (policy.first_epoch_share if begins else 1) * banks
        count = min(-(-words // max(1, int(room))), max(1, tiles // config.pods))
        count = min(tiles, max(count, -(-words // banks)))
        operation = renamed_reads(whole, names)
        if count < 2 or operation.name in sliced or not all(map(_divisible, operation.operands)):
            operations.append(operation)
            continue
        made = []
        for tile, length in pieces(tiles, -(-tiles // count)):
            begin, end = tile * array.cols, min((tile + length) * array.cols, outputs)
            name = fresh_name(f"{operation.name}/{begin}", taken)
            taken.add(name)
            operations.append(
                replace(operation, name=name, operands=tuple(_part(operand, name, begin, end) for operand in operation.operands))
            )
            made.append((name, begin, end))
        parts[operation.name] = tuple(made)
        names[operation.name] = tuple(name for name, *_ in made)
    kept = tuple(part for name in graph.outputs for part in names.get(name, (name,)))
    return SplitGraph(replace(graph, operations=tuple(operations), outputs=kept), parts)


def _divisible(operand: Operand) -> bool:
    if operand.layer.groups == 1:
        return True
    return operand.is_diagonal and len(operand.sources) == 1


def _part(operand: Operand, name: str, begin: int, end: int) -> Operand:
    layer = operand.layer
    if layer.groups == 1:
        return replace(operand, layer=replace(layer, name=name, outputs=end - begin))
    count = end - begin
    first = operand.channels[0] if operand.channels else 0
    return replace(
        operand,
        layer=replace(layer, name=name, outputs=count, channels=count, groups=count),
        channels=(first + begin, count),
    )
