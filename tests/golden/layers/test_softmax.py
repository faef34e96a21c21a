"""golden.layers.softmax against exact arithmetic, real softmax within its bound, and onnxruntime's Softmax."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.softmax import causal_lengths, softmax, softmax_float, visible_keys
from podweave.ir.quantise import exp_table

INT32 = np.iinfo(np.int32)
STEP = np.exp(1 / 32) - 1


def rows(kind: str, rng: np.random.Generator, count: int, keys: int) -> NDArray[np.int32]:
    """Rows of scores, 1/16 nat per 1000."""
    spread = np.exp(rng.uniform(0, np.log(400_000), (count, 1)))
    normal = np.rint(rng.standard_normal((count, keys)) * spread)
    return {
        "random": normal,
        "all equal": np.broadcast_to(normal[:, :1], normal.shape),
        "one hot": np.where(np.arange(keys) == rng.integers(0, keys, (count, 1)), 1e6, -1e6),
        "zeros": np.zeros((count, keys)),
        "extremes": np.where(rng.integers(0, 2, (count, keys)) > 0, INT32.max, INT32.min),
    }[kind].astype(np.int32)


def bound(scores: NDArray[np.int32], step: float, visible: NDArray[np.bool_], largest: int) -> NDArray[np.float64]:
    """d / (1 - d), for each row."""
    nats = np.where(visible, scores * step, -np.inf)
    total = np.exp(nats - nats.max(axis=-1, keepdims=True)).sum(axis=-1)
    d = STEP + visible.sum(axis=-1) / (2 * largest * total)
    return d / (1 - d)


@pytest.mark.parametrize("kind", ["random", "all equal", "one hot", "zeros", "extremes"])
@pytest.mark.parametrize("largest", [4095, 32639])
def test_bound_against_real_softmax(kind: str, largest: int) -> None:
    rng = np.random.default_rng(0)
    scores = rows(kind, rng, 10_000, 48)
    visible = visible_keys(rng.integers(1, 49, 10_000), 48)
    weights, total = softmax(scores, 1073742, 30, visible, exp_table(largest))
    step = 1073742 / 2**30 / 16
    real = softmax_float(scores * step, visible)
    error = weights / total[:, None] - real
    assert np.all(np.abs(error).sum(axis=-1) <= 2 * bound(scores, step, visible, largest))
    assert np.all(np.abs(error).max(axis=-1) <= bound(scores, step, visible, largest))
    assert_array_equal(weights.sum(axis=-1, dtype=np.int64), total)
    if kind in ("all equal", "zeros"):
        assert_array_equal(weights, np.where(visible, largest, 0))


def exact(scores: list[int], visible: list[bool], multiplier: int, shift: int, table: list[int]) -> list[int]:
    seen = [s for s, there in zip(scores, visible, strict=True) if there]
    weights = []
    for score, there in zip(scores, visible, strict=True):
        index = floor((max(seen) - score) * Fraction(multiplier, 1 << shift) + Fraction(1, 2)) if there else 0
        weights.append(table[min(index, 255)] if there else 0)
    return weights


def test_equals_exact_arithmetic() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(INT32.min, INT32.max + 1, (3, 50, 9), dtype=np.int32) >> rng.integers(0, 31, (3, 50, 1), dtype=np.int32)
    visible = rng.integers(0, 4, (50, 9)) > 0
    multiplier, shift = rng.integers(0, 1 << 31, (3, 1, 1)), rng.integers(20, 50, (3, 50, 1))
    table = exp_table(3000)
    weights, total = softmax(scores, multiplier, shift, visible, table)
    assert (weights.dtype, total.dtype) == (np.int16, np.int32)
    for head in range(3):
        for row in range(50):
            m, s = int(multiplier[head, 0, 0]), int(shift[head, row, 0])
            expected = exact(scores[head, row].tolist(), visible[row].tolist(), m, s, table.tolist())
            assert weights[head, row].tolist() == expected
            assert total[head, row] == sum(expected)


def test_rows_without_keys_are_zeros() -> None:
    weights, total = softmax(np.array([[INT32.max, 5], [1, 2]], dtype=np.int32), 1, 0, np.array([[False], [True]]))
    assert (weights.tolist(), total.tolist()) == ([[0, 0], [3847, 4095]], [0, 7942])
    assert softmax_float(np.zeros((1, 2)), np.array([False, False])).tolist() == [[0, 0]]


def test_hidden_scores_are_never_the_largest() -> None:
    scores = np.array([[5, INT32.max, 3]], dtype=np.int32)
    assert softmax(scores, 1, 0, np.array([True, False, True]))[0].tolist() == [[4095, 0, int(exp_table()[2])]]


def test_onnxruntime() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> f (float[N,C] x) => (float[N,C] y) { y = Softmax<axis=-1>(x) }'
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = rows("random", np.random.default_rng(2), 10_000, 48)
    nats = scores * (1073742 / 2**30 / 16)
    (theirs,) = session.run(None, {"x": nats.astype(np.float32)})
    assert_allclose(softmax_float(nats), theirs, rtol=1e-4, atol=1e-6)
    weights, total = softmax(scores, 1073742, 30)
    limit = bound(scores, 1073742 / 2**30 / 16, np.ones(scores.shape, dtype=bool), 4095)
    error = np.abs(weights / total[:, None] - theirs)
    assert np.all(error.max(axis=-1) <= limit + 1e-4)
    assert np.sqrt((error**2).mean()) < 0.002
    # A table of twice the step, and one that ends too early, are seen.
    for faulty in (
        exp_table()[np.minimum(np.arange(256) * 2, 255)],
        np.where(np.arange(256) < 8, exp_table(), 0).astype(np.uint16),
    ):
        wrong, sums = softmax(scores, 1073742, 30, table=faulty)
        assert np.any(np.abs(wrong / sums[:, None] - theirs).max(axis=-1) > limit + 1e-4)


def test_visible_keys_and_causal_lengths() -> None:
    assert visible_keys(np.array([0, 2]), 2).tolist() == [[False, False], [True, True]]
    assert causal_lengths(4, 4).tolist() == [1, 2, 3, 4]
    assert causal_lengths(1, 7).tolist() == [7]
    assert_array_equal(visible_keys(causal_lengths(5, 9), 9), np.tri(5, 9, 4) > 0)


ROWS = np.zeros((2, 3), dtype=np.int32)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (softmax, (ROWS.astype(np.int64), 1, 0), TypeError, "scores must be an int32 array, got int64"),
        (softmax, (ROWS[:, :0], 1, 0), ValueError, r"scores must have at least 1 axes, .* got shape \(2, 0\)"),
        (softmax, (ROWS, 1.5, 0), TypeError, "multiplier must be an integer .* got float64"),
        (softmax, (ROWS, 1 << 31, 0), ValueError, "multiplier must be in .* got 2147483648"),
        (softmax, (ROWS, np.ones((3, 1), int), 0), ValueError, r"multiplier must .* to rows \(2, 1\), got \(3, 1\)"),
        (softmax, (ROWS, 1, 63), ValueError, r"shift must be in \[0, 62\], got 63"),
        (softmax, (ROWS, 1, 0, np.ones(3)), TypeError, "visible must be a bool array, got float64"),
        (softmax, (ROWS, 1, 0, np.ones(2, bool)), ValueError, r"visible must broadcast to .* \(2, 3\), got \(2,\)"),
        (softmax, (ROWS, 1, 0, None, np.zeros(256)), TypeError, "table must be a uint16 array, got float64"),
        (softmax, (ROWS, 1, 0, None, exp_table()[:9]), ValueError, r"table must have 256 entries .* got shape \(9,\)"),
        (softmax, (ROWS, 1, 0, None, exp_table(32640)), ValueError, "entries of at most 32639, got .* largest 32640"),
        (visible_keys, (np.array([1.0]), 2), TypeError, "lengths must be an integer .* got float64"),
        (visible_keys, (np.array([3]), 2), ValueError, r"lengths must be in \[0, 2\], the number of keys, got 3"),
        (causal_lengths, (0, 1), ValueError, "at least 1 query and as many keys, got 0 queries and 1 keys"),
        (causal_lengths, (3, 2), ValueError, "got 3 queries and 2 keys"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)


def test_sums_of_weights_that_leave_int32_are_refused() -> None:
    many = np.broadcast_to(np.int32(0), (1, 65_797))
    with pytest.raises(OverflowError, match="a sum of weights must be an int32, got 2147"):
        softmax(many, 1, 0, table=exp_table(32639))
