"""golden.layers.norm against plain integers, real norms within its bounds, and onnxruntime."""

from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.norm import layer_norm, layer_norm_float, rms_norm, rms_norm_float
from podweave.golden.layers.scalars import reciprocal_square_root_table
from podweave.ir.mean_norms import layer_norm_epsilon, mean_shifts
from podweave.ir.quantise import norm_epsilon, quantize_scale

KINDS = ["random", "outliers", "all equal", "one hot", "zeros", "extremes"]
C = 48


def rows(kind: str, shift: int, count: int = 10_000) -> NDArray[np.int32]:
    """Rows whose z of 16 bits does not saturate."""
    rng = np.random.default_rng(shift)
    size = np.exp(rng.uniform(0, np.log(8000.0 * 2**shift), (count, 1)))
    normal = rng.standard_normal((count, C)) * size
    x = {
        "random": normal,
        "outliers": normal / 100 + np.where(np.arange(C) == rng.integers(0, C, (count, 1)), 3 * size, 0),
        "all equal": np.broadcast_to(np.rint(normal[:, :1]), normal.shape),
        "one hot": np.where(np.arange(C) == rng.integers(0, C, (count, 1)), np.copysign(size, normal), 0),
        "zeros": np.zeros((count, C)),
        "extremes": np.where(normal > 0, 32639, -32768) * 2.0**shift,
    }[kind]
    return np.rint(np.clip(x, -32768 * 2.0**shift, 32639 * 2.0**shift)).astype(np.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0, 4, 9])
@pytest.mark.parametrize("epsilon", [0, 5000])
def test_bound_of_rms_norm(kind: str, shift: int, epsilon: int) -> None:
    x, gains = rows(kind, shift), np.arange(C) % 9
    y = rms_norm(x, shift, epsilon, gains)
    assert not y[~x.any(axis=1)].any()
    x, y = (rows[x.any(axis=1)] for rows in (x, y))
    real = rms_norm_float(x / 2.0**shift, epsilon / C, 2.0 ** (15 - gains) / np.sqrt(C))
    n = np.sqrt(((x / 2.0**shift) ** 2).sum(axis=1, keepdims=True) + epsilon)
    h = np.sqrt(C) / 2 if shift else 0.0
    bounded = (n > 1.01 * h).ravel()
    y, real, n = (rows[bounded] for rows in (y, real, n))
    assert np.all(np.abs(y - real) <= np.abs(real) * ((1 + 2.0**-8) / (1 - h / n) - 1) + 1 + 1e-6)
    assert bounded.sum() > 5000 or kind == "zeros"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0, 4, 9, 13])
@pytest.mark.parametrize("epsilon", [1, 5000])
def test_bound_of_layer_norm(kind: str, shift: int, epsilon: int) -> None:
    x = rows(kind, shift)
    rng = np.random.default_rng(shift)
    gain, bias = rng.uniform(0.01, 2, C), rng.integers(-30_000, 30_000, C)
    sign = np.where(rng.random(C) < 0.3, -1, 1)
    multiplier, places = quantize_scale(gain / 3)
    y = layer_norm(x, shift, epsilon, bias, sign * multiplier, places)
    # 48 of 64 are in all that is squared, and not in epsilon.
    q = 0.75
    real = layer_norm_float(x / 2.0**shift, epsilon / C / q**2, 2.0**15 / np.sqrt(C))
    centred = (x - x.mean(axis=1, keepdims=True)) * q / 2.0**shift
    # Rows of 29 bits times 48 have 35, three more than fit.
    m = q * 2.0 ** (3 - 13) if shift == 13 else 0.0
    inside = np.all(np.abs(centred) + m < 32639, axis=1)
    n = np.sqrt((centred**2).sum(axis=1, keepdims=True) + epsilon)
    h = np.sqrt(C) * (m + 0.5)
    bounded = (n > 1.01 * h).ravel() & inside
    y, real, n = (rows[bounded] for rows in (y, real, n))
    limit = np.abs(real) * ((1 + 2.0**-8) / (1 - h / n) - 1) + 2.0**15 * (1 + 2.0**-8) * m / (n - h) + 1
    expected = np.clip((real + bias) * sign * gain / 3, -32768, 32639)
    assert np.all(np.abs(y - expected) <= limit * gain / 3 + 0.5 + 1e-4)
    # Rows of equal values have no N to speak of; half of the rows with extremes are too far from their means.
    assert bounded.mean() > 0.4 or kind in ("zeros", "all equal", "extremes")


