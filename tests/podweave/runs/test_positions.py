"""ir.frontends.onnx.positions: parts of images, blocks to channels and back, channels in another order, beside onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import READ_QUANTISED, Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.runs.model_files import random_inputs
from podweave.runs.oracle import compare_file

SHAPE = (1, 3, 12, 10)
CHANNELS = 8


def slice_node(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> dict[str, Any]:
    return {"operator": "Slice", "constants": {"starts": starts, "ends": ends, "axes": axes, "steps": steps}}


NODES: dict[str, dict[str, Any]] = {
    "rows": slice_node([1], [-1], [2], [1]),
    "columns": slice_node([-4], [100], [3], [1]),
    "every second": slice_node([1, 0], [12, 10], [2, 3], [2, 2]),
    "every third, and channels": slice_node([2, 1, 3], [12, 9, 8], [2, 3, 1], [3, 2, 1]),
    "one position": slice_node([11, 9], [12, 10], [2, 3], [1, 1]),
    "blocks to channels": {"operator": "SpaceToDepth", "attributes": {"blocksize": 2}},
    "blocks of one": {"operator": "SpaceToDepth", "attributes": {"blocksize": 1}},
    "channels to blocks": {"operator": "DepthToSpace", "attributes": {"blocksize": 2}},
    "channels to blocks, columns": {"operator": "DepthToSpace", "attributes": {"blocksize": 2, "mode": "CRD"}},
    "turned": {"operator": "Gather", "constants": {"indices": [7, 6, 5, 4, 3, 2, 1, 0]}, "attributes": {"axis": 1}},
    "some, some twice": {"operator": "Gather", "constants": {"indices": [2, -1, 2]}, "attributes": {"axis": 1}},
}


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.left = iter([{"x": rng.normal(size=SHAPE).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.left, None)


def model_file(folder: Path, node: dict[str, Any], *, first: bool = False, last: bool = False) -> Path:
    """A convolution, the node, and another convolution; ``first``, ``last``: without the former, or the latter."""
    rng, channels = np.random.default_rng(3), CHANNELS
    constants = {name: np.array(values, np.int64) for name, values in node.get("constants", {}).items()}
    held = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    nodes, at = [], "x"
    if first:
        channels = SHAPE[1]
    else:
        held.append(numpy_helper.from_array(rng.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32), "w0"))
        nodes.append(helper.make_node("Conv", ["x", "w0"], ["a"], "conv0", pads=[1, 1, 1, 1]))
        at = "a"
    nodes.append(helper.make_node(node["operator"], [at, *constants], ["b"], "moved", **node.get("attributes", {})))
    made = helper.make_graph(nodes, "m", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)], [], held)
    made.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    if not last:
        inferred = onnx.shape_inference.infer_shapes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]))
        channels = inferred.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        made.initializer.append(numpy_helper.from_array(rng.normal(size=(5, channels, 1, 1)).astype(np.float32), "w1"))
        made.node.append(helper.make_node("Conv", ["b", "w1"], ["y"], "conv1"))
        made.output[0].name = "y"
    plain, file = folder / "plain.onnx", folder / "quantised.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), plain)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            str(plain),
            str(file),
            Samples(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", *READ_QUANTISED, "Slice"],
        )
    finally:
        logging.disable(logging.NOTSET)
    return file


def differing(network: Network, file: Path, constants: Mapping[str, Parameters] | None = None) -> int:
    """Results of layers, each from its own inputs, and of the whole, that are not onnxruntime's."""
    found = compare_file(network, file, constants or network.constants, [random_inputs(network, 1)], "half_even")
    return sum(row["differing"] for row in (*found["layers"], *found["outputs"]))


@pytest.mark.parametrize("name", NODES)
def test_as_onnxruntime_has_it(tmp_path: Path, name: str) -> None:
    file = model_file(tmp_path, NODES[name])
    network = read_network(file)
    assert differing(network, file) == 0


def test_of_what_comes_from_outside(tmp_path: Path) -> None:
    file = model_file(tmp_path, NODES["blocks to channels"], first=True)
    assert differing(read_network(file), file) == 0


@pytest.mark.parametrize("name", ["rows", "blocks to channels", "channels to blocks, columns", "turned"])
def test_what_leaves(tmp_path: Path, name: str) -> None:
    file = model_file(tmp_path, NODES[name], last=True)
    network = read_network(file)
    assert differing(network, file) == 0


def test_another_order_is_seen(tmp_path: Path) -> None:
    file = model_file(tmp_path, NODES["channels to blocks, columns"])
    network = read_network(file)
    (name,) = (each.name for each in network.graph.operations if each.name.startswith("moved"))
    held = network.constants[name]
    weights = (np.ascontiguousarray(np.roll(held.weights[0], 1, axis=3)),)
    wrong = {**network.constants, name: replace(held, weights=weights)}
    assert differing(network, file) == 0
    assert differing(network, file, wrong) > 0


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (slice_node([4], [0], [2], [-1]), r"Slice moved: its step is -1 \(what helps: a step of 1 or more\)"),
        (slice_node([0], [8], [1], [2]), r"Slice moved: its step is 2 along axis 1 \(what helps: a step of 1, or rows and columns"),
        (
            {"operator": "Gather", "constants": {"indices": [0, 1]}, "attributes": {"axis": 2}},
            r"Gather moved: it takes some of axis 2 \(what helps: axis 1, that of the channels\)",
        ),
    ],
)
def test_refused(tmp_path: Path, node: dict[str, Any], why: str) -> None:
    with pytest.raises(WorkloadError, match=why):
        read_network(model_file(tmp_path, node))
