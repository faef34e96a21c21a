"""Graphs made of graphs, with the constants of their operations.

Operations that a rewrite adds get names that no tensor of the graph has, whatever users call theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .constants import Constants, Parameters, identity_parameters
from .graph import Graph
from .layers import Layer, WorkloadError
from .operations import AS_IT_IS, Linear, Operand, Shape, Upsampling


def fresh_name(name: str, taken: Collection[str]) -> str:
    """``name``, with as many primes as it takes to be none of ``taken``.

    >>> fresh_name("pool/stored", {"pool", "pool/stored"})
    "pool/stored'"
    """
    while name in taken:
        name += "'"
    return name


def renamed_reads(operation: Linear, names: Mapping[str, str]) -> Linear:
    """The operation reading, and coming after, other tensors in the place of some, as ``names`` has them."""

    def renamed(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in old)

    operands = tuple(replace(operand, sources=renamed(operand.sources)) for operand in operation.operands)
    return replace(operation, operands=operands, after=renamed(operation.after))


def narrowed(operand: Operand, begin: int, end: int, layer: Layer, shapes: Mapping[str, Shape]) -> Operand:
    """The operand reading its channels [begin, end) alone, of the sources that have them. ``layer``: that of so many channels.

    >>> layer = Layer(name="x", height=1, width=1, channels=12, outputs=2)
    >>> shapes = {"a": (1, 1, 1, 3), "b": (1, 1, 1, 4), "c": (1, 1, 1, 5)}
    >>> part = narrowed(Operand(("a", "b", "c"), layer), 4, 9, replace(layer, channels=5), shapes)
    >>> part.sources, part.channels
    (('b', 'c'), (1, 5))
    """
    first = operand.channels[0] if operand.channels else 0
    low, high, at = first + begin, first + end, 0
    kept: list[int] = []
    start = end_of_kept = 0
    for number, source in enumerate(operand.sources):
        count = operand.upsampling(source).of(shapes[source])[3]
        if at < high and low < at + count:
            if not kept:
                start = at
            kept.append(number)
            end_of_kept = at + count
        at += count
    sources = tuple(operand.sources[number] for number in kept)
    whole = (low, high) == (start, end_of_kept)
    return replace(
        operand,
        sources=sources,
        channels=None if whole else (low - start, high - low),
        corners=tuple(operand.corners[number] for number in kept) if operand.corners else (),
        upsampled=tuple(operand.upsampled[number] for number in kept) if operand.upsampled else (),
        layer=layer,
    )


def single_operations(graph: Graph) -> list[Graph]:
    """Each operation as a graph of its own, whose inputs come from outside."""
    result = []
    for operation in graph.operations:
        sources = {source: graph.shape(source) for source in operation.sources}
        result.append(Graph(operation.name, sources, (replace(operation, after=()),)))
    return result


def with_batch(graph: Graph, images: int) -> Graph:
    """The same network on so many images at a time, whose results do not depend on each other.

    Raises `WorkloadError` for inputs of several batches, and for what is larger than layers may be.
    """
    batches = sorted({shape[0] for shape in graph.inputs.values()})
    if len(batches) > 1:
        raise WorkloadError(
            f"{graph.name} has inputs of {' and '.join(map(str, batches))} images: a batch is of one number of them"
        )
    if batches == [images]:
        return graph
    operations = tuple(
        replace(
            operation,
            operands=tuple(replace(operand, layer=replace(operand.layer, batch=images)) for operand in operation.operands),
        )
        for operation in graph.operations
    )
    return replace(graph, inputs={name: (images, *shape[1:]) for name, shape in graph.inputs.items()}, operations=operations)


def without_unused(graph: Graph) -> Graph:
    """The same outputs from no more operations than they need; nor do operands read tensors of which they take no channel."""
    needed, kept = set(graph.outputs), list[Linear]()
    for operation in reversed(graph.operations):
        if operation.name in needed:
            kept.append(_without_unused_sources(operation, graph))
            needed.update(kept[-1].sources)
    kept.reverse()
    if kept == list(graph.operations):
        return graph
    there = {*graph.inputs, *(operation.name for operation in kept)}
    operations = (replace(operation, after=tuple(name for name in operation.after if name in there)) for operation in kept)
    return replace(graph, operations=tuple(operations))


def _without_unused_sources(operation: Linear, graph: Graph) -> Linear:
    # Operations on rows read all of what they read.
    if not isinstance(operation, Linear) or not any(each.channels and len(each.sources) > 1 for each in operation.operands):
        return operation
    shapes = {source: graph.shape(source) for source in operation.sources}
    operands = (narrowed(operand, 0, operand.layer.channels, operand.layer, shapes) for operand in operation.operands)
    return replace(operation, operands=tuple(operands))


def with_stored_pools(graph: Graph) -> Graph:
    """The same network with an operation of ones behind every pooling that overlaps or is read several times.

    A post-processor reads a whole window for each word that it sends: what is sent to many places is better pooled once.
    The operation behind ``NAME`` is named ``NAME/stored``, or as `fresh_name` has it.
    """
    readers = Counter(source for operation in graph.operations for source in operation.sources)
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    operations: list[Linear] = []
    stored: dict[str, str] = {}
    for operation in graph.operations:
        pooled = renamed_reads(operation, stored)
        # What comes after a pooling need not wait for its copy.
        operations.append(replace(pooled, after=operation.after))
        if not operation.window or not readers[operation.name] or prod(operation.output[1:3]) == 1:
            continue
        overlaps = any(kernel > stride for kernel, stride in zip(operation.window.kernel, operation.window.stride, strict=True))
        if overlaps or (readers[operation.name] > 1 and operation.window.kernel != (1, 1)):
            name = fresh_name(f"{operation.name}/stored", taken)
            taken.add(name)
            operations.append(copy_of(name, (operation.name,), operation.output))
            stored[operation.name] = name
    return replace(graph, operations=tuple(operations))


def copy_of(name: str, sources: tuple[str, ...], shape: Shape) -> Linear:
    """An operation of ones on tensors, one after the other, that have ``shape`` together."""
    batch, height, width, channels = shape
    layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels, groups=channels)
    return Linear(name, (Operand(sources, layer),), identity=True)


def seen_interleaved(graph: Graph, lanes: int) -> dict[str, Upsampling]:
    """Tensors that all of their readers see interleaved, and alike, and how. Each of the positions that one becomes has a multiple
    of ``lanes`` channels; outputs of the graph are none of them."""
    views: dict[str, set[Upsampling]] = {}
    for operand in (operand for operation in graph.operations for operand in operation.operands):
        for source in operand.sources:
            views.setdefault(source, set()).add(operand.upsampling(source))
    found = {}
    for operation in graph.operations:
        seen = views.get(operation.name, {AS_IT_IS})
        one = next(iter(seen))
        if len(seen) == 1 and one.interleaved and operation.name not in graph.outputs and one.of(operation.output)[3] % lanes == 0:
            found[operation.name] = one
    return found


def with_copies_to_upsample(graph: Graph, lanes: int) -> Graph:
    """The same network in which what an operation sees enlarged was computed just before it: copies of its own. Inputs of the graph
    are read as they are, and so are copies that stand there already, and what all see interleaved (`seen_interleaved`).

    The copy for ``READER`` of ``NAME``, or of that and more that are enlarged alike, is named ``READER/NAME``, or as `fresh_name`
    has it.
    """
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    shapes = graph.inputs | {operation.name: operation.output for operation in graph.operations}
    readers = Counter(source for operation in graph.operations for source in operation.sources)
    operations: list[Linear] = []
    interleaved = seen_interleaved(graph, lanes)
    for operation in graph.operations:
        operands, known = [], dict[tuple[str, ...], str]()
        for operand in operation.operands:
            sources, views, corners = list[str](), list[Upsampling](), list[tuple[int, int]]()
            for seen, group in _enlarged_together(operand, shapes, graph.inputs):
                stands_before = operations and operations[-1].identity and group == (operations[-1].name,)
                stands_before = stands_before and readers[group[0]] == len(operation.operands)
                if seen == AS_IT_IS or group[0] in graph.inputs or group[0] in interleaved or stands_before:
                    sources += group
                    views += [seen] * len(group)
                    corners += map(operand.corner, group)
                    continue
                if group not in known:
                    name = known[group] = fresh_name(f"{operation.name}/{group[0]}", taken)
                    taken.add(name)
                    total = sum(shapes[source][3] for source in group)
                    operations.append(copy_of(name, group, (*shapes[group[0]][:3], total)))
                sources.append(known[group])
                views.append(seen)
                corners.append(operand.corner(group[0]))
            if operand.upsampled:
                at = tuple(corners) if operand.corners else ()
                operand = replace(operand, sources=tuple(sources), upsampled=tuple(views), corners=at)
            operands.append(operand)
        operations.append(replace(operation, operands=tuple(operands)))
    return graph if len(operations) == len(graph.operations) else replace(graph, operations=tuple(operations))


def _enlarged_together(
    operand: Operand, shapes: Mapping[str, Shape], inputs: Collection[str]
) -> list[tuple[Upsampling, tuple[str, ...]]]:
    """Sources of an operand, one after the other, and how they are seen: those that have neighbours in common, together."""

    def alike(source: str) -> tuple[Any, ...]:
        return operand.upsampling(source), operand.corner(source), shapes[source][:3], source in inputs

    found: list[tuple[Upsampling, tuple[str, ...]]] = []
    for source in operand.sources:
        seen = operand.upsampling(source)
        if found and not seen.interleaved and alike(source) == alike(found[-1][1][0]):
            found[-1] = seen, (*found[-1][1], source)
        else:
            found.append((seen, (source,)))
    return found


def with_averages_in_steps(graph: Graph, positions: int, left: int, side: int) -> Graph:
    """The same network with no sum of windows over more than so many ``positions``, or more than ``side`` of them in a row.

    A larger one becomes a convolution by ones with strides as large as its kernel, and windows over what is left, at most ``left``
    positions: the same sum. Those that overlap in a way that leaves none stay as they are. One with weights, of which sums take
    several steps, has at most ``left`` from the beginning.
    """
    operations = tuple(_in_steps(operation, positions, left, side) for operation in graph.operations)
    return graph if operations == graph.operations else replace(graph, operations=operations)


def _in_steps(operation: Linear, positions: int, left: int, side: int) -> Linear:
    window, operand = operation.window, operation.operands[0]
    if (
        window is None
        or window.reduce != "sum"
        or window.leaves_pads_out
        or len(operation.operands) > 1
        or operand.layer.kernel != (1, 1)
    ):
        return operation
    most = positions if operation.identity else left
    if (prod(window.kernel) <= most and max(window.kernel) <= side) or operand.layer.stride != (1, 1):
        return operation
    # Windows that do not begin at multiples of a kernel's size are no windows of its sums.
    together = [
        [size for size in range(1, kernel + 1) if kernel % size == 0 and (count == 1 or stride % size == 0)]
        for kernel, stride, count in zip(window.kernel, window.stride, operation.output[1:3], strict=True)
    ]
    fitting = [
        (high * wide, (high, wide))
        for high in together[0]
        for wide in together[1]
        if max(kept := (window.kernel[0] // high, window.kernel[1] // wide)) <= side and prod(kept) <= left
    ]
    if not fitting:
        return operation
    _, kernel = min(fitting)
    sizes, strides = (
        [max(1, size // by) for size, by in zip(sizes, kernel, strict=True)] for sizes in (window.kernel, window.stride)
    )
    layer = replace(operand.layer, kernel=kernel, stride=kernel)
    reduced = replace(window, kernel=(sizes[0], sizes[1]), stride=(strides[0], strides[1]))
    return replace(operation, operands=(replace(operand, layer=layer),), window=reduced)


def with_constants(graph: Graph, constants: Mapping[str, Parameters]) -> Constants:
    """Constants of the operations of a rewritten graph: of those that are there, and ones for the copies that were added.

    What multiplied a position now multiplies each of several.
    """

    def of(operation: Linear) -> Parameters:
        if operation.name not in constants:
            return identity_parameters(operation)
        held = constants[operation.name]
        shapes = [operand.layer.weight_shape for operand in operation.operands]
        if all(weights.shape == shape for weights, shape in zip(held.weights, shapes, strict=True)):
            return held
        return replace(
            held, weights=tuple(np.broadcast_to(weights, shape) for weights, shape in zip(held.weights, shapes, strict=True))
        )

    return Constants({operation.name: of(operation) for operation in graph.operations})