@pytest.mark.parametrize("value", [0, 1, -700, 2**20 + 3, -(2**25)])
def test_a_row_of_equal_values_is_its_bias(value: int) -> None:
    """Whatever the values are, of all C less their mean nothing is left."""
    for shift in (3, 12, 30):
        y = layer_norm(np.full((3, C), value, np.int32), shift, 1, np.arange(C), 1, 0)
        assert_array_equal(y, np.broadcast_to(np.arange(C), (3, C)))


def test_shares_of_a_shift() -> None:
    """The fewest bits before, so that rows of 16 bits and ``shift`` more fit 32 bits when they are multiplied; together those by
    which the products fit 16 bits."""
    for channels in (1, 2, 3, 48, 64, 65, 768, 2047, 65535, 65536):
        for shift in range(31):
            before, behind = mean_shifts(channels, shift)
            widest = channels << (15 + shift)
            assert widest <= 1 << (31 + before)
            assert before == 0 or channels << (16 + shift) > 1 << (31 + before)
            assert widest <= 1 << (15 + before + behind) < 2 * widest


def round_half_away(value: Fraction) -> int:
    magnitude = floor(abs(value) + Fraction(1, 2))
    return -magnitude if value < 0 else magnitude


def plain(x: list[int], shift: int, epsilon: int, gains: list[int]) -> list[int]:
    z = [min(max(round_half_away(Fraction(v, 1 << shift)), -32768), 32639) for v in x]
    squares = max(1, sum(v * v for v in z) + epsilon)
    bits = (squares.bit_length() + 1) // 2 * 2
    r = int(reciprocal_square_root_table()[((squares << 16 >> bits) >> 8) - 64])
    results = [round_half_away(Fraction(v * r, 1 << (bits // 2 + shift + g))) for v, g in zip(x, gains, strict=True)]
    return [min(max(v, -32768), 32639) for v in results]


@pytest.mark.parametrize("shift", [0, 3, 30])
def test_equals_plain_integers(shift: int) -> None:
    rng = np.random.default_rng(shift)
    x = rng.integers(-(1 << 31), 1 << 31, (5, 8, 7), dtype=np.int32) >> rng.integers(0, 32, (5, 8, 1), dtype=np.int32)
    gains = rng.integers(0, 9, 7)
    y = rms_norm(x, shift, 77, gains)
    assert (y.dtype, y.shape) == (np.int16, x.shape)
    for row, found in zip(x.reshape(-1, 7).tolist(), y.reshape(-1, 7).tolist(), strict=True):
        assert found == plain(row, shift, 77, gains.tolist())


@pytest.mark.parametrize("shift", [0, 3, 30])
def test_layer_norm_equals_plain_integers(shift: int) -> None:
    """Sums of rows up to the edge of 32 bits, where products and what is left of sums saturate."""
    rng = np.random.default_rng(shift)
    x = rng.integers(-(1 << 31), 1 << 31, (5, 80, 7), dtype=np.int32) >> rng.integers(1, 32, (5, 80, 1), dtype=np.int32)
    # Rows of 46 bits times 7 have 49, of which 17 are shifted out before.
    before, behind = (17, 16) if shift == 30 else (0, shift + 3)
    x = x[np.abs(x.sum(axis=-1, dtype=np.int64)) < 1 << 31]
    bias, multiplier = rng.integers(1 - (1 << 31), 1 << 31, (2, 7))
    places = rng.integers(15, 50, 7)
    y = layer_norm(x, shift, 77, bias, multiplier, places)
    assert (y.dtype, y.shape) == (np.int16, x.shape)
    saturated = 0
    for row, found in zip(x.tolist(), y.tolist(), strict=True):
        fewer = [round_half_away(Fraction(v, 1 << before)) for v in row]
        saturated += any(abs(7 * v) >= 1 << 31 for v in fewer)
        left = [sum(fewer) - min(max(7 * v, -(1 << 31)), (1 << 31) - 1) for v in fewer]
        left = [min(max(v, -(1 << 31)), (1 << 31) - 1) for v in left]
        n = [b - v for v, b in zip(plain(left, behind, 77, [0] * 7), bias.tolist(), strict=True)]
        scales = zip(n, multiplier.tolist(), places.tolist(), strict=True)
        expected = [round_half_away(Fraction(v * m, 1 << s)) for v, m, s in scales]
        assert found == [min(max(v, -32768), 32639) for v in expected]
    assert (0 < saturated < len(x)) == (not before)


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


RMS = "(float[N,C] x, float[C] gain) => (float[N,C] y) { y = SimplifiedLayerNormalization<axis=-1, epsilon=1e-5>(x, gain) }"
LAYER = """(float[N,C] x, float[C] gain, float[C] bias) => (float[N,C] y)
{ y = LayerNormalization<axis=-1, epsilon=1e-5>(x, gain, bias) }"""


def real_rows() -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Residuals as a model has them, one channel with outliers, and the same in units of 2**-12."""
    rng = np.random.default_rng(3)
    real = rng.standard_normal((10_000, 96)) * np.exp(rng.uniform(1, 3, (10_000, 1)))
    real[:, 7] *= 40
    x = np.rint(real * 4096).astype(np.int32)
    return x / 4096, x


def tolerance(centred: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Of the table of roots, and five times the standard error that rounding z leaves in N."""
    n = np.sqrt(((centred * 4096 / 2**shift) ** 2).sum(axis=1, keepdims=True))
    return np.asarray((1 + 2.0**-8) / (1 - 5 * 0.29 / n) - 1)


def test_rms_norm_as_onnxruntime() -> None:
    real, x = real_rows()
    gain = np.exp2(-(np.arange(96) % 4.0))
    (theirs,) = session("rms " + RMS).run(None, {"x": real.astype(np.float32), "gain": gain.astype(np.float32)})
    assert_allclose(rms_norm_float(real, 1e-5, gain), theirs, rtol=1e-5, atol=1e-6)
    shift = 10
    y = rms_norm(x, shift, norm_epsilon(1e-5, 96, shift), np.arange(96) % 4) * np.sqrt(96) / 2**15
    error = np.abs(y - theirs)
    limit = tolerance(real, shift) * np.abs(theirs) + 3e-4
    assert np.all(error <= limit)
    assert np.sqrt((error**2).mean()) < 0.002
    # A sum of squares without its outlier, and a gain of a neighbour, are seen.
    less = np.where(np.arange(96) == 7, x // 2, x)
    for faulty in (rms_norm(less, shift, 0, np.arange(96) % 4), rms_norm(x, shift, 0, (np.arange(96) + 1) % 4)):
        assert np.any(np.abs(faulty * np.sqrt(96) / 2**15 - theirs) > limit)


def test_layer_norm_as_onnxruntime() -> None:
    real, x = real_rows()
    rng = np.random.default_rng(4)
    gain, bias = rng.uniform(0.2, 3, 96), rng.uniform(-2, 2, 96)
    inputs = {"x": real.astype(np.float32), "gain": gain.astype(np.float32), "bias": bias.astype(np.float32)}
    (theirs,) = session("layer " + LAYER).run(None, inputs)
    assert_allclose(layer_norm_float(real, 1e-5, gain, bias), theirs, rtol=1e-4, atol=1e-5)
    shift = 10
    # In units of 1/1000.
    scale = gain * np.sqrt(96) / 2**15 * 1000
    epsilon = layer_norm_epsilon(1e-5, 96, shift)
    z = layer_norm(x, shift, epsilon, np.rint(bias * 1000 / scale).astype(np.int32), *quantize_scale(scale))
    error = np.abs(z / 1000 - theirs)
    # And half a unit of n, of the bias and of the result, and that values lose a bit; 96 of 128 are squared.
    squared = shift - np.log2(96 / 128)
    limit = tolerance(real - real.mean(axis=1, keepdims=True), squared) * np.abs(theirs - bias) + 0.0006 + 0.0005 * gain
    assert np.all(error <= limit)
    assert np.sqrt((error**2).mean()) < 0.004
    faulty = rms_norm(x + 4096, shift, 0) * np.sqrt(96) / 2**15 * gain + bias
    assert np.any(np.abs(faulty - theirs) > limit)


def test_epsilon() -> None:
    assert norm_epsilon(1e-5, 576, 3) == round(1e-5 * 576 * 2**24 / 4**3)
    assert (norm_epsilon(0.0, 576, 0), norm_epsilon(1e-5, 576, 15)) == (0, 0)
    assert layer_norm_epsilon(1e-5, 576, 3) == round(1e-5 * 576 * 2**24 / 4**3 * (576 / 1024) ** 2)
    # It is in the units of what is squared: where it is as much as a row's variance, it takes the root of a half.
    x = np.tile(np.array([[1000, -1000]], np.int32), 24)
    y = layer_norm(x, 0, layer_norm_epsilon((1000 / 4096) ** 2, 48, 0))
    assert np.all(np.abs(np.abs(y) / 2**15 * np.sqrt(2 * 48) - 1) < 1 / 200)
    # A row of zeros is one of zeros; a small one is held down.
    assert rms_norm(np.zeros((1, 4), np.int32), 0).tolist() == [[0, 0, 0, 0]]
    assert abs(rms_norm(np.array([[3, 0]], np.int32), 0, 16 - 9)[0, 0] / 2**15 - 3 / 4) <= 3 / 4 / 256


X = np.zeros((2, 3), dtype=np.int32)


@pytest.mark.parametrize("norm", [rms_norm, layer_norm])
@pytest.mark.parametrize(
    ("args", "error", "sentence"),
    [
        ((X.astype(np.int64), 0), TypeError, "x must be an int32 array, got int64"),
        ((X[:, :0], 0), ValueError, r"x must have at least 1 axes, .* got shape \(2, 0\)"),
        ((X, 31), ValueError, r"shift must be in \[0, 30\], got 31"),
        ((X, -1), ValueError, r"shift must be in \[0, 30\], got -1"),
        ((X, 0, -1), ValueError, r"epsilon must be in \[0, 2199023255551\], got -1"),
    ],
)
def test_refusals(norm: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        norm(*args)


@pytest.mark.parametrize(
    ("norm", "args", "error", "sentence"),
    [
        (rms_norm, (X, 0, 0, 9), ValueError, r"gain_shift must be in \[0, 8\], got 9"),
        (rms_norm, (X, 0, 0, 0.5), TypeError, "gain_shift must be an integer .* got float64"),
        (rms_norm, (X, 0, 0, np.zeros(2, int)), ValueError, r"gain_shift must have shape .* = \(3,\), got shape \(2,\)"),
        (layer_norm, (X, 0, 0, 0.5), TypeError, "bias must be an integer .* got float64"),
        (layer_norm, (X, 0, 0, 1 << 31), ValueError, r"bias must be in \[-2147483647, 2147483647\], got 2147483648"),
        (layer_norm, (X, 0, 0, np.zeros(2, int)), ValueError, r"bias must have shape .* = \(3,\), got shape \(2,\)"),
        (layer_norm, (X, 0, 0, 0, -1 << 31), ValueError, r"multiplier must be in \[-2147483647, 2147483647\], got -2147483648"),
        (layer_norm, (X, 0, 0, 0, np.ones(4, int)), ValueError, r"multiplier must have shape .* = \(3,\), got shape \(4,\)"),
        (layer_norm, (X, 0, 0, 0, 1, 63), ValueError, r"shift must be in \[0, 62\], got 63"),
        (layer_norm, (X[:, :1], 0), ValueError, "a row must have 2 to 65536 channels, got 1"),
        (layer_norm, (np.zeros((1, 65537), np.int32), 0), ValueError, "a row must have 2 to 65536 channels, got 65537"),
        (layer_norm, (X + 2**30, 0), OverflowError, "the sum of a row must fit 32 bits, got 3221225472"),
    ],
)
def test_refusals_of_one(norm: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        norm(*args)


def test_sums_of_squares_beyond_41_bits_are_refused() -> None:
    x = np.tile(np.array([[-32768, 32639]], dtype=np.int32), 1100)
    assert_array_equal(np.sign(rms_norm(x[:, :2000], 0)), np.sign(x[:, :2000]))
    with pytest.raises(OverflowError, match="a sum of squares must be at most 2199023255551, got 2"):
        rms_norm(x, 0)
    for epsilon in (-1.0, np.inf):
        with pytest.raises(ValueError, match="epsilon must be finite and at least 0, got"):
            norm_epsilon(epsilon, 4, 0)
