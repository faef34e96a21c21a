"""golden.layers.conv against onnxruntime's ConvInteger and published vectors."""

from functools import cache
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.conv import conv2d, output_size
from podweave.golden.layers.gemm import MAX_REDUCTION, gemm

CONV_INTEGER = """<ir_version: 8, opset_import: ["": 13]>
conv (uint8[N,C,H,W] x, uint8[O,I,KH,KW] w, uint8 x_zero, uint8 w_zero) => (int32[N,O,OH,OW] y)
{ y = ConvInteger<%s>(x, w, x_zero, w_zero) }
"""


@cache
def session(attributes: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(CONV_INTEGER % attributes).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def offset(array: NDArray[np.int8]) -> NDArray[np.uint8]:
    # Both operands go to onnxruntime as uint8 with zero point 128: on x86 without VNNI its sums of two
    # products of uint8 and int8 saturate at 16 bits, those of uint8 and uint8 do not. It pads with the
    # zero point.
    return (array.astype(np.int16) + 128).astype(np.uint8)


def oracle(x: NDArray[np.int8], w: NDArray[np.int8], **layer: Any) -> NDArray[np.int32]:
    stride, dilation, padding = (layer.get(name, (1, 1)) for name in ("stride", "dilation", "padding"))
    (top, bottom), (left, right) = padding if "padding" in layer else ((0, 0), (0, 0))
    attributes = (
        f"strides={list(stride)}, dilations={list(dilation)}, pads=[{top}, {left}, {bottom}, {right}], "
        f"group={layer.get('groups', 1)}"
    )
    zero = np.array(128, dtype=np.uint8)
    inputs = {
        "x": offset(x.transpose(0, 3, 1, 2)),
        "w": offset(w.transpose(3, 2, 0, 1)),
        "x_zero": zero,
        "w_zero": zero,
    }
    (y,) = session(attributes).run(None, inputs)
    return np.asarray(y).transpose(0, 2, 3, 1)


def random_int8(*shape: int, seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


@st.composite
def layers(draw: st.DrawFn) -> tuple[NDArray[np.int8], NDArray[np.int8], dict[str, Any]]:
    def both(least: int, most: int) -> tuple[int, int]:
        return draw(st.integers(least, most)), draw(st.integers(least, most))

    kernel, stride, dilation = both(1, 4), both(1, 3), both(1, 3)
    padding = both(0, 3), both(0, 3)
    groups, group_channels, group_outputs = (draw(st.integers(1, 4)) for _ in range(3))
    # The smallest legal input or a few elements more.
    size = [max(1, dilation[axis] * (kernel[axis] - 1) + 1 - sum(padding[axis])) + draw(st.integers(0, 6)) for axis in (0, 1)]
    seed = draw(st.integers(0, 2**32 - 1))
    x = random_int8(draw(st.integers(1, 3)), *size, groups * group_channels, seed=seed)
    w = random_int8(*kernel, group_channels, groups * group_outputs, seed=seed + 1)
    return x, w, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@settings(derandomize=True, deadline=None, max_examples=200)
@given(layers())
def test_equals_onnxruntime(case: tuple[NDArray[np.int8], NDArray[np.int8], dict[str, Any]]) -> None:
    x, w, layer = case
    assert_array_equal(conv2d(x, w, **layer), oracle(x, w, **layer), strict=True)


SAME = ((1, 1), (1, 1))
NAMED_LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "7x7 stride 2 stem": ((1, 56, 56, 3), (7, 7, 3, 16), {"stride": (2, 2), "padding": ((3, 3), (3, 3))}),
    "3x3 same": ((1, 14, 14, 64), (3, 3, 64, 32), {"padding": SAME}),
    "1x1": ((1, 14, 14, 64), (1, 1, 64, 128), {}),
    "1x1 stride 2": ((1, 13, 14, 32), (1, 1, 32, 16), {"stride": (2, 2)}),
    "1x7": ((1, 9, 17, 8), (1, 7, 8, 8), {"padding": ((0, 0), (3, 3))}),
    "depthwise 3x3": ((1, 28, 28, 32), (3, 3, 1, 32), {"padding": SAME, "groups": 32}),
    "depthwise stride 2, TensorFlow's same": (
        (1, 28, 28, 16),
        (3, 3, 1, 16),
        {"stride": (2, 2), "padding": ((0, 1), (0, 1)), "groups": 16},
    ),
    "depthwise, two outputs a channel": ((1, 9, 9, 8), (5, 5, 1, 16), {"groups": 8}),
    "four groups": ((1, 14, 14, 32), (3, 3, 8, 64), {"padding": SAME, "groups": 4}),
    "dilated 3x3": ((1, 20, 20, 16), (3, 3, 16, 16), {"dilation": (6, 4), "padding": ((6, 6), (4, 4))}),
    "batch": ((5, 10, 7, 12), (3, 3, 12, 10), {"stride": (2, 1), "padding": ((1, 0), (2, 1))}),
    "kernel as large as the image": ((2, 6, 7, 20), (6, 7, 20, 10), {}),
    "windows wholly in the padding": ((1, 2, 2, 3), (2, 2, 3, 4), {"padding": ((4, 3), (0, 5))}),
    "rows that the stride drops": ((1, 8, 8, 3), (3, 3, 3, 4), {"stride": (3, 4)}),
    "longest reduction": ((1, 4, 4, 4096), (4, 4, 4096, 2), {}),
}


@pytest.mark.parametrize("name", NAMED_LAYERS)
def test_named_layer_equals_onnxruntime(name: str) -> None:
    x_shape, w_shape, layer = NAMED_LAYERS[name]
    x, w = random_int8(*x_shape), random_int8(*w_shape, seed=1)
    assert_array_equal(conv2d(x, w, **layer), oracle(x, w, **layer), strict=True)


def test_extreme_operands_reach_the_largest_sum() -> None:
    x, w = np.full((1, 4, 4, 4096), -128, dtype=np.int8), np.full((4, 4, 4096, 1), -128, dtype=np.int8)
    assert conv2d(x, w).item() == 1 << 30


def test_published_vectors() -> None:
    # The two examples of ConvInteger in the ONNX operator documentation, the zero point 1 subtracted from x.
    x = np.arange(1, 10, dtype=np.int8).reshape(1, 3, 3, 1)
    w = np.ones((2, 2, 1, 1), dtype=np.int8)
    assert conv2d(x, w)[0, :, :, 0].tolist() == [[12, 16], [24, 28]]
    padded = [[1, 3, 5, 3], [5, 12, 16, 9], [11, 24, 28, 15], [7, 15, 17, 9]]
    assert conv2d(x, w, padding=1)[0, :, :, 0].tolist() == padded


def test_1x1_is_gemm() -> None:
    x, w = random_int8(2, 5, 6, 9), random_int8(1, 1, 9, 4, seed=1)
    product = gemm(x.reshape(-1, 9), w.reshape(9, 4))
    assert_array_equal(conv2d(x, w), product.reshape(2, 5, 6, 4), strict=True)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"stride": 2}, {"stride": (2, 2)}),
        ({"dilation": 2}, {"dilation": (2, 2)}),
        ({"padding": 2}, {"padding": ((2, 2), (2, 2))}),
        ({"padding": (2, 1)}, {"padding": ((2, 2), (1, 1))}),
        ({"padding": (2, (0, 1))}, {"padding": ((2, 2), (0, 1))}),
        ({"stride": np.int64(2), "groups": np.int64(1)}, {"stride": (2, 2)}),
    ],
)
def test_short_forms(short: dict[str, Any], long: dict[str, Any]) -> None:
    x, w = random_int8(1, 9, 8, 2), random_int8(3, 2, 2, 3, seed=1)
    assert_array_equal(conv2d(x, w, **short), conv2d(x, w, **long), strict=True)


