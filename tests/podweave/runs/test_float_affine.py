"""podweave.runs.float_affine: constants that become part of weights, or of tables, and what stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from podweave.ir.frontends.onnx import read_network
from podweave.runs.float_affine import constants_into_weights, function_nodes
from podweave.runs.float_files import FileRecipe, quantise_file


def model(nodes: list[Any], held: dict[str, Any]) -> Any:
    kinds = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", kinds, [1, 3, 5, 6])],
        [helper.make_tensor_value_info("y", kinds, None)],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(*operators: tuple[str, str, bool]) -> list[Any]:
    """A convolution, and operators behind it: each with its constant, in front of the tensor or behind it."""
    nodes, name = [helper.make_node("Conv", ["x", "w"], ["conv"], "conv", pads=[1, 1, 1, 1])], "conv"
    for number, (operator, constant, first) in enumerate(operators):
        given = [constant, name] if first else [name, constant]
        name = "y" if number == len(operators) - 1 else f"t{number}"
        nodes.append(helper.make_node(operator, given if constant else given[:1] if not first else given[1:], [name], name))
    return nodes


def held() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    each = rng.normal(size=(4, 1, 1))
    return {"w": rng.normal(size=(4, 3, 3, 3)), "one": [1.5], "number": 0.25, "each": each, "columns": rng.normal(size=(1, 6))}


def computed(made: Any) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(1, 3, 5, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_all_that_is_of_channels_goes_into_weights() -> None:
    operators = [("Mul", "one", True), ("Add", "each", False), ("Div", "each", False), ("Sub", "number", False)]
    made = model(chain(*operators), held())
    before = computed(made)
    assert constants_into_weights(made) == ["y"]
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    np.testing.assert_allclose(computed(made), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operators", [[("Sub", "one", True)], [("Div", "one", True)], [("Mul", "columns", False)]])
def test_what_is_no_factor_of_a_channel_stays(operators: list[tuple[str, str, bool]]) -> None:
    made = model(chain(*operators), held())
    assert constants_into_weights(made) == []
    assert len(made.graph.node) == 2


def test_functions_and_constants_are_one_table(tmp_path: Path) -> None:
    """HardSwish, a factor and a sum, in front of another convolution: three operations, and next to nothing is lost."""
    nodes = chain(("HardSwish", "", False), ("Mul", "one", True), ("Add", "number", False), ("Sub", "one", False))
    nodes[-1].output[0] = "inner"
    nodes.append(helper.make_node("Conv", ["inner", "v"], ["y"], "last"))
    made = model(nodes, held() | {"v": np.random.default_rng(2).normal(size=(2, 4, 1, 1))})
    assert [node.op_type for node in function_nodes(made)] == ["HardSwish", "Mul", "Add", "Sub"]
    onnx.save(made, tmp_path / "float.onnx")
    np.savez(tmp_path / "some.npz", x=np.random.default_rng(3).normal(size=(8, 3, 5, 6)).astype(np.float32))
    ways: dict[str, Any] = {"accuracy": True, "progress": lambda _: None}
    report = quantise_file(str(tmp_path / "float.onnx"), tmp_path / "q.onnx", tmp_path / "some.npz", None, FileRecipe(), **ways)
    assert len(read_network(tmp_path / "q.onnx").graph.operations) == 3
    assert report["accuracy"]["outputs"][0]["cosine"] > 0.999
