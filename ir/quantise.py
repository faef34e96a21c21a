"""From real numbers to those of a post-processor: multipliers and shifts, tables of activation functions."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import overload

import numpy as np
from numpy.typing import NDArray

MAX_MULTIPLIER = (1 << 31) - 1
"""Largest multiplier: the largest int32."""
MAX_SHIFT = 62
"""Largest right shift: multipliers keep 31 significant bits for every scale from 2**-32 up."""
ANGLE_BITS = 14
"""Cosines and sines are in units of 2**-14: 16 bits hold 1 and -1."""


def activation_table(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], input_scale: float = 1.0, output_scale: float = 1.0
) -> NDArray[np.int8]:
    """Tabulate a real function for `post_process`.

    Parameters
    ----------
    function : callable
        From an array of float64 to one of the same shape: `relu`, `gelu`, `hard_swish`, or any other.
    input_scale, output_scale : float
        What 1 stands for before and after the function; positive and finite.

    Returns
    -------
    ndarray of int8, shape (256,)
        Entry ``v & 0xff`` is ``saturate(round(function(v * input_scale) / output_scale))``, a half away from zero.

    Raises
    ------
    ValueError
        If a scale is not positive and finite, or the function is not finite at one of the 256 points or changes their
        shape.

    Examples
    --------
    By hand: entries 0, 1, 127 are those of 0, 1, 127, entry 128 that of -128, entry 255 that of -1.

    >>> activation_table(np.negative)[[0, 1, 127, 128, 255]]
    array([   0,   -1, -127,  127,    1], dtype=int8)
    """
    return _tabulated(function, input_scale, output_scale, np.int8).astype(np.int8)


def wide_table(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], input_scale: float = 1.0, output_scale: float = 1.0
) -> NDArray[np.int16]:
    """Tabulate a real function of an int8 in 16 bits, a factor for a product: `sigmoid`, `normal_distribution`.

    Parameters
    ----------
    function : callable
        From an array of float64 to one of the same shape.
    input_scale, output_scale : float
        What 1 stands for before and after the function; positive and finite.

    Returns
    -------
    ndarray of int16, shape (256,)
        As `activation_table`, saturated to [-32768, 32767].

    Raises
    ------
    ValueError
        As `activation_table`.

    Examples
    --------
    By hand, sigmoid at 0, 1/16 and -1/16: 2**15 / 2, and 2**15 / (1 + exp(-+0.0625)) = 16384 +- 511.8.

    >>> wide_table(sigmoid, 1 / 16, 2**-15)[[0, 1, 255]]
    array([16384, 16896, 15872], dtype=int16)
    """
    return _tabulated(function, input_scale, output_scale, np.int16).astype(np.int16)


def exp_table(largest: int = 4095) -> NDArray[np.uint16]:
    """Tabulate exp(-i / 16) for softmax: i is how far a score is below the largest, in sixteenths of a nat.

    Parameters
    ----------
    largest : int
        The entry of 0, in [1, 32768]. An int32 holds the product of an int8 and a sum of (2**31 - 1) // (128 * largest)
        entries: 4,097 of 4095, 514 of 32639.

    Returns
    -------
    ndarray of uint16, shape (256,)
        Entry i is ``round(largest * exp(-i / 16))``.

    Raises
    ------
    ValueError
        If ``largest`` is out of range.

    Examples
    --------
    By hand: 1000 / e = 367.88 and 1000 / e**2 = 135.34.

    >>> exp_table(1000)[[0, 16, 32, 255]]
    array([1000,  368,  135,    0], dtype=uint16)
    """
    if not 1 <= largest <= 1 << 15:
        raise ValueError(f"the largest entry of an exp table must be in [1, {1 << 15}], got {largest}")
    return np.rint(largest * np.exp(np.arange(256) / -16)).astype(np.uint16)


def rope_tables(
    positions: NDArray[np.integer], head_size: int, theta: float = 10_000.0
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Cosines and sines of the angles by which a rotary embedding turns neighbouring channels.

    Parameters
    ----------
    positions : ndarray of integers, shape (T,)
        At least 0.
    head_size : int
        Even, at least 2.
    theta : float
        The base of the angles; positive and finite.

    Returns
    -------
    cosines, sines : ndarray of int16, shape (T, head_size // 2)
        Of ``positions[t] * theta**(-2 * i / head_size)``, times 2**14, rounded.

    Raises
    ------
    TypeError
        If ``positions`` does not hold integers.
    ValueError
        If a parameter is out of range.

    Examples
    --------
    By hand, 1 radian and 1/100: 16384 * 0.540302 and 16384 * 0.841471; 16384 * 0.99995 and 16384 * 0.00999983.

    >>> rope_tables(np.array([1]), 4)
    (array([[ 8852, 16383]], dtype=int16), array([[13787,   164]], dtype=int16))
    """
    if not np.issubdtype(np.asarray(positions).dtype, np.integer):
        raise TypeError(f"positions must be integers, got {np.asarray(positions).dtype}")
    refuse(positions, positions < 0, "positions must be at least 0")
    if head_size < 2 or head_size % 2:
        raise ValueError(f"head_size must be even and at least 2, got {head_size}")
    if not (np.isfinite(theta) and theta > 0):
        raise ValueError(f"theta must be positive and finite, got {theta}")
    angles = positions[:, None] * float(theta) ** (-np.arange(0, head_size, 2) / head_size)
    one = 2.0**ANGLE_BITS
    return np.rint(one * np.cos(angles)).astype(np.int16), np.rint(one * np.sin(angles)).astype(np.int16)