@settings(derandomize=True, deadline=None)
@given(*[st.integers(1, 12)] * 2, st.integers(1, 5), st.integers(0, 4), st.integers(0, 4), st.integers(1, 4))
def test_output_size_counts_the_windows(size: int, kernel: int, stride: int, a: int, b: int, dilation: int) -> None:
    starts = range(0, a + size + b, stride)
    windows = [i for i in starts if i + dilation * (kernel - 1) < a + size + b]
    if windows:
        assert output_size(size, kernel, stride, a, b, dilation) == len(windows)
    else:
        with pytest.raises(ValueError, match="kernel's extent must be at most the padded input"):
            output_size(size, kernel, stride, a, b, dilation)


@pytest.mark.parametrize("corrupt", ["result", "weight", "stride", "padding side"])
def test_comparison_sees_an_error(corrupt: str) -> None:
    x, w = random_int8(1, 9, 9, 4), random_int8(3, 3, 4, 5, seed=1)
    layer: dict[str, Any] = {"stride": (2, 2), "padding": ((0, 1), (1, 0))}
    expected = oracle(x, w, **layer)
    if corrupt == "weight":
        w[2, 2, 3, 4] ^= 1
    if corrupt == "stride":
        layer["stride"] = (2, 1)
    if corrupt == "padding side":
        layer["padding"] = ((1, 0), (1, 0))
    got = conv2d(x, w, **layer)
    if corrupt == "result":
        got[0, 3, 3, 4] ^= 1
    with pytest.raises(AssertionError, match=r"mismatch|Mismatched"):
        assert_array_equal(got, expected, strict=True)


