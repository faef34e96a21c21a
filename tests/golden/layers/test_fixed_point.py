"""golden.layers.fixed_point against exact rational arithmetic."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.golden.layers.fixed_point import (
    LIMITS,
    MAX_ROUND_SHIFT,
    from_planes,
    require_int32,
    require_type,
    round_shift,
    saturate,
    to_planes,
)

INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
int64s = st.integers(INT64.min, INT64.max) | st.sampled_from([INT64.min, INT64.min + 1, -1, 0, 1, INT64.max])


def rounded(x: int, shift: int, rounding: str) -> int:
    value = Fraction(x, 1 << shift)
    if rounding == "half_even":
        return round(value)
    magnitude = (abs(value) + Fraction(1, 2)).__floor__()
    return -magnitude if value < 0 else magnitude


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(int64s, min_size=1, max_size=6), st.integers(0, MAX_ROUND_SHIFT), st.sampled_from(["half_away", "half_even"]))
@example([INT64.min, INT64.max], 0, "half_away")
@example([INT64.min, INT64.max], 63, "half_even")
def test_round_shift_equals_exact_arithmetic(xs: list[int], shift: int, rounding: Any) -> None:
    # Every number, and its neighbours on both sides of the nearest tie.
    near = [((x >> shift) << shift) + (1 << shift >> 1) + d for x in xs for d in (-1, 0, 1)]
    values = [x for x in xs + near if INT64.min <= x <= INT64.max]
    expected = np.array([rounded(x, shift, rounding) for x in values])
    assert_array_equal(round_shift(np.array(values), shift, rounding), expected, strict=True)


def test_one_number_and_a_shift_each() -> None:
    assert round_shift(np.array(INT64.min), 0) == INT64.min
    x, shifts = np.array([[5], [-5], [6]], dtype=np.int32), np.array([0, 1, 2, 63])
    assert round_shift(x, shifts).tolist() == [[5, 3, 1, 0], [-5, -3, -1, 0], [6, 3, 2, 0]]
    assert round_shift(x, shifts, "half_even").tolist() == [[5, 2, 1, 0], [-5, -2, -1, 0], [6, 3, 2, 0]]


@pytest.mark.parametrize("to", list(LIMITS))
def test_saturation(to: Any) -> None:
    least, largest = LIMITS[to]
    x = np.array([INT64.min, least - 1, least, least + 1, largest - 1, largest, largest + 1, INT64.max])
    expected = np.array([least, least, least, least + 1, largest - 1, largest, largest, largest]).astype(to)
    assert_array_equal(saturate(x, to), expected, strict=True)


def test_every_16_bit_value_has_its_planes() -> None:
    y = np.arange(-32768, 32640).astype(np.int16)
    hi, lo = to_planes(y)
    assert hi.dtype == lo.dtype == np.int8
    assert_array_equal(from_planes(hi, lo), y.astype(np.int32), strict=True)
    assert len({*zip(hi.tolist(), lo.tolist(), strict=True)}) == len(y)


def test_sums_of_planes_are_planes_of_sums() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(-32768, 32640, (50, 64)).astype(np.int16)
    w = rng.integers(-128, 128, (64, 7))
    hi, lo = (plane.astype(np.int64) @ w for plane in to_planes(y))
    assert_array_equal(from_planes(hi, lo), (y.astype(np.int64) @ w).astype(np.int32), strict=True)


def test_narrowing() -> None:
    ends = np.array([INT32.min, INT32.max], dtype=np.int64)
    assert_array_equal(require_int32("it", ends), ends.astype(np.int32), strict=True)
    with pytest.raises(OverflowError, match="it must be an int32, got 2147483648"):
        require_int32("it", ends + 1)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (round_shift, (np.array([0.5]), 1), TypeError, "x must be an integer or an array of integers, got float64"),
        (round_shift, (np.array([1], dtype=np.uint64), 1), TypeError, "x must be an integer .* got uint64"),
        (round_shift, (np.array([1]), True), TypeError, "shift must be an integer .* got bool"),
        (round_shift, (np.array([1]), -1), ValueError, r"shift must be in \[0, 63\], got -1"),
        (round_shift, (np.array([1, 1]), np.array([0, 64])), ValueError, r"shift must be in \[0, 63\], got 64"),
        (round_shift, (np.array([1]), 1, "up"), ValueError, "rounding must be 'half_away' or 'half_even', got 'up'"),
        (saturate, (np.array([1]), "int4"), ValueError, "a width must be one of int8, uint8, int16, int32, got 'int4'"),
        (saturate, (np.array([1.0]), "int8"), TypeError, "x must be an integer .* got float64"),
        (to_planes, (np.array([1]),), TypeError, "y must be an int16 array, got int64"),
        (to_planes, ([1],), TypeError, "y must be an int16 array, got list"),
        (to_planes, (np.array([32640], dtype=np.int16),), ValueError, r"y must be in \[-32768, 32639\], so .* got 32640"),
        (from_planes, (np.array([1]), np.array([1, 2])), ValueError, r"must have the same shape, got \(1,\) and \(2,\)"),
        (from_planes, (np.array([1.5]), np.array([1])), TypeError, "hi must be an integer .* got float64"),
        (from_planes, (np.array([1 << 23]), np.array([0])), OverflowError, r"256 \* hi \+ lo must be an int32, got 2147483648"),
        (require_type, ("it", np.zeros((2, 0), np.int8), np.int8), ValueError, r"it .* at least 1 axes, .* got shape \(2, 0\)"),
        (require_type, ("it", np.zeros(2, np.int8), np.int8, 2), ValueError, r"it .* at least 2 axes, .* got shape \(2,\)"),
        (require_type, ("it", np.zeros(2, np.int8), np.bool_), TypeError, "it must be a bool array, got int8"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)
