"""golden.layers.requant against exact rational arithmetic, published vectors and onnxruntime's quantised layers."""

from fractions import Fraction
from functools import cache
from math import floor
from typing import Any, TypeAlias

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.conv import conv2d
from podweave.golden.layers.fixed_point import LIMITS
from podweave.golden.layers.gemm import gemm
from podweave.golden.layers.requant import requantize, requantize_wide
from podweave.ir.quantise import MAX_MULTIPLIER, MAX_SHIFT, quantize_scale

Int8s: TypeAlias = NDArray[np.int8]
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
ONE = np.array(1, dtype=np.float32)

# onnxruntime computes fl32(fl32(acc) * scale) and rounds it half to even. Each of the two operations errs by
# at most 2**-24 of its result; where the scale is fl32(fl32(xs * ws) / ys) two more do, and the fifth covers
# the 2**-31 by which our multiplier errs.
SCALE_GIVEN = (1 + Fraction(1, 1 << 24)) ** 2 - 1
SCALE_COMPUTED = Fraction(5, 1 << 24)

HEADER = '<ir_version: 8, opset_import: ["": 13]> requant'
QLINEAR_CONV = """
(int8[N,I,H,W] x, float xs, int8[O,I,KH,KW] w, float[O] ws, float ys, int8 zero, int8[O] wz, int32[O] bias)
=> (int8[N,O,OH,OW] y) { y = QLinearConv(x, xs, zero, w, ws, wz, ys, zero, bias) }
"""
QLINEAR_MATMUL = """
(int8[M,K] x, float xs, int8[K,N] w, float[N] ws, float ys, int8 zero, int8[N] wz)
=> (int8[M,N] y) { y = QLinearMatMul(x, xs, zero, w, ws, wz, ys, zero) }
"""


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(HEADER + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(graph: str, **inputs: Any) -> Int8s:
    zeros = {"zero": np.array(0, dtype=np.int8), "wz": np.zeros(inputs["ws"].size, dtype=np.int8)}
    (y,) = session(graph).run(None, inputs | zeros)
    return np.asarray(y)


def onnxruntime_requantize(acc: NDArray[np.int32], scale: NDArray[np.float32]) -> Int8s:
    """Requantise any accumulators: as the biases of a convolution of nothing, one output channel each."""
    nothing = np.zeros((acc.size, 1, 1, 1), dtype=np.int8)
    return run(QLINEAR_CONV, x=nothing[:1], xs=ONE, w=nothing, ws=scale, ys=ONE, bias=acc).ravel()


def round_half_away(value: Fraction) -> int:
    magnitude = floor(abs(value) + Fraction(1, 2))
    return -magnitude if value < 0 else magnitude


def exact(acc: int, multiplier: int, shift: int) -> int:
    return min(max(round_half_away(acc * Fraction(multiplier, 1 << shift)), -128), 127)


def count_ties(ours: Int8s, theirs: Int8s, values: list[Fraction], error: Fraction) -> int:
    """Refuse differences but at ties of the exact ``values``, and count those.

    Both are nearest to a value: ours to the exact one, theirs to one that is off by at most ``error`` times
    it. So they can differ only by 1, and only if a tie lies between the two values.
    """
    assert ours.dtype == theirs.dtype == np.int8
    differences = 0
    for our, their, value in zip(ours.ravel().tolist(), theirs.ravel().tolist(), values, strict=True):
        if our != their:
            to_tie = abs(value - floor(value) - Fraction(1, 2))
            assert abs(our - their) == 1, f"{float(value)}: {our} and {their} differ by more than 1"
            assert to_tie <= error * abs(value), f"{float(value)}: {our} and {their} differ off a tie"
            differences += 1
    return differences


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    multiplier=st.integers(0, MAX_MULTIPLIER) | st.sampled_from([0, 1, 1 << 30, MAX_MULTIPLIER]),
    shift=st.integers(0, MAX_SHIFT),
    near=st.integers(-140, 140),
    anywhere=st.lists(st.integers(INT32_MIN, INT32_MAX), max_size=10),
)
@example(multiplier=MAX_MULTIPLIER, shift=MAX_SHIFT, near=0, anywhere=[])
@example(multiplier=1, shift=0, near=0, anywhere=[-129, -128, -1, 0, 127, 128])
def test_equals_exact_arithmetic(multiplier: int, shift: int, near: int, anywhere: list[int]) -> None:
    tie = round_half_away((near + Fraction(1, 2)) / Fraction(max(multiplier, 1), 1 << shift))
    tie = min(max(tie, INT32_MIN + 1), INT32_MAX - 1)
    accs = [INT32_MIN, INT32_MAX, tie - 1, tie, tie + 1, *anywhere]
    expected = np.array([exact(acc, multiplier, shift) for acc in accs], dtype=np.int8)
    assert_array_equal(requantize(np.array(accs, dtype=np.int32), multiplier, shift), expected, strict=True)


