"""What graphs multiply and read, for tests."""

from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear

Row = tuple[str, int, int, int]


def rows(graph: Graph) -> list[Row]:
    """What a graph multiplies, node by node; the first operand is the layer, a second one its residual."""
    layers = [(node.name, node.operands[0].layer) for node in graph.operations if not node.identity]
    return [(name, layer.positions, layer.reduction, layer.outputs) for name, layer in layers]


def expected(layers: list[Layer]) -> list[Row]:
    return [(layer.name, layer.positions, layer.reduction, layer.outputs) for layer in layers]


def node(graph: Graph, name: str) -> Linear:
    return next(node for node in graph.operations if node.name == name)


def reads(graph: Graph, name: str) -> list[tuple[str, ...]]:
    return [operand.sources for operand in node(graph, name).operands]


def unread(graph: Graph) -> set[str]:
    used = {source for node in graph.operations for operand in node.operands for source in operand.sources}
    return {*graph.inputs, *(node.name for node in graph.operations)} - used
