"""What files write out in several operators: layer norm, GELU, products with dynamic scales; each made one node again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..onnx.files import File, Node

NORM, GELU = "LayerNormalization", "Gelu"
_NEAR = 1e-4
"""Relative: how near a constant must be, as float32 and frameworks round it."""


class _Nodes:
    """Nodes by what they give and read."""

    def __init__(self, file: File):
        self.constants: dict[str, NDArray] = dict(file.constants)
        self.by_output = {name: node for node in file.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        self.made: dict[str, NDArray] = {}
        for node in file.nodes:
            if node.operator == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
                self.constants[node.outputs[0]] = node.attributes["value"]
            for name in set(node.inputs):
                self.readers.setdefault(name, []).append(node)

    def made_by(self, name: str, operator: str) -> Node | None:
        node = self.by_output.get(name)
        return node if node is not None and node.operator == operator else None

    def reader(self, name: str, operator: str) -> Node | None:
        """The only one that reads a tensor, if it is of that operator."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and found[0].operator == operator else None

    def number(self, name: str) -> float | None:
        """A constant that is one number."""
        found = self.constants.get(name)
        return float(found.ravel()[0]) if found is not None and found.size == 1 else None

    def other(self, node: Node, name: str) -> str:
        """What a node of two inputs reads beside ``name``."""
        return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def with_functions(file: File) -> tuple[tuple[Node, ...], dict[str, NDArray]]:
    """The nodes of a file with layer norms, GELUs and products in place of what they are written out in; and its constants, with
    those that they take."""
    nodes = _Nodes(file)
    found: dict[str, Node] = {}
    for node in file.nodes:
        made = _FUNCTIONS[node.operator](nodes, node) if node.operator in _FUNCTIONS else None
        if made:
            found[made.outputs[0]] = made
    replaced = [found.get(node.outputs[0] if node.outputs else "", node) for node in file.nodes]
    return _needed(replaced, file.outputs), {**file.constants, **nodes.made}