@pytest.mark.parametrize("shift", [1, 2, 23])
def test_every_tie_rounds_away_from_zero(shift: int) -> None:
    k = np.arange(-200, 200)
    acc = ((2 * k + 1) << (shift - 1)).astype(np.int32)
    away = np.clip(np.where(k < 0, k, k + 1), -128, 127).astype(np.int8)
    assert_array_equal(requantize(acc, 1, shift), away, strict=True)
    assert_array_equal(requantize(acc, 1 << 30, shift + 30), away, strict=True)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 4, 6), (0, 6)])
@pytest.mark.parametrize("per_channel", ["neither", "multiplier", "shift", "both"])
def test_per_channel(shape: tuple[int, ...], per_channel: str) -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-(1 << 20), 1 << 20, shape, dtype=np.int32)
    multiplier: Any = rng.integers(1 << 30, 1 << 31, 6) if per_channel in ("multiplier", "both") else 3 << 29
    shift: Any = rng.integers(40, 48, 6) if per_channel in ("shift", "both") else 44
    got = requantize(acc, multiplier, shift)
    assert got.shape == shape
    for c in range(6):
        m, s = (int(np.broadcast_to(value, 6)[c]) for value in (multiplier, shift))
        assert got[..., c].ravel().tolist() == [exact(a, m, s) for a in acc[..., c].ravel().tolist()]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    totals=st.lists(st.integers(-(1 << 32), 1 << 32) | st.sampled_from([-(1 << 32), 0, 1 << 32]), min_size=1, max_size=8),
    multiplier=st.integers(0, MAX_MULTIPLIER) | st.sampled_from([1, MAX_MULTIPLIER]),
    shift=st.integers(0, MAX_SHIFT),
    to=st.sampled_from(["int8", "uint8", "int16", "int32"]),
    rounding=st.sampled_from(["half_away", "half_even"]),
)
@example(totals=[-(1 << 32), 1 << 32], multiplier=MAX_MULTIPLIER, shift=62, to="int32", rounding="half_away")
@example(totals=[-3, -1, 1, 3, 5], multiplier=1, shift=1, to="int16", rounding="half_even")
def test_wide_totals_and_widths_equal_exact_arithmetic(
    totals: list[int], multiplier: int, shift: int, to: Any, rounding: Any
) -> None:
    least, largest = LIMITS[to]
    values = [total * Fraction(multiplier, 1 << shift) for total in totals]
    whole = [round(value) if rounding == "half_even" else round_half_away(value) for value in values]
    expected = np.array([min(max(value, least), largest) for value in whole]).astype(to)
    assert_array_equal(requantize_wide(np.array(totals), multiplier, shift, to, rounding), expected, strict=True)


def test_per_row() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(-(1 << 32), 1 << 32, (3, 4, 5))
    multiplier, shift = rng.integers(0, 1 << 31, (3, 4, 1)), rng.integers(40, 50, (3, 4, 1))
    for m, s in ((multiplier, shift), (multiplier, shift[0, :1].ravel()[0]), (multiplier[:, 0, 0].repeat(2)[:5], shift)):
        wide = [np.broadcast_to(value, total.shape).ravel().tolist() for value in (m, s)]
        values = [Fraction(t * a, 1 << b) for t, a, b in zip(total.ravel().tolist(), *wide, strict=True)]
        expected = np.clip([round_half_away(value) for value in values], -32768, 32639).reshape(total.shape)
        assert_array_equal(requantize_wide(total, m, s, "int16"), expected.astype(np.int16), strict=True)


