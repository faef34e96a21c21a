"""Requantisation of int32 accumulators to int8 by an integer multiplier and a right shift."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import _MAX_TOTAL, MAX_MULTIPLIER, MAX_SHIFT, _refuse

Integers: TypeAlias = int | np.integer | NDArray[np.integer]


def requantize(acc: NDArray[np.int32], multiplier: Integers, shift: Integers) -> NDArray[np.int8]:
    """Scale accumulators by ``multiplier / 2**shift``, round once, and saturate to int8.

    The rounding is to nearest, a half away from zero, so that requantisation is odd: away from saturation,
    ``requantize(-acc)`` is ``-requantize(acc)``. TFLite rounds twice by default, and a half upwards in its
    single-rounding build. The zero point is 0.

    Parameters
    ----------
    acc : ndarray of int32, shape (..., C)
        Accumulators, channels last.
    multiplier : int, or ndarray of integers, shape () or (C,)
        In [0, 2**31), one for all channels or one per channel.
    shift : int, or ndarray of integers, shape () or (C,)
        In [0, 62], one for all channels or one per channel.

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
    return scale_to_int8(acc.astype(np.int64), multiplier, shift)


def scale_to_int8(total: NDArray[np.int64], multiplier: Integers, shift: Integers) -> NDArray[np.int8]:
    """Scale, round and saturate as `requantize` does, but integers of up to 33 bits: accumulators with a bias added.

    Parameters
    ----------
    total : ndarray of int64, shape (..., C)
        In [-2**32, 2**32], which holds every sum of two int32.
    multiplier, shift : int, or ndarray of integers, shape () or (C,)
        As in `requantize`.

    Returns
    -------
    ndarray of int8, shape (..., C)
        ``saturate(round(total * multiplier / 2**shift))``.

    Raises
    ------
    TypeError
        If ``total`` is not int64, or ``multiplier`` or ``shift`` does not hold integers.
    ValueError
        If ``total`` has no channel axis or exceeds 2**32, or ``multiplier`` or ``shift`` is out of range or has the
        wrong shape.

    Examples
    --------
    By hand: 2**32 * (2**31 - 1) / 2**62 = 2 - 2**-30, which rounds to 2; an int64 could not hold product and half.

    >>> scale_to_int8(np.array([1 << 32, -(1 << 32)]), MAX_MULTIPLIER, 62)
    array([ 2, -2], dtype=int8)
    """
    if not isinstance(total, np.ndarray) or total.dtype != np.int64:
        found = total.dtype if isinstance(total, np.ndarray) else type(total).__name__
        raise TypeError(f"total must be an int64 array, got {found}")
    if total.ndim == 0:
        raise ValueError("total must have a channel axis (..., C), got shape ()")
    factor = _per_channel("multiplier", multiplier, MAX_MULTIPLIER, total.shape[-1])
    places = _per_channel("shift", shift, MAX_SHIFT, total.shape[-1])
    # Both signs: the magnitude of the smallest int64 is no int64.
    _refuse(total, (total > _MAX_TOTAL) | (total < -_MAX_TOTAL), f"total must be in [-{_MAX_TOTAL}, {_MAX_TOTAL}]")

    # uint64 suffices for magnitudes: the product is at most 2**32 * (2**31 - 1) < 2**63, the half at most 2**61.
    # Rounding the magnitude turns "half away from zero" into "half up", and a shift of 0 has no half to add,
    # which (1 << shift) >> 1 gives without a special case. Beyond 128 every magnitude saturates.
    one = np.uint64(1)
    product = np.abs(total).astype(np.uint64) * factor.astype(np.uint64)
    half = (one << places.astype(np.uint64)) >> one
    magnitude = np.minimum((product + half) >> places.astype(np.uint64), np.uint64(128)).astype(np.int64)
    rounded = np.where(total < 0, -magnitude, magnitude)
    saturated: NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return saturated


def _per_channel(name: str, value: Integers, largest: int, channels: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be an integer or an array of integers, got {array.dtype}")
    if array.shape not in ((), (channels,)):
        raise ValueError(f"{name} must have shape () or (C,) = ({channels},), got shape {array.shape}")
    _refuse(array, (array < 0) | (array > largest), f"{name} must be in [0, {largest}]")
    return array.astype(np.int64)
