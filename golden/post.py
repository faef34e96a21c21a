"""Post-processing of accumulators: bias, requantisation to int8, and an activation function as a table of 256 entries."""

from collections.abc import Callable
from math import erf

import numpy as np
from numpy.typing import NDArray

from .gemm import require_int8
from .requant import Integers, scale_to_int8


def post_process(
    acc: NDArray[np.int32],
    bias: NDArray[np.int32],
    multiplier: Integers,
    shift: Integers,
    table: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Add a bias, scale by ``multiplier / 2**shift``, round once, saturate to int8, and look the result up in a table.

    The sum has 33 bits and does not wrap. The rounding is that of `golden.requant.requantize`: a half away from zero.

    Parameters
    ----------
    acc : ndarray of int32, shape (..., C)
        Accumulators, channels last.
    bias : ndarray of int32, shape (C,)
        One for each channel, in units of the accumulators.
    multiplier, shift : int, or ndarray of integers, shape () or (C,)
        As in `golden.requant.requantize`.
    table : ndarray of int8, shape (256,), or None
        The result for each int8, which is read as uint8 to find its entry; None leaves it as it is.

    Returns
    -------
    ndarray of int8, shape (..., C)
        ``table[saturate(round((acc + bias) * multiplier / 2**shift)) & 0xff]``.

    Raises
    ------
    TypeError
        If ``acc`` or ``bias`` is not int32, ``table`` not int8, or ``multiplier`` or ``shift`` does not hold integers.
    ValueError
        If ``acc`` has no channel axis, or any of the others is out of range or has the wrong shape.

    Examples
    --------
    By hand, times 3/8: (3 + 1) -> 1.5 -> 2, (-5 + 1) -> -1.5 -> -2 -> 0 by the table, (399 + 1) -> 150 -> 127.

    >>> acc, bias = np.array([[3], [-5], [399]], dtype=np.int32), np.array([1], dtype=np.int32)
    >>> post_process(acc, bias, 3, 3, activation_table(relu)).ravel()
    array([  2,   0, 127], dtype=int8)
    """
    for name, array in (("acc", acc), ("bias", bias)):
        if not isinstance(array, np.ndarray) or array.dtype != np.int32:
            found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{name} must be an int32 array, got {found}")
    if acc.ndim == 0:
        raise ValueError("acc must have a channel axis (..., C), got shape ()")
    if bias.shape != acc.shape[-1:]:
        raise ValueError(f"bias must have shape (C,) = {acc.shape[-1:]}, got shape {bias.shape}")
    narrow = scale_to_int8(acc.astype(np.int64) + bias, multiplier, shift)
    if table is None:
        return narrow
    require_int8("table", table, ("256",))
    if table.size != 256:
        raise ValueError(f"table must have 256 entries, got {table.size}")
    return table[narrow.view(np.uint8)]


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
    saturated: NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return saturated


def relu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The larger of x and 0."""
    return np.maximum(x, 0.0)


def gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x times the standard normal distribution function at x, by the error function (no approximation by tanh)."""
    return 0.5 * x * (1.0 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2.0)))


def hard_swish(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x times (x + 3) / 6, the factor clipped to [0, 1]."""
    return x * np.clip((x + 3.0) / 6.0, 0.0, 1.0)
