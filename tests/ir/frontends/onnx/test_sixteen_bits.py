"""ir.frontends.onnx: tensors of 16 bits where they have no place, and nodes of onnxruntime for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Format
from tests.podweave.runs.file_cases import random_network
from tests.podweave.runs.sixteen_bit_files import KINDS, Drawn, branches, by_onnxruntime, classes, features, pixels

Change = Callable[[Path], Path]


def refused(make: Callable[[int], Drawn], *tensors: str, **options: Any) -> Change:
    return lambda folder: by_onnxruntime(folder, make(1), tensors, **options)


def with_function(seed: int) -> Drawn:
    file = Drawn(seed, 1, 6)
    file.gemm("first", 6, 5)
    file.add("Sigmoid", "sigmoid")
    file.gemm("last", 5, 2)
    return file


def many(seed: int) -> Drawn:
    file = Drawn(seed, 1, 600)
    file.gemm("first", 600, 600)
    file.gemm("last", 600, 2)
    file.held[2].CopyFrom(numpy_helper.from_array(np.ones((600, 2), np.float32), "last.w"))
    return file


def two_images(seed: int) -> Drawn:
    file = pixels(seed)
    file.sizes = (2, 3, 4, 5)
    return file


def keys(seed: int) -> Drawn:
    file = Drawn(seed, 1, 4, 6)
    for name in ("query", "key"):
        file.matmul(name, 6, 6, source="x")
    file.nodes.append(onnx.helper.make_node("Transpose", ["key"], ["turned"], "turned", perm=[0, 2, 1]))
    file.last = "query"
    file.add("MatMul", "scores", "turned")
    return file


def limited(folder: Path) -> Path:
    """With a zero point in the midst of what 16 bits hold."""
    made = by_onnxruntime(folder, features(1), ("first.relu",), QDQKeepRemovableActivations=True)
    model = onnx.load(made)
    readers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "first"]
    (zero,) = (each for each in model.graph.initializer if each.name == "first.relu_zero_point")
    zero.CopyFrom(numpy_helper.from_array(np.array(30000, np.uint16), zero.name))
    for node in model.graph.node:
        # Without the quantisation between the product and its Relu.
        if node.op_type == "Relu" and node.output[0] == "first.relu":
            node.input[0] = "first"
    assert len(readers) == 1
    onnx.save(model, made)
    return made


def mean_and_more(seed: int) -> Drawn:
    file = Drawn(seed, 1, 3, 4, 4)
    file.add("GlobalAveragePool", "mean")
    file.add("Flatten", "flat")
    file.gemm("first", 3, 5)
    file.gemm("last", 5, 2)
    return file


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            refused(pixels, "third.relu"),
            r"\n  Conv last: it reads 16 bits, and is no product of single positions of one image \(what helps: 16 bits "
            r"in front of Gemm, MatMul by a constant, and Conv 1x1 without groups or strides, of one image; int8 or uint8 else",
        ),
        (
            refused(pixels, "first.relu"),
            r"\n  QuantizeLinear first\.relu_QuantizeLinear: it quantises what Conv first gives to uint16 \(what helps: 16 bits of "
            r"inputs, and behind Gemm, .* and means of whole images; int8 or uint8 elsewhere\)$",
        ),
        (
            refused(branches, "first.clip"),
            r"\n  Add sum: its input first\.clip_DequantizeLinear_Output has 16 bits \(what helps: 16 b",
        ),
        (refused(with_function, "sigmoid"), r"it quantises what Sigmoid sigmoid gives to uint16 \(what helps: 16 bits of"),
        (
            limited,
            r"it quantises what Gemm first gives to uint16, of which Relu leaves 30,000 to 65,407 \(what helps: a scale and a zero "
            r"point with which that is 0 to 65,407 or more\)$",
        ),
        (
            refused(mean_and_more, "mean", "first"),
            r"it quantises what Gemm first gives to uint16, and that reads a mean of 16 bits \(",
        ),
        (
            refused(many, "first"),
            r"\n  QuantizeLinear last_QuantizeLinear: sums of output 0 may be 2,496,921,600, more than 32 bits hold \(2,147,483,647"
            r"\) \(what helps: int8 or uint8 for what it reads: weights of an output have magnitudes of 65,535 together at most\)$",
        ),
        (refused(two_images, "inner.relu"), r"it quantises what Conv inner gives to uint16 \(what helps: .* of one image"),
        (
            refused(two_images, "x"),
            r"\n  QuantizeLinear x_QuantizeLinear: input x has 2 images, and 16 bits \(what helps: a batch of 1",
        ),
        (refused(classes, "mean", outputs=("mean",)), r"\n  output mean: it is a mean of 16 bits, which only products read \(what"),
        (
            refused(keys, "query"),
            r"\n  MatMul scores: its input query_DequantizeLinear_Output has 16 bits \(what helps: int8 or uint8",
        ),
    ],
)
def test_refused(tmp_path: Path, made: Change, sentence: str) -> None:
    file = made(tmp_path)
    with pytest.raises(WorkloadError, match=sentence):
        read_network(file)


def test_files_of_older_opsets(tmp_path: Path) -> None:
    """onnxruntime's own nodes for 16 bits, as it wrote them before ONNX had any."""
    drawn = pixels(3)
    made = by_onnxruntime(tmp_path, drawn, KINDS["pixels"][1])
    old = by_onnxruntime(tmp_path, drawn, KINDS["pixels"][1], UseQDQContribOps=True)
    assert {node.domain for node in onnx.load(old).graph.node if node.op_type == "QuantizeLinear"} == {"com.microsoft"}
    one, other = read_network(made), read_network(old)
    for name, held in one.constants.items():
        np.testing.assert_array_equal(held.bias, other.constants[name].bias)


def widened(file: Path, rng: np.random.Generator, count: int) -> None:
    """Some of the tensors that nodes quantise have 16 bits, in steps of a 256th."""
    model = onnx.load(file)
    held = {each.name: each for each in model.graph.initializer}
    pairs = {
        (node.input[1], node.input[2]): None
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in held and node.input[2] in held
    }
    for at in rng.permutation(len(pairs))[:count]:
        scale, zero = (held[name] for name in [*pairs][at])
        values = numpy_helper.to_array(zero).astype(np.int64) * 256
        kind = np.uint16 if zero.data_type == onnx.TensorProto.UINT8 else np.int16
        zero.CopyFrom(numpy_helper.from_array(values.astype(kind), zero.name))
        scale.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(scale) / 256).astype(np.float32), scale.name))
    model.opset_import[0].version, model.ir_version = 21, 10
    onnx.save(model, file)


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(12, 160))])
def test_any_tensor_in_16_bits_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Of files over all operators, and of those with products."""
    makers = [make for make, _ in KINDS.values()] + [branches]
    file = random_network(tmp_path, seed)[1] if seed % 2 else by_onnxruntime(tmp_path, makers[seed // 2 % 5](seed), ())
    rng = np.random.default_rng([seed, 7])
    widened(file, rng, int(rng.integers(1, 4)))
    found = read_or_told(file)
    if isinstance(found, str):
        # A rule, and what helps.
        assert all("16 bits" in line and "(what helps: " in line for line in found.splitlines()[1:]), found
        return
    wide = [tensor for tensor in found.tensors.values() if tensor.form is Format.INT16]
    assert wide or any(operation.window and not operation.identity for operation in found.graph.operations)


def read_or_told(file: Path) -> Network | str:
    try:
        return read_network(file)
    except WorkloadError as error:
        return str(error)
