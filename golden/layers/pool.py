"""Padding with any value, and reduction of windows of accumulators: the layer model of pooling."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .conv import output_size
from .fixed_point import require_int32
from .gemm import require_int8

Kind: TypeAlias = Literal["max", "sum", "product"]
Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


def reduce_windows(acc: NDArray[np.int32], kind: Kind, kernel: tuple[int, int], stride: tuple[int, int]) -> NDArray[np.int32]:
    """Replace each window of positions by the largest, the sum or the product of its accumulators, channel by channel.

    There is no padding; a window that would overhang is dropped.

    Parameters
    ----------
    acc : ndarray of int32, shape (B, H, W, C)
        Accumulators, channels last.
    kind : 'max', 'sum' or 'product'
        What stands for a window; a product is of two positions.
    kernel : (int, int)
        Height and width of a window.
    stride : (int, int)
        Distance between windows in height and in width.

    Returns
    -------
    ndarray of int32, shape (B, OH, OW, C)
        OH and OW are as `golden.layers.conv.output_size` has them.

    Raises
    ------
    TypeError
        If ``acc`` is not int32.
    ValueError
        If ``acc`` has the wrong rank or an empty axis, if there is no such ``kind``, if a window exceeds ``acc``, if a product is
        not of two positions, or for what `golden.layers.conv.output_size` refuses.
    OverflowError
        If a sum leaves int32, or what is multiplied 16 bits.

    Examples
    --------
    By hand, rows 1 -2 3 / 4 5 -6 under windows of 2 x 2: 1-2+4+5 = 8 and -2+3+5-6 = 0; the largest is 5 twice. Products of
    neighbours are -2 -6 / 20 -30.

    >>> acc = np.array([[1, -2, 3], [4, 5, -6]], dtype=np.int32).reshape(1, 2, 3, 1)
    >>> reduce_windows(acc, "sum", (2, 2), (1, 1)).ravel()
    array([8, 0], dtype=int32)
    >>> reduce_windows(acc, "max", (2, 2), (1, 1)).ravel()
    array([5, 5], dtype=int32)
    >>> reduce_windows(acc, "product", (1, 2), (1, 1)).ravel()
    array([ -2,  -6,  20, -30], dtype=int32)
    """
    if not isinstance(acc, np.ndarray) or acc.dtype != np.int32:
        found = acc.dtype if isinstance(acc, np.ndarray) else type(acc).__name__
        raise TypeError(f"acc must be an int32 array, got {found}")
    if acc.ndim != 4 or acc.size == 0:
        raise ValueError(f"acc must have the 4 axes (B, H, W, C), each at least 1, got shape {acc.shape}")
    if kind not in ("max", "sum", "product"):
        raise ValueError(f"kind must be 'max', 'sum' or 'product', got {kind!r}")
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel, stride
    if kind == "product" and kernel_h * kernel_w != 2:
        raise ValueError(f"a product is of two positions, got a window of {kernel_h} x {kernel_w}")
    output_size(acc.shape[1], kernel_h, stride_h, axis="height")
    output_size(acc.shape[2], kernel_w, stride_w, axis="width")
    windows = sliding_window_view(acc, (kernel_h, kernel_w), axis=(1, 2))[:, ::stride_h, ::stride_w]
    if kind == "max":
        largest: NDArray[np.int32] = windows.max(axis=(-2, -1))
        return largest
    if kind == "product":
        beyond = windows[(windows < -(1 << 15)) | (windows >= 1 << 15)]
        if beyond.size:
            raise OverflowError(f"what is multiplied must fit 16 bits, got {beyond[0]}")
        product: NDArray[np.int32] = windows.prod(axis=(-2, -1), dtype=np.int32)
        return product
    return require_int32("a sum of a window", windows.sum(axis=(-2, -1), dtype=np.int64))


def pad(x: NDArray[np.int8], padding: Padding, value: int) -> NDArray[np.int8]:
    """Surround images with a value: 0 for a convolution or a sum, -128 for a maximum, which then ignores it.

    Parameters
    ----------
    x : ndarray of int8, shape (B, H, W, C)
        Activations, channels last.
    padding : ((int, int), (int, int))
        ((top, bottom), (left, right)).
    value : int
        In [-128, 127].

    Returns
    -------
    ndarray of int8, shape (B, top + H + bottom, left + W + right, C)
        The images in their frames.

    Raises
    ------
    TypeError
        If ``x`` is not int8.
    ValueError
        If ``x`` has the wrong rank or an empty axis, if a side is negative, or if ``value`` is no int8.

    Examples
    --------
    >>> pad(np.array([1, 2], dtype=np.int8).reshape(1, 1, 2, 1), ((1, 0), (0, 1)), -128)[0, :, :, 0]
    array([[-128, -128, -128],
           [   1,    2, -128]], dtype=int8)
    """
    require_int8("x", x, ("B", "H", "W", "C"))
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    if not -128 <= value <= 127:
        raise ValueError(f"the value of padding must be in [-128, 127], got {value}")
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)
