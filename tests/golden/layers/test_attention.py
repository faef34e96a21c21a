"""golden.layers.attention against sums in plain integers, real attention within its bound, and onnxruntime."""

from math import floor
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.attention import attention, attention_float, divide, scores, weighted_values
from podweave.golden.layers.softmax import causal_lengths, softmax, visible_keys
from podweave.ir.quantise import exp_table

STEP = np.exp(1 / 32) - 1


def operands(rng: np.random.Generator, kind: str, queries: int, keys: int, heads: int, groups: int, size: int) -> list[NDArray]:
    q = rng.integers(-32768, 32640, (queries, heads, size))
    k, v = (rng.integers(-128, 128, (keys, groups, size)) for _ in "kv")
    if kind == "all equal":
        k[:] = k[:1]
    elif kind == "one hot":
        # The first key of each group is far above all others for queries that are positive.
        q, k, v = np.abs(q) // 2 + 1, np.full_like(k, -128), v
        k[0] = 127
    elif kind == "zeros":
        q[:] = 0
    elif kind == "extremes":
        q, k, v = np.where(q > 0, 32639, -32768), np.where(k > 0, 127, -128), np.where(v > 0, 127, -128)
    return [q.astype(np.int16), k.astype(np.int8), v.astype(np.int8)]


def bound(
    q: NDArray, k: NDArray, v: NDArray, step: float, visible: NDArray[np.bool_], real: NDArray, largest: int = 4095
) -> NDArray[np.float64]:
    """How far a result may be from 256 times the ``real`` one."""
    shared = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), shared, axis=1) for x in (k, v))
    nats = np.where(visible, np.einsum("qhd,khd->hqk", q.astype(np.float64), keys) * step, -np.inf)
    total = np.exp(nats - nats.max(axis=-1, keepdims=True)).sum(axis=-1)
    d = (STEP + visible.sum(axis=-1) / (2 * largest * total)).T[..., None]
    there = visible[:, :, None, None]
    spread = np.where(there, values, -np.inf).max(axis=1) - np.where(there, values, np.inf).min(axis=1)
    return 256 * spread * d / (1 - d) + 0.5 + 2.0**-15 * 256 * (np.abs(real) + spread)


@pytest.mark.parametrize("kind", ["random", "all equal", "one hot", "zeros", "extremes"])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1)])
def test_bound_against_real_attention(kind: str, heads: int, groups: int) -> None:
    rng = np.random.default_rng(0)
    worst, squares = 0.0, []
    for seed, multiplier in enumerate([1 << 12, 1 << 16, 1 << 20, 3 << 14, 5 << 18]):
        q, k, v = operands(rng, kind, 500, 40, heads, groups, 16)
        visible = visible_keys(rng.integers(1, 41, 500), 40) if seed % 2 else rng.integers(0, 3, (500, 40)) > 0
        visible[:, 3] = True
        result = attention(q, k, v, multiplier, 32, visible)
        assert result.shape == (500, heads, 16)
        step = multiplier / 2**32 / 16
        real = attention_float(q, k, v, step, visible)
        # 127 in 256ths is below 32639: nothing saturates but -128 and rounding errors at it.
        error = np.abs(result - 256 * real)
        limit = bound(q, k, v, step, visible, real)
        assert np.all(error <= limit)
        worst = max(worst, float((error / limit).max()))
        squares.append((error**2).mean())
    if kind == "random":
        assert worst > 0.1
        assert np.sqrt(np.mean(squares)) < 60