@pytest.mark.parametrize("fault", ["half to even", "half up", "two roundings", "truncation", "one wrong bit"])
def test_comparison_sees_a_fault(fault: str) -> None:
    acc = np.arange(-1000, 1001, dtype=np.int32)
    expected = np.array([exact(a, 1, 3) for a in acc.tolist()], dtype=np.int8)
    faulty = {
        "half to even": np.rint(acc / 8),
        "half up": np.floor(acc / 8 + 0.5),
        "two roundings": np.copysign(np.floor(np.floor(np.abs(acc) / 4 + 0.5) / 2 + 0.5), acc),
        "truncation": np.trunc(acc / 8),
        "one wrong bit": expected ^ (acc == 321),
    }[fault]
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_array_equal(np.clip(faulty, -128, 127).astype(np.int8), expected, strict=True)


@pytest.mark.parametrize(
    ("scale", "multiplier", "exponent"),
    [
        # From quantization_util_test.cc of TensorFlow Lite, whose scale is multiplier / 2**31 * 2**exponent.
        (0.50 - 5e-9, 2147483627, -1),
        (0.50 - 1e-10, 1073741824, 0),
        (0.75, 1610612736, 0),
        (1 - 1e-9, 2147483646, 0),
        (1 + 1e-11, 1073741824, 1),
        (2 - 1e-9, 2147483647, 1),
        (2 - 1e-11, 1073741824, 2),
        (2.0**-32, 1073741824, -31),
    ],
)
def test_published_multipliers(scale: float, multiplier: int, exponent: int) -> None:
    assert quantize_scale(scale) == (multiplier, 31 - exponent)


def test_published_requantisations() -> None:
    # From the same file; results beyond int8 saturate here.
    acc = np.array([0, 10000, -10000], dtype=np.int32)
    assert requantize(acc, *quantize_scale(0.00097656)).tolist() == [0, 10, -10]
    extremes = np.array([INT32_MIN, INT32_MAX], dtype=np.int32)
    assert requantize(extremes, *quantize_scale(0.00001)).tolist() == [-128, 127]
    # The uint8 example of QLinearMatMul in the ONNX operator documentation: operands less their zero points
    # 113 and 114, the result less its 118 (which takes 255 out of int8).
    a = np.array([[208, 236, 0, 238], [3, 214, 255, 29]]) - 113
    b = np.array([[152, 51, 244], [60, 26, 255], [0, 127, 246], [127, 254, 247]]) - 114
    y = np.clip(np.array([[168, 115, 255], [1, 66, 151]]) - 118, -128, 127)
    assert_array_equal(requantize((a @ b).astype(np.int32), *quantize_scale(0.0066 * 0.00705 / 0.0107)), y)


def scale_error(scale: float, multiplier: int, shift: int) -> Fraction:
    return abs(Fraction(multiplier, 1 << shift) - Fraction(scale))


def least_error(scale: float, bits: int) -> Fraction:
    nearest = [round_half_away(Fraction(scale) * (1 << shift)) for shift in range(MAX_SHIFT + 1)]
    return min(scale_error(scale, min(m, (1 << bits) - 1), shift) for shift, m in enumerate(nearest))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(0.5, 1), st.integers(-61, 15), st.sampled_from([16, 17, 24, 31]))
@example((2.0**31 - 1) / 2.0**31, 31, 31)
@example(1 - 2.0**-53, 30, 31)
@example(1 - 2.0**-17, 15, 16)
@example(1 - 2.0**-24, 24, 24)
def test_scale_is_the_closest(mantissa: float, exponent: int, bits: int) -> None:
    scale = float(np.ldexp(mantissa, exponent))
    multiplier, shift = quantize_scale(scale, bits)
    assert 1 <= multiplier < 1 << bits
    assert 0 <= shift <= MAX_SHIFT
    assert multiplier >= 1 << bits - 1 or shift == MAX_SHIFT
    assert scale_error(scale, multiplier, shift) == least_error(scale, bits)
    assert scale_error(scale, multiplier + 1, shift) > least_error(scale, bits) or multiplier + 1 == 1 << bits


