"""compiler.lower.address_walk: increments give the addresses of nested loops."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.lower.address_walk import increments, increments_of_each

LOOPS = st.lists(st.tuples(st.integers(1, 4), st.integers(-20, 20)), min_size=1, max_size=4)


def walked(counts: list[int], steps: list[int]) -> list[int]:
    """Addresses as the hardware walks: the outermost loop that advances adds its increment, all inside it begin again."""
    address, left, found = 0, list(counts), [0]
    while any(n > 1 for n in left):
        loop = next(i for i, n in enumerate(left) if n > 1)
        left[loop] -= 1
        left[:loop] = counts[:loop]
        address += steps[loop]
        found.append(address)
    return found


@settings(derandomize=True, deadline=None, max_examples=300)
@given(LOOPS)
def test_addresses_are_those_of_the_strides(loops: list[tuple[int, int]]) -> None:
    counts, strides = [count for count, _ in loops], [stride for _, stride in loops]
    expected = [
        sum(i * stride for i, stride in zip(reversed(index), strides, strict=True))
        for index in itertools.product(*(range(count) for count in reversed(counts)))
    ]
    assert walked(counts, increments(counts, strides)) == expected


@settings(derandomize=True, deadline=None, max_examples=100)
@given(LOOPS)
def test_loops_of_one_trip_add_nothing(loops: list[tuple[int, int]]) -> None:
    """Their stride may be larger than the field of a job."""
    counts = [count for count, _ in loops]
    found = increments(counts, [stride if count > 1 else 10**9 for count, stride in loops])
    assert [step for count, step in zip(counts, found, strict=True) if count == 1] == [0] * counts.count(1)
    assert all(abs(step) < 10**6 for step in found)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.tuples(st.integers(1, 5), st.integers(-40, 40))] * 3), min_size=1, max_size=6))
def test_of_arrays_as_of_numbers(rows: list[tuple[tuple[int, int], ...]]) -> None:
    counts, strides = np.moveaxis(np.array(rows, np.int64), 2, 0)
    found = increments_of_each(list(counts.T), list(strides.T))
    assert np.array(found).T.tolist() == [
        increments(of_row, step) for of_row, step in zip(counts.tolist(), strides.tolist(), strict=True)
    ]
