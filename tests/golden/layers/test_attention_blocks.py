"""golden.layers.attention_blocks: blocks of keys against all keys at once, and against real attention."""

from fractions import Fraction
from functools import reduce
from itertools import pairwise
from math import exp, floor
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.attention import attention, attention_float
from podweave.golden.layers.attention_blocks import MAX_HEADROOM, Partial, attend_block, finish, merge
from podweave.golden.layers.softmax import visible_keys

INT32 = np.iinfo(np.int32)
SCALE = (181_003, 32)
NATS = SCALE[0] / 2 ** SCALE[1] / 16


def operands(seed: int, queries: int, keys: int) -> tuple[NDArray, NDArray, NDArray]:
    """Of 4 heads, 2 of them sharing keys, whose scores get larger and then smaller again with the keys."""
    rng = np.random.default_rng(seed)
    q = rng.integers(-9000, 9000, (queries, 4, 16)).astype(np.int16)
    size = np.sin(np.linspace(0, np.pi, keys))[:, None, None] * 120
    k = np.rint(rng.uniform(-1, 1, (keys, 2, 16)) * size).astype(np.int8)
    return q, k, rng.integers(-128, 128, (keys, 2, 16)).astype(np.int8)


def in_blocks(q: NDArray, k: NDArray, v: NDArray, cuts: list[int], visible: NDArray[np.bool_], **more: Any) -> Partial:
    parts = [attend_block(q, k[a:b], v[a:b], *SCALE, visible[:, a:b], **more) for a, b in pairwise([0, *cuts, len(k)])]
    return reduce(merge, parts)


def bound(
    q: NDArray, k: NDArray, v: NDArray, visible: NDArray[np.bool_], merged: Partial | None, blocks: int
) -> NDArray[np.float64]:
    """How far from real attention blocks may be, or (None) all keys at once."""
    keys, values = (np.repeat(x.astype(np.float64), 2, axis=1) for x in (k, v))
    nats = np.where(visible, np.einsum("qhd,khd->hqk", q.astype(np.float64), keys) * NATS, -np.inf)
    total = 4095 * np.exp(nats - nats.max(axis=-1, keepdims=True)).sum(axis=-1)
    n = visible.sum(axis=1)
    d = np.exp(1 / 32) - 1 + n / (2 * total)
    if merged:
        d = np.exp(1 / 32 + 1 / 4096 + 3 * (blocks - 1) / 2**15) * (1 + n * (0.5 + 3 * 4095 / 2**16) / total) - 1
    d = d.T[..., None]
    there = visible[:, :, None, None]
    most, least = np.where(there, values, -np.inf).max(axis=1), np.where(there, values, np.inf).min(axis=1)
    largest = np.maximum(np.abs(most), np.abs(least))
    limit = 256 * (most - least) * d / (1 - d) + 0.5 + 2.0**-7 * largest
    return limit + (256 * blocks * (1 + largest) / merged.total.T[..., None] if merged else 0)


@pytest.mark.parametrize("cuts", [[], [64], [1], [10, 20, 30], [16, 32, 48, 64, 80, 96, 112], list(range(1, 128))])
@pytest.mark.parametrize("headroom", [0, 3])
def test_bounds(cuts: list[int], headroom: int) -> None:
    q, k, v = operands(len(cuts), 200, 128)
    visible = visible_keys(np.random.default_rng(1).integers(1, 129, 200), 128)
    merged = in_blocks(q, k, v, cuts, visible, headroom=headroom)
    result, whole = finish(merged), attention(q, k, v, *SCALE, visible)
    real = 256 * attention_float(q, k, v, NATS, visible)
    limit, limit_of_whole = bound(q, k, v, visible, merged, len(cuts) + 1), bound(q, k, v, visible, None, 1)
    assert np.all(np.abs(whole - real) <= limit_of_whole)
    assert np.all(np.abs(result - real) <= limit)
    assert np.all(np.abs(result.astype(np.int64) - whole) <= limit + limit_of_whole)
    if not headroom:
        # Blocks add next to nothing, whatever their number.
        assert np.sqrt(((result - real) ** 2).mean()) < 1.02 * np.sqrt(((whole - real) ** 2).mean())
    if not cuts and not headroom:
        assert_array_equal(result, whole, strict=True)


@pytest.mark.parametrize("kind", ["all equal", "one hot", "zeros", "extremes"])
def test_bounds_of_every_kind(kind: str) -> None:
    q, k, v = operands(13, 2500, 40)
    if kind == "all equal":
        k[:] = k[20]
    elif kind == "one hot":
        q, k = np.abs(q) + np.int16(1), np.full_like(k, -128)
        k[17] = 127
    elif kind == "zeros":
        q, k = np.zeros_like(q), np.zeros_like(k)
    else:
        q = np.where(q > 0, 32639, -32768).astype(np.int16)
        k, v = (np.where(x > 0, 127, -128).astype(np.int8) for x in (k, v))
    visible = visible_keys(np.random.default_rng(14).integers(1, 41, 2500), 40)
    merged = in_blocks(q, k, v, [8, 16, 24, 32], visible)
    real = 256 * attention_float(q, k, v, NATS, visible)
    assert np.all(np.abs(finish(merged) - real) <= bound(q, k, v, visible, merged, 5))


