"""What a cycle model says of a port."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PortTrace:
    """One output port over time.

    ``value``: (cycles,) or (cycles, lanes) integers. ``known``: the same shape, False where the port depends on a register
    that has not been written since power-on; there, and only there, hardware may show anything.
    """

    value: NDArray[np.int64]
    known: NDArray[np.bool_]


def delay(values: NDArray, cycles: int) -> NDArray:
    """``values`` along axis 0, ``cycles`` later; zeros before.

    >>> delay(np.array([5, 6, 7]), 1)
    array([0, 5, 6])
    """
    result = np.zeros_like(values)
    if cycles < len(values):
        result[cycles:] = values[: len(values) - cycles]
    return result


def wrap(values: NDArray, width: int) -> NDArray[np.int64]:
    """Two's complement of ``width`` bits.

    >>> wrap(np.array([127, 128, -129]), 8)
    array([ 127, -128,  127])
    """
    half = np.int64(1) << (width - 1)
    return ((values.astype(np.int64) + half) & ((np.int64(1) << width) - 1)) - half


def held(value: NDArray, valid: NDArray[np.bool_]) -> PortTrace:
    """A register that takes ``value`` in cycles with ``valid`` and keeps it until the next; unknown before the first."""
    cycles = np.arange(len(valid))
    last = np.maximum.accumulate(np.where(valid, cycles, -1))
    known = last >= 0
    result = value[np.maximum(last, 0)].astype(np.int64)
    if result.ndim == 2:
        known = np.repeat(known[:, None], result.shape[1], axis=1)
    return PortTrace(np.where(known, result, 0), known)


def held_at(column: NDArray, when: NDArray[np.int64], valid: NDArray[np.bool_]) -> PortTrace:
    """A register that takes entry i of ``column`` in cycle ``when[i]``, all cycles with ``valid``, and keeps it until the next.

    >>> held_at(np.array([5, 7]), np.array([1, 3]), np.array([False, True, False, True])).value
    array([0, 5, 5, 7])
    """
    value = np.zeros((len(valid), *column.shape[1:]), np.int64)
    value[when] = column
    return held(value, valid)


def held_if_known(data: NDArray, known: NDArray, when: NDArray[np.int64], valid: NDArray[np.bool_]) -> PortTrace:
    """The same of ``data`` of which some is not known."""
    port, certain = held_at(data, when, valid), held_at(known.astype(np.int64), when, valid)
    return PortTrace(port.value, port.known & (certain.value == 1))
