"""Constants by which files in floating point multiply, and which they add: into weights, or into the function in front of them.

Each would be rounded by itself, and cost an operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.names import Names
from podweave.ir.frontends.onnx.functions import OPERATORS as FUNCTIONS

from ..program import extra

_AFFINE = ("Mul", "Div", "Add", "Sub")
LIMITS = ("Relu", "Clip")
"""Functions that have no table of their own."""


class _Chains:
    """Nodes of a model, by what they give and read."""

    def __init__(self, model: Any):
        with extra("onnx", "quantising ONNX files"):
            from onnx import numpy_helper

        self.graph = model.graph
        self.held = {each.name: each for each in model.graph.initializer}
        self.array = numpy_helper.to_array
        self.outputs = {each.name for each in model.graph.output}
        self.readers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def behind(self, name: str) -> tuple[Any, NDArray, bool] | None:
        """What alone reads a tensor, if it multiplies it by a constant, or adds one: the node, its constant, if that is first."""
        readers = self.readers.get(name, [])
        if name in self.outputs or len(readers) != 1 or readers[0].op_type not in _AFFINE or readers[0].domain:
            return None
        (node,) = readers
        first = node.input[0] != name
        other = node.input[0 if first else 1]
        # A quotient, or a difference, of a constant is no factor.
        if other not in self.held or (first and node.op_type in ("Div", "Sub")):
            return None
        values = self.array(self.held[other])
        return (node, values, first) if values.dtype == np.float32 and np.isfinite(values).all() else None


def _each(values: NDArray, outputs: int, rank: int) -> NDArray[np.float32] | None:
    """One number for each output channel, the second dimension of ``rank``; None if they differ along another one."""
    if values.size == 1:
        return np.full(outputs, values.ravel()[0], np.float32)
    shape = (1,) * (rank - values.ndim) + values.shape
    return values.reshape(outputs) if len(shape) == rank and shape == (1, outputs, *(1,) * (rank - 2)) else None


def constants_into_weights(model: Any) -> list[str]:
    """What convolutions give times constants, or plus some, is what others give: in place; returns what those give."""
    with extra("onnx", "quantising ONNX files"):
        from onnx import numpy_helper

    chains, names = _Chains(model), Names()
    for name in (*chains.held, *(each for node in model.graph.node for each in (*node.input, *node.output))):
        names.unique(name)
    gone, found = set[int](), list[str]()
    for node in model.graph.node:
        if (
            node.op_type != "Conv"
            or node.input[1] not in chains.held
            or any(name not in chains.held for name in node.input[2:] if name)
        ):
            continue
        weights = chains.array(chains.held[node.input[1]])
        outputs, rank = weights.shape[0], weights.ndim
        bias = chains.array(chains.held[node.input[2]]) if len(node.input) > 2 and node.input[2] else np.zeros(outputs, np.float32)
        changed = False
        while behind := chains.behind(node.output[0]):
            other, values, _ = behind
            each = _each(values, outputs, rank)
            if each is None or (other.op_type == "Div" and not each.all()):
                break
            if other.op_type in ("Mul", "Div"):
                factor = each if other.op_type == "Mul" else 1 / each
                weights, bias = weights * factor.reshape(-1, *(1,) * (rank - 1)), bias * factor
            else:
                bias = bias + (each if other.op_type == "Add" else -each)
            node.output[0], changed = other.output[0], True
            gone.add(id(other))
        if changed:
            held = [names.unique(f"{node.output[0]}.{what}") for what in ("weights", "bias")]
            for name, values in zip(held, (weights, bias), strict=True):
                model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
            node.input[:] = [node.input[0], *held]
            found.append(node.output[0])
    kept = [node for node in model.graph.node if id(node) not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return found


def function_nodes(model: Any) -> list[Any]:
    """Functions of one number with constants behind them, and those: between them numbers stay real, so that all is one table."""
    chains, found = _Chains(model), list[Any]()
    made = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type not in FUNCTIONS or node.op_type in LIMITS or node.input[0] not in made:
            continue
        chain: list[Any] = [node]
        while (behind := chains.behind(chain[-1].output[0])) and behind[1].size == 1:
            chain.append(behind[0])
        # What leaves is quantised by the node that gives it, all else by those that read it.
        if len(chain) > 1 and chains.readers.get(chain[-1].output[0]):
            found += chain
    return found
