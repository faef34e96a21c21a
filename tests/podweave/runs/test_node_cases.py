"""Every test of a single operator that ships with the onnx package: near floating point, or refused with its reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from podweave.ir.frontends.onnx.read import OPERATORS
from podweave.ir.layers import WorkloadError
from podweave.runs.float_files import FileRecipe, quantise_file
from tests.podweave.runs.node_cases import cases, error_of

BOUND = 0.02
"""Of the largest number that is expected: five of its 255 steps, for what is lost in front of an operator and behind it."""
BOUNDS = {"test_log": 0.04, "test_round": 0.34, "test_thresholdedrelu_example": 0.92}
"""The same of cases with numbers where a function is steep, or at a jump: half a step off, they are on its other side."""
_NEW = "opset 28, known are"
REFUSED = {
    "Add": "it adds .* and ",
    "AveragePool": "it has [35] dimensions|pads count, but not what lies behind them|dilated by",
    "BatchNormalization": "nothing gives its input output_var",
    "Celu": _NEW,
    "Concat": "which is not that of the channels",
    "ConvTranspose": "more than there are|it has 5 dimensions",
    "DepthToSpace": _NEW,
    "Div": "one of its inputs must be a constant",
    "Dropout": "by chance|z: nothing gives it",
    "Gather": "it takes some of axis 0|its input has [12] dimensions",
    "Gemm": "differs from row to row|transposes what is computed",
    "Identity": "is no tensor",
    "LayerNormalization": "it is not over channels alone|it is of [23] images|nothing gives it",
    "MatMul": "its matrix has [134] dimensions",
    "MaxPool": "its indices are read|it has [35] dimensions|dilated by",
    "Mul": "it multiplies .* and ",
    "PRelu": "differs along another axis than channels",
    "Pow": "its exponent has",
    "ReduceMean": "it is a mean over",
    "Reshape": "cuts an axis of the image in two|leaves its dimension",
    "Resize": "its mode is|not those of a whole factor|aspect ratio",
    "Slice": "which is not that of the channels|its step is",
    "Softmax": "no product of queries and keys",
    "SpaceToDepth": _NEW,
    "Split": "leaves its dimension",
    "Sub": "it adds .* and ",
    "Upsample": "opset 9, known are",
}
"""Reasons by operator, as patterns: of all others every case is taken."""
NEVER = {"Celu", "DepthToSpace", "Div", "LayerNormalization", "PRelu", "ReduceMean", "Softmax", "SpaceToDepth", "Upsample"}
"""Operators of which every case is refused: quotients of two computed tensors, means over other axes than those of an image, norms
of several images, softmax outside of attention, slopes for each position, opsets that cannot quantise, or newer than is known."""


@pytest.mark.filterwarnings("ignore")
def test_every_case_is_near_or_refused_with_its_reason(tmp_path: Path) -> None:
    taken, refused = Counter[str](), Counter[str]()
    for name, case in cases().items():
        operator = case.model.graph.node[0].op_type
        try:
            error = error_of(case, tmp_path)
        except WorkloadError as caught:
            why = str(caught).splitlines()[-1]
            assert operator in REFUSED, (name, why)
            assert re.search(REFUSED[operator], why), (name, why)
            refused[operator] += 1
        else:
            assert error <= BOUNDS.get(name, BOUND), (name, error)
            taken[operator] += 1
    assert set(refused) - set(taken) == NEVER
    assert set(taken) <= set(OPERATORS)
    print(f"{taken.total()} of {taken.total() + refused.total()} cases are taken, of {len(taken)} operators")
    assert taken.total() >= 193


def gemm(folder: Path, bias: np.ndarray, **attributes: float) -> Path:
    rng = np.random.default_rng(0)
    held = {"b": rng.normal(size=(6, 5)).astype(np.float32), "c": bias.astype(np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "b", "c"], ["y"], "product", **attributes)],
        "gemm",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(values, name) for name, values in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "gemm.onnx")
    np.savez(folder / "some.npz", x=rng.normal(size=(20, 6)).astype(np.float32))
    return folder / "gemm.onnx"


@pytest.mark.parametrize("bias", [np.float32(2), np.full(1, 3), np.arange(5), np.arange(5)[np.newaxis]])
def test_biases_and_factors_of_gemm(tmp_path: Path, bias: np.ndarray) -> None:
    file = gemm(tmp_path, bias, alpha=0.5, beta=2.0)
    made, some = tmp_path / "made.onnx", tmp_path / "some.npz"
    report = quantise_file(str(file), made, some, None, FileRecipe(), accuracy=True, progress=lambda _: None)
    assert report["accuracy"]["outputs"][0]["cosine"] > 0.999


def test_a_bias_that_differs_from_row_to_row_is_refused(tmp_path: Path) -> None:
    file = gemm(tmp_path, np.arange(10).reshape(2, 5))
    with pytest.raises(WorkloadError, match=r"Gemm product: its bias c differs from row to row: \[2, 5\]"):
        quantise_file(
            str(file), tmp_path / "made.onnx", tmp_path / "some.npz", None, FileRecipe(), accuracy=False, progress=lambda _: None
        )
