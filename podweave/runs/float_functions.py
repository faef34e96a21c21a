"""Activation functions that files in floating point have in pieces, as one operator each: then they are quantised once."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from ..program import extra

_NEAR = 1e-5
"""Relative: constants of files are float32, and some are written with few digits."""
_GELU_FROM = 20
"""The first opset with an operator for it; before, it is onnxruntime's own."""


class _Pieces:
    """Nodes of a model by what they give, scalars by name, and how often each tensor is read."""

    def __init__(self, model: Any) -> None:
        from onnx import helper, numpy_helper

        self.graph, self.attribute = model.graph, helper.get_attribute_value
        self.opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
        self.node_of = {name: node for node in self.graph.node for name in node.output}
        small = {each.name: numpy_helper.to_array(each) for each in self.graph.initializer if np.prod(each.dims) == 1}
        self.scalars = {name: float(values.ravel()[0]) for name, values in small.items() if values.dtype.kind in "fiu"}
        self.reads: dict[str, int] = {each.name: 1 for each in self.graph.output}
        for node in self.graph.node:
            for name in node.input:
                self.reads[name] = self.reads.get(name, 0) + 1

    def inner(self, name: str, *operators: str) -> Any | None:
        """The node of one of these operators that gives a tensor, if one node alone reads that."""
        node = self.node_of.get(name)
        return node if node is not None and node.op_type in operators and self.reads.get(name) == 1 else None

    def attributes(self, node: Any) -> Mapping[str, Any]:
        return {each.name: self.attribute(each) for each in node.attribute}

    def product(self, node: Any) -> tuple[float, list[str]]:
        """The factors of a Mul or a Div: what is constant, and the tensors; those of inner products in their place."""
        constant, tensors = 1.0, list[str]()
        for index, name in enumerate(node.input):
            divides = node.op_type == "Div" and index == 1
            if name in self.scalars:
                value = self.scalars[name]
                constant *= value if not divides else 1 / value if value else np.inf
            elif divides:
                return 1.0, []
            elif (inside := self.inner(name, "Mul", "Div")) is not None and (found := self.product(inside))[1]:
                constant *= found[0]
                tensors += found[1]
            else:
                tensors.append(name)
        return constant, tensors

    def plus(self, name: str, value: float) -> str | None:
        """The tensor that plus a constant is this one."""
        node = self.inner(name, "Add")
        for one, other in ((0, 1), (1, 0)):
            if node is not None and _is_near(self.scalars.get(node.input[other]), value):
                return str(node.input[one])
        return None

    def hard_swish(self, constant: float, x: str, of_x: str) -> bool:
        """Whether constant * x * of_x is HardSwish."""
        node = self.inner(of_x, "Clip", "HardSigmoid")
        if node is None:
            return False
        given = self.attributes(node)
        if node.op_type == "HardSigmoid":
            slope, offset = given.get("alpha", 0.2), given.get("beta", 0.5)
            return node.input[0] == x and _is_near(slope, 1 / 6) and _is_near(offset, 0.5) and _is_near(constant, 1.0)
        limits = [self.scalars.get(name) for name in node.input[1:]] or [given.get("min"), given.get("max")]
        return self.plus(node.input[0], 3.0) == x and limits == [0.0, 6.0] and _is_near(constant, 1 / 6)

    def gelu(self, constant: float, x: str, of_x: str) -> bool:
        """Whether constant * x * of_x is GELU, by the error function."""
        erf = self.inner(self.plus(of_x, 1.0) or "", "Erf")
        scaled = self.inner(erf.input[0], "Mul", "Div") if erf is not None else None
        if scaled is None or not _is_near(constant, 0.5):
            return False
        factor, tensors = self.product(scaled)
        return tensors == [x] and _is_near(factor, 1 / sqrt(2))


def _is_near(found: float | None, wanted: float) -> bool:
    return found is not None and abs(found - wanted) <= _NEAR * abs(wanted)


def whole_functions(model: Any) -> list[str]:
    """Replace HardSwish and GELU in pieces by operators, in place; returns what they give.

    In pieces each would be rounded several times, and a product of two computed tensors besides.
    """
    with extra("onnx", "quantising ONNX files"):
        from onnx import helper

    pieces, found = _Pieces(model), dict[str, Any]()
    for node in model.graph.node:
        if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx"):
            continue
        constant, tensors = pieces.product(node)
        if len(tensors) != 2:
            continue
        for x, of_x in (tensors, tensors[::-1]):
            if pieces.hard_swish(constant, x, of_x):
                found[node.output[0]] = helper.make_node("HardSwish", [x], [node.output[0]], name=node.name)
            elif pieces.gelu(constant, x, of_x):
                domain = "" if pieces.opset >= _GELU_FROM else "com.microsoft"
                found[node.output[0]] = helper.make_node("Gelu", [x], [node.output[0]], name=node.name, domain=domain)
    if not found:
        return []
    nodes = [found.get(node.output[0], node) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(_read(nodes, {each.name for each in model.graph.output}))
    if any(node.domain for node in found.values()) and all(each.domain != "com.microsoft" for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return list(found)


def _read(nodes: list[Any], outputs: set[str]) -> list[Any]:
    """Those whose results somebody reads; nodes stand behind all that they read."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(node)
    return kept[::-1]
