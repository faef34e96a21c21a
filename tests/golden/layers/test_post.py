"""golden.layers.post against exact rational arithmetic and onnxruntime's QLinearConv, Gelu, HardSwish and Relu."""

from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.post import post_process
from podweave.golden.layers.requant import requantize, requantize_wide
from podweave.ir.quantise import MAX_MULTIPLIER, MAX_SHIFT, activation_table, gelu, hard_swish, quantize_scale, relu

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
int32s = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from([INT32_MIN, -1, 0, 1, INT32_MAX])


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model('<ir_version: 9, opset_import: ["": 20]> ' + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def exact(total: int, multiplier: int, shift: int) -> int:
    value = total * Fraction(multiplier, 1 << shift)
    magnitude = floor(abs(value) + Fraction(1, 2))
    return min(max(-magnitude if value < 0 else magnitude, -128), 127)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    pairs=st.lists(st.tuples(int32s, int32s), min_size=1, max_size=8),
    multiplier=st.integers(0, MAX_MULTIPLIER) | st.sampled_from([0, 1, 1 << 30, MAX_MULTIPLIER]),
    shift=st.integers(0, MAX_SHIFT),
    seed=st.none() | st.integers(0, 2**32 - 1),
)
@example(pairs=[(INT32_MIN, INT32_MIN), (INT32_MAX, INT32_MAX)], multiplier=MAX_MULTIPLIER, shift=62, seed=None)
@example(pairs=[(INT32_MIN, INT32_MIN), (INT32_MAX, INT32_MAX)], multiplier=MAX_MULTIPLIER, shift=0, seed=None)
@example(pairs=[(INT32_MIN, INT32_MIN), (INT32_MAX, INT32_MAX)], multiplier=1, shift=34, seed=None)
def test_equals_exact_arithmetic(pairs: list[tuple[int, int]], multiplier: int, shift: int, seed: int | None) -> None:
    acc, bias = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    table = None if seed is None else np.random.default_rng(seed).integers(-128, 128, 256, dtype=np.int8)
    results = [exact(a + b, multiplier, shift) for a, b in pairs]
    expected = [result if table is None else int(table[result % 256]) for result in results]
    assert_array_equal(post_process(acc, bias, multiplier, shift, table), np.array(expected, dtype=np.int8), strict=True)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(near=st.integers(-140, 140), multiplier=st.integers(1, MAX_MULTIPLIER), shift=st.integers(0, MAX_SHIFT), bias=int32s)
def test_ties_of_biased_sums(near: int, multiplier: int, shift: int, bias: int) -> None:
    # Around the sum whose product is nearest to near + 1/2.
    tie = min(max(round((near + Fraction(1, 2)) * Fraction(1 << shift, multiplier)) - bias, INT32_MIN + 1), INT32_MAX - 1)
    accs = [tie - 1, tie, tie + 1]
    got = post_process(np.array(accs, dtype=np.int32)[:, None], np.array([bias], dtype=np.int32), multiplier, shift)
    assert got.ravel().tolist() == [exact(acc + bias, multiplier, shift) for acc in accs]


def test_a_33_bit_sum_does_not_wrap() -> None:
    # By hand: -2**32 * 3 / 2**27 = -96, and (2**32 - 2) / 2**26 = 64 - 2**-25; in 32 bits the sums would be 0 and -2.
    acc = np.array([[INT32_MIN], [INT32_MAX]], dtype=np.int32)
    assert post_process(acc[:1], np.array([INT32_MIN], dtype=np.int32), 3, 27).item() == -96
    assert post_process(acc[1:], np.array([INT32_MAX], dtype=np.int32), 1, 26).item() == 64


def test_without_bias_and_table_it_is_requantize() -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-(1 << 20), 1 << 20, (2, 3, 4, 6), dtype=np.int32)
    scale = rng.integers(1 << 30, 1 << 31, 6), rng.integers(40, 48, 6)
    assert_array_equal(post_process(acc, np.zeros(6, dtype=np.int32), *scale), requantize(acc, *scale), strict=True)


def test_per_channel() -> None:
    rng = np.random.default_rng(0)
    acc, bias = rng.integers(-5000, 5000, (3, 2, 4), dtype=np.int32), rng.integers(-900, 900, 4, dtype=np.int32)
    multiplier, shift = rng.integers(1, 100, 4), rng.integers(5, 12, 4)
    got = post_process(acc, bias, multiplier, shift)
    for c in range(4):
        expected = [exact(a + int(bias[c]), int(multiplier[c]), int(shift[c])) for a in acc[..., c].ravel().tolist()]
        assert got[..., c].ravel().tolist() == expected


def test_table_entry_of_every_value() -> None:
    values = np.arange(-128, 128, dtype=np.int32)[:, None]
    table = np.random.default_rng(0).permutation(np.arange(-128, 128)).astype(np.int8)
    got = post_process(values, np.zeros(1, dtype=np.int32), 1, 0, table).ravel()
    assert got.tolist() == [table[value & 0xFF] for value in range(-128, 128)]


