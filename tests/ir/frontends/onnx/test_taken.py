"""ir.frontends.onnx: each thing that is taken, in a small file, layer by layer beside onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import read_network
from podweave.ir.layers import WorkloadError
from podweave.runs.model_files import random_inputs
from podweave.runs.oracle import compare_layers, file_tensors
from tests.podweave.runs.file_cases import Found

from .small_file import small

_CONV = "w @ i3 c0 = Conv(a, w) c := c0"
_HEADS = """h := r wn @ e8 p = MatMul(h, wn) hp := p h4 = Reshape(hp, n_1_5_2_4) q = Transpose<perm = [0, 2, 1, 3]>(h4)
    k = Transpose<perm = [0, 2, 3, 1]>(h4)"""
_OUT = "o = MatMul(t, v) o1 = Transpose<perm = [0, 2, 1, 3]>(o) o2 = Reshape(o1, n_1_5_8) y := o2"

TAKEN: dict[str, str] = {
    "no zero point": "a0 = QuantizeLinear(x, scale) a = DequantizeLinear(a0, scale) w @ i3 b = Conv(a, w) y := b",
    "constants that are quantised": (
        "a := x w0 = QuantizeLinear(real, fine, zero8) w = DequantizeLinear(w0, fine, zero8) b = Conv(a, w) "
        "y := b"
    ),
    "constants that are quantised to uint8": (
        "a := x w0 = QuantizeLinear(real, fine, half8) w = DequantizeLinear(w0, fine, half8) b = Conv(a, w) y := b"
    ),
    "a real bias": "a := x w @ i b = Conv(a, w, biases) y := b",
    "a border of another number": "a := x b = Pad(a, n_0_0_1_1_0_0_1_1, coarse) w @ k3 d = Conv<pads = [0, 1, 0, 1]>(b, w) y := d",
    "a border of another number alone": "a := x b = Pad(a, n_0_0_1_1_0_0_1_1, coarse) w @ k3 d = Conv(b, w) y := d",
    "no border": f"a := x {_CONV} y = Pad(c, n_0_0_0_0_0_0_0_0)",
    "enlarged symmetrically": f'a := x {_CONV} y = Resize<coordinate_transformation_mode = "half_pixel_symmetric">(c, , double)',
    "interleaved, enlarged": "a := x w @ i33 b = ConvTranspose<strides = [2, 2]>(a, w) t := b y = Resize(t, , double)",
    "a function that is moved": "a := x b = Sigmoid(a) d = Transpose<perm = [0, 2, 3, 1]>(b) y := d",
    "a factor that is moved": "a := x b = Mul(a, third) d = Reshape(b, n_1_48) y := d",
    "a function divided": "a := x b = Sigmoid(a) d = Div(b, third) y := d",
    "constants that are moved": (
        "a := x r0 = Transpose<perm = [1, 0]>(turned) r1 = Reshape(r0, n_2_3_1_1) w0 = QuantizeLinear(r1, fine, zero8) "
        "w = DequantizeLinear(w0, fine, zero8) b = Conv(a, w) y := b"
    ),
    "weights that are turned": (
        "a := x w0 @ i w1 = Reshape(w0, n_3_2_1_1) w = Transpose<perm = [1, 0, 2, 3]>(w1) b = Conv(a, w) y "
        ":= b"
    ),
    "weights of channels that are turned": (
        "a := x w0 = DequantizeLinear<axis = 1>(i3, by_channel) w = Transpose<perm = [1, 0, 2, 3]>(w0) b = Conv(a, w) y := b"
    ),
    "sizes of a constant": f"a := x {_CONV} s = Shape(like) y = Reshape(c, s)",
    "sizes that are computed": f"a := x {_CONV} s = Shape(a) d = Div(s, n_1_m2_1_1) y = Reshape(c, d)",
    "zeros that are no sizes": f"a := x {_CONV} y = Reshape<allowzero = 1>(c, n_1_3_16)",
    "gated": "a := x b = Sigmoid(a) d = Mul(a, b) y := d",
    "gated, the function first": "a := x b = Sigmoid(a) d = Mul(b, a) y := d",
    "a row of an interleaved image": (
        f"a := x {_CONV} d0 = MaxPool<kernel_shape = [4, 1]>(c) d := d0 w2 @ i33 e = ConvTranspose<strides = "
        "[2, 2], pads = [1, 0, 1, 1]>(d, w2) f := e "
        "g = Resize(c, , double) j = Mul(f, g) y := j"
    ),
    "an image times a part of itself": (
        f"a := x {_CONV} d = Resize(c, , double) e = Slice(d, n_0_0, n_4_4, n_2_3) f = Mul(c, e) y := "
        "f"
    ),
    "tensors in another order": "e := x8 d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e) c := d g = Resize(c, , double) "
    "j0 = Concat<axis = 1>(g, e) j := j0 l0 = Concat<axis = 1>(e, g) l := l0 f = Mul(j, l) y := f",
    "a mean without its axes": f"a := x {_CONV} d = ReduceMean<axes = [2, 3], keepdims = 0>(c) y := d",
    "the shape of an input": f"s = Shape(x) b = Relu(x) a := b {_CONV} y = Reshape(c, s)",
    "only the shape of a norm": (
        "h := r wn @ e8 p = MatMul(h, wn) hp := p o0 = LayerNormalization(hp, eight1) o := o0 s = Shape(o) y = Reshape(hp, s)"
    ),
    "int8": f"a = DequantizeLinear(b8, scale, zero) {_CONV} y = Identity(c)",
    "uint8": f"a = DequantizeLinear(u8, scale, half8) {_CONV} y = Identity(c)",
    "two outputs of a tensor": f"a := x {_CONV} y = Identity(c) z = Identity(c)",
    "one part": f"a := x {_CONV} y = Split<axis = 1>(c, n_3)",
    "a shuffle that ends": (
        "a := x12 b = MaxPool<kernel_shape = [1, 1]>(a) d := b e = Reshape(d, n_1_12_16) y = Transpose<perm "
        "= [0, 2, 1]>(e)"
    ),
    "a sum of nothing": (
        f"{_HEADS} v = Transpose<perm = [0, 2, 1, 3]>(h4) s0 = MatMul(q, k) s = Add(s0, none) t = Softmax(s) "
        f"{_OUT}"
    ),
    "one of one": (
        "h := r wn @ e8 p = MatMul(h, wn) hp := p h5 = Reshape(hp, n_1_5_1_2_4) h4 = Gather<axis = 2>(h5, first) "
        "q = Transpose<perm = [0, 2, 1, 3]>(h4) k = Transpose<perm = [0, 2, 3, 1]>(h4) v = Transpose<perm = [0, 2, 1, 3]>(h4) "
        f"s = MatMul(q, k) t = Softmax(s) {_OUT}"
    ),
    "one of two, whose axis stays": (
        "h := r wn @ e8 p = MatMul(h, wn) hp := p h4 = Reshape(hp, n_1_5_2_4) one = Gather<axis = 2>(h4, "
        "n_1) g = Squeeze(one, n_2) "
        "k = Transpose<perm = [0, 2, 1]>(g) s = MatMul(g, k) t = Softmax(s) o = MatMul(t, g) y := o"
    ),
}  # fmt: skip
MORE = {
    "zero8": np.int8(0),
    "half8": np.uint8(128),
    "i33": np.random.default_rng(4).integers(-9, 10, (3, 3, 3, 3)).astype(np.int8),
    "turned": np.random.default_rng(5).normal(0, 0.1, (3, 2)).astype(np.float32),
    "like": np.ones((1, 48), np.float32),
    "e8": np.random.default_rng(6).integers(-9, 10, (8, 8)).astype(np.int8),
    "eight1": np.ones(8, np.float32),
    "first": np.int64(0),
}


@pytest.mark.parametrize("case", TAKEN)
def test_layers_are_those_of_onnxruntime(tmp_path: Path, case: str) -> None:
    file = small(tmp_path, TAKEN[case], **MORE)
    network, found = read_network(file), Found()
    right, outputs, _ = file_tensors(network, file, random_inputs(network, 3))
    found.hold(network, compare_layers(network, network.constants, right, "half_even"))
    assert found.values.total() > 0
    alone = evaluate(network.graph, network.constants, network.with_caches(random_inputs(network, 3)), "half_even")
    for name, tensor in network.outputs.items():
        # What leaves lies as the file has it; what is only seen otherwise is no tensor of it, and the whole network gives it.
        assert len(np.unique(outputs[name])) > 2
        real = np.issubdtype(outputs[name].dtype, np.floating)
        values = right.get(name, alone[name])
        wrong = np.abs(outputs[name] - (tensor.lying_in_file(tensor.real(values)) if real else tensor.to_file(values)))
        assert not wrong.any() or (name not in right and wrong.max() <= tensor.scale and (wrong > 0).mean() < 0.02)


def test_a_mean_of_16_bits_in_8(tmp_path: Path) -> None:
    """Sums of 8 bits are as exact."""
    nodes = (
        f"a := x {_CONV} mean = GlobalAveragePool(c) q = QuantizeLinear(mean, tiny, zero16) "
        "again = DequantizeLinear(q, tiny, zero16) y := again"
    )
    network = read_network(file := small(tmp_path, nodes, 21, tiny=np.float32(1e-3), zero16=np.int16(0), **MORE))
    _, outputs, _ = file_tensors(network, file, inputs := random_inputs(network, 3))
    found = evaluate(network.graph, network.constants, inputs, "half_even")
    ((name, tensor),) = network.outputs.items()
    assert len(np.unique(outputs[name])) == 3
    # Between a mean and 8 bits is a rounding less, to a thousandth.
    wrong = np.abs(tensor.lying_in_file(tensor.real(found[name])) - outputs[name]) / tensor.scale
    assert wrong.max() <= 1


@pytest.mark.parametrize("operator", ["Upsample<scales = [1.0, 1.0, 2.0, 3.0]>(c)", "Upsample(c, larger)", "Resize(c, larger)"])
def test_operators_of_opset_10(tmp_path: Path, operator: str) -> None:
    """Of which onnxruntime takes some no longer: two rows and three columns of each."""
    file = small(tmp_path, f"a := x {_CONV} y = {operator}", 10, larger=np.float32([1, 1, 2, 3]))
    (tensor,) = read_network(file).outputs.values()
    assert tensor.view.sizes == (1, 3, 8, 12)


def test_blocks_in_the_order_of_depths(tmp_path: Path) -> None:
    """SpaceToDepth as onnxruntime's own DepthToSpace has it in that mode: the one undoes the other."""
    nodes = 'a := x b = SpaceToDepth<blocksize = 2, mode = "CRD">(a) y = DepthToSpace<blocksize = 2, mode = "CRD">(b)'
    network = read_network(small(tmp_path, nodes))
    x = np.random.default_rng(1).integers(-128, 128, (1, 3, 4, 4), dtype=np.int8)
    found = evaluate(network.graph, network.constants, {"x": network.tensors["x"].to_graph(x)}, "half_even")
    ((name, tensor),) = network.outputs.items()
    np.testing.assert_array_equal(tensor.to_file(found[name]), x)


def test_nothing_is_left_for_the_chip(tmp_path: Path) -> None:
    """What the host reads is a size."""
    file = small(tmp_path, f"a := x {_CONV} s = Shape(c) y = NonZero(s)")
    with pytest.raises(
        WorkloadError, match=r"^small: 1 operator is not taken:\n  output small: nothing of it is computed on the chip$"
    ):
        read_network(file, host_ops=True)
