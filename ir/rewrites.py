"""Graphs made of graphs."""

from __future__ import annotations

from dataclasses import replace

from .graph import Graph, Node, Operand
from .layers import Layer


def single_nodes(graph: Graph) -> list[Graph]:
    """Each node as a graph of its own, whose inputs the host provides."""
    result = []
    for node in graph.nodes:
        sources = {source: graph.shape(source) for operand in node.operands for source in operand.sources}
        result.append(Graph(node.name, sources, (replace(node, after=()),)))
    return result


def with_stored_pools(graph: Graph) -> Graph:
    """The same network with a node of ones behind every pooling that overlaps or is read several times.

    A post-processor reads a whole window for each word that it sends: what is sent to many places is better pooled once.
    The node behind ``NAME`` is named ``NAME/stored``.
    """
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for operand in node.operands:
            for source in operand.sources:
                readers[source] = readers.get(source, 0) + 1
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        operands = tuple(replace(o, sources=tuple(renamed.get(s, s) for s in o.sources)) for o in node.operands)
        nodes.append(replace(node, operands=operands))
        batch, height, width, channels = node.output
        if node.window and node.window.kernel != (1, 1) and readers.get(node.name) and height * width > 1:
            name = f"{node.name}/stored"
            layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels, groups=channels)
            nodes.append(Node(name, (Operand((node.name,), layer),), identity=True))
            renamed[node.name] = name
    return Graph(graph.name, graph.inputs, tuple(nodes))