def fixed_point(real: NDArray[np.floating], fraction: int = 12) -> NDArray[np.int32]:
    """Round real numbers to int32 in units of a power of two: rows of an embedding, in the unit of the residual.

    Parameters
    ----------
    real : ndarray of real numbers
        Of a magnitude below ``2**(31 - fraction)``.
    fraction : int
        Bits behind the point, in [0, 31].

    Returns
    -------
    ndarray of int32
        ``round(real * 2**fraction)``, a half to the even neighbour: off by at most half a unit.

    Raises
    ------
    ValueError
        If a number is not finite or no int32, or ``fraction`` is out of range.

    Examples
    --------
    >>> fixed_point(np.array([0.25, -1.0, 0.0001]))
    array([ 1024, -4096,     0], dtype=int32)
    """
    if not 0 <= fraction <= 31:
        raise ValueError(f"fraction must be in [0, 31], got {fraction}")
    scaled = np.rint(np.asarray(real, dtype=np.float64) * 2.0**fraction)
    wrong = ~(np.isfinite(scaled) & (scaled >= -(2.0**31)) & (scaled < 2.0**31))
    refuse(np.asarray(real), wrong, f"numbers must fit an int32 in units of 2**-{fraction}")
    return scaled.astype(np.int32)


def norm_epsilon(epsilon: float, channels: int, shift: int, fraction: int = 12) -> int:
    """The epsilon of a norm, which frameworks add to a mean of squares, in units of a sum of squares of integers.

    Parameters
    ----------
    epsilon : float
        At least 0.
    channels : int
        How many squares are summed.
    shift, fraction : int
        The integers are residuals of ``fraction`` bits behind the point, shifted right by ``shift``.

    Returns
    -------
    int
        ``round(epsilon * channels * 4**(fraction - shift))``.

    Raises
    ------
    ValueError
        If ``epsilon`` is negative or not finite.

    Examples
    --------
    By hand: 1e-5 * 576 * 2**24 = 96636.8, and a 16th of it.

    >>> norm_epsilon(1e-5, 576, 0), norm_epsilon(1e-5, 576, 2)
    (96637, 6040)
    """
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and at least 0, got {epsilon}")
    return round(epsilon * channels * 4.0 ** (fraction - shift))


def _tabulated(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    input_scale: float,
    output_scale: float,
    dtype: type[np.signedinteger],
) -> NDArray[np.float64]:
    for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"{name} must be positive and finite, got {scale}")
    points = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64) * input_scale
    real = np.asarray(function(points), dtype=np.float64)
    if real.shape != points.shape or not np.isfinite(real).all():
        raise ValueError(f"the function must give 256 finite numbers, got {np.isfinite(real).sum()} in shape {real.shape}")
    # The fraction is exact in floating point; adding one half first would not be, just below a tie.
    magnitude = np.abs(real / output_scale)
    whole = np.floor(magnitude)
    rounded = np.copysign(whole + (magnitude - whole >= 0.5), real)
    limits = np.iinfo(dtype)
    return np.clip(rounded, limits.min, limits.max)


