"""golden.layers.scalars and the tables of functions, over all mantissas and all entries."""

from math import erf, exp, isqrt
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.scalars import (
    MAX_SQUARES,
    MAX_SUM,
    reciprocal,
    reciprocal_float,
    reciprocal_square_root,
    reciprocal_square_root_float,
    reciprocal_square_root_table,
)
from podweave.ir.quantise import activation_table, exp_table, gelu, normal_distribution, sigmoid, silu, wide_table

SIGNED = np.arange(256, dtype=np.uint8).view(np.int8)


def ends_of_mantissas(least: int, bits: int) -> NDArray[np.int64]:
    """The first and the last number of ``bits`` bits for every mantissa of 16 bits from ``least``."""
    mantissas = np.arange(least, 1 << 16)
    return np.concatenate([mantissas << (bits - 16), ((mantissas + 1) << (bits - 16)) - 1])


@pytest.mark.parametrize("bits", [16, 17, 24, 31])
def test_reciprocal_of_every_mantissa(bits: int) -> None:
    total = ends_of_mantissas(1 << 15, bits)
    mantissa, found = reciprocal(total)
    assert_array_equal(found, np.full(len(total), bits))
    assert (mantissa.min(), mantissa.max()) == (32768, 65536)
    error = mantissa / 2.0 ** (15 + found) / reciprocal_float(total) - 1
    assert np.abs(error).max() < 2.0**-15
    assert np.sqrt((error**2).mean()) < 2.0**-16


def test_reciprocal_of_small_and_random_numbers() -> None:
    rng = np.random.default_rng(0)
    total = np.concatenate([np.arange(1, 1 << 16), rng.integers(1, MAX_SUM + 1, 10_000), [MAX_SUM]])
    mantissa, bits = reciprocal(total)
    assert bits.tolist() == [int(t).bit_length() for t in total]
    assert mantissa.tolist() == [2**31 // ((t << 16) >> t.bit_length()) for t in total.tolist()]
    assert np.abs(mantissa / 2.0 ** (15 + bits) * total - 1).max() < 2.0**-15


def test_nothing_divides_like_one() -> None:
    assert_array_equal(reciprocal(np.array([0, 1])), np.array([[65536, 65536], [1, 1]]))
    assert_array_equal(reciprocal_float(np.array([0.0, 1.0])), np.array([1.0, 1.0]))


@pytest.mark.parametrize("bits", [15, 16, 17, 18, 31, 32, 41])
def test_reciprocal_square_root_of_every_mantissa(bits: int) -> None:
    # With an odd number of bits the mantissa has 15.
    even = bits + bits % 2
    least, most = (1 << 15, 1 << 16) if bits == even else (1 << 14, 1 << 15)
    if even > 16:
        squares = np.concatenate([(m << (even - 16)) for m in (np.arange(least, most), np.arange(least, most) + 1)])
        squares[len(squares) // 2 :] -= 1
    else:
        squares = np.arange(1 << (bits - 1), 1 << bits)
    mantissa, found = reciprocal_square_root(squares)
    assert_array_equal(found, np.full(len(squares), even))
    error = mantissa / 2.0 ** (15 + found // 2) / reciprocal_square_root_float(squares) - 1
    assert np.abs(error).max() < 2.0**-8
    assert np.sqrt((error**2).mean()) < 2.0**-8.7


def test_reciprocal_square_root_of_small_and_random_numbers() -> None:
    rng = np.random.default_rng(0)
    spread = np.exp2(rng.uniform(0, 41, 10_000)).astype(np.int64)
    squares = np.concatenate([np.arange(1, 1 << 16), spread, rng.integers(1, MAX_SQUARES + 1, 10_000), [MAX_SQUARES]])
    mantissa, bits = reciprocal_square_root(squares)
    even = [(int(v).bit_length() + 1) // 2 * 2 for v in squares]
    assert bits.tolist() == even
    table = reciprocal_square_root_table().tolist()
    assert mantissa.tolist() == [table[((v << 16 >> n) >> 8) - 64] for v, n in zip(squares.tolist(), even, strict=True)]
    assert np.abs(mantissa * np.sqrt(squares) / 2.0 ** (15 + bits // 2) - 1).max() < 2.0**-8


def test_table_of_roots_in_integers() -> None:
    # round(2**23 / sqrt(d)) = isqrt(4 * 2**46 / d) halved, rounded: no entry is near a tie.
    halves = [isqrt((1 << 48) // (256 * i + 128)) for i in range(64, 256)]
    assert reciprocal_square_root_table().tolist() == [(half + 1) // 2 for half in halves]


@pytest.mark.parametrize("largest", [1, 127, 4095, 32639, 32768])
def test_exp_table(largest: int) -> None:
    table = exp_table(largest)
    assert table.dtype == np.uint16
    assert table.shape == (256,)
    assert table.tolist() == [round(largest * exp(-i / 16)) for i in range(256)]
    # What saturates has the last entry: less than half of the last place.
    assert table[255] == 0


def test_wide_tables() -> None:
    table = wide_table(sigmoid, 1 / 16, 2**-15)
    assert table.dtype == np.int16
    assert table.tolist() == [round(2**15 / (1 + exp(-int(b) / 16))) for b in SIGNED]
    normal = wide_table(normal_distribution, 1 / 16, 2**-15).tolist()
    assert normal == [min(round(2**14 * (1 + erf(int(b) / 16 / 2**0.5))), 32767) for b in SIGNED]
    # Rounded once to 16 bits; saturated, to int8 too.
    assert wide_table(lambda x: x, 300.5)[[1, 127, 128, 255]].tolist() == [301, 32767, -32768, -301]
    assert_array_equal(activation_table(gelu, 0.05, 0.05), np.clip(wide_table(gelu, 0.05, 0.05), -128, 127).astype(np.int8))


def test_functions() -> None:
    x = np.linspace(-800, 800, 1601)
    assert_allclose(sigmoid(x) + sigmoid(-x), 1, rtol=1e-15)
    assert_allclose(sigmoid(np.log([2.0, 4.0])), [2 / 3, 4 / 5], rtol=1e-15)
    assert_array_equal(silu(x), x * sigmoid(x))
    assert (sigmoid(x)[[0, -1]].tolist(), normal_distribution(np.zeros(1)).tolist()) == ([exp(-800), 1], [0.5])


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (reciprocal, (np.array([-1]),), ValueError, r"total must be in \[0, 2147483647\], got -1"),
        (reciprocal, (np.array([MAX_SUM + 1]),), ValueError, "total must be in .* got 2147483648"),
        (reciprocal, (np.array([1.0]),), TypeError, "total must be an integer or an array of integers, got float64"),
        (reciprocal_square_root, (np.array([1, 0]),), ValueError, r"squares must be in \[1, 2199023255551\], got 0"),
        (reciprocal_square_root, (np.array([1 << 41]),), ValueError, "squares must be in .* got 2199023255552"),
        (reciprocal_square_root, (np.array([1.0]),), TypeError, "squares must be an integer .* got float64"),
        (exp_table, (0,), ValueError, r"the largest entry of an exp table must be in \[1, 32768\], got 0"),
        (exp_table, (32769,), ValueError, "the largest entry .* got 32769"),
        (wide_table, (sigmoid, -1.0), ValueError, "input_scale must be positive and finite, got -1.0"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)
