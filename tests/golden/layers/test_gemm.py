"""golden.layers.gemm against onnxruntime's MatMulInteger, a published vector and int64 arithmetic."""

from functools import cache

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.gemm import MAX_REDUCTION, exact_product, gemm

MATMUL_INTEGER = """<ir_version: 8, opset_import: ["": 13]>
gemm (uint8[M,K] x, uint8[K,N] w, uint8 x_zero, uint8 w_zero) => (int32[M,N] y)
{ y = MatMulInteger(x, w, x_zero, w_zero) }
"""


@cache
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(MATMUL_INTEGER).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def offset(array: NDArray[np.int8]) -> NDArray[np.uint8]:
    # Both operands go to onnxruntime as uint8 with zero point 128: on x86 without VNNI its sums of two
    # products of uint8 and int8 saturate at 16 bits, those of uint8 and uint8 do not.
    return (array.astype(np.int16) + 128).astype(np.uint8)


def oracle(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    zero = np.array(128, dtype=np.uint8)
    inputs = {"x": offset(x), "w": offset(w), "x_zero": zero, "w_zero": zero}
    (y,) = session().run(None, inputs)
    return np.asarray(y)


def random_int8(*shape: int, seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


@st.composite
def operands(draw: st.DrawFn) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    m, k, n = (draw(st.integers(1, 40)) for _ in range(3))
    return draw(hnp.arrays(np.int8, (m, k))), draw(hnp.arrays(np.int8, (k, n)))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(operands())
def test_equals_onnxruntime(case: tuple[NDArray[np.int8], NDArray[np.int8]]) -> None:
    assert_array_equal(gemm(*case), oracle(*case), strict=True)


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (1, 1, 1),
        (1, 4096, 1),
        (3, 1023, 5),
        (5, 1024, 3),
        (4, 1025, 4),
        (128, 768, 129),
        (2, MAX_REDUCTION, 2),
    ],
)
def test_equals_onnxruntime_at_size(m: int, k: int, n: int) -> None:
    x, w = random_int8(m, k), random_int8(k, n, seed=1)
    assert_array_equal(gemm(x, w), oracle(x, w), strict=True)


@pytest.mark.parametrize("k", [1, 1024, 1025, MAX_REDUCTION])
@pytest.mark.parametrize("a", [-128, 127])
@pytest.mark.parametrize("b", [-128, 127])
def test_extreme_operands_are_exact(k: int, a: int, b: int) -> None:
    x, w = np.full((2, k), a, dtype=np.int8), np.full((k, 3), b, dtype=np.int8)
    assert_array_equal(gemm(x, w), np.full((2, 3), a * b * k, dtype=np.int32), strict=True)
    assert_array_equal(oracle(x, w), gemm(x, w), strict=True)


def test_partial_sums_beyond_float32_are_exact() -> None:
    # Sums near 2**30 with odd low bits: one float32 accumulator for the whole reduction would lose them.
    x = np.random.default_rng(2).choice(np.array([-128, -127], dtype=np.int8), (4, MAX_REDUCTION))
    w = np.full((MAX_REDUCTION, 2), -127, dtype=np.int8)
    exact = x.astype(np.int64) @ w.astype(np.int64)
    assert not np.array_equal(exact, exact.astype(np.float32))
    assert_array_equal(gemm(x, w), exact)


def test_published_vector() -> None:
    # The example of MatMulInteger in the ONNX operator documentation, its zero point 12 subtracted from A.
    a = np.array([[-1, -5, -9], [-2, -6, -10], [-3, -7, -11], [-4, -8, -12]], dtype=np.int8)
    b = np.array([[1, 4], [2, 5], [3, 6]], dtype=np.int8)
    y = np.array([[-38, -83], [-44, -98], [-50, -113], [-56, -128]], dtype=np.int32)
    assert_array_equal(gemm(a, b), y, strict=True)


def test_views_in_any_memory_order() -> None:
    x, w = random_int8(30, 14).T[::2, ::-3], random_int8(10, 9, seed=1)[:, ::4]
    assert_array_equal(gemm(x, w), gemm(x.copy(), w.copy()), strict=True)
    assert_array_equal(gemm(x, w), oracle(x, w), strict=True)


def test_stacked_products_equal_single_ones() -> None:
    x, w = random_int8(2, 3, 4, 5), random_int8(2, 3, 5, 6, seed=1)
    stacked = exact_product(x, w)
    assert stacked.shape == (2, 3, 4, 6)
    for i in np.ndindex(2, 3):
        assert_array_equal(stacked[i], gemm(x[i], w[i]), strict=True)


def test_operands_are_not_written() -> None:
    x, w = random_int8(3, 4), random_int8(4, 5, seed=1)
    x.flags.writeable = w.flags.writeable = False
    gemm(x, w)


@pytest.mark.parametrize("corrupt", ["result", "operand"])
def test_comparison_sees_one_wrong_bit(corrupt: str) -> None:
    x, w = random_int8(7, 33), random_int8(33, 5, seed=1)
    expected = oracle(x, w)
    if corrupt == "operand":
        x[6, 32] ^= 1
        w[32, :] |= 1
    got = gemm(x, w)
    if corrupt == "result":
        got[6, 4] ^= 1
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_array_equal(got, expected, strict=True)


INT8 = np.zeros((2, 3), dtype=np.int8)


@pytest.mark.parametrize(
    ("x", "w", "error", "sentence"),
    [
        (INT8.astype(np.uint8), INT8.T, TypeError, "x must be an int8 array, got uint8"),
        (INT8, INT8.T.astype(np.int32), TypeError, "w must be an int8 array, got int32"),
        ([[1]], INT8.T, TypeError, "x must be an int8 array, got list"),
        (INT8[0], INT8.T, ValueError, r"x must have the 2 axes \(M, K\), got shape \(3,\)"),
        (INT8, INT8.T[None], ValueError, r"w must have the 2 axes \(K, N\), got shape \(1, 3, 2\)"),
        (INT8[:0], INT8.T, ValueError, r"every axis of x \(M, K\) must be at least 1, got shape \(0, 3\)"),
        (INT8, INT8, ValueError, "x and w must agree in K, got K = 3 in x and K = 2 in w"),
        (
            np.zeros((1, MAX_REDUCTION + 1), dtype=np.int8),
            np.zeros((MAX_REDUCTION + 1, 1), dtype=np.int8),
            ValueError,
            "K must be at most 65536, so that int32 cannot wrap, got 65537",
        ),
    ],
)
def test_refusals(x: NDArray[np.int8], w: NDArray[np.int8], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        gemm(x, w)
