"""Fixed point: rounding shifts, saturation, and 16-bit values as two planes of int8."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import refuse

Integers: TypeAlias = int | np.integer | NDArray[np.integer]
Rounding: TypeAlias = Literal["half_away", "half_even"]
Width: TypeAlias = Literal["int8", "uint8", "int16", "int32"]

LIMITS: dict[Width, tuple[int, int]] = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    # 127 * 256 + 127: beyond it the high plane would be no int8.
    "int16": (-32768, 32639),
    "int32": (-(1 << 31), (1 << 31) - 1),
}
"""What `saturate` keeps to. The largest 16-bit value is the largest that two planes hold."""
MAX_ROUND_SHIFT = 63
"""Largest shift of `round_shift`: half of 2**63 is the largest half that can be added to a magnitude of 2**63 in 64 bits."""


def round_shift(x: NDArray[np.integer], shift: Integers, rounding: Rounding = "half_away") -> NDArray[np.int64]:
    """Divide by powers of two, and round to the nearest integer.

    Parameters
    ----------
    x : ndarray of integers
        Any int64.
    shift : int, or ndarray of integers
        In [0, 63]; broadcast against ``x``.
    rounding : 'half_away' or 'half_even'
        Where a half goes: away from zero, or to the even neighbour.

    Returns
    -------
    ndarray of int64
        ``round(x / 2**shift)``, exactly.

    Raises
    ------
    TypeError
        If ``x`` or ``shift`` does not hold integers that int64 holds.
    ValueError
        If a shift is out of range, or ``rounding`` is neither.

    Examples
    --------
    By hand, halves of 1, 3, 5, -1, -3: 0.5, 1.5, 2.5, -0.5, -1.5.

    >>> x = np.array([1, 3, 5, -1, -3])
    >>> round_shift(x, 1)
    array([ 1,  2,  3, -1, -2])
    >>> round_shift(x, 1, "half_even")
    array([ 0,  2,  2,  0, -2])
    """
    values = require_integers("x", x)
    places = require_integers("shift", shift)
    refuse(places, (places < 0) | (places > MAX_ROUND_SHIFT), f"shift must be in [0, {MAX_ROUND_SHIFT}]")
    if rounding not in ("half_away", "half_even"):
        raise ValueError(f"rounding must be 'half_away' or 'half_even', got {rounding!r}")
    # Magnitudes in uint64: rounding them turns "half away from zero" into "half up". That of the smallest int64 is 2**63.
    one, by = np.uint64(1), places.astype(np.uint64)
    with np.errstate(over="ignore"):
        magnitude = np.abs(values).astype(np.uint64)
    # A shift of 0 has no half to add, which (1 << shift) >> 1 gives without a special case.
    half = (one << by) >> one
    rounded = (magnitude + half) >> by
    if rounding == "half_even":
        tie = (by > 0) & (magnitude - ((magnitude >> by) << by) == half)
        rounded = np.where(tie, rounded - (rounded & one), rounded)
    signed = rounded.astype(np.int64)
    with np.errstate(over="ignore"):
        return np.where(values < 0, -signed, signed)


def saturate(x: NDArray[np.integer], to: Width) -> NDArray:
    """Clip to a width, and narrow to it.

    Parameters
    ----------
    x : ndarray of integers
        Any int64.
    to : 'int8', 'uint8', 'int16' or 'int32'
        The width, with the limits of ``LIMITS``: 16 bits are [-32768, 32639], so that both planes are int8.

    Returns
    -------
    ndarray of the type ``to``
        The nearest number that it holds.

    Raises
    ------
    TypeError
        If ``x`` does not hold integers that int64 holds.
    ValueError
        If there is no such width.

    Examples
    --------
    >>> saturate(np.array([-40000, -200, 127, 40000]), "int16")
    array([-32768,   -200,    127,  32639], dtype=int16)
    >>> saturate(np.array([-40000, -200, 127, 40000]), "int8")
    array([-128, -128,  127,  127], dtype=int8)
    """
    values = require_integers("x", x)
    if to not in LIMITS:
        raise ValueError(f"a width must be one of {', '.join(LIMITS)}, got {to!r}")
    return np.clip(values, *LIMITS[to]).astype(to)


def to_planes(y: NDArray[np.int16]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Cut 16-bit values into two planes of int8, each of which an array multiplies like any activation.

    Parameters
    ----------
    y : ndarray of int16
        In [-32768, 32639].

    Returns
    -------
    hi, lo : ndarray of int8, shape of ``y``
        ``y = 256 * hi + lo``.

    Raises
    ------
    TypeError
        If ``y`` is not int16.
    ValueError
        If a value is beyond 32639.

    Examples
    --------
    By hand: 300 = 256 + 44, 200 = 256 - 56, -32768 = -128 * 256, 32639 = 127 * 256 + 127.

    >>> to_planes(np.array([300, 200, -32768, 32639], dtype=np.int16))
    (array([   1,    1, -128,  127], dtype=int8), array([ 44, -56,   0, 127], dtype=int8))
    """
    require_streamed("y", y)
    wide = y.astype(np.int32)
    hi = (wide + 128) >> 8
    return hi.astype(np.int8), (wide - (hi << 8)).astype(np.int8)


