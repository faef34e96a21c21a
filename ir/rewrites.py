"""Graphs made of graphs, with the constants of their nodes.

Nodes that a rewrite adds get names that no tensor of the graph has, whatever users call theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from .constants import Constants, Parameters, identity_parameters
from .graph import Graph, Node, Operand
from .layers import Layer


def fresh_name(name: str, taken: Collection[str]) -> str:
    """``name``, with as many primes as it takes to be none of ``taken``.

    >>> fresh_name("pool/stored", {"pool", "pool/stored"})
    "pool/stored'"
    """
    while name in taken:
        name += "'"
    return name


def renamed_reads(node: Node, names: Mapping[str, tuple[str, ...]]) -> Node:
    """The node reading, and coming after, other tensors in the place of some: those of ``names``, one after the other."""

    def renamed(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for name in old for new in names.get(name, (name,)))

    operands = tuple(replace(operand, sources=renamed(operand.sources)) for operand in node.operands)
    return replace(node, operands=operands, after=renamed(node.after))


def single_nodes(graph: Graph) -> list[Graph]:
    """Each node as a graph of its own, whose inputs come from outside."""
    result = []
    for node in graph.nodes:
        sources = {source: graph.shape(source) for source in node.sources}
        result.append(Graph(node.name, sources, (replace(node, after=()),)))
    return result


def without_unused(graph: Graph) -> Graph:
    """The same outputs from no more nodes than they need."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.sources)
    kept = [node for node in graph.nodes if node.name in needed]
    if len(kept) == len(graph.nodes):
        return graph
    there = {*graph.inputs, *(node.name for node in kept)}
    nodes = (replace(node, after=tuple(name for name in node.after if name in there)) for node in kept)
    return replace(graph, nodes=tuple(nodes))


def with_stored_pools(graph: Graph) -> Graph:
    """The same network with a node of ones behind every pooling that overlaps or is read several times.

    A post-processor reads a whole window for each word that it sends: what is sent to many places is better pooled once.
    The node behind ``NAME`` is named ``NAME/stored``, or as `fresh_name` has it.
    """
    readers = Counter(source for node in graph.nodes for source in node.sources)
    taken = {*graph.inputs, *(node.name for node in graph.nodes)}
    nodes: list[Node] = []
    stored: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        pooled = renamed_reads(node, stored)
        # What comes after a pooling need not wait for its copy.
        nodes.append(replace(pooled, after=node.after))
        batch, height, width, channels = node.output
        if not node.window or not readers[node.name] or height * width == 1:
            continue
        overlaps = any(kernel > stride for kernel, stride in zip(node.window.kernel, node.window.stride, strict=True))
        if overlaps or (readers[node.name] > 1 and node.window.kernel != (1, 1)):
            name = fresh_name(f"{node.name}/stored", taken)
            taken.add(name)
            layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels, groups=channels)
            nodes.append(Node(name, (Operand((node.name,), layer),), identity=True))
            stored[node.name] = (name,)
    return replace(graph, nodes=tuple(nodes))


def with_constants(graph: Graph, constants: Mapping[str, Parameters]) -> Constants:
    """Constants of the nodes of a rewritten graph: of those that are there, and ones for the copies that were added."""
    return Constants({node.name: constants.get(node.name) or identity_parameters(node) for node in graph.nodes})
