"""golden.cycle.ports: delays, two's complement and registers that hold, worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.golden.cycle.ports import PortTrace, delay, held, wrap


@pytest.mark.parametrize(
    ("cycles", "expected"),
    [(0, [5, 6, 7]), (1, [0, 5, 6]), (2, [0, 0, 5]), (3, [0, 0, 0]), (4, [0, 0, 0]), (9, [0, 0, 0])],
)
def test_delay(cycles: int, expected: list[int]) -> None:
    values = np.array([5, 6, 7], np.int8)
    assert_array_equal(delay(values, cycles), np.array(expected, np.int8), strict=True)
    assert values.tolist() == [5, 6, 7]


def test_delay_of_lanes_and_of_bits() -> None:
    lanes = np.array([[1, 2], [3, 4], [5, 6]])
    assert delay(lanes, 1).tolist() == [[0, 0], [1, 2], [3, 4]]
    assert_array_equal(delay(np.array([True, True, False]), 1), np.array([False, True, True]), strict=True)
    assert delay(np.zeros((0, 4)), 2).shape == (0, 4)


@pytest.mark.parametrize(
    ("value", "width", "expected"),
    [
        (0, 8, 0),
        (127, 8, 127),
        (128, 8, -128),
        (255, 8, -1),
        (256, 8, 0),
        (-128, 8, -128),
        (-129, 8, 127),
        (1, 1, -1),
        (2**31 - 1, 32, 2**31 - 1),
        (2**31, 32, -(2**31)),
        (-(2**31) - 1, 32, 2**31 - 1),
        (2**16, 17, -(2**16)),
    ],
)
def test_wrap_by_hand(value: int, width: int, expected: int) -> None:
    assert_array_equal(wrap(np.array([[value]]), width), np.array([[expected]]), strict=True)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(-(2**50), 2**50), st.integers(1, 40))
def test_wrap_is_in_range_and_congruent(value: int, width: int) -> None:
    wrapped = int(wrap(np.array([value]), width)[0])
    assert -(2 ** (width - 1)) <= wrapped < 2 ** (width - 1)
    assert (wrapped - value) % 2**width == 0


def test_wrap_of_a_narrow_type_does_not_overflow_it() -> None:
    assert wrap(np.array([127, -128], np.int8), 32).tolist() == [127, -128]


def test_held() -> None:
    valid = np.array([0, 0, 1, 0, 1, 1, 0], bool)
    trace = held(np.array([9, 9, 3, 9, 4, 5, 9], np.int8), valid)
    assert trace.value.tolist() == [0, 0, 3, 3, 4, 5, 5]
    assert trace.known.tolist() == [False, False, True, True, True, True, True]
    assert trace.value.dtype == np.int64


def test_held_from_the_first_cycle_on() -> None:
    trace = held(np.array([7, 8]), np.array([True, False]))
    assert trace.value.tolist() == [7, 7]
    assert trace.known.all()


def test_held_lanes() -> None:
    trace = held(np.array([[1, 2], [3, 4], [5, 6]]), np.array([False, True, False]))
    assert isinstance(trace, PortTrace)
    assert trace.value.tolist() == [[0, 0], [3, 4], [3, 4]]
    assert trace.known.tolist() == [[False, False], [True, True], [True, True]]


def test_what_was_never_written_stays_unknown() -> None:
    trace = held(np.array([1, 2]), np.array([False, False]))
    assert trace.value.tolist() == [0, 0]
    assert not trace.known.any()
