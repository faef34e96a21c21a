"""Post-processing of accumulators: bias, requantisation to int8, and an activation function as a table of 256 entries."""

import numpy as np
from numpy.typing import NDArray

from .fixed_point import Integers, Rounding, Width
from .gemm import require_int8
from .requant import requantize_wide


def post_process(
    acc: NDArray[np.int32],
    bias: NDArray[np.int32],
    multiplier: Integers,
    shift: Integers,
    table: NDArray[np.int8] | None = None,
    to: Width = "int8",
    rounding: Rounding = "half_away",
    zero_point: int = 0,
) -> NDArray:
    """Add a bias, scale by ``multiplier / 2**shift``, round once, saturate, and look the result up in a table.

    The sum has 33 bits and does not wrap.

    Parameters
    ----------
    acc : ndarray of int32, shape (..., C)
        Accumulators, channels last.
    bias : ndarray of int32, shape (C,)
        One for each channel, in units of the accumulators.
    multiplier, shift : int, or ndarray of integers, shape () or (C,)
        As in `golden.layers.requant.requantize`.
    table : ndarray of int8, shape (256,), or None
        The result for each int8, which is read as uint8 to find its entry; None leaves it as it is.
    to : 'int8', 'int16' or 'int32'
        The width of the result; a table needs int8.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.
    zero_point : int
        As in `golden.layers.requant.requantize_wide`.

    Returns
    -------
    ndarray of the type ``to``, shape (..., C)
        ``table[saturate(round((acc + bias) * multiplier / 2**shift) + zero_point) & 0xff]``.

    Raises
    ------
    TypeError
        If ``acc`` or ``bias`` is not int32, ``table`` not int8, or ``multiplier`` or ``shift`` does not hold integers.
    ValueError
        If ``acc`` has no channel axis, any of the others is out of range or has the wrong shape, or a table is to give
        another width.

    Examples
    --------
    By hand, times 3/8: (3 + 1) -> 1.5 -> 2, (-5 + 1) -> -1.5 -> -2 -> 0 by the table, (399 + 1) -> 150 -> 127.

    >>> acc, bias = np.array([[3], [-5], [399]], dtype=np.int32), np.array([1], dtype=np.int32)
    >>> post_process(acc, bias, 3, 3, np.maximum(np.arange(256).astype(np.int8), 0)).ravel()
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
    narrow = requantize_wide(acc.astype(np.int64) + bias, multiplier, shift, to, rounding, zero_point)
    if table is None:
        return narrow
    if to != "int8":
        raise ValueError(f"a table gives int8, got a width of {to}")
    require_int8("table", table, ("256",))
    if table.size != 256:
        raise ValueError(f"table must have 256 entries, got {table.size}")
    return table[narrow.view(np.uint8)]
