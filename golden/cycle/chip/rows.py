"""Cycle model of the row functions of a post-processor: combined words, wide results, statistics, row registers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from ..ports import wrap

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HORNER, PAIR = 2, 3
PRODUCT, ROTATE = 1, 2
NOWHERE, X, PLANES, STORE, ADD = range(5)
SUM, MAX, ARGMAX = 1, 2, 3
RECIPROCAL, RSQRT = 1, 2
ELEMENT_BITS, STATISTIC_BITS = 18, 48
LIMITS = {0: (-128, 127), 1: (0, 255), 2: (-32768, 32639)}
"""Of saturation, by code; the other one is that of partial sums."""


@dataclass(frozen=True, kw_only=True)
class RowGeometry:
    """``registers``: of rows, and lengths. ``stages``: of the statistics network. ``scalar_cycles``: from value to scale."""

    registers: int
    stages: int
    scalar_cycles: int = 8


def combined(words: Ints, code: Ints) -> Ints:
    """(n, lanes) reduced words, as the code (n,) of each says; 33 bits at most.

    By hand, a pair (3, 5) with its neighbour (2, 7): 15 and 14; rotated, 3 * 5 - 2 * 7 and 5 * 2 + 7 * 3:

    >>> words = np.array([[3 << 16 | 5, 2 << 16 | 7]])
    >>> combined(words, np.array([1])).tolist(), combined(words, np.array([2])).tolist()
    ([[15, 14]], [[1, 31]])
    """
    first, second = wrap(words >> 16, 16), wrap(words, 16)
    own = first * second
    result = np.where(code[:, None] == PRODUCT, own, words)
    if words.shape[1] > 1:
        a, b, cosine, sine = second[:, ::2], second[:, 1::2], first[:, ::2], first[:, 1::2]
        turned = np.stack([a * cosine - b * sine, a * sine + b * cosine], axis=2).reshape(words.shape)
        result = np.where(code[:, None] == ROTATE, turned, result)
    return result


def scaled(
    total: Ints, multiplier: Ints, shift: Ints, limits: tuple[Ints, Ints], *, even: bool, zero_point: Ints | int = 0
) -> Ints:
    """total * multiplier / 2**shift, rounded to nearest, plus ``zero_point``, within ``limits``; element by element.

    >>> low, high = np.array([-128]), np.array([127])
    >>> [scaled(np.array([n]), np.array([1]), np.array([1]), (low, high), even=e).item() for n in (5, -3) for e in (False, True)]
    [3, 2, -2, -2]
    """
    # At most 2**32 * (2**31 - 1): a shift of 64 or more leaves nothing.
    product = np.abs(total).astype(np.uint64) * multiplier.astype(np.uint64)
    places = np.minimum(shift, 63).astype(np.uint64)
    one = np.uint64(1)
    half = (one << places) >> one
    if even:
        whole, rest = product >> places, product & ((one << places) - one)
        up = (rest > half) | ((rest == half) & (places > 0) & (whole & one == one))
        magnitude = whole + up.astype(np.uint64)
    else:
        magnitude = (product + half) >> places
    magnitude = np.where(shift > 63, np.uint64(0), np.minimum(magnitude, np.uint64(1) << np.uint64(40))).astype(np.int64)
    return np.clip(np.where(total < 0, -magnitude, magnitude) + zero_point, *limits)


def scale_of(value: int, code: int) -> tuple[int, int]:
    """Mantissa and shift of a value.

    A tenth: n = 4, 10 * 2**12 = 40960, 2**31 // 40960 = 52428, which is 0.1 * 2**15 * 2**4; one root of ten: n = 4 as well, i =
    160, 2**23 / sqrt(41088) = 41384.2:

    >>> scale_of(10, 1), scale_of(10, 2), scale_of(-5, 1)
    ((52428, 4), (41384, 2), (65536, 1))
    """
    value = max(1, value)
    n = value.bit_length()
    if code == RSQRT:
        n += n % 2
    normal = value << 16 >> n
    if code == RECIPROCAL:
        return (1 << 31) // normal, n
    # The nearest integer to 2**23 / sqrt(y) is that of sqrt(2**46 / y), for which integers suffice.
    doubled = isqrt((4 << 46) // (256 * (normal >> 8) + 128))
    return (doubled + 1) // 2, n // 2


@dataclass
class Part:
    """The statistic of some elements of a row; ``known``: whether it depends on what nobody wrote."""

    value: int
    element: int
    known: bool

    def with_next(self, other: Part, kind: int) -> Part:
        """Both; the elements of ``other`` come after."""
        known = self.known and other.known
        if kind == SUM:
            return Part(int(wrap(np.array(self.value + other.value), STATISTIC_BITS)), self.element, known)
        later = other.value > self.value
        return Part(*((other.value, other.element) if later else (self.value, self.element)), known)


def beat_part(values: Ints, there: Bools, known: Bools, element: int, kind: int, width: int) -> Part:
    """That of the lanes of a beat."""
    absent = 0 if kind == SUM else -(1 << width)
    counted = np.where(there, values, absent)
    if kind == SUM:
        return Part(int(counted.sum()), element, bool(known.all()))
    lane = int(counted.argmax())
    return Part(int(counted[lane]), (element + lane) % (1 << ELEMENT_BITS), bool(known.all()))


class Readiness:
    """When row registers are ready: from the cycle after a set on, to the cycle of a clear; a set in that cycle counts."""

    def __init__(self, sets: Iterable[tuple[int, int]], clears: Iterable[tuple[int, int]]):
        # (cycle, row) of each; a set behind a clear of the same cycle.
        self._events: dict[int, list[tuple[int, int]]] = {}
        for is_set, events in ((0, clears), (1, sets)):
            for cycle, row in events:
                self._events.setdefault(row, []).append((cycle, is_set))
        for found in self._events.values():
            found.sort()

    def at(self, cycle: int, row: int) -> bool:
        state = 0
        for when, is_set in self._events.get(row, ()):
            if when >= cycle:
                break
            state = is_set
        return bool(state)


@dataclass(frozen=True)
class Arrival:
    """A statistic that arrives: the cycle, its row, what is made of it, and whether the element is its value."""

    cycle: int
    row: int
    scalar: int
    takes_element: bool


def begun_scales(arrivals: Iterable[Arrival], cycles: int) -> tuple[list[Arrival], list[Arrival]]:
    """Those of which a scale is made, and those that want one while another is being made."""
    begun: list[Arrival] = []
    lost: list[Arrival] = []
    free = 0
    for arrival in arrivals:
        if arrival.scalar not in (RECIPROCAL, RSQRT):
            continue
        if arrival.cycle >= free:
            begun.append(arrival)
            free = arrival.cycle + cycles
        else:
            lost.append(arrival)
    return begun, lost