def test_bias_and_relu_of_qlinearconv_differ_only_at_ties() -> None:
    # onnxruntime adds the bias in 32 bits, scales in float32 and rounds half to even: compared where the exact value
    # is farther from a tie than float32 errs. Its Relu stands behind the requantisation, as the table does.
    rng = np.random.default_rng(0)
    graph = """qconv (int8[N,I,H,W] x, float xs, int8[O,I,KH,KW] w, float[O] ws, float ys, int8 zero, int8[O] wz, int32[O] bias)
    => (int8[N,O,OH,OW] y) { conv = QLinearConv(x, xs, zero, w, ws, wz, ys, zero, bias)
    real = DequantizeLinear(conv, ys, zero)
    positive = Relu(real)
    y = QuantizeLinear(positive, ys, zero) }"""
    channels = 4096
    bias = rng.integers(-(1 << 20), 1 << 20, channels, dtype=np.int32)
    weights = rng.integers(-128, 128, (channels, 1, 1, 1), dtype=np.int8)
    scale = np.ldexp(rng.uniform(0.5, 1, channels), -13).astype(np.float32)
    one = np.array(1, dtype=np.float32)
    zero = {"zero": np.array(0, dtype=np.int8), "wz": np.zeros(channels, dtype=np.int8)}
    x = np.array(-77, dtype=np.int8).reshape(1, 1, 1, 1)
    theirs = session(graph).run(None, {"x": x, "xs": one, "w": weights, "ws": scale, "ys": one, "bias": bias} | zero)[0].ravel()
    acc = -77 * weights.ravel().astype(np.int32)
    ours = post_process(acc, bias, *quantize_scale(scale), activation_table(relu))
    real = (acc + bias) * scale.astype(np.float64)
    off_tie = np.abs(real - np.floor(real) - 0.5) > np.abs(real) * 2.0**-22
    assert off_tie.mean() > 0.99
    assert_array_equal(ours[off_tie], theirs[off_tie], strict=True)
    assert np.unique(ours).size > 100
    # A bias that is lost, and a Relu that is, are seen.
    for faulty in (requantize(acc, *quantize_scale(scale)), post_process(acc, bias, *quantize_scale(scale))):
        with pytest.raises(AssertionError, match="Mismatched"):
            assert_array_equal(faulty[off_tie], theirs[off_tie], strict=True)


def test_wider_results() -> None:
    acc, bias = np.array([[INT32_MAX, -500_000, 99]], dtype=np.int32), np.array([INT32_MAX, 7, 1], dtype=np.int32)
    for to, expected in (("int16", [32639, -32768, 50]), ("int32", [INT32_MAX, -249_997, 50])):
        assert_array_equal(post_process(acc, bias, 1, 1, to=to), np.array([expected]).astype(to), strict=True)  # type: ignore[arg-type]


FUNCTIONS = {"Relu": relu, "Gelu": gelu, "HardSwish": hard_swish}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("input_scale", "output_scale"), [(0.05, 0.05), (0.031, 0.02), (0.003, 0.001), (1.0, 1.0)])
def test_table_equals_onnxruntime(name: str, input_scale: float, output_scale: float) -> None:
    points = np.arange(-128, 128).astype(np.float32) * np.float32(input_scale)
    (real,) = session(f"f (float[N] x) => (float[N] y) {{ y = {name}(x) }}").run(None, {"x": points})
    real = real.astype(np.float64) / output_scale
    # Theirs errs by some float32 roundings of the result or of its largest term: compared off the ties.
    off_tie = np.abs(real - np.floor(real) - 0.5) > 1e-5 * np.maximum(1, np.abs(real))
    assert off_tie.sum() > 100
    expected = np.clip(np.rint(real), -128, 127).astype(np.int8)
    table = activation_table(FUNCTIONS[name], input_scale, output_scale)[np.arange(-128, 128) & 0xFF]
    assert_array_equal(table[off_tie], expected[off_tie], strict=True)
    shifted = np.roll(table, 1)
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_array_equal(shifted[off_tie], expected[off_tie], strict=True)


def test_activations_by_hand() -> None:
    points = np.array([-4.0, -3.0, -1.0, 0.0, 1.0, 3.0, 4.0])
    assert relu(points).tolist() == [0, 0, 0, 0, 1, 3, 4]
    np.testing.assert_allclose(hard_swish(points), [0, 0, -1 / 3, 0, 2 / 3, 3, 4])
    # The normal distribution function at 1 is 0.841344746...
    np.testing.assert_allclose(gelu(points)[[2, 4]], [-0.158655254, 0.841344746], rtol=1e-8)


