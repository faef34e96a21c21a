"""Layers of files in floating point that are to read 16 bits: which tensors have those."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from podweave.ir.frontends.names import Names
from podweave.ir.frontends.onnx.sixteen_bits import PRODUCTS
from podweave.ir.layers import WorkloadError

from ..program import extra

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_VIEWS = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
_STEPS, _MOST = 65535, 65407
"""Of a uint16, and the largest that two planes of int8 hold."""
_NEAREST = 5


@dataclass(frozen=True)
class SixteenBits:
    """``tensors`` of 16 bits, and nodes that are ``copies`` of them, for readers of 8 bits."""

    tensors: tuple[str, ...]
    copies: tuple[str, ...]


def with_names(model: Any) -> None:
    """Give every node a name of its own, in place."""
    names = Names()
    for node in model.graph.node:
        node.name = names.unique(node.name or node.op_type)


def range_of_16_bits(low: float, high: float) -> tuple[float, float]:
    """A range of uint16 in which ``high`` is the largest integer that two planes hold."""
    return low, low + (high - low) * _STEPS / _MOST


def with_16_bits(model: Any, layers: Sequence[str], file: str) -> SixteenBits:
    """What layers read, up to what computes it; what else reads that gets copies, of 8 bits, in place.

    Parameters
    ----------
    model : ModelProto
    layers : names of nodes
    file : str
        Its name, for errors.

    Raises
    ------
    WorkloadError
        For names that are none, and for what is no product with weights.
    """
    with extra("onnx", "quantising ONNX files"):
        from onnx import helper

    held = {each.name for each in model.graph.initializer}
    products = {node.name: node for node in model.graph.node if node.op_type in _PRODUCTS and node.input[1] in held}
    maker = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, None] = {}
    read: set[tuple[str, str]] = set()
    for layer in layers:
        if layer not in products:
            raise WorkloadError(_no_layer(model, layer, list(products), file))
        reader = products[layer]
        while True:
            name = reader.input[0]
            found[name] = None
            read.add((reader.name, name))
            reader = maker.get(name)
            if reader is None or reader.op_type not in _VIEWS:
                break
    copies, taken = list[Any](), Names()
    for name in (*held, *maker, *(each.name for each in model.graph.input)):
        taken.unique(name)
    for name in found:
        others = [node for node in model.graph.node if name in node.input and (node.name, name) not in read]
        if not others:
            continue
        copy = taken.unique(f"{name}.8bit")
        copies.append((maker.get(name), helper.make_node("Identity", [name], [copy], copy)))
        for node in others:
            node.input[:] = [copy if each == name else each for each in node.input]
    for made, node in copies:
        at = next((index + 1 for index, each in enumerate(model.graph.node) if each is made), 0)
        model.graph.node.insert(at, node)
    return SixteenBits(tuple(found), tuple(node.name for _, node in copies))


def limit_to_two_planes(path: Path, tensors: Collection[str]) -> None:
    """What products give ends where two planes do, in a file that is quantised: in others' hands, too."""
    with extra("onnx", "quantising ONNX files"):
        import onnx
        from onnx import helper, numpy_helper

    model = onnx.load(path)
    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    maker = {name: node for node in model.graph.node for name in node.output}
    for node in [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in tensors]:
        name = node.input[0]
        made = maker.get(name)
        weights = maker.get(made.input[1]) if made is not None and made.op_type in _PRODUCTS else None
        if made is None or weights is None or weights.op_type != "DequantizeLinear" or weights.input[0] not in held:
            continue
        scale, zero = (held[each].ravel()[0] for each in node.input[1:])
        most = np.asarray((_MOST - int(zero)) * scale, np.float32)
        free = f"{name}.free"
        made.output[0] = free
        model.graph.initializer.append(numpy_helper.from_array(most, f"{name}.most"))
        model.graph.node.insert(
            list(model.graph.node).index(node), helper.make_node("Clip", [free, "", f"{name}.most"], [name], free)
        )
    onnx.save(model, path)


def _no_layer(model: Any, layer: str, products: list[str], file: str) -> str:
    node = next((each for each in model.graph.node if each.name == layer), None)
    if node is not None:
        return f"{file}: {node.op_type} {layer} is no product with constant weights: 16 bits are read by {PRODUCTS}"
    near = difflib.get_close_matches(layer, products, _NEAREST, 0.0)
    return f"{file} has no layer {layer} that weights multiply: it has {', '.join(near) or 'none'}" + (
        f" and {len(products) - len(near)} others" if len(products) > len(near) else ""
    )