def test_equals_sums_in_plain_integers() -> None:
    rng = np.random.default_rng(1)
    for queries, keys, heads, groups, size in ((3, 5, 4, 2, 6), (1, 7, 3, 3, 2), (4, 4, 2, 1, 8), (2, 1, 1, 1, 1)):
        q, k, v = operands(rng, "random", queries, keys, heads, groups, size)
        visible = rng.integers(0, 3, (queries, keys)) > 0
        multiplier, shift = rng.integers(1 << 14, 1 << 17, heads), rng.integers(28, 32, heads)
        result = attention(q, k, v, multiplier, shift, visible)
        table = exp_table().tolist()
        for row in range(queries):
            for head in range(heads):
                group = head // (heads // groups)
                products = [sum(int(a) * int(b) for a, b in zip(q[row, head], k[j, group], strict=True)) for j in range(keys)]
                seen = [p for p, there in zip(products, visible[row], strict=True) if there]
                weights = []
                for p, there in zip(products, visible[row], strict=True):
                    m, s = int(multiplier[head]), int(shift[head])
                    index = ((max(seen) - p) * m + (1 << s >> 1)) >> s if there else 0
                    weights.append(table[min(index, 255)] if there else 0)
                total = max(sum(weights), 1)
                bits = total.bit_length()
                mantissa = 2**31 // (total * 2**16 >> bits)
                for channel in range(size):
                    u = sum(e * int(x) for e, x in zip(weights, v[:, group, channel], strict=True))
                    magnitude = floor(abs(u) * mantissa / 2 ** (7 + bits) + 0.5)
                    expected = min(max(-magnitude if u < 0 else magnitude, -32768), 32639)
                    assert result[row, head, channel] == expected


def test_scores_and_values_by_head() -> None:
    rng = np.random.default_rng(2)
    q, k, v = operands(rng, "extremes", 5, 9, 6, 3, 32)
    found = scores(q, k)
    assert found.dtype == np.int32
    assert_array_equal(found, np.einsum("qhd,khd->hqk", q.astype(np.int64), np.repeat(k, 2, axis=1).astype(np.int64)))
    weights = rng.integers(0, 32640, (6, 5, 9)).astype(np.int16)
    assert_array_equal(
        weighted_values(weights, v), np.einsum("hqk,khd->hqd", weights.astype(np.int64), np.repeat(v, 2, axis=1).astype(np.int64))
    )


def test_decoding_is_the_last_row_of_prefill() -> None:
    q, k, v = operands(np.random.default_rng(3), "random", 12, 12, 4, 2, 16)
    whole = attention(q, k, v, 1 << 18, 32, visible_keys(causal_lengths(12, 12), 12))
    for length in range(1, 13):
        # What stands in the cache behind the length does not matter.
        one = attention(q[length - 1 : length], k, v, 1 << 18, 32, visible_keys(np.array([length]), 12))
        assert_array_equal(one[0], whole[length - 1], strict=True)
        assert_array_equal(
            attention(q[length - 1 : length], k[:length], v[:length], 1 << 18, 32)[0], whole[length - 1], strict=True
        )


def test_rows_without_keys_are_zeros() -> None:
    q, k, v = operands(np.random.default_rng(4), "random", 3, 4, 2, 1, 8)
    assert not attention(q, k, v, 1 << 18, 32, np.zeros((3, 4), dtype=bool)).any()


def test_division() -> None:
    rng = np.random.default_rng(5)
    total = np.exp2(rng.uniform(0, 24, 10_000)).astype(np.int32)
    mean = rng.uniform(-127, 127, (10_000, 3))
    values = np.rint(mean * total[:, None]).astype(np.int32)
    real = 256.0 * values / total[:, None]
    error = np.abs(divide(values, total) - np.clip(real, -32768, 32639))
    assert np.all(error <= 0.5 + 2.0**-15 * np.abs(real))
    assert divide(np.array([[5, -5]], dtype=np.int32), np.array([0], dtype=np.int32)).tolist() == [[1280, -1280]]


ATTENTION = """
f (float[G,R,D] q, float[G,D,T] k, float[G,T,D] v, float[R,T] mask) => (float[G,R,D] y) {
    product = MatMul(q, k)
    masked = Add(product, mask)
    weights = Softmax<axis=-1>(masked)
    y = MatMul(weights, v)
}
"""