def _needed(nodes: Iterable[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
    """Without nodes that nobody reads any more."""
    left = list(nodes)
    while True:
        read = {name for node in left for name in node.inputs} | set(outputs)
        kept = [node for node in left if read & set(node.outputs)]
        if len(kept) == len(left):
            return tuple(kept)
        left = kept


def _last_axis(nodes: _Nodes, node: Node) -> bool:
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = nodes.constants.get(node.inputs[1])
    return axes is not None and [int(axis) for axis in np.ravel(axes)] == [-1] and int(node.attributes.get("keepdims", 1)) == 1


def _centred(nodes: _Nodes, name: str) -> str | None:
    """Of what something is less its mean; None if it is no such thing."""
    less = nodes.made_by(name, "Sub")
    mean = nodes.made_by(less.inputs[1], "ReduceMean") if less else None
    if not less or not mean or mean.inputs[0] != less.inputs[0] or not _last_axis(nodes, mean):
        return None
    return less.inputs[0]


def _norm(nodes: _Nodes, divided: Node) -> Node | None:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gain + bias, from its quotient."""
    source, root = _centred(nodes, divided.inputs[0]), nodes.made_by(divided.inputs[1], "Sqrt")
    summed = nodes.made_by(root.inputs[0], "Add") if root else None
    if source is None or not summed:
        return None
    epsilons = [nodes.number(name) for name in summed.inputs]
    if (epsilons[0] is None) == (epsilons[1] is None):
        return None
    mean = nodes.made_by(summed.inputs[0 if epsilons[0] is None else 1], "ReduceMean")
    if not mean or not _last_axis(nodes, mean):
        return None
    power, square = nodes.made_by(mean.inputs[0], "Pow"), nodes.made_by(mean.inputs[0], "Mul")
    if power and nodes.number(power.inputs[1]) == 2:
        inner = power.inputs[0]
    elif square and square.inputs[0] == square.inputs[1]:
        inner = square.inputs[0]
    else:
        return None
    if _centred(nodes, inner) != source:
        return None
    scaled = nodes.reader(divided.outputs[0], "Mul")
    shifted = nodes.reader(scaled.outputs[0], "Add") if scaled else None
    if not scaled or not shifted:
        return None
    gain, bias = nodes.other(scaled, divided.outputs[0]), nodes.other(shifted, scaled.outputs[0])
    if gain not in nodes.constants or bias not in nodes.constants:
        return None
    epsilon = next(each for each in epsilons if each is not None)
    return Node(shifted.name, NORM, (source, gain, bias), shifted.outputs, {"axis": -1, "epsilon": epsilon})


def _near(found: float | None, wanted: float) -> bool:
    return found is not None and abs(found - wanted) <= _NEAR * wanted


def _gelu(nodes: _Nodes, erf: Node) -> Node | None:
    """x / 2 * (1 + erf(x / sqrt(2))), from its error function; factors in any order."""
    divided, scaled = nodes.made_by(erf.inputs[0], "Div"), nodes.made_by(erf.inputs[0], "Mul")
    if divided and _near(nodes.number(divided.inputs[1]), 2**0.5):
        source = divided.inputs[0]
    elif scaled and any(_near(nodes.number(name), 0.5**0.5) for name in scaled.inputs):
        source = scaled.inputs[1 if _near(nodes.number(scaled.inputs[0]), 0.5**0.5) else 0]
    else:
        return None
    return _halves(nodes, erf, source)


def _tanh_gelu(nodes: _Nodes, tanh: Node) -> Node | None:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), from its tangent."""
    found = _factor(nodes, nodes.made_by(tanh.inputs[0], "Mul"), (2 / np.pi) ** 0.5)
    summed = nodes.made_by(found, "Add") if found else None
    for source, rest in (summed.inputs, summed.inputs[::-1]) if summed else ():
        cube = nodes.made_by(_factor(nodes, nodes.made_by(rest, "Mul"), 0.044715) or "", "Pow")
        if cube and cube.inputs[0] == source and nodes.number(cube.inputs[1]) == 3:
            return _halves(nodes, tanh, source)
    return None


def _factor(nodes: _Nodes, product: Node | None, wanted: float) -> str | None:
    """What a product multiplies by a constant."""
    if not product:
        return None
    return next((nodes.other(product, name) for name in product.inputs if _near(nodes.number(name), wanted)), None)


def _halves(nodes: _Nodes, odd: Node, source: str) -> Node | None:
    """x / 2 * (1 + a function), from the function."""
    node = nodes.reader(odd.outputs[0], "Add")
    if not node or nodes.number(nodes.other(node, odd.outputs[0])) != 1:
        return None
    left = {"x", "half"}
    while left:
        above = nodes.reader(node.outputs[0], "Mul")
        if not above:
            return None
        taken = _factors(nodes, nodes.other(above, node.outputs[0]), source)
        if not taken or not taken <= left:
            return None
        left -= taken
        if left and len(nodes.readers.get(above.outputs[0], [])) != 1:
            return None
        node = above
    return Node(node.name, GELU, (source,), node.outputs, {})


def _factors(nodes: _Nodes, name: str, source: str) -> set[str]:
    """Which of x and a half a factor is."""
    if name == source:
        return {"x"}
    if nodes.number(name) == 0.5:
        return {"half"}
    both = nodes.made_by(name, "Mul")
    constants: Mapping[str, float | None] = {each: nodes.number(each) for each in both.inputs} if both else {}
    return {"x", "half"} if source in constants and 0.5 in constants.values() else set()


def _product(nodes: _Nodes, product: Node) -> Node | None:
    """Rows times weights of int8 or uint8, rows with a scale of their own in every run: the real weights, from the product."""
    rows, weights, *zeros = product.inputs
    dynamic, cast = nodes.made_by(rows, "DynamicQuantizeLinear"), nodes.reader(product.outputs[0], "Cast")
    scaled = nodes.reader(cast.outputs[0], "Mul") if cast else None
    if not dynamic or not cast or not scaled:
        return None
    scales = nodes.made_by(nodes.other(scaled, cast.outputs[0]), "Mul")
    if not scales or dynamic.outputs[1] not in scales.inputs:
        return None
    scale, integers = nodes.constants.get(nodes.other(scales, dynamic.outputs[1])), nodes.constants.get(weights)
    zero = nodes.constants.get(zeros[1]) if len(zeros) > 1 else np.zeros((), np.int8)
    if scale is None or integers is None or zero is None or zeros[:1] != [dynamic.outputs[2]]:
        return None
    name = f"{weights} in real numbers"
    nodes.made[name] = ((integers.astype(np.int32) - zero.astype(np.int32)) * scale).astype(np.float32)
    return Node(scaled.name, "MatMul", (dynamic.inputs[0], name), scaled.outputs, {})


_FUNCTIONS: Mapping[str, Callable[[_Nodes, Node], Node | None]] = {
    "Div": _norm,
    "Erf": _gelu,
    "Tanh": _tanh_gelu,
    "MatMulInteger": _product,
}
"""By the operator from which a function is recognised."""
