"""golden.layers.pool against onnxruntime's MaxPool and AveragePool, and sums by ConvInteger."""

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.conv import conv2d
from podweave.golden.layers.pool import Kind, pad, reduce_windows

MAX_POOL = "pool ({type}[N,C,H,W] x) => ({type}[N,C,OH,OW] y) {{ y = MaxPool<{attributes}>(x) }}"
AVERAGE_POOL = "pool ({type}[N,C,H,W] x) => ({type}[N,C,OH,OW] y) {{ y = AveragePool<count_include_pad=1, {attributes}>(x) }}"
INT32 = np.iinfo(np.int32)


def oracle(
    operator: str, element: str, x: NDArray, kernel: tuple[int, int], stride: tuple[int, int], padding: Any = ((0, 0), (0, 0))
) -> NDArray:
    (top, bottom), (left, right) = padding
    attributes = f"kernel_shape={list(kernel)}, strides={list(stride)}, pads=[{top}, {left}, {bottom}, {right}]"
    text = '<ir_version: 8, opset_import: ["": 13]> ' + operator.format(type=element, attributes=attributes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(text).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2)})
    return np.asarray(y).transpose(0, 2, 3, 1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int], int]:
    kernel, stride = ((draw(st.integers(1, 4)), draw(st.integers(1, 4))) for _ in range(2))
    size = [kernel[axis] + draw(st.integers(0, 6)) for axis in (0, 1)]
    shape = (draw(st.integers(1, 3)), *size, draw(st.integers(1, 5)))
    return shape, kernel, stride, draw(st.integers(0, 2**32 - 1))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(windows())
def test_max_equals_onnxruntime(case: Any) -> None:
    shape, kernel, stride, seed = case
    acc = np.random.default_rng(seed).integers(INT32.min, INT32.max, shape, dtype=np.int32, endpoint=True)
    # float64 holds every int32; onnxruntime has no MaxPool of int32.
    expected = oracle(MAX_POOL, "double", acc.astype(np.float64), kernel, stride)
    got = reduce_windows(acc, "max", kernel, stride)
    assert got.dtype == np.int32
    assert_array_equal(got, expected)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(windows())
def test_sum_equals_onnxruntime(case: Any) -> None:
    shape, kernel, stride, seed = case
    acc = np.random.default_rng(seed).integers(-(1 << 18), 1 << 18, shape, dtype=np.int32)
    # Sums of at most 16 are below 2**22, exact in float32; the mean errs by less than 2**-24 of itself, so that its
    # multiple rounds to the sum.
    expected = np.rint(oracle(AVERAGE_POOL, "float", acc.astype(np.float32), kernel, stride).astype(np.float64) * np.prod(kernel))
    assert_array_equal(reduce_windows(acc, "sum", kernel, stride), expected.astype(np.int32), strict=True)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(windows())
def test_sum_is_a_depthwise_convolution_with_ones(case: Any) -> None:
    shape, kernel, stride, seed = case
    x = np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)
    expected = conv2d(x, np.ones((*kernel, 1, shape[3]), dtype=np.int8), stride=stride, groups=shape[3])
    assert_array_equal(reduce_windows(x.astype(np.int32), "sum", kernel, stride), expected, strict=True)


PADDED = [
    ((2, 8, 8, 16), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 7, 9, 4), (2, 3), (2, 1), ((0, 1), (1, 0))),
    ((1, 14, 14, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), PADDED)
def test_padded_max_pool_of_int8_equals_onnxruntime(shape: Any, kernel: Any, stride: Any, padding: Any) -> None:
    x = np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8)
    x[..., 0] = -128
    got = reduce_windows(pad(x, padding, -128).astype(np.int32), "max", kernel, stride)
    assert_array_equal(got.astype(np.int8), oracle(MAX_POOL, "int8", x, kernel, stride, padding), strict=True)


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), PADDED)
def test_padded_average_pool_equals_onnxruntime(shape: Any, kernel: Any, stride: Any, padding: Any) -> None:
    x = np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8)
    got = reduce_windows(pad(x, padding, 0).astype(np.int32), "sum", kernel, stride)
    mean = oracle(AVERAGE_POOL, "float", x.astype(np.float32), kernel, stride, padding)
    assert_array_equal(got, np.rint(mean.astype(np.float64) * np.prod(kernel)).astype(np.int32), strict=True)