def test_table_rounds_half_away_from_zero_and_saturates() -> None:
    table = activation_table(lambda x: x, 0.5, 1.0)
    assert table[[1, 3, 255, 253]].tolist() == [1, 2, -1, -2]
    assert activation_table(lambda x: x, 3.0, 1.0)[[43, 42, 256 - 43]].tolist() == [127, 126, -128]
    # Just below a tie: adding one half first would round up.
    assert activation_table(lambda x: x * 0 + np.nextafter(0.5, 0)).tolist() == [0] * 256
    assert_array_equal(activation_table(relu), np.r_[0:128, [0] * 128].astype(np.int8), strict=True)


@pytest.mark.parametrize("fault", ["bias after scaling", "32-bit sum", "table before scaling", "signed index"])
def test_comparison_sees_a_fault(fault: str) -> None:
    acc = np.linspace(-2000, 2000, 81).astype(np.int32)[:, None]
    bias = np.array([400], dtype=np.int32)
    table = activation_table(gelu, 0.03, 0.03)
    if fault == "32-bit sum":
        acc, bias = acc + np.int32(INT32_MAX - 2000), np.array([INT32_MAX], dtype=np.int32)
    shift = 26 if fault == "32-bit sum" else 4
    expected = np.array([table[exact(a + int(bias[0]), 1, shift) % 256] for a in acc.ravel().tolist()], dtype=np.int8)
    assert_array_equal(post_process(acc, bias, 1, shift, table).ravel(), expected, strict=True)
    none = np.zeros(1, dtype=np.int32)
    with np.errstate(over="ignore"):
        faulty: NDArray[np.int8] = {
            "bias after scaling": lambda: table[(requantize(acc, 1, shift) + bias) & 0xFF],
            "32-bit sum": lambda: post_process(acc + bias, none, 1, shift, table),
            "table before scaling": lambda: requantize(table[np.clip(acc + bias, -128, 127)].astype(np.int32), 1, shift),
            "signed index": lambda: table[requantize(acc + bias, 1, shift).astype(np.int64) + 128],
        }[fault]()
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_array_equal(faulty.ravel(), expected, strict=True)


ACC = np.zeros((2, 3), dtype=np.int32)
BIAS = np.zeros(3, dtype=np.int32)
TABLE = np.zeros(256, dtype=np.int8)


@pytest.mark.parametrize(
    ("args", "error", "sentence"),
    [
        ((ACC.astype(np.int64), BIAS, 1, 0), TypeError, "acc must be an int32 array, got int64"),
        ((ACC, BIAS.tolist(), 1, 0), TypeError, "bias must be an int32 array, got list"),
        ((np.array(0, dtype=np.int32), BIAS, 1, 0), ValueError, r"acc must have a channel axis .* got shape \(\)"),
        ((ACC, BIAS[:2], 1, 0), ValueError, r"bias must have shape \(C,\) = \(3,\), got shape \(2,\)"),
        ((ACC, np.array(0, dtype=np.int32), 1, 0), ValueError, r"bias must have shape .* got shape \(\)"),
        ((ACC, BIAS, 1 << 31, 0), ValueError, "multiplier must be in .* got 2147483648"),
        ((ACC, BIAS, 1, 63), ValueError, r"shift must be in \[0, 62\], got 63"),
        ((ACC, BIAS, np.ones(2, dtype=np.int32), 0), ValueError, r"multiplier must have shape .* \(3,\), got shape \(2,\)"),
        ((ACC, BIAS, 1, 0, TABLE.astype(np.uint8)), TypeError, "table must be an int8 array, got uint8"),
        ((ACC, BIAS, 1, 0, TABLE[:255]), ValueError, "table must have 256 entries, got 255"),
        ((ACC, BIAS, 1, 0, TABLE.reshape(2, 128)), ValueError, "table must have the 1 axes"),
        ((ACC, BIAS, 1, 0, TABLE, "int16"), ValueError, "a table gives int8, got a width of int16"),
    ],
)
def test_refusals(args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    refusing: Any = post_process
    with pytest.raises(error, match=sentence):
        refusing(*args)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((relu, 0.0), "input_scale must be positive and finite, got 0.0"),
        ((relu, 1.0, float("inf")), "output_scale must be positive and finite, got inf"),
        ((lambda x: x[:3],), r"must give 256 finite numbers, got 3 in shape \(3,\)"),
        ((lambda x: np.where(x > 5, np.nan, x),), r"must give 256 finite numbers, got 134 in shape \(256,\)"),
    ],
)
def test_table_refusals(args: tuple[Any, ...], sentence: str) -> None:
    refusing: Any = activation_table
    with pytest.raises(ValueError, match=sentence):
        refusing(*args)


@pytest.mark.parametrize("total", [(1 << 32) + 1, -(1 << 32) - 1, -(1 << 63), (1 << 63) - 1])
def test_totals_beyond_33_bits_are_refused(total: int) -> None:
    with pytest.raises(ValueError, match=rf"total must be in \[-4294967296, 4294967296\], got {total}"):
        requantize_wide(np.array([total]), 1, 0)
