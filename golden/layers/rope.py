"""Rotary position embedding of 16-bit queries and keys: neighbouring channels are turned by angles of their position."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import ANGLE_BITS, rope_tables

from .fixed_point import require_streamed, require_type

__all__ = ["rope", "rope_float", "rope_tables"]


def rope(x: NDArray[np.int16], cosines: NDArray[np.int16], sines: NDArray[np.int16]) -> NDArray[np.int32]:
    """Turn every pair of neighbouring channels.

    Parameters
    ----------
    x : ndarray of int16, shape (..., T, C)
        T rows of heads side by side: C is a multiple of the head size D.
    cosines, sines : ndarray of int16, shape (T, D // 2)
        As `ir.quantise.rope_tables` makes them, of each row's position: entry i is for channels ``2 * i`` and ``2 * i + 1``.

    Returns
    -------
    ndarray of int32, shape (..., T, C)
        ``x0 * cosine - x1 * sine`` and ``x0 * sine + x1 * cosine``: 2**14 times the rotated values, to be requantised per
        channel. Off by at most ``(|x0| + |x1|) / 2``: half of the last place of cosine and sine each.

    Raises
    ------
    TypeError
        If an array is not int16.
    ValueError
        If shapes do not agree, if a value of ``x`` is beyond 32639, or a cosine or sine beyond 1.

    Examples
    --------
    By hand, a quarter turn, and 3/5 and 4/5: (100, 7) -> (-7, 100), and 100 * 9830 - 7 * 13107, 100 * 13107 + 7 * 9830.

    >>> x = np.array([[100, 7], [100, 7]], dtype=np.int16)
    >>> rope(x, np.array([[0], [9830]], dtype=np.int16), np.array([[16384], [13107]], dtype=np.int16))
    array([[-114688, 1638400],
           [ 891251, 1379510]], dtype=int32)
    """
    require_streamed("x", x)
    require_type("x", x, np.int16, 2)
    one = 1 << ANGLE_BITS
    for name, table in (("cosines", cosines), ("sines", sines)):
        require_type(name, table, np.int16, 2)
        if table.min() < -one or table.max() > one:
            raise ValueError(f"{name} must be in [{-one}, {one}], got {table.min()} to {table.max()}")
    rows, channels = x.shape[-2:]
    if cosines.shape != sines.shape or cosines.shape[:-1] != (rows,) or channels % (2 * cosines.shape[1]):
        raise ValueError(
            f"cosines and sines must be (T, D // 2) for x (..., T, C), C a multiple of D, "
            f"got {cosines.shape}, {sines.shape} and {x.shape}"
        )
    pairs = x.reshape(*x.shape[:-1], -1, cosines.shape[1], 2).astype(np.int32)
    c, s = (table[:, None, :].astype(np.int32) for table in (cosines, sines))
    # At most 2 * 2**15 * 2**14 = 2**30.
    turned = np.stack([pairs[..., 0] * c - pairs[..., 1] * s, pairs[..., 0] * s + pairs[..., 1] * c], axis=-1)
    return turned.reshape(x.shape)


def rope_float(
    x: NDArray[np.floating], positions: NDArray[np.integer], head_size: int, theta: float = 10_000.0
) -> NDArray[np.float64]:
    """What `rope` approximates.

    Parameters
    ----------
    x : ndarray of real numbers, shape (..., T, C)
        Rows.
    positions : ndarray of integers, shape (T,)
        The position of each row.
    head_size, theta
        As in `ir.quantise.rope_tables`.

    Returns
    -------
    ndarray of float64, shape (..., T, C)
        The rotated values.

    Examples
    --------
    One radian turns (1, 0) to its cosine and sine.

    >>> rope_float(np.array([[1.0, 0.0]]), np.array([1]), 2).round(4)
    array([[0.5403, 0.8415]])
    """
    rates = float(theta) ** (-np.arange(0, head_size, 2) / head_size)
    turn = np.exp(1j * positions[:, None] * rates)
    pairs = x.astype(np.float64).reshape(*x.shape[:-1], -1, head_size // 2, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * turn[:, None, :]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
