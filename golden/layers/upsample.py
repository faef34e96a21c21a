"""Enlarged images: nearest neighbours, and depth to space."""

import numpy as np
from numpy.typing import NDArray

from .gemm import require_int8


def upsample(x: NDArray[np.int8], rows: int, columns: int, interleaved: bool = False) -> NDArray[np.int8]:
    """Put ``rows`` x ``columns`` positions in the place of each.

    Parameters
    ----------
    x : ndarray of int8, shape (B, H, W, C)
        Activations, channels last.
    rows, columns : int
        At least 1.
    interleaved : bool
        False: each of them has all channels of the position (nearest neighbour). True: the one in row r and column c has the C / n
        channels from ``(r * columns + c) * C / n`` on, with n = rows * columns (depth to space).

    Returns
    -------
    ndarray of int8, shape (B, H * rows, W * columns, C), or C / n channels if interleaved
        The enlarged images.

    Raises
    ------
    TypeError
        If ``x`` is not int8.
    ValueError
        If ``x`` has the wrong rank or an empty axis, if a factor is less than 1, or if n does not divide C.

    Examples
    --------
    By hand, a row of two positions, upsampled by 2 x 2, and interleaved by 1 x 2: 1 and 2 were channels of one position.

    >>> upsample(np.array([[[[1], [2]]]], dtype=np.int8), 2, 2)[0, :, :, 0]
    array([[1, 1, 2, 2],
           [1, 1, 2, 2]], dtype=int8)
    >>> upsample(np.array([[[[1, 2], [3, 4]]]], dtype=np.int8), 1, 2, interleaved=True)[0, :, :, 0]
    array([[1, 2, 3, 4]], dtype=int8)
    """
    require_int8("x", x, ("B", "H", "W", "C"))
    if min(rows, columns) < 1:
        raise ValueError(f"factors must be at least 1, got {rows} x {columns}")
    if not interleaved:
        return x[:, np.arange(x.shape[1] * rows) // rows][:, :, np.arange(x.shape[2] * columns) // columns]
    batch, height, width, channels = x.shape
    if channels % (rows * columns):
        raise ValueError(f"{rows} x {columns} must divide the channels, got {channels}")
    parts = x.reshape(batch, height, width, rows, columns, channels // (rows * columns))
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * rows, width * columns, -1)
