"""ir.frontends.onnx_rows.read: transformers of ONNX files, recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import erf
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from podweave.ir.frontends.onnx.files import Node
from podweave.ir.frontends.onnx_rows import (
    FloatAttention,
    FloatGelu,
    FloatLinear,
    FloatNetwork,
    FloatNorm,
    FloatOperation,
    read_rows,
)
from podweave.ir.frontends.onnx_rows.host import computed as computed_on_host
from podweave.ir.frontends.onnx_rows.operators import operator_rows
from podweave.ir.layers import WorkloadError
from tests.test_architecture import ROOT

from .encoder_file import Sizes, Style, encoder_file, encoder_model, random_texts, random_weights
from .operator_table import host_operators, table

ROWS = 7
SIZES = Sizes(12, 3, 20, 2)
FIXED = {"batch": 1, "sequence": ROWS}
STYLES = {
    "operators": Style(),
    "pieces": Style(pieces=True, scaled="query", epsilon=1e-2),
    "both": Style(scaled="both", epsilon=1e-5),
    "rows": Style(embed=False, mask=False, pool=False),
    "mean": Style(mask=False),
    "guarded": Style(guarded=True, scaled="both"),
    "first": Style(first=True, gains=True),
    "split": Style(fused="split", hidden="where"),
    "parts": Style(fused="parts", scaled="query", embed=False, mask=False, pool=False),
    "flat": Style(flat=True, embed=False, pool=False),
    "causal": Style(first=True, fused="split", hidden="causal", pool=False),
}


def computed(network: FloatNetwork, tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Operations in float64, as textbooks have them. ``tensors``: of inputs, and of masks as the file has them."""
    seen = np.ones((network.rows, network.rows), bool)
    for mask in network.masks:
        values = tensors[mask.name].reshape(-1, network.rows)
        seen &= values if mask.kind == "seen" else values == 0
    found = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    for each in network.operations:
        match each:
            case FloatLinear():
                found[each.name] = found[each.source] @ each.weights + each.bias + (found[each.add] if each.add else 0)
            case FloatNorm():
                less = found[each.source] - found[each.source].mean(axis=1, keepdims=True)
                found[each.name] = less / np.sqrt((less**2).mean(axis=1, keepdims=True) + each.epsilon) * each.gain + each.bias
            case FloatGelu():
                x = found[each.source]
                found[each.name] = x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2
            case FloatAttention():
                q, k, v = (np.stack(np.split(found[name], each.heads, axis=1)) for name in each.sources)
                scores = q @ k.transpose(0, 2, 1) * each.scale
                weights = np.where(seen, np.exp(scores - scores.max(axis=2, keepdims=True)), 0)
                found[each.name] = np.concatenate(list(weights / weights.sum(axis=2, keepdims=True) @ v), axis=1)
    return found


def differs(file: Path, network: FloatNetwork, style: Style) -> float:
    """By how much the operations differ from onnxruntime, on what it has in front of them."""
    model = onnx.load(file)
    masks = [mask.name for mask in network.masks]
    names = [*network.inputs, *masks, *network.outputs]
    there = {each.name for each in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = random_texts(SIZES, 1, ROWS, 5, style)
    right = dict(zip(names, session.run(names, given), strict=True))
    tensors = {name: right[name][0] for name in network.inputs} | {name: right[name] for name in masks}
    found = computed(network, tensors)
    return max(float(np.abs(found[name] - right[name][0]).max()) for name in network.outputs)


@pytest.mark.parametrize("way", STYLES)
def test_operations_are_those_of_the_file(tmp_path: Path, way: str) -> None:
    style = STYLES[way]
    file = encoder_file(tmp_path, SIZES, 3, style)
    network = read_rows(file, FIXED)
    kinds = [type(each) for each in network.operations]
    linear = FloatLinear
    layer = [linear, linear, linear, FloatAttention, linear, FloatNorm, linear, FloatGelu, linear, FloatNorm]
    before = [FloatNorm, *layer[:5], FloatNorm, *layer[6:9]]
    assert kinds == ([*before, *before, FloatNorm] if style.first else [FloatNorm, *layer, *layer])
    assert (network.rows, len(network.inputs), len(network.outputs)) == (ROWS, 1, 1)
    assert len(network.masks) == style.mask + (style.hidden == "causal")
    pooled = {"Mul", "ReduceSum", "Div"} if style.mask else {"ReduceMean"}
    assert {each.split()[0] for each in network.on_host} == ({*pooled, "Identity"} if style.pool else set())
    assert differs(file, network, style) < 2e-5


def test_products_with_dynamic_scales(tmp_path: Path) -> None:
    """As onnxruntime quantises files dynamically: weights are what its integers stand for."""
    style = STYLES["operators"]
    file = encoder_file(tmp_path, SIZES, 3, style)
    plain, dynamic = read_rows(file, FIXED), tmp_path / "dynamic.onnx"
    quantize_dynamic(file, dynamic, weight_type=QuantType.QUInt8, per_channel=True)
    assert sum(node.op_type == "MatMulInteger" for node in onnx.load(dynamic).graph.node) == 12
    network = read_rows(dynamic, FIXED)
    pairs = list(zip(network.operations, plain.operations, strict=True))
    for found, right in pairs:
        assert (type(found), found.name, found.sources) == (type(right), right.name, right.sources)
        if isinstance(found, FloatLinear) and isinstance(right, FloatLinear):
            np.testing.assert_array_equal(found.bias, right.bias)
            steps = np.ptp(right.weights, axis=0) / 255
            assert 0 < np.abs((found.weights - right.weights) / steps).max() < 0.51


def first(network: FloatNetwork, kind: type) -> FloatOperation:
    return next(each for each in network.operations if isinstance(each, kind))


def planted(network: FloatNetwork, old: FloatOperation, **changed: object) -> FloatNetwork:
    return replace(network, operations=tuple(replace(each, **changed) if each is old else each for each in network.operations))  # type: ignore[arg-type]


Fault = Callable[[FloatNetwork], FloatNetwork]
FAULTS: dict[str, Fault] = {
    "scale": lambda n: planted(n, first(n, FloatAttention), scale=first(n, FloatAttention).scale * 1.1),  # type: ignore[union-attr]
    "bias": lambda n: planted(n, n.operations[1], bias=n.operations[1].bias * 0.9),  # type: ignore[union-attr]
    "residual": lambda n: planted(n, n.operations[5], add=None),
    "keys": lambda n: planted(n, n.operations[4], key=n.operations[4].query),  # type: ignore[union-attr]
    "epsilon": lambda n: planted(n, n.operations[0], epsilon=0.0),
    "mask": lambda n: replace(n, masks=()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_read_wrong_is_seen(tmp_path: Path, fault: str) -> None:
    style = STYLES["pieces"]
    file = encoder_file(tmp_path, SIZES, 3, style)
    assert differs(file, FAULTS[fault](read_rows(file, FIXED)), style) > 1e-3


def changed_file(folder: Path, change: Callable[[onnx.GraphProto], None], style: Style | None = None) -> Path:
    model = encoder_model(SIZES, random_weights(SIZES, 0), style)
    change(model.graph)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def operator(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.op_type == name)


def no_gelu(graph: onnx.GraphProto) -> None:
    """In place of the error function of the first GELU, which is none then."""
    operator(graph, "Erf").op_type = "Tanh"


def other_axis(graph: onnx.GraphProto) -> None:
    operator(graph, "Softmax").attribute[0].i = 1


def mixed_heads(graph: onnx.GraphProto) -> None:
    """Heads without a transposition: rows would be torn apart."""
    for node in graph.node:
        if node.op_type == "Transpose" and list(node.attribute[0].ints) == [0, 2, 1, 3]:
            del node.attribute[0].ints[:]
            node.attribute[0].ints.extend([0, 1, 2, 3])


def other_mask(graph: onnx.GraphProto) -> None:
    """In the second layer alone."""
    *_, softmax = (node for node in graph.node if node.op_type == "Softmax")
    added = next(node for node in graph.node if node.output[0] == softmax.input[0])
    mask = np.zeros((1, 1, 1, ROWS), np.float32)
    graph.initializer.append(numpy_helper.from_array(mask, "other_mask"))
    added.input[1] = "other_mask"


def mask_by_head(graph: onnx.GraphProto) -> None:
    """As of positions relative to each other."""
    softmax = operator(graph, "Softmax")
    added = next(node for node in graph.node if node.output[0] == softmax.input[0])
    graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, ROWS, ROWS), np.float32), "by_head"))
    added.input[1] = "by_head"


