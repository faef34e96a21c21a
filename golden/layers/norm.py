"""RMSNorm and LayerNorm of int32 rows, by statistics of a row and one multiplier for all of it."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import _refuse, quantize_scale

from .fixed_point import Integers, require_integers, require_type, round_shift, saturate
from .requant import requantize_wide
from .scalars import MAX_SQUARES, reciprocal_square_root

MAX_ROW_SHIFT = 30
"""Largest shift that makes 16 bits of a row."""
MAX_GAIN_SHIFT = 8
"""Largest shift per channel."""


def rms_norm(x: NDArray[np.int32], shift: int, epsilon: int = 0, gain_shift: Integers = 0) -> NDArray[np.int16]:
    """Divide each row by the root of its sum of squares.

    Parameters
    ----------
    x : ndarray of int32, shape (..., C)
        Rows of the residual.
    shift : int
        In [0, 30]: ``z = saturate(round(x / 2**shift))`` in 16 bits is what the squares are of. With z of at least half of
        the 16 bits in the largest row that comes, nothing saturates.
    epsilon : int
        In [0, 2**41): added to the sum of squares, as `ir.quantise.norm_epsilon` gives it.
    gain_shift : int, or ndarray of integers, shape () or (C,)
        In [0, 8]: each channel's part of a gain that is a power of two.

    Returns
    -------
    ndarray of int16, shape (..., C)
        ``saturate(round(x * r / 2**(bits / 2 + shift + gain_shift)))`` with r and bits of
        ``max(1, sum(z**2) + epsilon)`` by `golden.layers.scalars.reciprocal_square_root`: 2**15 stands for all of the root
        of the sum of squares, ``sqrt(C) / 2**15`` times that for the root of their mean. What is left of a gain, and
        ``sqrt(C)``, belong into the weights and multipliers behind it.

    Raises
    ------
    TypeError
        If ``x`` is not int32, or a parameter does not hold integers.
    ValueError
        If a parameter is out of range or has the wrong shape.
    OverflowError
        If a sum of squares is 2**41 or more, which takes more than 2,047 channels.

    Notes
    -----
    If no z saturates and N is the root of the real sum of squares of ``x / 2**shift``, epsilon included, the result y is off
    by at most ``|y| * ((1 + 2**-8) / (1 - h / N) - 1) + 1`` with ``h = sqrt(C) / 2`` (0 if ``shift`` is 0): 0.4% that all
    channels of a row have in common, for the table of roots, and the rounding of z in rows that are small.

    Examples
    --------
    By hand: 300**2 + 400**2 = 500**2 < 2**18; 250000 / 4 is in entry 244 of the table, 2**23 / sqrt(62592) = 33529.6,
    and 300 * 33530 / 2**9 = 19646.5 (2**15 * 3/5 = 19660.8).

    >>> rms_norm(np.array([[300, -400]], dtype=np.int32), 0)
    array([[ 19646, -26195]], dtype=int16)
    """
    require_type("x", x, np.int32)
    return _normalised(x.astype(np.int64), shift, epsilon, gain_shift)


def rms_norm_float(x: NDArray[np.floating], epsilon: float = 0.0, gain: float | NDArray[np.floating] = 1.0) -> NDArray[np.float64]:
    """What `rms_norm` approximates, as frameworks define it.

    Parameters
    ----------
    x : ndarray of real numbers, shape (..., C)
        Rows.
    epsilon : float
        Added to the mean of the squares.
    gain : float, or ndarray of real numbers, shape (C,)
        Multiplied at the end.

    Returns
    -------
    ndarray of float64, shape (..., C)
        ``x / sqrt(mean(x**2) + epsilon) * gain``.

    Examples
    --------
    >>> rms_norm_float(np.array([[1.0, -7.0]]), 0.0, 10.0)
    array([[  2., -14.]])
    """
    wide = x.astype(np.float64)
    return np.asarray(wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + epsilon) * gain)


def layer_norm(x: NDArray[np.int32], shift: int, epsilon: int = 0, gain_shift: Integers = 0) -> NDArray[np.int16]:
    """Subtract the mean of each row, and divide what is left by the root of its sum of squares.

    Two passes of statistics: the sum of a row, which a constant multiplier makes the mean of, and the sum of the squares of
    lanes less the mean. A gain and a bias for each channel belong into the weights and the bias behind it, or into
    `golden.layers.post.post_process` of the result.

    Parameters
    ----------
    x : ndarray of int32, shape (..., C)
        Rows of the residual.
    shift : int
        In [0, 30]: ``z = saturate(round(x / 2**shift))`` in 16 bits is what the sum is of, and likewise, of x less the mean,
        what the squares are of.
    epsilon, gain_shift
        As in `rms_norm`.

    Returns
    -------
    ndarray of int16, shape (..., C)
        `rms_norm` of ``x - mean``, in which mean is ``round(sum(z) * multiplier / 2**places)``, an int32, with multiplier and
        places those of ``2**shift / C`` (`ir.quantise.quantize_scale`).

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `rms_norm`.

    Notes
    -----
    If no z saturates, the mean is off by at most ``m = 2**shift / 2 + 1`` (1 if ``shift`` is 0), and with N of x less its mean,
    as in `rms_norm`, ``h = sqrt(C) * (m / 2**shift + 1/2)``, the result y by at most
    ``|y| * ((1 + 2**-8) / (1 - h / N) - 1) + 2**15 * (1 + 2**-8) * m / 2**shift / (N - h) + 1``.

    Examples
    --------
    By hand: the mean of 1300, 500 and 600 is 800; 500, -300, -200: 380000 is below 2**20, 380000 / 16 is in entry 92,
    2**23 / sqrt(23680) = 54512.9, and 500 * 54513 / 2**10 = 26617.7 (2**15 * 500 / sqrt(380000) = 26578.2).

    >>> layer_norm(np.array([[1300, 500, 600]], dtype=np.int32), 0)
    array([[ 26618, -15971, -10647]], dtype=int16)
    """
    require_type("x", x, np.int32)
    z = _in_16_bits(x.astype(np.int64), shift)
    multiplier, places = quantize_scale(2.0**shift / x.shape[-1])
    mean = requantize_wide(z.sum(axis=-1, keepdims=True, dtype=np.int64), multiplier, places, "int32")
    return _normalised(x.astype(np.int64) - mean, shift, epsilon, gain_shift)


def layer_norm_float(
    x: NDArray[np.floating],
    epsilon: float = 0.0,
    gain: float | NDArray[np.floating] = 1.0,
    bias: float | NDArray[np.floating] = 0.0,
) -> NDArray[np.float64]:
    """What `layer_norm` approximates, as frameworks define it.

    Parameters
    ----------
    x : ndarray of real numbers, shape (..., C)
        Rows.
    epsilon : float
        Added to the variance.
    gain, bias : float, or ndarray of real numbers, shape (C,)
        Multiplied and added at the end.

    Returns
    -------
    ndarray of float64, shape (..., C)
        ``(x - mean) / sqrt(variance + epsilon) * gain + bias``.

    Examples
    --------
    >>> layer_norm_float(np.array([[1.0, 5.0]]), 0.0, 10.0, 1.0)
    array([[-9., 11.]])
    """
    wide = x.astype(np.float64)
    return rms_norm_float(wide - wide.mean(axis=-1, keepdims=True), epsilon, gain) + bias


def _normalised(x: NDArray[np.int64], shift: int, epsilon: int, gain_shift: Integers) -> NDArray[np.int16]:
    """`rms_norm` of numbers of up to 33 bits."""
    gains = require_integers("gain_shift", gain_shift)
    if gains.shape not in ((), x.shape[-1:]):
        raise ValueError(f"gain_shift must have shape () or (C,) = {x.shape[-1:]}, got shape {gains.shape}")
    _refuse(gains, (gains < 0) | (gains > MAX_GAIN_SHIFT), f"gain_shift must be in [0, {MAX_GAIN_SHIFT}]")
    if not 0 <= epsilon <= MAX_SQUARES:
        raise ValueError(f"epsilon must be in [0, {MAX_SQUARES}], got {epsilon}")
    z = _in_16_bits(x, shift).astype(np.int64)
    squares = np.maximum((z**2).sum(axis=-1, keepdims=True) + epsilon, 1)
    if squares.max(initial=0) > MAX_SQUARES:
        raise OverflowError(f"a sum of squares must be at most {MAX_SQUARES}, got {squares.max()}")
    mantissa, bits = reciprocal_square_root(squares)
    return saturate(round_shift(x * mantissa, bits // 2 + shift + gains), "int16")


def _in_16_bits(x: NDArray[np.int64], shift: int) -> NDArray[np.int16]:
    if not 0 <= shift <= MAX_ROW_SHIFT:
        raise ValueError(f"shift must be in [0, {MAX_ROW_SHIFT}], got {shift}")
    return saturate(round_shift(x, shift), "int16")
