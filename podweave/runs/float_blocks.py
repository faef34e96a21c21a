"""Norms and attention of files in floating point: between their nodes numbers stay real, so that each is quantised once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from podweave.ir.frontends.onnx_rows.patterns import NORM

from ..program import extra
from .float_affine import function_nodes
from .float_inputs import with_names

NORMS_FROM = 17
"""The version of operators that has `LayerNormalization`."""
_LOOKED_AT = ("Reshape", "Transpose", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Identity", "Dropout")
_SCALED = ("Mul", "Div", "Add")


def may_have_norms(operators: Iterable[str]) -> bool:
    """Whether a file may have norms, written out or not."""
    known = set(operators)
    return NORM in known or {"ReduceMean", "Sqrt"} <= known


def plain_softmaxes(model: Any) -> list[str]:
    """Softmax over the last dimension as one node, in place, where a converter flattens in front of it; returns what they give."""
    with extra("onnx", "quantising ONNX files"):
        import onnx

    edges, found = _Edges(model), list[str]()
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*graph.value_info, *graph.input, *graph.output)
    }
    gone = set[int]()
    for node in edges.nodes:
        flat = edges.maker.get(node.input[0]) if node.op_type == "Softmax" else None
        behind = edges.readers.get(node.output[0], []) if flat is not None else []
        if flat is None or flat.op_type != "Flatten" or len(behind) != 1 or behind[0].op_type != "Reshape":
            continue
        before, within, after = (shapes.get(name, []) for name in (flat.input[0], flat.output[0], behind[0].output[0]))
        if before and before == after and before[-1:] == within[-1:]:
            node.input[0], node.output[0] = flat.input[0], behind[0].output[0]
            # The flat one is read by nobody else, as it was made for this.
            gone.update((id(behind[0]), *((id(flat),) if len(edges.readers[flat.output[0]]) == 1 else ())))
            found.append(node.output[0])
    kept = [node for node in edges.nodes if id(node) not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return found


class _Edges:
    def __init__(self, model: Any):
        self.nodes = list(model.graph.node)
        self.held = {each.name for each in model.graph.initializer}
        self.held |= {name for node in self.nodes if node.op_type == "Constant" for name in node.output}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {each.name for each in model.graph.output}

    def computed(self, node: Any) -> list[str]:
        return [name for name in node.input if name and name not in self.held]

    def above(self, name: str) -> list[Any]:
        """Nodes that only look at a tensor in another way, or scale it, up to what it is of."""
        found = []
        node = self.maker.get(name)
        while node is not None and node.op_type in (*_LOOKED_AT, *_SCALED) and len(self.computed(node)) == 1:
            found.append(node)
            (name,) = self.computed(node)
            node = self.maker.get(name)
        # A factor in front of all is of what was computed before: of all channels alike.
        while found and found[-1].op_type in _SCALED:
            found.pop()
        return found

    def below(self, name: str) -> list[Any]:
        """Nodes that put heads together again."""
        found: list[Any] = []
        while name not in self.outputs and len(self.readers.get(name, [])) == 1:
            (node,) = self.readers[name]
            if node.op_type not in _LOOKED_AT or len(self.computed(node)) != 1:
                return found
            found.append(node)
            (name,) = node.output
        return found


def attention_nodes(model: Any) -> list[Any]:
    """Nodes of attention: from what queries, keys and values are of, to heads that are together again."""
    edges, found = _Edges(model), list[Any]()
    for softmax in (node for node in edges.nodes if node.op_type == "Softmax"):
        # Scores may be scaled, as queries and keys are.
        name = softmax.input[0]
        scaled = []
        while (node := edges.maker.get(name)) is not None and node.op_type in _SCALED and len(edges.computed(node)) == 1:
            scaled.append(node)
            (name,) = edges.computed(node)
        product = edges.maker.get(name)
        readers = edges.readers.get(softmax.output[0], [])
        if product is None or product.op_type != "MatMul" or len(edges.computed(product)) != 2:
            continue
        if len(readers) != 1 or readers[0].op_type != "MatMul" or len(edges.computed(readers[0])) != 2:
            continue
        (values,) = readers
        found += [softmax, product, values, *scaled]
        for name in (*product.input, values.input[1]):
            found += edges.above(name)
        found += edges.below(values.output[0])
    known = {id(node) for node in found}
    return [node for node in edges.nodes if id(node) in known]


def real_nodes(model: Any) -> list[str]:
    """Names of nodes between which numbers stay real: those of attention, functions with constants behind them, and norms whose
    results others quantise.

    Nodes without a name get one, in place.
    """
    with_names(model)
    inside = [*attention_nodes(model), *function_nodes(model)]
    known = {id(node) for node in inside}
    edges = _Edges(model)
    norms = [node for node in edges.nodes if node.op_type == NORM]
    for node in norms:
        readers = edges.readers.get(node.output[0], [])
        if any(id(each) not in known and each.op_type != NORM for each in readers):
            inside.append(node)
    return [node.name for node in inside]
