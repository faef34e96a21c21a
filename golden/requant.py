"""Requantisation of int32 accumulators to int8 by an integer multiplier and a right shift."""

from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = int | np.integer | NDArray[np.integer]

MAX_MULTIPLIER = (1 << 31) - 1
"""Largest multiplier: the largest int32."""

MAX_SHIFT = 62
"""Largest right shift: multipliers keep 31 significant bits for every scale from 2**-32 up."""

_MAX_TOTAL = 1 << 32


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


@overload
def quantize_scale(scale: float | np.floating) -> tuple[int, int]: ...


@overload
def quantize_scale(scale: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.int32]]: ...


def quantize_scale(
    scale: float | np.floating | NDArray[np.floating],
) -> tuple[int, int] | tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the multiplier and shift whose ratio ``multiplier / 2**shift`` is closest to a real scale.

    Parameters
    ----------
    scale : float, or ndarray of floats, shape (C,)
        From 2**-63 (exclusive) up to 2**31 - 0.5 (exclusive).

    Returns
    -------
    multiplier : int, or ndarray of int32, shape (C,)
        In [2**30, 2**31), which gives a relative error of at most 2**-31; smaller only where the scale is
        below 2**-32 and the shift therefore already 62.
    shift : int, or ndarray of int32, shape (C,)
        In [0, 62].

    Raises
    ------
    TypeError
        If ``scale`` does not hold real numbers.
    ValueError
        If a scale is not positive and finite, or is too large or too small to be represented.

    Examples
    --------
    By hand: 0.375 = 0.75 * 2**-1, and 0.75 * 2**31 = 1610612736, so the shift is 31 + 1.

    >>> quantize_scale(0.375)
    (1610612736, 32)
    """
    given = np.asarray(scale)
    if not np.issubdtype(given.dtype, np.floating) and not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"scale must be real, got {given.dtype}")
    real = given.astype(np.float64)
    _refuse(real, ~(np.isfinite(real) & (real > 0)), "scale must be positive and finite")

    # Both steps are exact: frexp and ldexp only move the exponent. rint is the one rounding.
    _, exponent = np.frexp(real)
    shift = np.minimum(31 - exponent, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(real, shift)).astype(np.int64)
    carried = multiplier > MAX_MULTIPLIER
    multiplier = np.where(carried, multiplier >> 1, multiplier)
    shift = np.where(carried, shift - 1, shift)

    _refuse(real, shift < 0, "scale must be below 2**31 - 0.5, to round to at most the largest multiplier")
    _refuse(real, multiplier == 0, "scale must be above 2**-63, to round to at least 1 / 2**62")
    if given.ndim == 0:
        return int(multiplier), int(shift)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def _per_channel(name: str, value: Integers, largest: int, channels: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be an integer or an array of integers, got {array.dtype}")
    if array.shape not in ((), (channels,)):
        raise ValueError(f"{name} must have shape () or (C,) = ({channels},), got shape {array.shape}")
    _refuse(array, (array < 0) | (array > largest), f"{name} must be in [0, {largest}]")
    return array.astype(np.int64)


def _refuse(values: NDArray[np.number], illegal: NDArray[np.bool_], rule: str) -> None:
    if illegal.any():
        raise ValueError(f"{rule}, got {values[illegal][0]}")
