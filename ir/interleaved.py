"""Tensors that are seen interleaved: outputs of zeros between those of positions, so that each position has whole words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .constants import Constants, Parameters
from .graph import Graph
from .layers import Layer
from .operations import AS_IT_IS, Linear, Operand, Shape, Upsampling
from .rewrites import fresh_name, narrowed

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

    Readers of several tensors add the products of each. A copy of several tensors gets a tensor of zeros behind those of each
    position, which is named ``COPY/fill``, or as `fresh_name` has it. What cannot get more outputs stays as it is, and a copy of it
    gets them, ``TENSOR/apart``: outputs of the graph, what others read otherwise, and what has groups or windows. Where groups of
    several tensors read it, they read a copy of what is seen, ``TENSOR/seen``.
    """
    graph, constants = _with_copies(graph, constants, lanes)
    wide = dict(_widened(graph, lanes))
    if not wide:
        return graph, None if constants is None else Constants(constants)
    operations, held = list[Linear](), dict(constants or {})
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    for operation in graph.operations:
        if operation.name in wide and _is_copy(operation):
            fill = _fill(operation, wide[operation.name], fresh_name(f"{operation.name}/fill", taken))
            taken.add(fill.name)
            operations += [fill, _filled_copy(operation, wide[operation.name], fill.name, graph)]
            if constants is not None:
                held[operation.name] = _filled(held[operation.name], wide[operation.name])
                zeros = np.zeros(fill.output[3], np.int32)
                held[fill.name] = Parameters((np.zeros(fill.operands[0].layer.weight_shape, np.int8),), zeros, zeros + 1, zeros)
            continue
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


def _with_copies(
    graph: Graph, constants: Mapping[str, Parameters] | None, lanes: int
) -> tuple[Graph, Mapping[str, Parameters] | None]:
    """With copies of what is seen interleaved, in words that are not whole, and cannot get more outputs itself."""
    wide, held, made = dict(_widened(graph, lanes)), dict(constants or {}), dict[tuple[str, Upsampling, Upsampling], str]()
    computed = {operation.name: operation for operation in graph.operations}
    taken = {*graph.inputs, *computed}
    operations = list[Linear]()

    def copied(source: str, view: Upsampling, shape: Shape, reader: Upsampling) -> str:
        """A product with ones on the diagonal, which may get outputs of zeros, as a copy of a window may not; ``reader``: how the
        copy is seen, so that what sees it otherwise has another one."""
        if (source, view, reader) not in made:
            name = made[source, view, reader] = fresh_name(f"{source}/{'seen' if view.interleaved else 'apart'}", taken)
            taken.add(name)
            batch, height, width, channels = view.of(shape)
            layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels)
            operations.append(Linear(name, (Operand((source,), layer, upsampled=(view,)),)))
            ones, zeros = np.ones(channels, np.int32), np.zeros(channels, np.int32)
            held[name] = Parameters((np.eye(channels, dtype=np.int8).reshape(layer.weight_shape),), zeros, ones, zeros)
        return made[source, view, reader]

    for operation in graph.operations:
        operands = []
        for operand in operation.operands:
            names, views = list(operand.sources), [operand.upsampling(source) for source in operand.sources]
            for at, (source, view) in enumerate(zip(operand.sources, views, strict=True)):
                if source in wide or source not in computed or not view.interleaved:
                    continue
                shape = computed[source].output
                if shape[3] // view.positions % lanes == 0:
                    continue
                names[at] = copied(source, AS_IT_IS, shape, view)
                if operand.layer.groups > 1 and len(names) > 1:
                    names[at], views[at] = copied(names[at], view, shape, AS_IT_IS), AS_IT_IS
            seen = tuple(views) if any(view != AS_IT_IS for view in views) else ()
            operands.append(replace(operand, sources=tuple(names), upsampled=seen))
        operations.append(replace(operation, operands=tuple(operands)))
    if not made:
        return graph, constants
    return replace(graph, operations=tuple(operations)), None if constants is None else held


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
        whole = all(operand.layer.groups == 1 for operand in operation.operands) or _is_copy(operation)
        apart = not _is_copy(operation) or {used * (at + 1) for at in range(positions)} <= {*_ends(operation, graph)}
        if used % lanes and whole and apart:
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
    first, end = operand.channels or (0, operand.layer.channels)
    end, begin = first + end, 0
    shapes = {source: graph.shape(source) for source in operand.sources}
    for number, source in enumerate(operand.sources):
        count = operand.upsampling(source).of(shapes[source])[3]
        low, high = max(begin, first) - first, min(begin + count, end) - first
        if low < high:
            layer = replace(operand.layer, name=f"{operand.layer.name}/{number}", channels=high - low)
            part = narrowed(operand, low, high, layer, shapes)
            # A wide one has more than it had.
            yield replace(part, channels=part.channels or ((0, count) if source in wide else None)), slice(low, high)
        begin += count


def _is_copy(operation: Linear) -> bool:
    """It has ones on the diagonal, of all channels of one operand, and no window."""
    if not operation.identity or len(operation.operands) > 1 or operation.window is not None:
        return False
    (operand,) = operation.operands
    return operand.is_diagonal and operand.channels is None and not operand.corners and not any(map(any, operand.layer.padding))


def _ends(operation: Linear, graph: Graph) -> list[int]:
    """Channels at which the sources of an operand end, one after the other."""
    (operand,) = operation.operands
    return [int(end) for end in np.cumsum([operand.upsampling(source).of(graph.shape(source))[3] for source in operand.sources])]


def _fill(operation: Linear, widened: _Widened, name: str) -> Linear:
    """As many zeros as a position of a copy lacks: a number of the first tensor that it reads, times 0."""
    (operand,) = operation.operands
    batch, count = operation.output[0], widened.channels - widened.used
    layer = Layer(name=name, batch=batch, height=1, width=1, channels=1, outputs=count)
    return Linear(name, (Operand((operand.sources[0],), layer, channels=(0, 1), corners=((0, 0),)),))


def _filled_copy(operation: Linear, widened: _Widened, fill: str, graph: Graph) -> Linear:
    """A copy with a tensor behind those of each position."""
    (operand,), (_, height, width, _) = operation.operands, operation.output
    sources, seen, ends = list[str](), list[Upsampling](), [widened.used * (at + 1) for at in range(widened.positions)]
    for source, end in zip(operand.sources, _ends(operation, graph), strict=True):
        sources.append(source)
        seen.append(operand.upsampling(source))
        if end in ends:
            sources.append(fill)
            seen.append(Upsampling(height, width))
    total = widened.positions * widened.channels
    layer = replace(operand.layer, channels=total, outputs=total, groups=total)
    return replace(operation, operands=(replace(operand, sources=tuple(sources), upsampled=tuple(seen), layer=layer),))
