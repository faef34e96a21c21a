"""podweave.runs.float_functions: activation functions in pieces become one operator, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from podweave.ir.frontends.onnx import read_network
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.float_functions import whole_functions

Pieces = Callable[["Model", str], str]


class Model:
    """Nodes one after the other, and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"t{len(self.nodes)}"], f"n{len(self.nodes)}", **attributes))
        return str(self.nodes[-1].output[0])

    def number(self, *values: float, shape: tuple[int, ...] = ()) -> str:
        self.held.append(numpy_helper.from_array(np.float32(values).reshape(shape), f"k{len(self.held)}"))
        return str(self.held[-1].name)

    def conv(self, source: str, channels: int, outputs: int, kernel: int = 1, operator: str = "Conv") -> str:
        rng = np.random.default_rng(len(self.nodes))
        sizes = (outputs, channels) if operator == "Conv" else (channels, outputs)
        weights = rng.normal(size=(*sizes, kernel, kernel)) / np.sqrt(channels)
        strides = {"strides": [kernel, kernel]} if operator == "ConvTranspose" else {}
        return self.add(operator, source, self.number(*weights.ravel(), shape=weights.shape), **strides)

    def model(self, *outputs: str, opset: int = 14) -> Any:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "pieces", [x], ends, self.held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def limited(m: Model, x: str) -> str:
    return m.add("Clip", m.add("Add", x, m.number(3)), m.number(0), m.number(6))


def erf(m: Model, x: str) -> str:
    return m.add("Add", m.add("Erf", m.add("Div", x, m.number(np.sqrt(2)))), m.number(1))


WHOLE: dict[str, tuple[str, Pieces]] = {
    "divided last": ("HardSwish", lambda m, x: m.add("Div", m.add("Mul", x, limited(m, x)), m.number(6))),
    "divided first": ("HardSwish", lambda m, x: m.add("Mul", m.add("Div", limited(m, x), m.number(6)), x)),
    "times a sixth": ("HardSwish", lambda m, x: m.add("Mul", m.add("Mul", limited(m, x), x), m.number(1 / 6))),
    "by HardSigmoid": ("HardSwish", lambda m, x: m.add("Mul", x, m.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
    "GELU": ("Gelu", lambda m, x: m.add("Mul", m.add("Mul", x, erf(m, x)), m.number(0.5))),
    "GELU, halved first": ("Gelu", lambda m, x: m.add("Mul", m.add("Mul", x, m.number(0.5)), erf(m, x))),
}
OTHERS: dict[str, Pieces] = {
    "of another tensor": lambda m, x: m.add("Div", m.add("Mul", m.add("Relu", x), limited(m, x)), m.number(6)),
    "by another number": lambda m, x: m.add("Div", m.add("Mul", x, limited(m, x)), m.number(5)),
    "another slope": lambda m, x: m.add("Mul", x, m.add("HardSigmoid", x)),
    "divided by it": lambda m, x: m.add("Mul", m.add("Div", x, limited(m, x)), m.number(1 / 6)),
    "not halved": lambda m, x: m.add("Mul", x, erf(m, x)),
    "by a constant": lambda m, x: m.add("Mul", x, m.number(2)),
}


@pytest.mark.parametrize("key", WHOLE)
def test_pieces_of_one_function(key: str) -> None:
    operator, pieces = WHOLE[key]
    m = Model()
    y = pieces(m, "x")
    model = m.model(y)
    assert whole_functions(model) == [y]
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == (operator, ["x"], [y])
    assert {each.domain for each in model.opset_import} == ({""} if operator == "HardSwish" else {"", "com.microsoft"})


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_another_function_stays(key: str) -> None:
    m = Model()
    model = m.model(OTHERS[key](m, "x"))
    before = model.SerializeToString()
    assert whole_functions(model) == []
    assert model.SerializeToString() == before


def test_pieces_that_others_read_stay() -> None:
    m = Model()
    inner = limited(m, "x")
    model = m.model(m.add("Div", m.add("Mul", "x", inner), m.number(6)), m.add("Relu", inner))
    assert whole_functions(model) == []


def test_a_quantised_file_has_them_whole(tmp_path: Path) -> None:
    """With a transposed convolution behind, whose results lie otherwise than those of the file."""
    m = Model()
    y = WHOLE["divided last"][1](m, m.conv("x", 3, 4))
    y = WHOLE["GELU"][1](m, m.conv(y, 4, 4))
    onnx.save(m.model(m.conv(y, 4, 2, 2, "ConvTranspose"), opset=11), tmp_path / "pieces.onnx")
    np.savez(tmp_path / "some.npz", x=np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype(np.float32))
    given = (str(tmp_path / "pieces.onnx"), tmp_path / "made.onnx", tmp_path / "some.npz", None, FileRecipe())
    report = quantise_file(*given, accuracy=True, progress=lambda _: None)
    assert {"HardSwish", "com.microsoft.Gelu", "ConvTranspose"} <= {*read_network(tmp_path / "made.onnx").operators.values()}
    rows = {row["operator"]: row["sqnr_db"] for row in report["accuracy"]["layers"]}
    assert rows["ConvTranspose"] > 25