X = np.zeros((1, 5, 6, 4), dtype=np.int8)
W = np.zeros((3, 3, 4, 6), dtype=np.int8)
LONG = np.zeros((1, 1, 1, MAX_REDUCTION + 1), dtype=np.int8)


@pytest.mark.parametrize(
    ("x", "w", "layer", "error", "sentence"),
    [
        (X.astype(np.float32), W, {}, TypeError, "x must be an int8 array, got float32"),
        (X, W.astype(np.int16), {}, TypeError, "w must be an int8 array, got int16"),
        (X[0], W, {}, ValueError, r"x must have the 4 axes \(N, H, W, C\), got shape \(5, 6, 4\)"),
        (
            X,
            W[0],
            {},
            ValueError,
            r"w must have the 4 axes \(KH, KW, C // groups, OC\), got shape \(3, 4, 6\)",
        ),
        (X[:0], W, {}, ValueError, r"every axis of x .* must be at least 1, got shape \(0, 5, 6, 4\)"),
        (X, W[:, :0], {}, ValueError, r"every axis of w .* must be at least 1, got shape \(3, 0, 4, 6\)"),
        (X, W, {"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        (X, W, {"groups": 1.0}, TypeError, "groups must be an integer or made of integers, got 1.0"),
        (X, W, {"groups": 3}, ValueError, "groups must divide the channels of x, got groups 3 and C 4"),
        (X, W[:, :, :1], {"groups": 4}, ValueError, "groups must divide the output channels, .* 4 and OC 6"),
        (X, W, {"groups": 2}, ValueError, r"w must be C // groups = 2 \(C 4, groups 2\), got 4"),
        (X, W[:, :, :3], {}, ValueError, r"w must be C // groups = 4 \(C 4, groups 1\), got 3"),
        (LONG, LONG.reshape(1, 1, -1, 1), {}, ValueError, "KH .* KW .* must be at most 65536, .* got 65537"),
        (X, W, {"stride": 0}, ValueError, "height: stride must be at least 1, got 0"),
        (X, W, {"stride": (1, -1)}, ValueError, "width: stride must be at least 1, got -1"),
        (X, W, {"stride": 1.5}, TypeError, "stride must be an integer or made of integers, got 1.5"),
        (X, W, {"stride": (1, 1, 1)}, TypeError, r"stride must be one entry or a pair .* got \(1, 1, 1\)"),
        (X, W, {"dilation": (0, 1)}, ValueError, "height: dilation must be at least 1, got 0"),
        (X, W, {"padding": -1}, ValueError, "height: padding before must be at least 0, got -1"),
        (X, W, {"padding": (0, (0, -2))}, ValueError, "width: padding after must be at least 0, got -2"),
        (X, W, {"padding": (1, 1, 1, 1)}, TypeError, "padding must be one entry or a pair of entries, got"),
        (X, W, {"padding": "same"}, TypeError, "padding must be an integer or made of integers, got 'same'"),
        (X, W, {"dilation": 3}, ValueError, r"height: .* got extent 7 .* and padded input 5 \(0 \+ 5 \+ 0\)"),
        (X[:, :, :2], W, {}, ValueError, r"width: .* extent 3 \(kernel 3, dilation 1\) and padded input 2"),
    ],
)
def test_refusals(x: NDArray[np.int8], w: NDArray[np.int8], layer: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        conv2d(x, w, **layer)
