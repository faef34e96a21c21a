"""Products of 16-bit values, lane by lane: any two tensors, and activations that gate: SiLU, SwiGLU, GELU."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import normal_distribution, sigmoid, silu, wide_table

from .fixed_point import Integers, Rounding, Width, require_streamed, require_type, round_shift, saturate
from .requant import requantize_wide

_STEP_BITS = 4
_UNIT_BITS = 15
SIGMOID = wide_table(sigmoid, 2.0**-_STEP_BITS, 2.0**-_UNIT_BITS)
"""Sigmoid of sixteenths, in units of 2**-15: what makes SiLU of `gate`."""
NORMAL = wide_table(normal_distribution, 2.0**-_STEP_BITS, 2.0**-_UNIT_BITS)
"""The normal distribution function, likewise: what makes GELU."""


def product(
    a: NDArray[np.int16],
    b: NDArray[np.int16],
    multiplier: Integers,
    shift: Integers,
    to: Width = "int16",
    rounding: Rounding = "half_away",
) -> NDArray:
    """Multiply two tensors, lane by lane, and requantise.

    Parameters
    ----------
    a : ndarray of int16, shape (..., C)
        In [-32768, 32639].
    b : ndarray of int16, shape (..., C), (..., 1) or (C,)
        The same range: of the shape of ``a``, one for each row, or one for each channel.
    multiplier, shift : int, or ndarray of integers, shape (), (C,) or (..., 1)
        As in `golden.layers.requant.requantize`.
    to : 'int8', 'uint8', 'int16' or 'int32'
        The width of the result.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    ndarray of the type ``to``, shape (..., C)
        ``saturate(round(a * b * multiplier / 2**shift))``, rounded once: off by at most 1/2.

    Raises
    ------
    TypeError
        If an operand is not int16, or for what `golden.layers.requant.requantize_wide` refuses.
    ValueError
        If a value is beyond 32639, if the shapes are not as above, or for what `requantize_wide` refuses.

    Examples
    --------
    By hand, halves of 300 * 7 and -5 * 7: 1050 and -17.5.

    >>> product(np.array([[300, -5]], dtype=np.int16), np.array([[7]], dtype=np.int16), 1, 1)
    array([[1050,  -18]], dtype=int16)
    """
    require_type("a", a, np.int16)
    require_streamed("a", a)
    require_streamed("b", b)
    if b.shape not in (a.shape, (*a.shape[:-1], 1), a.shape[-1:]):
        raise ValueError(f"b must have the shape of a, {a.shape}, or one value for each of its rows or channels, got {b.shape}")
    return requantize_wide(a.astype(np.int64) * b, multiplier, shift, to, rounding)


def product_float(
    a: NDArray[np.floating], b: NDArray[np.floating], scale: float | NDArray[np.floating] = 1.0
) -> NDArray[np.float64]:
    """What `product` rounds.

    Parameters
    ----------
    a, b : ndarray of real numbers
        Factors.
    scale : float, or ndarray of real numbers
        Multiplied with the product.

    Returns
    -------
    ndarray of float64
        ``a * b * scale``.

    Examples
    --------
    >>> product_float(np.array([300.0, -5.0]), np.array([7.0]), 0.5)
    array([1050. ,  -17.5])
    """
    return np.asarray(a * b * scale, dtype=np.float64)


def gate(
    x: NDArray[np.int16],
    fraction: int,
    table: NDArray[np.int16] = SIGMOID,
    multiplier: Integers = 1,
    shift: Integers = _UNIT_BITS,
    rounding: Rounding = "half_away",
) -> NDArray[np.int16]:
    """Multiply values by a tabulated function of themselves: SiLU with ``SIGMOID``, GELU with ``NORMAL``.

    Parameters
    ----------
    x : ndarray of int16
        In [-32768, 32639], in units of ``2**-fraction``.
    fraction : int
        In [4, 15].
    table : ndarray of int16, shape (256,)
        The function of sixteenths, of an int8 that is read as uint8 to find its entry, in units of 2**-15.
    multiplier, shift : int, or ndarray of integers, shape (), (C,) or (..., 1)
        As in `golden.layers.requant.requantize`; by default, 2**-15.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    ndarray of int16, shape of ``x``
        ``saturate(round(x * table[saturate(round(x / 2**(fraction - 4))) & 0xff] * multiplier / 2**shift))``; by default, in
        units of ``2**-fraction``.

    Raises
    ------
    TypeError
        If ``x`` or ``table`` is not int16, or for what `golden.layers.requant.requantize_wide` refuses.
    ValueError
        If a value is beyond 32639, ``fraction`` is out of range, ``table`` has not 256 entries, or for what `requantize_wide`
        refuses.

    Notes
    -----
    By default, SiLU is off by at most ``0.0072 + 0.00037 * |x|``, GELU by at most ``0.0077 + 2**-15 * |x|``, and half a unit:
    within [-8, 8] for the step of 1/16 of the table's argument, beyond it because the function goes on where the table ends.

    Examples
    --------
    By hand, 1.5 and -1.5 in units of 1/256: sigmoid is 0.817574, times 2**15 26790, times 384 / 2**15 = 313.95, and
    2**15 - 26790 = 5978 times -384 / 2**15 = -70.05.

    >>> gate(np.array([384, -384], dtype=np.int16), 8)
    array([314, -70], dtype=int16)
    """
    require_streamed("x", x)
    require_type("table", table, np.int16)
    if table.shape != (256,):
        raise ValueError(f"table must have 256 entries, got shape {table.shape}")
    if not _STEP_BITS <= fraction <= _UNIT_BITS:
        raise ValueError(f"fraction must be in [{_STEP_BITS}, {_UNIT_BITS}], got {fraction}")
    index = saturate(round_shift(x, fraction - _STEP_BITS, rounding), "int8").view(np.uint8)
    return requantize_wide(x.astype(np.int64) * table[index], multiplier, shift, "int16", rounding)


def silu_product(
    g: NDArray[np.int16],
    u: NDArray[np.int16],
    fraction: int,
    multiplier: Integers,
    shift: Integers,
    rounding: Rounding = "half_away",
) -> NDArray[np.int16]:
    """SwiGLU: multiply the SiLU of one tensor by another.

    Parameters
    ----------
    g : ndarray of int16, shape (..., C)
        What gates, in units of ``2**-fraction``.
    u : ndarray of int16, shape (..., C)
        What is gated.
    fraction : int
        In [4, 15].
    multiplier, shift : int, or ndarray of integers, shape (), (C,) or (..., 1)
        As in `golden.layers.requant.requantize`.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    ndarray of int16, shape (..., C)
        `product` of the `gate` of ``g``, and ``u``: the error of SiLU that is there times ``u``, and 1/2.

    Raises
    ------
    TypeError, ValueError
        As `gate` and `product`.

    Examples
    --------
    By hand, of 1.5 in 256ths and 1000: 314 * 1000 / 256 = 1226.6 (1.226361 * 1000 = 1226.4).

    >>> silu_product(np.array([384], dtype=np.int16), np.array([1000], dtype=np.int16), 8, 1, 8)
    array([1227], dtype=int16)
    """
    return product(gate(g, fraction, rounding=rounding), u, multiplier, shift, rounding=rounding)


def silu_product_float(
    g: NDArray[np.floating], u: NDArray[np.floating], scale: float | NDArray[np.floating] = 1.0
) -> NDArray[np.float64]:
    """What `silu_product` approximates.

    Parameters
    ----------
    g, u : ndarray of real numbers
        What gates, and what is gated.
    scale : float, or ndarray of real numbers
        Multiplied with the product.

    Returns
    -------
    ndarray of float64
        ``g / (1 + exp(-g)) * u * scale``.

    Examples
    --------
    >>> silu_product_float(np.array([0.0, 1.5]), np.array([5.0, 1000.0])).round(1)
    array([   0. , 1226.4])
    """
    return product_float(silu(np.asarray(g, dtype=np.float64)), u, scale)