def test_scales_of_channels() -> None:
    scales = np.array([0.1, 2.0**-40, 1 - 2.0**-40, 3e8, 1.5 * 2.0**-63])
    multipliers, shifts = quantize_scale(scales)
    assert multipliers.dtype == shifts.dtype == np.int32
    pairs = zip(multipliers.tolist(), shifts.tolist(), strict=True)
    assert list(pairs) == [quantize_scale(scale) for scale in scales]


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([24, 31]))
def test_onnxruntime_differs_only_at_ties(seed: int, bits: int) -> None:
    """With 24 bits as with 31: those of float32."""
    rng = np.random.default_rng(seed)
    scale = np.ldexp(rng.uniform(0.5, 1, 256), -rng.integers(0, 31, 256)).astype(np.float32)
    # Half of the accumulators aim at ties, the others anywhere in and around int8.
    target = rng.integers(-140, 140, 256) + np.where(np.arange(256) % 2, 0.5, rng.uniform(0, 1, 256))
    acc = np.clip(np.rint(target / scale), INT32_MIN, INT32_MAX).astype(np.int32)
    values = [a * Fraction(s) for a, s in zip(acc.tolist(), scale.tolist(), strict=True)]
    ours, theirs = requantize(acc, *quantize_scale(scale, bits)), onnxruntime_requantize(acc, scale)
    count_ties(ours, theirs, values, SCALE_GIVEN)


def test_onnxruntime_rounds_ties_to_even() -> None:
    acc = np.arange(-255, 254, 2, dtype=np.int32)
    ours, theirs = requantize(acc, 1, 1), onnxruntime_requantize(acc, np.full(255, 0.5, dtype=np.float32))
    assert_array_equal(theirs, np.rint(acc / 2).astype(np.int8), strict=True)
    # They differ where the even neighbour is the inner one: at 0.5, 2.5 ... 126.5 and their negatives.
    assert count_ties(ours, theirs, [Fraction(a, 2) for a in acc.tolist()], Fraction(0)) == 128


def test_onnxruntime_errs_beside_a_tie() -> None:
    # float32(0.1) is above 0.1, so 5 * float32(0.1) is above one half, but rounds to it in float32.
    acc, scale = np.array([5], dtype=np.int32), np.array([0.1], dtype=np.float32)
    values = [5 * Fraction(scale.item())]
    ours, theirs = requantize(acc, *quantize_scale(scale)), onnxruntime_requantize(acc, scale)
    assert (ours.item(), theirs.item()) == (1, 0)
    assert count_ties(ours, theirs, values, SCALE_GIVEN) == 1
    with pytest.raises(AssertionError, match="differ off a tie"):
        count_ties(ours, theirs, values, Fraction(0))


@pytest.mark.parametrize(("value", "wrong"), [("10.4", 11), ("10.5", 9), ("-3.499", -4), ("0", 1)])
def test_relation_sees_a_corrupted_value(value: str, wrong: int) -> None:
    ours = np.array([round_half_away(Fraction(value))], dtype=np.int8)
    assert count_ties(ours, ours, [Fraction(value)], SCALE_COMPUTED) == 0
    with pytest.raises(AssertionError, match=r"differ off a tie|differ by more than 1"):
        count_ties(ours, np.array([wrong], dtype=np.int8), [Fraction(value)], SCALE_COMPUTED)