def test_the_order_of_blocks_does_not_matter() -> None:
    q, k, v = operands(9, 50, 96)
    one, two, three = (attend_block(q, k[a : a + 32], v[a : a + 32], *SCALE) for a in (0, 32, 64))
    for a, b in zip(merge(one, two), merge(two, one), strict=True):
        assert_array_equal(a, b, strict=True)
    left, right = merge(merge(one, two), three), merge(one, merge(two, three))
    assert_array_equal(left.peak, right.peak, strict=True)
    # Two roundings each, and two of factors.
    assert np.all(np.abs(left.total - right.total) <= 2 + left.total * 2.0**-13)


def test_a_shared_prefix_and_private_parts() -> None:
    q, k, v = operands(10, 8, 64)
    prefix = attend_block(q, k[:48], v[:48], *SCALE)
    for length in (0, 1, 16):
        visible = visible_keys(np.full(8, length), 16)
        private = attend_block(q, k[48:], v[48:], *SCALE, visible)
        result = finish(merge(prefix, private))
        if length == 0:
            assert_array_equal(result, finish(prefix), strict=True)
        keys, values = k[: 48 + length], v[: 48 + length]
        real = 256 * attention_float(q, keys, values, NATS)
        whole = attention(q, keys, values, *SCALE)
        assert np.sqrt(((result - real) ** 2).mean()) < 1.1 * np.sqrt(((whole - real) ** 2).mean())


def test_nothing_and_nothing_is_nothing() -> None:
    q, k, v = operands(11, 4, 8)
    nothing = attend_block(q, k, v, *SCALE, np.zeros((4, 8), dtype=bool))
    assert not finish(merge(nothing, nothing)).any()
    something = attend_block(q, k, v, *SCALE)
    for both in (merge(nothing, something), merge(something, nothing)):
        for a, b in zip(both, something, strict=True):
            assert_array_equal(a, b, strict=True)


def test_peaks() -> None:
    rng = np.random.default_rng(12)
    q, k = rng.integers(-32768, 32640, (40, 2, 4)).astype(np.int16), rng.integers(-128, 128, (6, 1, 4)).astype(np.int8)
    multiplier, shift = [3_000_001, 1 << 20], [33, 35]
    found = attend_block(q, k, k, np.array(multiplier), np.array(shift)).peak
    for head in range(2):
        scores = q[:, head].astype(np.int64) @ k[:, 0].T.astype(np.int64)
        real = [Fraction(top * multiplier[head], 1 << (shift[head] - 8)) for top in scores.max(axis=1).tolist()]
        assert found[head].tolist() == [floor(abs(x) + Fraction(1, 2)) * (1 if x > 0 else -1) for x in real]


def test_factors_in_plain_integers() -> None:
    def partial(peak: int, total: int, value: int) -> Partial:
        return Partial(*(np.array(x, dtype=np.int32) for x in ([[peak]], [[total]], [[[value]]])))

    half = 1 << 14
    for below in (0, 1, 255, 256, 257, 4096, 12_345, 65_535, 65_536, 1 << 30):
        coarse = round(2**15 * exp(-min(below >> 8, 255) / 16))
        factor = coarse * round(2**15 * exp(-(below & 255) / 4096)) + half >> 15
        assert abs(factor - 2**15 * exp(-below / 4096)) <= 1.5
        found = merge(partial(below - 7, 1000, -500_000), partial(-7, 3000, 200_001))
        expected = [below - 7, 1000 + (3000 * factor + half >> 15), -500_000 + (200_001 * factor + half >> 15)]
        assert [x.item() for x in found] == expected
    extremes = merge(partial(INT32.max, 5, 6), partial(INT32.min, 7, 8))
    assert [x.item() for x in extremes] == [INT32.max, 5, 6]


def test_headroom_takes_more_keys_than_an_int32() -> None:
    q, k, v = np.zeros((1, 1, 1), np.int16), np.zeros((4000, 1, 1), np.int8), np.full((4000, 1, 1), -128, np.int8)
    block = attend_block(q, k, v, *SCALE)
    with pytest.raises(OverflowError, match="a merged value must be an int32, got -4193280000"):
        merge(block, block)
    block = attend_block(q, k, v, *SCALE, headroom=MAX_HEADROOM)
    assert finish(reduce(merge, [block] * 200)).item() == -32768


ONE = Partial(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.int32), np.zeros((2, 3, 4), np.int32))
Q, K = np.zeros((3, 2, 4), np.int16), np.zeros((5, 2, 4), np.int8)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (merge, (ONE, ONE._replace(total=np.zeros((2, 3)))), TypeError, "total must be an int32 array, got float64"),
        (
            merge,
            (ONE, Partial(*(x[:1] for x in ONE))),
            ValueError,
            r"must be of the same rows, got shapes .* 3, 4",
        ),
        (merge, (ONE._replace(peak=ONE.peak[:1]),) * 2, ValueError, "partial results must be of the same rows"),
        (attend_block, (Q, K, K, 1, 7), ValueError, "shift must be at least 8 for blocks of keys, got 7"),
        (attend_block, (Q, K, K, 1, 14, None, None, 9), ValueError, r"headroom must be in \[0, 8\], got 9"),
        (attend_block, (Q, K, K, np.ones(3, int), 14), ValueError, r"multiplier must have shape .* \(2,\), got shape \(3,\)"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)
