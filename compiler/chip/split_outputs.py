"""Nodes whose weights are too many for an epoch become several, each with some of the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph, Node, Operand
from podweave.spec.config import ChipConfig

from ..lower.boxes import pieces

T = TypeVar("T")


@dataclass(frozen=True)
class SplitGraph:
    """``parts``: of each node that was split, the names of its parts and the outputs [begin, end) that each has."""

    graph: Graph
    parts: dict[str, tuple[tuple[str, int, int], ...]]

    def parameters(self, whole: Mapping[str, T]) -> dict[str, T]:
        """Those of the parts, from dataclasses with ``weights``, ``bias``, ``multiplier`` and ``shift`` of the nodes."""
        found: dict[str, T] = {}
        for name, values in whole.items():
            for part, begin, end in self.parts.get(name, ((name, 0, -1),)):
                found[part] = values if end < 0 else _cut(values, begin, end)
        return found

    def join(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Tensors by the names of the nodes, from tensors by the names of parts."""
        whole = dict(outputs)
        for name, parts in self.parts.items():
            if all(part in whole for part, *_ in parts):
                whole[name] = np.concatenate([whole.pop(part) for part, *_ in parts], axis=3)
        return whole


def split_outputs(graph: Graph, config: ChipConfig, share: float, first: float = 1.0) -> SplitGraph:
    """Split nodes whose weights, spread over all W banks, take more than ``share`` of them.

    Of nodes that read inputs of the graph, ``first`` of that. Parts have whole column tiles, and one for each pod if one epoch
    can hold as many. A node of which some reader takes channels, with groups that are not a diagonal, or with a diagonal operand
    of several sources, stays whole.
    """
    array, memory = config.array, config.memory
    banks = memory.w_words * memory.banks
    sliced = {s for node in graph.nodes for o in node.operands if o.channels for s in o.sources}
    parts: dict[str, tuple[tuple[str, int, int], ...]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        outputs = node.output[3]
        tiles = -(-outputs // array.cols)
        reduction = sum(o.layer.reduction for o in node.operands)
        words = tiles * -(-reduction // array.rows) * array.rows
        # One pod works on a column tile at a time: with fewer tiles, others would idle, and so would their managers.
        begins = all(source in graph.inputs for operand in node.operands for source in operand.sources)
        room = share * (first if begins else 1) * banks
        count = min(-(-words // int(room)), max(1, tiles // config.pods))
        count = min(tiles, max(count, -(-words // banks)))
        node = replace(node, operands=tuple(replace(o, sources=_renamed(o.sources, parts)) for o in node.operands))
        node = replace(node, after=_renamed(node.after, parts))
        if count < 2 or node.name in sliced or not all(map(_divisible, node.operands)):
            nodes.append(node)
            continue
        made = []
        for first, length in pieces(tiles, -(-tiles // count)):
            begin, end = first * array.cols, min((first + length) * array.cols, outputs)
            name = f"{node.name}/{begin}"
            operands = tuple(_part(operand, name, begin, end) for operand in node.operands)
            nodes.append(replace(node, name=name, operands=operands))
            made.append((name, begin, end))
        parts[node.name] = tuple(made)
    return SplitGraph(Graph(graph.name, graph.inputs, tuple(nodes)), parts)


def _renamed(names: tuple[str, ...], parts: Mapping[str, tuple[tuple[str, int, int], ...]]) -> tuple[str, ...]:
    return tuple(part for name in names for part, *_ in parts.get(name, ((name, 0, 0),)))


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


def _cut(values: Any, begin: int, end: int) -> Any:
    lanes = {name: getattr(values, name)[begin:end] for name in ("bias", "multiplier", "shift")}
    return replace(values, weights=tuple(weights[..., begin:end] for weights in values.weights), **lanes)
