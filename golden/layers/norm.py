"""RMSNorm and LayerNorm of int32 rows, by statistics of a row and one multiplier for all of it."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.mean_norms import mean_shifts
from podweave.ir.quantise import MAX_MULTIPLIER, refuse

from .fixed_point import Integers, Rounding, require_integers, require_type, round_shift, saturate
from .requant import requantize_wide
from .scalars import MAX_SQUARES, reciprocal_square_root

MAX_ROW_SHIFT = 30
"""Largest shift that makes 16 bits of a row."""
MAX_GAIN_SHIFT = 8
"""Largest shift per channel."""
MAX_CENTRED = 1 << 16
"""Most channels of a row that is left without its mean: a multiplier of 17 bits holds them."""


def rms_norm(
    x: NDArray[np.int32], shift: int, epsilon: int = 0, gain_shift: Integers = 0, rounding: Rounding = "half_away"
) -> NDArray[np.int16]:
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
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them, wherever something is rounded.

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
    return _normalised(x.astype(np.int64), shift, epsilon, gain_shift, rounding)


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


def layer_norm(
    x: NDArray[np.int32],
    shift: int,
    epsilon: int = 0,
    bias: Integers = 0,
    multiplier: Integers = 1,
    places: Integers = 0,
    rounding: Rounding = "half_away",
) -> NDArray[np.int16]:
    """Subtract the mean of each row, divide what is left by the root of its sum of squares, and take gain and bias of each channel.

    Parameters
    ----------
    x : ndarray of int32, shape (..., C)
        Rows of the residual, of 2 to 65,536 channels.
    shift : int
        In [0, 30]: ``x / 2**shift`` fits 16 bits, and so does what is left without the mean, in the largest row that comes.
    epsilon : int
        In [0, 2**41): added to the sum of squares, as `ir.mean_norms.layer_norm_epsilon` gives it.
    bias : int, or ndarray of integers, shape () or (C,)
        In (-2**31, 2**31): the bias of each channel by its gain, in units of 2**-15 of the root of the sum of squares.
    multiplier, places : int, or ndarray of integers, shape () or (C,)
        The gain of each channel: a multiplier in (-2**31, 2**31), and a shift in [0, 62].
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them, wherever something is rounded.

    Returns
    -------
    ndarray of int16, shape (..., C)
        ``saturate(round((bias - n) * multiplier / 2**places))``, n the `rms_norm` by ``behind`` of d, the mean of a row less its
        values: 2**15 stands for all of the root of the sum of squares, ``sqrt(C) / 2**15`` times that for the standard deviation.

        d is C times as large, which the root divides out: with ``before, behind = mean_shifts(C, shift)`` (`ir.mean_norms`), y is
        ``round(x / 2**before)``, S the sum of its row, and d is ``S - C * y``, product and difference saturated to 32 bits. So
        nothing is divided by C; if ``before`` is 0, which it is for up to ``2**(16 - shift)`` channels, d is exact.

    Raises
    ------
    TypeError
        If ``x`` is not int32, or a parameter does not hold integers.
    ValueError
        If a parameter is out of range or has the wrong shape, or there is one channel or more than 65,536.
    OverflowError
        If the sum of a row of y does not fit 32 bits, or a sum of squares is 2**41 or more.

    Notes
    -----
    A row of equal values leaves exactly 0, and gives its bias. While nothing saturates, ``d / 2**behind`` is ``q = C / 2**bits``,
    with the fewest bits for which that is at most 1, times ``(mean - x) / 2**shift``, off by at most ``m``: ``q * 2**(before -
    shift)``, or 0 if ``before`` is 0. With N the root of the sum of squares of ``q * (x - mean) / 2**shift`` in real numbers,
    epsilon included, and ``h = sqrt(C) * (m + 1/2)``, n is off by at most
    ``|n| * ((1 + 2**-8) / (1 - h / N) - 1) + 2**15 * (1 + 2**-8) * m / (N - h) + 1``. The gain multiplies that, and rounds once.

    Examples
    --------
    By hand: S = 2400, which without 3 * 1300, 3 * 500 and 3 * 600 leaves -1500, 900 and 600; behind is 2, and 375, 225 and 150
    have 213750 as the sum of their squares, below 2**18; 213750 / 4 is in entry 208 of the table, 2**23 / sqrt(53376) = 36309.2,
    and -1500 * 36309 / 2**11 = -26593.506 (2**15 * 500 / sqrt(380000) = 26578.2).

    >>> layer_norm(np.array([[1300, 500, 600]], dtype=np.int32), 0)
    array([[ 26594, -15956, -10637]], dtype=int16)

    A gain of 1/2, and a bias of 1000:

    >>> layer_norm(np.array([[1300, 500, 600]], dtype=np.int32), 0, bias=2000, multiplier=1, places=1)
    array([[14297, -6978, -4319]], dtype=int16)
    """
    require_type("x", x, np.int32)
    channels = x.shape[-1]
    if not 2 <= channels <= MAX_CENTRED:
        raise ValueError(f"a row must have 2 to {MAX_CENTRED} channels, got {channels}")
    added, factors = require_integers("bias", bias), require_integers("multiplier", multiplier)
    for name, values in (("bias", added), ("multiplier", factors)):
        if values.shape not in ((), (channels,)):
            raise ValueError(f"{name} must have shape () or (C,) = {(channels,)}, got shape {values.shape}")
        refuse(values, np.abs(values) > MAX_MULTIPLIER, f"{name} must be in [{-MAX_MULTIPLIER}, {MAX_MULTIPLIER}]")
    _require_shift(shift)
    before, behind = mean_shifts(channels, shift)
    y = round_shift(x.astype(np.int64), before, rounding)
    total = y.sum(axis=-1, keepdims=True)
    wrong = (total < -(1 << 31)) | (total >= 1 << 31)
    if wrong.any():
        raise OverflowError(f"the sum of a row must fit 32 bits, got {total[wrong][0]}")
    left = saturate(total - saturate(channels * y, "int32"), "int32")
    found = _normalised(left.astype(np.int64), behind, epsilon, 0, rounding)
    # Saturation is not symmetric, so that the sign comes before.
    signed = (added - found.astype(np.int64)) * np.where(factors < 0, -1, 1)
    return requantize_wide(signed, np.abs(factors), places, "int16", rounding)


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


def _normalised(x: NDArray[np.int64], shift: int, epsilon: int, gain_shift: Integers, rounding: Rounding) -> NDArray[np.int16]:
    """`rms_norm` of numbers of 32 bits."""
    gains = require_integers("gain_shift", gain_shift)
    if gains.shape not in ((), x.shape[-1:]):
        raise ValueError(f"gain_shift must have shape () or (C,) = {x.shape[-1:]}, got shape {gains.shape}")
    refuse(gains, (gains < 0) | (gains > MAX_GAIN_SHIFT), f"gain_shift must be in [0, {MAX_GAIN_SHIFT}]")
    if not 0 <= epsilon <= MAX_SQUARES:
        raise ValueError(f"epsilon must be in [0, {MAX_SQUARES}], got {epsilon}")
    z = _in_16_bits(x, shift, rounding).astype(np.int64)
    squares = np.maximum((z**2).sum(axis=-1, keepdims=True) + epsilon, 1)
    if squares.max(initial=0) > MAX_SQUARES:
        raise OverflowError(f"a sum of squares must be at most {MAX_SQUARES}, got {squares.max()}")
    mantissa, bits = reciprocal_square_root(squares)
    return saturate(round_shift(x * mantissa, bits // 2 + shift + gains, rounding), "int16")


def _in_16_bits(x: NDArray[np.int64], shift: int, rounding: Rounding) -> NDArray[np.int16]:
    _require_shift(shift)
    return saturate(round_shift(x, shift, rounding), "int16")


def _require_shift(shift: int) -> None:
    if not 0 <= shift <= MAX_ROW_SHIFT:
        raise ValueError(f"shift must be in [0, {MAX_ROW_SHIFT}], got {shift}")