def relu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The larger of x and 0."""
    return np.maximum(x, 0.0)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), by the exponential of -|x|, which does not overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def silu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x times sigmoid at x."""
    return x * sigmoid(x)


def normal_distribution(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard normal distribution function, by the error function."""
    return 0.5 * (1.0 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2.0)))


def gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x times the standard normal distribution function at x (no approximation by tanh)."""
    return x * normal_distribution(x)


def hard_swish(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x times (x + 3) / 6, the factor clipped to [0, 1]."""
    return x * np.clip((x + 3.0) / 6.0, 0.0, 1.0)


@overload
def quantize_scale(scale: float | np.floating, bits: int = 31) -> tuple[int, int]: ...


@overload
def quantize_scale(scale: NDArray[np.floating], bits: int = 31) -> tuple[NDArray[np.int32], NDArray[np.int32]]: ...


def quantize_scale(
    scale: float | np.floating | NDArray[np.floating], bits: int = 31
) -> tuple[int, int] | tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the multiplier of so many bits and the shift whose ratio ``multiplier / 2**shift`` is closest to a real scale.

    Parameters
    ----------
    scale : float, or ndarray of floats, shape (C,)
        From 2**-63 (exclusive) up to 2**bits - 0.5 (exclusive).
    bits : int
        From 1 to 31: ``scale_bits`` of the chip.

    Returns
    -------
    multiplier : int, or ndarray of int32, shape (C,)
        In [2**(bits - 1), 2**bits), which gives a relative error of at most 2**-bits; smaller only where the scale is
        below 2**(bits - 63) and the shift therefore already 62.
    shift : int, or ndarray of int32, shape (C,)
        In [0, 62].

    Raises
    ------
    TypeError
        If ``scale`` does not hold real numbers.
    ValueError
        If a scale is not positive and finite, or is too large or too small to be represented, or ``bits`` is out of range.

    Examples
    --------
    By hand: 0.375 = 0.75 * 2**-1, and 0.75 * 2**31 = 1610612736, so the shift is 31 + 1.

    >>> quantize_scale(0.375)
    (1610612736, 32)

    With 4 bits, 0.75 * 2**4, and a shift of 4 + 1; a tenth is 0.8 * 2**-3, and 12.8 rounds to 13.

    >>> quantize_scale(0.375, 4), quantize_scale(0.1, 4)
    ((12, 5), (13, 7))
    """
    if not 1 <= bits <= 31:
        raise ValueError(f"bits must be in [1, 31], got {bits}")
    given = np.asarray(scale)
    if not np.issubdtype(given.dtype, np.floating) and not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"scale must be real, got {given.dtype}")
    real = given.astype(np.float64)
    refuse(real, ~(np.isfinite(real) & (real > 0)), "scale must be positive and finite")

    # Both steps are exact: frexp and ldexp only move the exponent. rint is the one rounding.
    _, exponent = np.frexp(real)
    shift = np.minimum(bits - exponent, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(real, shift)).astype(np.int64)
    carried = multiplier >= 1 << bits
    multiplier = np.where(carried, multiplier >> 1, multiplier)
    shift = np.where(carried, shift - 1, shift)

    refuse(real, shift < 0, f"scale must be below 2**{bits} - 0.5, to round to at most the largest multiplier")
    refuse(real, multiplier == 0, "scale must be above 2**-63, to round to at least 1 / 2**62")
    if given.ndim == 0:
        return int(multiplier), int(shift)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def refuse(values: NDArray[np.number], illegal: NDArray[np.bool_], rule: str) -> None:
    """Raise `ValueError` with the rule and the first of the values that break it, if any do."""
    if illegal.any():
        raise ValueError(f"{rule}, got {values[illegal][0]}")
