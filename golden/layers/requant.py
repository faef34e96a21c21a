"""Requantisation of accumulators by an integer multiplier and a right shift."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import MAX_MULTIPLIER, MAX_SHIFT, refuse

from .fixed_point import Integers, Rounding, Width, require_integers, round_shift, saturate

MAX_TOTAL = 1 << 32
"""Largest magnitude of a sum with its bias."""


def requantize(acc: NDArray[np.int32], multiplier: Integers, shift: Integers) -> NDArray[np.int8]:
    """Scale accumulators by ``multiplier / 2**shift``, round once, and saturate to int8.

    The rounding is to nearest, a half away from zero, so that requantisation is odd: away from saturation,
    ``requantize(-acc)`` is ``-requantize(acc)``. TFLite rounds twice by default, and a half upwards in its
    single-rounding build. The zero point is 0.

    Parameters
    ----------
    acc : ndarray of int32, shape (..., C)
        Accumulators, channels last.
    multiplier : int, or ndarray of integers, shape (), (C,) or (..., 1)
        In [0, 2**31), one for all, one per channel or one per row.
    shift : int, or ndarray of integers, shape (), (C,) or (..., 1)
        In [0, 62], likewise.

    Returns
    -------
    ndarray of int8, shape (..., C)
        ``saturate(round(acc * multiplier / 2**shift))``.

    Raises
    ------
    TypeError
        If ``acc`` is not int32, or ``multiplier`` or ``shift`` does not hold integers.
    ValueError
        If ``acc`` has no channel axis, or ``multiplier`` or ``shift`` is out of range or has the wrong shape.

    Examples
    --------
    By hand, times 3/8: 4 -> 1.5 -> 2, -4 -> -1.5 -> -2, 3 -> 1.125 -> 1, 400 -> 150 -> 127.

    >>> requantize(np.array([4, -4, 3, 400], dtype=np.int32), 3, 3)
    array([  2,  -2,   1, 127], dtype=int8)
    """
    if not isinstance(acc, np.ndarray) or acc.dtype != np.int32:
        found = acc.dtype if isinstance(acc, np.ndarray) else type(acc).__name__
        raise TypeError(f"acc must be an int32 array, got {found}")
    if acc.ndim == 0:
        raise ValueError("acc must have a channel axis (..., C), got shape ()")
    return requantize_wide(acc.astype(np.int64), multiplier, shift)


def requantize_wide(
    total: NDArray[np.int64],
    multiplier: Integers,
    shift: Integers,
    to: Width = "int8",
    rounding: Rounding = "half_away",
    zero_point: int = 0,
) -> NDArray:
    """Scale, round and saturate integers of up to 33 bits (accumulators with a bias added) to any width.

    Parameters
    ----------
    total : ndarray of int64, shape (..., C)
        In [-2**32, 2**32], which holds every sum of two int32.
    multiplier, shift : int, or ndarray of integers, shape (), (C,) or (..., 1)
        As in `requantize`: per channel, or per row, which are all axes but the last.
    to : 'int8', 'uint8', 'int16' or 'int32'
        As `golden.layers.fixed_point.saturate` has them.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.
    zero_point : int
        Added to what is rounded: an int8.

    Returns
    -------
    ndarray of the type ``to``, shape (..., C)
        ``saturate(round(total * multiplier / 2**shift) + zero_point)``.

    Raises
    ------
    TypeError
        If ``total`` is not int64, or ``multiplier`` or ``shift`` does not hold integers.
    ValueError
        If ``total`` has no channel axis or exceeds 2**32, if ``multiplier`` or ``shift`` is out of range or has the
        wrong shape, or if there is no such width or rounding.

    Examples
    --------
    By hand: 2**32 * (2**31 - 1) / 2**62 = 2 - 2**-30, which rounds to 2; an int64 could not hold product and half.

    >>> requantize_wide(np.array([1 << 32, -(1 << 32)]), MAX_MULTIPLIER, 62)
    array([ 2, -2], dtype=int8)

    A multiplier per row: 1000 * 3 / 2 and 1001 * 5 / 2 = 2502.5.

    >>> requantize_wide(np.array([[1000], [1001]]), np.array([[3], [5]]), 1, "int16").ravel()
    array([1500, 2503], dtype=int16)
    """
    if not isinstance(total, np.ndarray) or total.dtype != np.int64:
        found = total.dtype if isinstance(total, np.ndarray) else type(total).__name__
        raise TypeError(f"total must be an int64 array, got {found}")
    if total.ndim == 0:
        raise ValueError("total must have a channel axis (..., C), got shape ()")
    factor = _per_channel_or_row("multiplier", multiplier, MAX_MULTIPLIER, total.shape)
    places = _per_channel_or_row("shift", shift, MAX_SHIFT, total.shape)
    if not -128 <= zero_point <= 127:
        raise ValueError(f"zero_point must be in [-128, 127], got {zero_point}")
    # Both signs: the magnitude of the smallest int64 is no int64.
    refuse(total, (total > MAX_TOTAL) | (total < -MAX_TOTAL), f"total must be in [-{MAX_TOTAL}, {MAX_TOTAL}]")
    # The product is at most 2**32 * (2**31 - 1) < 2**63.
    return saturate(round_shift(total * factor, places, rounding) + zero_point, to)


def _per_channel_or_row(name: str, value: Integers, largest: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = require_integers(name, value)
    channels, rows = shape[-1:], (*shape[:-1], 1)
    if array.shape not in ((), channels, rows):
        raise ValueError(f"{name} must have shape (), (..., 1) = {rows} or (C,) = {channels}, got shape {array.shape}")
    refuse(array, (array < 0) | (array > largest), f"{name} must be in [0, {largest}]")
    return array