REFUSED = {
    "function": (no_gelu, "Tanh /model/Erf_", "there is no such operation on rows"),
    "axis": (other_axis, "Softmax", "it must be over the last axis"),
    "heads": (mixed_heads, "MatMul", "queries lie as rows, heads, size"),
    "mask": (other_mask, "MatMul", "its masks are others than those of the attention before"),
    "by head": (mask_by_head, "Add", "the mask by_head must be (1, 1, 1, 7), or for each row, got (1, 3, 7, 7)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_taken_is_told(tmp_path: Path, case: str) -> None:
    change, node, why = REFUSED[case]
    with pytest.raises(WorkloadError) as told:
        read_rows(changed_file(tmp_path, change), FIXED)
    sentence = str(told.value)
    assert sentence.startswith("changed: the transformer ends in front of") or sentence.startswith("changed has no transformer")
    assert node in sentence
    assert why in sentence


def test_texts_are_one_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"must be \(1, rows, channels\), got \(2, 7, 12\)"):
        read_rows(encoder_file(tmp_path, SIZES), {"batch": 2, "sequence": ROWS})


@pytest.mark.parametrize(
    ("operator", "arrays", "count"),
    [
        ("ConstantOfShape", [np.array([1 << 30, 1 << 30])], 1 << 60),
        ("Expand", [np.zeros(1, np.float32), np.array([1 << 30, 1 << 30])], 1 << 60),
        ("Tile", [np.zeros(8, np.float32), np.array([1 << 40])], 1 << 43),
        ("Range", [np.array(0), np.array(1 << 50), np.array(1)], 1 << 50),
        ("Add", [np.zeros((1 << 14, 1), np.int8), np.zeros((1, 1 << 14), np.int8)], 1 << 28),
        ("Where", [np.zeros((1 << 14, 1), bool), np.zeros((1, 1 << 14), np.int8), np.zeros(1, np.int8)], 1 << 28),
        ("Gather", [np.zeros((1, 1 << 14), np.int8), np.zeros(1 << 14, np.int64)], 1 << 28),
        ("Resize", [np.zeros((1, 1, 2, 2), np.float32), np.zeros(0), np.array([1, 1, 1e6, 1e6])], 4 * 10**12),
    ],
)
def test_memory_is_not_filled_by_a_file(operator: str, arrays: list[NDArray], count: int) -> None:
    node = Node("many", operator, tuple("abc"[: len(arrays)]), ("many",), {})
    with pytest.raises(WorkloadError, match=f"{operator} many: it would give {count:,} numbers, more than 67,108,864"):
        computed_on_host(node, arrays, 17)


def test_the_tables_of_the_docs() -> None:
    """`python -m tests.ir.frontends.onnx_rows.operator_table` prints them."""
    page = (ROOT / "docs/transformers.md").read_text(encoding="utf-8")
    assert table() in page
    assert host_operators() in page
    assert all(what for _, what in operator_rows())
