"""Graphs made of graphs, with the constants of their operations.

Operations that a rewrite adds get names that no tensor of the graph has, whatever users call theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from .constants import Constants, Parameters, identity_parameters
from .graph import Graph
from .layers import Layer
from .operations import Linear, Operand


def fresh_name(name: str, taken: Collection[str]) -> str:
    """``name``, with as many primes as it takes to be none of ``taken``.

    >>> fresh_name("pool/stored", {"pool", "pool/stored"})
    "pool/stored'"
    """
    while name in taken:
        name += "'"
    return name


def renamed_reads(operation: Linear, names: Mapping[str, tuple[str, ...]]) -> Linear:
    """The operation reading, and coming after, other tensors in the place of some: those of ``names``, one after the other."""

    def renamed(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for name in old for new in names.get(name, (name,)))

    operands = tuple(replace(operand, sources=renamed(operand.sources)) for operand in operation.operands)
    return replace(operation, operands=operands, after=renamed(operation.after))


def single_operations(graph: Graph) -> list[Graph]:
    """Each operation as a graph of its own, whose inputs come from outside."""
    result = []
    for operation in graph.operations:
        sources = {source: graph.shape(source) for source in operation.sources}
        result.append(Graph(operation.name, sources, (replace(operation, after=()),)))
    return result


def without_unused(graph: Graph) -> Graph:
    """The same outputs from no more operations than they need."""
    needed = set(graph.outputs)
    for operation in reversed(graph.operations):
        if operation.name in needed:
            needed.update(operation.sources)
    kept = [operation for operation in graph.operations if operation.name in needed]
    if len(kept) == len(graph.operations):
        return graph
    there = {*graph.inputs, *(operation.name for operation in kept)}
    operations = (replace(operation, after=tuple(name for name in operation.after if name in there)) for operation in kept)
    return replace(graph, operations=tuple(operations))


def with_stored_pools(graph: Graph) -> Graph:
    """The same network with an operation of ones behind every pooling that overlaps or is read several times.

    A post-processor reads a whole window for each word that it sends: what is sent to many places is better pooled once.
    The operation behind ``NAME`` is named ``NAME/stored``, or as `fresh_name` has it.
    """
    readers = Counter(source for operation in graph.operations for source in operation.sources)
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    operations: list[Linear] = []
    stored: dict[str, tuple[str, ...]] = {}
    for operation in graph.operations:
        pooled = renamed_reads(operation, stored)
        # What comes after a pooling need not wait for its copy.
        operations.append(replace(pooled, after=operation.after))
        batch, height, width, channels = operation.output
        if not operation.window or not readers[operation.name] or height * width == 1:
            continue
        overlaps = any(kernel > stride for kernel, stride in zip(operation.window.kernel, operation.window.stride, strict=True))
        if overlaps or (readers[operation.name] > 1 and operation.window.kernel != (1, 1)):
            name = fresh_name(f"{operation.name}/stored", taken)
            taken.add(name)
            layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels, groups=channels)
            operations.append(Linear(name, (Operand((operation.name,), layer),), identity=True))
            stored[operation.name] = (name,)
    return replace(graph, operations=tuple(operations))


def with_constants(graph: Graph, constants: Mapping[str, Parameters]) -> Constants:
    """Constants of the operations of a rewritten graph: of those that are there, and ones for the copies that were added."""
    return Constants(
        {operation.name: constants.get(operation.name) or identity_parameters(operation) for operation in graph.operations}
    )
