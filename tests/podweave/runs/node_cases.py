"""Tests of single operators that ship with the onnx package, quantised, beside the floating point that they expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import read_network
from podweave.ir.frontends.onnx.read import OPERATORS, QUANTISING
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import quantised_inputs

COMPUTED = {"Add", "Sub", "Mul", "Div", "Sum", "Concat"}
"""All that they read is computed; of others the first, and the rest are constants."""
WEIGHED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}
"""Quantised by `podweave quantise`; others move integers, or are looked up, between quantisations."""
NO_NUMBERS = {"Constant", "Shape"}


def cases() -> dict[str, Any]:
    """Of one node of the table of operators, which reads real numbers."""
    found = {}
    for case in collect_testcases(None):
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].domain or nodes[0].op_type not in OPERATORS:
            continue
        if nodes[0].op_type in QUANTISING or nodes[0].op_type in NO_NUMBERS:
            continue
        given, wanted = case.data_sets[0]
        if not all(np.size(values) for values in (*given, *wanted)):
            # Tensors of no numbers.
            continue
        if given and isinstance(given[0], np.ndarray) and given[0].dtype == np.float32:
            found[case.name] = case
    return found


def error_of(case: Any, folder: Path) -> float:
    """The largest error, in parts of the largest number that is expected; raises `WorkloadError` for what is refused."""
    given, wanted = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    node = model.graph.node[0]
    named = dict(zip([each.name for each in model.graph.input], given, strict=True))
    computed = set(named) if node.op_type in COMPUTED else {node.input[0]}
    left = [each for each in model.graph.input if each.name in computed]
    del model.graph.input[:]
    model.graph.input.extend(left)
    constants = [numpy_helper.from_array(np.asarray(values), name) for name, values in named.items() if name not in computed]
    model.graph.initializer.extend(constants)
    inputs = {name: np.asarray(named[name]) for name in named if name in computed}
    ends = dict(zip([each.name for each in model.graph.output], wanted, strict=True))
    made = folder / "quantised.onnx"
    if node.op_type in WEIGHED:
        onnx.save(model, folder / "float.onnx")
        np.savez(folder / "some.npz", **inputs)
        quantise_file(
            str(folder / "float.onnx"), made, folder / "some.npz", None, FileRecipe(), accuracy=False, progress=lambda _: None
        )
    else:
        onnx.save(_between_quantisations(model, inputs, ends), made)
    network = read_network(made)
    results = evaluate(network.graph, network.constants, quantised_inputs(network, inputs), "half_even")
    errors = []
    for name, tensor in network.outputs.items():
        found, right = tensor.view.to_file(tensor.real(results[name])), ends[tensor.name.removesuffix(".real")]
        assert found.shape == right.shape
        errors.append(np.abs(found - right).max() / np.abs(right).max())
    assert len(errors) == len(ends)
    return float(max(errors))


def _between_quantisations(model: Any, inputs: Mapping[str, NDArray], ends: Mapping[str, NDArray]) -> Any:
    """To uint8 and back in front of the node and behind it, with the ranges of its numbers."""
    graph, node = model.graph, model.graph.node[0]
    before, behind = [], []
    for name, values in (*inputs.items(), *ends.items()):
        if np.asarray(values).dtype != np.float32:
            continue
        low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
        scale = np.float32((high - low) / 255 or 1)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        graph.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}.scale"))
        graph.initializer.append(numpy_helper.from_array(np.asarray(zero), f"{name}.zero"))
        ways = [f"{name}.scale", f"{name}.zero"]
        source, result = (name, f"{name}.real") if name in inputs else (f"{name}.found", name)
        pair = [
            helper.make_node("QuantizeLinear", [source, *ways], [f"{name}.integers"], f"{name}.quantise"),
            helper.make_node("DequantizeLinear", [f"{name}.integers", *ways], [result], f"{name}.dequantise"),
        ]
        if name in inputs:
            before += pair
            node.input[:] = [result if each == name else each for each in node.input]
        else:
            behind += pair
            node.output[:] = [source if each == name else each for each in node.output]
    nodes = [*before, node, *behind]
    kept = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return model
