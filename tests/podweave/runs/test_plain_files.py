"""podweave.runs: files in floating point as quantisers take them, which give what they gave; arrays beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import read_network
from podweave.ir.frontends.onnx.files import read_file
from podweave.ir.layers import WorkloadError
from podweave.runs.agreement import agreement
from podweave.runs.float_blocks import attention_nodes, plain_softmaxes
from podweave.runs.float_files import FileRecipe, batches_of, quantise_file
from podweave.runs.float_products import plain_products
from podweave.runs.model_files import file_inputs, random_inputs
from podweave.runs.oracle import compare_file
from tests.ir.frontends.onnx.small_file import small
from tests.ir.frontends.text_file import text_model


def given_by(model: Any, **inputs: NDArray) -> list[NDArray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[NDArray] = session.run(None, inputs)
    return found


@pytest.mark.parametrize("others", ["", "z = Identity(f)"])
def test_softmaxes_that_were_flattened(others: str) -> None:
    """Over the last dimension alone, as converters of older files write it: one node again; what others read stays."""
    nodes = f"a = Relu(x) sizes = Shape(a) f = Flatten<axis = 2>(a) {others} s = Softmax<axis = -1>(f) y = Reshape(s, sizes)"
    model = text_model(f"(float[2, 3, 5] x) => (float[2, 3, 5] y{', z' if others else ''}) {{ {nodes} }}", {})
    x = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    before = given_by(model, x=x)
    assert plain_softmaxes(model) == ["y"]
    kept = ["Flatten", "Identity"] if others else []
    assert [node.op_type for node in model.graph.node] == ["Relu", "Shape", *kept, "Softmax"]
    for mine, wanted in zip(given_by(model, x=x), before, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6)


def test_a_softmax_over_more_stays_as_it_is() -> None:
    nodes = "(float[2, 3, 5] x) => (float[2, 3, 5] y) { a = Relu(x) y = Softmax<axis = 1>(a) }"
    made = onnx.version_converter.convert_version(text_model(nodes, {}, 11), 13)
    before = [node.op_type for node in made.graph.node]
    assert plain_softmaxes(made) == []
    assert [node.op_type for node in made.graph.node] == before


PRODUCTS: dict[str, tuple[str, bool]] = {
    # Nodes, and whether factors become part of what is multiplied.
    "both": ("y = Gemm<alpha = 2.0, beta = 0.5>(x, w, b)", True),
    "a number": ("y = Gemm<alpha = 2.0, beta = 0.5, transB = 1>(x, v, n)", True),
    "no bias": ("y = Gemm<alpha = 2.0>(x, w)", True),
    "weights of two": ("z = Gemm<alpha = 2.0>(x, w) y = Gemm<alpha = 3.0>(z, w)", True),
    "names that are taken": ("w_y = Relu(x) y = Gemm<alpha = 2.0>(w_y, w)", True),
    "a bias that is computed": ("z = Relu(x) y = Gemm<alpha = 2.0, beta = 0.5>(x, w, z)", False),
    "weights that are computed": ("z = Transpose(x) y = Gemm<alpha = 2.0>(x, z)", False),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_factors_of_products(case: str) -> None:
    nodes, gone = PRODUCTS[case]
    rng = np.random.default_rng(2)
    held = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("w", (4, 4)), ("v", (3, 4)), ("b", 4), ("n", 1))}
    model = text_model(f"(float[4, 4] x) => (y) {{ {nodes} }}", {name: held[name] for name in held if f" {name}" in nodes})
    x = rng.normal(size=(4, 4)).astype(np.float32)
    (before,) = given_by(model, x=x)
    plain_products(model)
    factors = {each.name for node in model.graph.node if node.op_type == "Gemm" for each in node.attribute} & {"alpha", "beta"}
    assert bool(factors) != gone
    np.testing.assert_allclose(given_by(model, x=x)[0], before, rtol=2e-6, atol=1e-6)
    assert {each.name for each in model.graph.initializer} <= {name for node in model.graph.node for name in node.input}


def test_arrays_are_of_as_many_batches(tmp_path: Path) -> None:
    """In floating point and in integers."""
    file = small(tmp_path, "a := x b = DequantizeLinear(b8, fine) c = Add(a, b) y := c")
    arrays = {"x": np.zeros((2, 3, 4, 4), np.float32), "b8": np.zeros((3, 3, 4, 4), np.int8)}
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(WorkloadError, match=r"arrays\.npz: its arrays are of 2 and 3 batches$"):
        list(batches_of(read_file(file), tmp_path / "arrays.npz"))
    with pytest.raises(WorkloadError, match=r"arrays\.npz: x is for 2 passes, others for 3$"):
        file_inputs(read_network(file), tmp_path / "arrays.npz")


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_inputs_that_are_integers(tmp_path: Path, kind: type) -> None:
    """They are taken as they are, and as nothing else."""
    name = {np.int8: "b8", np.uint8: "u8"}[kind]
    network = read_network(small(tmp_path, f"a = DequantizeLinear({name}, scale) w @ i3 b = Conv(a, w) y := b"))
    values = np.arange(48).reshape(1, 3, 4, 4).astype(kind)
    np.savez(tmp_path / "arrays.npz", **{name: values})
    ((inputs),) = file_inputs(network, tmp_path / "arrays.npz")
    np.testing.assert_array_equal(inputs[name], (values.astype(int) - (128 if kind is np.uint8 else 0)).transpose(0, 2, 3, 1))
    np.savez(tmp_path / "arrays.npz", **{name: values.astype(np.float32)})
    with pytest.raises(WorkloadError, match=rf"^{name} must be {np.dtype(kind)}, got float32$"):
        file_inputs(network, tmp_path / "arrays.npz")


def test_outputs_without_classes(tmp_path: Path) -> None:
    file = small(tmp_path, "a := x w @ ones b = Conv(a, w) y := b", ones=np.ones((1, 3, 1, 1), np.int8))
    network = read_network(file)
    np.savez(tmp_path / "arrays.npz", x=np.zeros((1, 3, 4, 4), np.float32))
    assert evaluate(network.graph, network.constants, file_inputs(network, tmp_path / "arrays.npz")[0], "half_even")
    with pytest.raises(WorkloadError, match=r"^small has no output with several classes, of which the largest could be told$"):
        agreement(network, file, network.constants, "half_even", tmp_path / "arrays.npz", None, None)


def test_a_file_in_floating_point_of_other_sizes(tmp_path: Path) -> None:
    file = small(tmp_path, "a := flat w @ m34 b = MatMul(a, w) y := b", m34=np.ones((3, 4), np.int8))
    network = read_network(file)
    plain = text_model("(float[1, 3] flat) => (y) { y = MatMul(flat, w) }", {"w": np.ones((3, 5), np.float32)})
    onnx.save(plain, tmp_path / "plain.onnx")
    np.savez(tmp_path / "arrays.npz", flat=np.zeros((2, 3), np.float32))
    paths = tmp_path / "arrays.npz", tmp_path / "plain.onnx", None
    with pytest.raises(WorkloadError, match=r"^y of plain\.onnx is \[1, 5\] in 2 batches, and of the integers \[1, 4\] in 2$"):
        agreement(network, file, network.constants, "half_even", *paths)


@pytest.mark.parametrize("last", ["y = QuantizeLinear(b, scale, zero)", "y := b"])
def test_outputs_beside_onnxruntime(tmp_path: Path, last: str) -> None:
    """Integers or real numbers, of an image that is no choice of a class: differences are in steps."""
    one = np.int8([-7, 8, 5]).reshape(1, 3, 1, 1)
    network = read_network(file := small(tmp_path, f"a := x w @ one b = Conv(a, w) {last}", one=one))
    feeds = [random_inputs(network, seed) for seed in (1, 2)]
    (row,) = compare_file(network, file, network.constants, feeds, "half_even")["outputs"]
    assert row == {"output": "y", "values": 2 * 16, "differing": 0, "largest": 0}
    ((name, held),) = network.constants.items()
    moved = {name: replace(held, zero_point=held.zero_point + 1)}
    (row,) = compare_file(network, file, moved, feeds, "half_even")["outputs"]
    assert (row["largest"], row["differing"] > 16) == (1, True)


def written(folder: Path, nodes: str, recipe: FileRecipe, **options: bool) -> Path:
    """A file in floating point, as it is quantised."""
    rng = np.random.default_rng(3)
    held = {"k": rng.normal(size=(3, 3, 3, 3)).astype(np.float32), "w": rng.normal(size=(3, 3, 1, 1)).astype(np.float32)}
    plain = text_model(f"(float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{ {nodes} }}", held, 13)
    onnx.save(plain, folder / "plain.onnx")
    np.savez(folder / "images.npz", x=rng.normal(size=(4, 3, 6, 6)).astype(np.float32))
    files = str(folder / "plain.onnx"), folder / "made.onnx", folder / "images.npz"
    quantise_file(*files, None, recipe, accuracy=False, progress=lambda _: None, **options)
    return folder / "made.onnx"


def test_a_sum_of_two_is_an_addition(tmp_path: Path) -> None:
    made = written(tmp_path, "a = Conv<pads = [1, 1, 1, 1]>(x, k) b = Conv(x, w) y = Sum(a, b)", FileRecipe())
    assert sorted(read_network(made).operators.values()) == ["Add", "Conv", "Conv"]


def test_the_host_is_not_there_for_16_bits(tmp_path: Path) -> None:
    """What is not taken for its 16 bits is told, also if the host may take the end of a file."""
    nodes = "[first] a = Conv(x, w) [last] y = Conv<pads = [1, 1, 1, 1]>(a, k)"
    with pytest.raises(WorkloadError, match=r"Conv last: it reads 16 bits, and is no product of single positions of one image"):
        written(tmp_path, nodes, FileRecipe(int16_inputs=("last",)), host_ops=True)


@pytest.mark.parametrize(
    ("more", "outputs", "found"),
    [
        # Heads are put together again, or leave as they are.
        ("o = Transpose(h) y = Relu(o)", "y", ["q", "k", "scaled", "s", "p", "h", "o"]),
        ("", "h", ["q", "k", "scaled", "s", "p", "h"]),
        # What others read, too, is no attention.
        ("z = Relu(p)", "h, z", []),
    ],
)
def test_nodes_of_attention(more: str, outputs: str, found: list[str]) -> None:
    heads = "q = Reshape(a, sizes) k = Transpose(b) s = MatMul(q, k) scaled = Mul(s, half) p = Softmax(scaled) h = MatMul(p, c)"
    front = "a = Relu(x) b = Sigmoid(x) c = Tanh(x)"
    model = text_model(
        f"(float[4, 4] x) => ({outputs}) {{ {front} {heads} {more} }}", {"half": np.float32(0.5), "sizes": np.array([4, 4])}, 13
    )
    assert sorted(node.output[0] for node in attention_nodes(model)) == sorted(found)