def test_global_windows_by_hand() -> None:
    acc = np.arange(-6, 6, dtype=np.int32).reshape(1, 2, 3, 2)
    assert reduce_windows(acc, "sum", (2, 3), (2, 3)).ravel().tolist() == [-6, 0]
    assert reduce_windows(acc, "max", (2, 3), (2, 3)).ravel().tolist() == [4, 5]
    assert_array_equal(reduce_windows(acc, "max", (1, 1), (1, 1)), acc, strict=True)


def test_sums_up_to_the_ends_of_int32() -> None:
    acc = np.array([INT32.max - 5, 5, 1, INT32.min, -1, 1], dtype=np.int32).reshape(1, 1, 6, 1)
    # The partial sum INT32.min - 1 in the second window is no accumulator's: only the total counts.
    assert reduce_windows(acc[:, :, :2], "sum", (1, 2), (1, 1)).item() == INT32.max
    assert reduce_windows(acc[:, :, 3:], "sum", (1, 3), (1, 1)).item() == INT32.min
    with pytest.raises(OverflowError, match="a sum of a window must be an int32, got 2147483648"):
        reduce_windows(acc[:, :, :3], "sum", (1, 3), (1, 1))
    with pytest.raises(OverflowError, match="got -2147483649"):
        reduce_windows(acc[:, :, 3:5], "sum", (1, 2), (1, 1))


@pytest.mark.parametrize("fault", ["kind", "stride", "kernel", "one value", "pad value"])
def test_comparison_sees_a_fault(fault: str) -> None:
    x = np.random.default_rng(0).integers(-128, 0, (1, 8, 8, 3), dtype=np.int8)
    padding = ((1, 1), (1, 1))
    expected = oracle(MAX_POOL, "int8", x, (3, 3), (2, 2), padding)
    padded = pad(x, padding, 0 if fault == "pad value" else -128).astype(np.int32)
    kind: Kind = "sum" if fault == "kind" else "max"
    got = reduce_windows(padded, kind, (3, 2) if fault == "kernel" else (3, 3), (2, 1) if fault == "stride" else (2, 2))
    if fault == "one value":
        got[0, 1, 2, 1] ^= 1
    with pytest.raises(AssertionError, match=r"mismatch|Mismatched"):
        assert_array_equal(got, expected.astype(np.int32), strict=True)


ACC = np.zeros((1, 4, 5, 3), dtype=np.int32)


@pytest.mark.parametrize(
    ("args", "error", "sentence"),
    [
        ((ACC.astype(np.int64), "max", (2, 2), (1, 1)), TypeError, "acc must be an int32 array, got int64"),
        ((ACC.tolist(), "max", (2, 2), (1, 1)), TypeError, "acc must be an int32 array, got list"),
        ((ACC[0], "max", (2, 2), (1, 1)), ValueError, r"acc must have the 4 axes .* got shape \(4, 5, 3\)"),
        ((ACC[:0], "max", (2, 2), (1, 1)), ValueError, r"acc must have .* each at least 1, got shape \(0, 4, 5, 3\)"),
        ((ACC, "product", (1, 3), (1, 1)), ValueError, "a product is of two positions, got a window of 1 x 3"),
        ((ACC + 40000, "product", (1, 2), (1, 1)), OverflowError, "what is multiplied must fit 16 bits, got "),
        ((ACC, "mean", (2, 2), (1, 1)), ValueError, "kind must be 'max', 'sum' or 'product', got 'mean'"),
        ((ACC, "sum", (5, 2), (1, 1)), ValueError, "height: .* extent 5 .* padded input 4"),
        ((ACC, "sum", (2, 6), (1, 1)), ValueError, "width: .* extent 6 .* padded input 5"),
        ((ACC, "sum", (2, 2), (1, 0)), ValueError, "width: stride must be at least 1, got 0"),
        ((ACC, "sum", (0, 2), (1, 1)), ValueError, "height: kernel must be at least 1, got 0"),
        ((ACC, ((0, 0), (0, 0)), 0), TypeError, "x must be an int8 array, got int32"),
        ((ACC.astype(np.int8), ((0, -1), (0, 0)), 0), ValueError, r"padding must be at least 0, got \(\(0, -1\), \(0, 0\)\)"),
        ((ACC.astype(np.int8), ((0, 1), (0, 0)), 128), ValueError, r"padding must be in \[-128, 127\], got 128"),
    ],
)
def test_refusals(args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    refusing: Any = pad if len(args) == 3 else reduce_windows
    with pytest.raises(error, match=sentence):
        refusing(*args)