def from_planes(hi: NDArray[np.integer], lo: NDArray[np.integer]) -> NDArray[np.int32]:
    """Join two planes, or the sums that the same weights made of them.

    Parameters
    ----------
    hi, lo : ndarray of integers
        Of the same shape.

    Returns
    -------
    ndarray of int32
        ``256 * hi + lo``.

    Raises
    ------
    TypeError
        If one does not hold integers.
    ValueError
        If the shapes differ.
    OverflowError
        If a result leaves int32.

    Examples
    --------
    By hand: 256 - 56 = 200; sums of 1000 and -7 are 256 * 1000 - 7.

    >>> from_planes(np.array([1, 1000]), np.array([-56, -7]))
    array([   200, 255993], dtype=int32)
    """
    high, low = require_integers("hi", hi), require_integers("lo", lo)
    if high.shape != low.shape:
        raise ValueError(f"hi and lo must have the same shape, got {high.shape} and {low.shape}")
    return require_int32("256 * hi + lo", 256 * high + low)


def require_int32(name: str, totals: NDArray[np.int64]) -> NDArray[np.int32]:
    """Narrow exact totals to int32, and refuse those that an accumulator would wrap.

    Parameters
    ----------
    name : str
        What the sentence of the error calls a total.
    totals : ndarray of int64
        Exact totals.

    Returns
    -------
    ndarray of int32
        The same numbers.

    Raises
    ------
    OverflowError
        If one of them is no int32.
    """
    limits = np.iinfo(np.int32)
    wrong = (totals < limits.min) | (totals > limits.max)
    if wrong.any():
        raise OverflowError(f"{name} must be an int32, got {totals[wrong][0]}")
    return totals.astype(np.int32)


def require_integers(name: str, value: Integers) -> NDArray[np.int64]:
    """Widen integers of any type to int64.

    Parameters
    ----------
    name : str
        What the sentence of the error calls them.
    value : int, or ndarray of integers
        Any but uint64, which int64 may not hold.

    Returns
    -------
    ndarray of int64
        The same numbers.

    Raises
    ------
    TypeError
        If ``value`` does not hold integers.
    """
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer) or array.dtype == np.uint64:
        raise TypeError(f"{name} must be an integer or an array of integers, got {array.dtype}")
    return array.astype(np.int64)


def require_type(name: str, array: NDArray, dtype: type[np.generic], axes: int = 1) -> None:
    """Refuse what is not an array of a type with enough axes.

    Parameters
    ----------
    name : str
        What the sentence of the error calls it.
    array : ndarray
        What has to be one.
    dtype : type
        The type of its elements.
    axes : int
        The least number of axes.

    Raises
    ------
    TypeError
        If it is not an array, or of another type.
    ValueError
        If it has fewer axes, or one of size 0.
    """
    wanted = np.dtype(dtype).name
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} must be {'an' if wanted.startswith('int') else 'a'} {wanted} array, got {found}")
    if array.ndim < axes or 0 in array.shape[array.ndim - axes :]:
        raise ValueError(f"{name} must have at least {axes} axes, none of them empty, got shape {array.shape}")


def require_streamed(name: str, y: NDArray[np.int16]) -> None:
    """Refuse what is not made of 16-bit values that two planes hold.

    Parameters
    ----------
    name : str
        What the sentence of the error calls it.
    y : ndarray of int16
        What has to be.

    Raises
    ------
    TypeError
        If ``y`` is not int16.
    ValueError
        If a value is beyond 32639.
    """
    require_type(name, y, np.int16, axes=0)
    least, largest = LIMITS["int16"]
    refuse(y, y > largest, f"{name} must be in [{least}, {largest}], so that both planes are int8")
