"""Tensors that are seen interleaved: outputs of zeros between those of positions, so that each position has whole words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .constants import Constants, Parameters
from .graph import Graph
from .operations import Operand, Upsampling

_Part = tuple[Operand, slice]
"""An operand, and the channels of the one that it is a part of."""


@dataclass(frozen=True)
class _Widened:
    """A tensor of which each of ``positions`` gets ``channels`` channels, of which the first ``used`` are those that it had."""

    positions: int
    used: int
    channels: int

    def outputs(self, values: NDArray, fill: int = 0) -> NDArray:
        """What is said of each output, the last axis, with ``fill`` for those between."""
        if not values.ndim:
            return values
        made = np.full((*values.shape[:-1], self.positions, self.channels), fill, values.dtype)
        made[..., : self.used] = values.reshape(*values.shape[:-1], self.positions, self.used)
        return made.reshape(*values.shape[:-1], -1)


def with_whole_words(graph: Graph, constants: Mapping[str, Parameters] | None, lanes: int) -> tuple[Graph, Constants | None]:
    """The same network in which what all readers see interleaved has a multiple of ``lanes`` channels for each position.

    Outputs of the graph, and what is read otherwise, or by groups of several tensors, stay as they are. Readers of several tensors
    add the products of each.
    """
    wide = dict(_widened(graph, lanes))
    if not wide:
        return graph, None if constants is None else Constants(constants)
    operations, held = [], dict(constants or {})
    for operation in graph.operations:
        parts = [list(_parts(operand, wide, graph)) for operand in operation.operands]
        made = replace(operation, operands=tuple(operand for of_one in parts for operand, _ in of_one))
        if constants is not None:
            values = held[operation.name]
            weights = [each[:, :, channels] for each, of_one in zip(values.weights, parts, strict=True) for _, channels in of_one]
            values = replace(values, weights=tuple(weights))
            held[operation.name] = _filled(values, wide[operation.name]) if operation.name in wide else values
        if operation.name in wide:
            total = wide[operation.name].positions * wide[operation.name].channels
            made = replace(made, operands=tuple(replace(each, layer=replace(each.layer, outputs=total)) for each in made.operands))
        operations.append(made)
    return replace(graph, operations=tuple(operations)), None if constants is None else Constants(held)


def _widened(graph: Graph, lanes: int) -> Iterator[tuple[str, _Widened]]:
    views: dict[str, set[Upsampling]] = {}
    fixed = set(graph.outputs)
    for operation in graph.operations:
        for operand in operation.operands:
            for source in operand.sources:
                views.setdefault(source, set()).add(operand.upsampling(source))
            if operand.layer.groups > 1 and len(operand.sources) > 1:
                fixed.update(operand.sources)
    for operation in graph.operations:
        seen = views.get(operation.name, set())
        if operation.name in fixed or len(seen) != 1 or not next(iter(seen)).interleaved:
            continue
        positions = next(iter(seen)).positions
        used = operation.output[3] // positions
        if used % lanes and all(operand.layer.groups == 1 for operand in operation.operands):
            yield operation.name, _Widened(positions, used, -(-used // lanes) * lanes)


def _filled(values: Parameters, widened: _Widened) -> Parameters:
    """Those of an operation with outputs of zeros between."""
    return replace(
        values,
        weights=tuple(widened.outputs(each) for each in values.weights),
        bias=widened.outputs(values.bias),
        multiplier=widened.outputs(values.multiplier, 1),
        shift=widened.outputs(values.shift),
        border_scales={n: (widened.outputs(m, 1), widened.outputs(s)) for n, (m, s) in values.border_scales.items()},
    )


def _parts(operand: Operand, wide: Mapping[str, _Widened], graph: Graph) -> Iterator[_Part]:
    """The operand; or, if it reads several tensors of which some are ``wide``, an operand for each."""
    if not any(source in wide for source in operand.sources):
        yield operand, slice(None)
        return
    if len(operand.sources) == 1:
        (source,) = operand.sources
        yield replace(operand, channels=operand.channels or (0, wide[source].used)), slice(None)
        return
    begin = 0
    for number, source in enumerate(operand.sources):
        count = operand.upsampling(source).of(graph.shape(source))[3]
        layer = replace(operand.layer, name=f"{operand.layer.name}/{number}", channels=count)
        yield (
            replace(
                operand,
                sources=(source,),
                layer=layer,
                channels=(0, count) if source in wide else None,
                upsampled=(operand.upsampling(source),),
                corners=(operand.corner(source),) if operand.corners else (),
            ),
            slice(begin, begin + count),
        )
        begin += count
