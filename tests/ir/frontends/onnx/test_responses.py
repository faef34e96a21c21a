"""ir.frontends.onnx.responses: LRN beside onnxruntime, within the stated bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from podweave.ir.frontends.onnx import READ_QUANTISED, Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.runs.model_files import random_inputs
from podweave.runs.oracle import compare_file

SHAPE = (1, 3, 6, 5)


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.left = iter([{"x": rng.normal(size=SHAPE).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.left, None)


def network(folder: Path, **attributes: Any) -> tuple[Network, Path]:
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=size).astype(np.float32) for size in ((8, 3, 3, 3), (4, 8, 1, 1))]
    held = [numpy_helper.from_array(values, f"w{number}") for number, values in enumerate(weights)]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("LRN", ["a"], ["b"], "lrn", **attributes),
        helper.make_node("Conv", ["b", "w1"], ["y"], "conv1"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", SHAPE), ("y", None)))
    model = helper.make_model(
        helper.make_graph(nodes, "m", [x], [y], held), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    plain, file = folder / "plain.onnx", folder / "quantised.onnx"
    onnx.save(model, plain)
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "quant_format": QuantFormat.QDQ}
    quantize_static(str(plain), str(file), Samples(), op_types_to_quantize=["Conv", *READ_QUANTISED], **kinds)
    return read_network(file), file


@pytest.mark.parametrize(
    "attributes",
    [{"size": 3}, {"size": 5, "alpha": 0.02, "beta": 0.75, "bias": 2.0}, {"size": 9, "alpha": 0.5, "beta": 0.5, "bias": 1.0}],
)
def test_responses_are_within_the_bound(tmp_path: Path, attributes: dict[str, Any]) -> None:
    made, file = network(tmp_path, **attributes)
    found = compare_file(made, file, made.constants, [random_inputs(made, 1)], "half_even")
    rows = {row["operation"]: row for row in found["layers"]}
    assert set(rows) >= {"conv0", "lrn", "conv1"}
    assert rows["lrn"]["largest"] <= made.bounds["lrn"] + 1
    assert rows["lrn"]["sqnr_db"] is None or rows["lrn"]["sqnr_db"] > 30
    assert rows["conv0"]["differing"] == rows["conv1"]["differing"] == 0


def test_other_gains_are_seen(tmp_path: Path) -> None:
    made, file = network(tmp_path, size=5, alpha=0.5, beta=0.75, bias=1.0)
    name = "lrn.gains"
    held = made.constants[name]
    table = np.roll(held.table, 40)
    wrong = {**made.constants, name: type(held)(held.weights, held.bias, held.multiplier, held.shift, table=table)}
    found = compare_file(made, file, wrong, [random_inputs(made, 1)], "half_even")
    assert sum(row["differing"] for row in found["outputs"]) > 0


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("size", 4, r"it goes over 4 channels \(what helps: an odd number"),
        ("bias", -1.0, r"its alpha, beta and bias are 0.0001, 0.75 and -1 \(what helps: 0 or more, and a bias above 0\)"),
    ],
)
def test_refused(tmp_path: Path, attribute: str, value: float, why: str) -> None:
    _, file = network(tmp_path, size=3)
    model = onnx.load(file)
    (node,) = (each for each in model.graph.node if each.op_type == "LRN")
    kept = [each for each in node.attribute if each.name != attribute]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(attribute, value)])
    onnx.save(model, file)
    with pytest.raises(WorkloadError, match=why):
        read_network(file)