def test_onnxruntime() -> None:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 13]>' + ATTENTION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    q, k, v = operands(np.random.default_rng(6), "random", 50, 40, 4, 2, 16)
    visible = visible_keys(causal_lengths(40, 40), 40)[np.arange(50) % 40]
    step = 1e-6
    floats = {
        "q": (q * step).astype(np.float32).reshape(50, 2, 2, 16).transpose(1, 2, 0, 3).reshape(2, 100, 16),
        "k": k.astype(np.float32).transpose(1, 2, 0),
        "v": v.astype(np.float32).transpose(1, 0, 2),
        "mask": np.tile(np.where(visible, 0, -np.inf), (2, 1)).astype(np.float32),
    }
    (theirs,) = session.run(None, floats)
    theirs = theirs.reshape(2, 2, 50, 16).transpose(2, 0, 1, 3).reshape(50, 4, 16)
    assert_allclose(attention_float(q, k, v, step, visible), theirs, rtol=1e-3, atol=1e-3)
    multiplier = round(step * 16 * 2**40)
    limit = bound(q, k, v, step, visible, theirs) + 1
    assert np.all(np.abs(attention(q, k, v, multiplier, 40, visible) - 256 * theirs) <= limit)
    # Heads that share other keys, and a mask that is one off, are seen.
    for faulty in (attention(q, k[:, ::-1], v[:, ::-1], multiplier, 40, visible), attention(q, k, v, multiplier, 40)):
        assert np.any(np.abs(faulty - 256 * theirs) > limit)


Q, K = np.zeros((2, 4, 8), dtype=np.int16), np.zeros((5, 2, 8), dtype=np.int8)
E, U, D = np.zeros((4, 2, 5), dtype=np.int16), np.zeros((4, 2, 8), dtype=np.int32), np.zeros((4, 2), dtype=np.int32)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (scores, (Q.astype(np.int8), K), TypeError, "q must be an int16 array, got int8"),
        (scores, (Q + np.int16(32640), K), ValueError, r"q must be in \[-32768, 32639\], .* got 32640"),
        (scores, (Q[0], K), ValueError, r"q must have at least 3 axes, .* got shape \(4, 8\)"),
        (scores, (Q[None], K), ValueError, r"q must be \(Q, H, D\) and k \(K, G, D\), got \(1, 2, 4, 8\) and \(5, 2, 8\)"),
        (scores, (Q, K[..., :7]), ValueError, r"q must be .* got \(2, 4, 8\) and \(5, 2, 7\)"),
        (scores, (Q, K.astype(np.int16)), TypeError, "k must be an int8 array, got int16"),
        (scores, (Q[:, :3], K), ValueError, "heads of k must divide those of the queries, got 2 and 3"),
        (weighted_values, (E.astype(np.int32), K), TypeError, "weights must be an int16 array, got int32"),
        (weighted_values, (E, K[:4]), ValueError, r"weights must be \(H, Q, K\) and v .* \(4, 2, 5\) and \(4, 2, 8\)"),
        (weighted_values, (E[:3], K), ValueError, "heads of v must divide those of the queries, got 2 and 3"),
        (divide, (U.astype(np.int64), D), TypeError, "values must be an int32 array, got int64"),
        (divide, (U, D.astype(np.int64)), TypeError, "total must be an int32 array, got int64"),
        (divide, (U, D[:3]), ValueError, r"total must have shape \(4, 2\), one for each row of values, got \(3, 2\)"),
        (divide, (U, D - 1), ValueError, r"total must be in \[0, 2147483647\], got -1"),
        (
            attention,
            (Q, K, K, np.ones(3, int), 0),
            ValueError,
            r"multiplier must have shape \(\) or \(H,\) = \(4,\), got shape \(3,\)",
        ),
        (attention, (Q, K, K, 1, 0.5), TypeError, "shift must be an integer .* got float64"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)


def test_sums_that_leave_int32_are_refused() -> None:
    q, k = np.full((1, 1, 512), -32768, dtype=np.int16), np.full((1, 1, 512), -128, dtype=np.int8)
    assert scores(q[..., :511], k[..., :511]).item() == 511 << 22
    with pytest.raises(OverflowError, match=r"256 \* hi \+ lo must be an int32, got 2147483648"):
        scores(q, k)
    # 4,097 keys of equal scores are the most for a table of 4095, whatever the values.
    v = np.full((4098, 1, 1), -128, dtype=np.int8)
    weights, _ = softmax(np.zeros((1, 1, 4098), dtype=np.int32), 1, 0)
    assert weighted_values(weights[..., :4097], v[:4097]).item() == -128 * 4095 * 4097
    with pytest.raises(OverflowError, match="got -2148007680"):
        weighted_values(weights, v)