@pytest.mark.parametrize("layer", ["matmul", "conv"])
@pytest.mark.parametrize("seed", range(4))
def test_quantised_layer_differs_only_at_ties(layer: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xs, ys = np.array(rng.uniform(0.01, 0.1), np.float32), np.array(rng.uniform(0.05, 0.2), np.float32)
    ws = rng.uniform(0.001, 0.02, 16).astype(np.float32)
    scales: dict[str, Any] = {"xs": xs, "ws": ws, "ys": ys}
    # At most 64 in magnitude: beyond it the 16-bit sums of onnxruntime may saturate on x86 without VNNI.
    x, w = (rng.integers(-64, 65, shape, dtype=np.int8) for shape in ((2, 8, 9, 10), (3, 3, 10, 16)))
    if layer == "matmul":
        x, w = x.reshape(-1, 90), w.reshape(90, 16)
        acc, theirs = gemm(x, w), run(QLINEAR_MATMUL, x=x, w=w, **scales)
    else:
        bias = rng.integers(-20000, 20000, 16, dtype=np.int32)
        nchw = {"x": x.transpose(0, 3, 1, 2), "w": w.transpose(3, 2, 0, 1)}
        acc = conv2d(x, w) + bias
        theirs = run(QLINEAR_CONV, bias=bias, **nchw, **scales).transpose(0, 2, 3, 1)
    real = [Fraction(xs.item()) * Fraction(scale) / Fraction(ys.item()) for scale in ws.tolist()]
    ours = requantize(acc, *quantize_scale(np.array(real, dtype=np.float64)))
    values = [a * s for row in acc.reshape(-1, 16).tolist() for a, s in zip(row, real, strict=True)]
    count_ties(ours, theirs, values, SCALE_COMPUTED)
    assert np.unique(ours).size > 50


ACC = np.zeros((2, 3), dtype=np.int32)


@pytest.mark.parametrize(
    ("args", "error", "sentence"),
    [
        ((ACC.astype(np.int64), 1, 0), TypeError, "acc must be an int32 array, got int64"),
        ((ACC.tolist(), 1, 0), TypeError, "acc must be an int32 array, got list"),
        ((np.array(1, dtype=np.int32), 1, 0), ValueError, r"acc must have a channel axis .* got shape \(\)"),
        ((ACC, 0.5, 0), TypeError, "multiplier must be an integer or an array of integers, got float64"),
        ((ACC, 1, True), TypeError, "shift must be an integer or an array of integers, got bool"),
        ((ACC, -1, 0), ValueError, r"multiplier must be in \[0, 2147483647\], got -1"),
        ((ACC, np.array([1, 1 << 31, 1]), 0), ValueError, r"multiplier must be in .* got 2147483648"),
        ((ACC, 1, -1), ValueError, r"shift must be in \[0, 62\], got -1"),
        ((ACC, 1, np.array([0, 63, 0])), ValueError, r"shift must be in \[0, 62\], got 63"),
        ((ACC, np.array([1, 1]), 0), ValueError, r"multiplier must have shape .* \(3,\), got shape \(2,\)"),
        ((ACC, 1, ACC), ValueError, r"shift must have shape .* = \(3,\), got shape \(2, 3\)"),
        ((ACC, 1, np.array([[1]])), ValueError, r"must have shape \(\), \(..., 1\) = \(2, 1\) or .* got shape \(1, 1\)"),
        ((0.0,), ValueError, "scale must be positive and finite, got 0.0"),
        ((float("nan"),), ValueError, "scale must be positive and finite, got nan"),
        ((np.array([0.5, -1.0]),), ValueError, "scale must be positive and finite, got -1.0"),
        ((2.0**31 - 0.5,), ValueError, r"scale must be below 2\*\*31 - 0.5, .* got 2147483647.5"),
        ((1e300,), ValueError, r"scale must be below 2\*\*31 - 0.5, .* got 1e\+300"),
        ((2.0**-63,), ValueError, r"scale must be above 2\*\*-63, .* got 1.08\d*e-19"),
        ((5e-324,), ValueError, r"scale must be above 2\*\*-63, .* got 5e-324"),
        ((True,), TypeError, "scale must be real, got bool"),
    ],
)
def test_refusals(args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    refusing: Any = requantize if len(args) == 3 else quantize_scale
    with pytest.raises(error, match=sentence):
        refusing(*args)


WIDE = np.zeros((2, 3), dtype=np.int64)
EDGE = 1 << 32


@pytest.mark.parametrize(
    ("total", "options", "error", "sentence"),
    [
        (ACC, {}, TypeError, "total must be an int64 array, got int32"),
        (WIDE.tolist(), {}, TypeError, "total must be an int64 array, got list"),
        (np.array(1, dtype=np.int64), {}, ValueError, r"total must have a channel axis \(\.\.\., C\), got shape \(\)"),
        (WIDE, {"zero_point": 128}, ValueError, r"zero_point must be in \[-128, 127\], got 128"),
        (WIDE, {"zero_point": -129}, ValueError, r"zero_point must be in \[-128, 127\], got -129"),
        (WIDE + EDGE + 1, {}, ValueError, r"total must be in \[-4294967296, 4294967296\], got 4294967297"),
        (WIDE + np.iinfo(np.int64).min, {}, ValueError, r"total must be in .*, got -9223372036854775808"),
        (WIDE, {"shift": 63}, ValueError, r"shift must be in \[0, 62\], got 63"),
    ],
)
def test_refusals_of_wide_totals(total: Any, options: dict[str, int], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        requantize_wide(total, 1, **({"shift": 0} | options))


def test_wide_totals_at_the_ends_of_their_range() -> None:
    total = np.array([EDGE, -EDGE], dtype=np.int64)
    assert requantize_wide(total, 1, 26).tolist() == [64, -64]
    assert requantize_wide(total, 1, 26, zero_point=127).tolist() == [127, 63]
    assert requantize_wide(total, 1, 26, zero_point=-128).tolist() == [-64, -128]
