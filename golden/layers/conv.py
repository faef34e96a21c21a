"""Two-dimensional convolution of int8 operands with int32 accumulation: the layer model of conv2d."""

from operator import index
from typing import SupportsIndex, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .gemm import exact_product, require_int8, require_reduction

Pair: TypeAlias = int | tuple[int, int]


def conv2d(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    *,
    stride: Pair = 1,
    padding: int | tuple[Pair, Pair] = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> NDArray[np.int32]:
    """Convolve images with a bank of kernels, exactly.

    As in every deep-learning framework the kernel is not flipped, and padding reads as 0.

    Parameters
    ----------
    x : ndarray of int8, shape (N, H, W, C)
        Activations, channels last.
    w : ndarray of int8, shape (KH, KW, C // groups, OC)
        Weights. Output channels ``g * OC // groups`` and up belong to group ``g``.
    stride : int or (int, int)
        Distance between windows, for both axes or (height, width).
    padding : int or (axis, axis)
        Zeros around an image, for all sides or (height, width). An axis is an int for both of its sides or
        (before, after), so ((top, bottom), (left, right)) is the most general form.
    dilation : int or (int, int)
        Distance between the taps of a window, for both axes or (height, width).
    groups : int
        Groups of channels that are convolved apart. Depthwise is ``groups=C``.

    Returns
    -------
    ndarray of int32, shape (N, OH, OW, OC)
        OH and OW are as `output_size` has them.

    Raises
    ------
    TypeError
        If an operand is not int8, or a parameter is not an integer or a pair of integers.
    ValueError
        If an operand has the wrong rank or an empty axis, if the groups do not divide C and OC or disagree
        with ``w``, if ``KH * KW * C // groups`` exceeds ``MAX_REDUCTION``, or for what `output_size` refuses.

    Examples
    --------
    By hand, rows 1 2 3 / 4 5 6 under the kernel 1 -1 / 2 0: 1-2+2*4 = 7 and 2-3+2*5 = 9.

    >>> x = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int8).reshape(1, 2, 3, 1)
    >>> w = np.array([[1, -1], [2, 0]], dtype=np.int8).reshape(2, 2, 1, 1)
    >>> conv2d(x, w).ravel()
    array([7, 9], dtype=int32)
    """
    require_int8("x", x, ("N", "H", "W", "C"))
    require_int8("w", w, ("KH", "KW", "C // groups", "OC"))
    stride_h, stride_w = _pair("stride", stride)
    dilation_h, dilation_w = _pair("dilation", dilation)
    pad_h, pad_w = (_pair("padding", axis) for axis in _both("padding", padding))
    images, height, width, channels = x.shape
    kernel_h, kernel_w, group_channels, out_channels = w.shape
    groups = _integer("groups", groups)
    _require_groups(groups, channels, group_channels, out_channels)
    require_reduction("KH * KW * C // groups", kernel_h * kernel_w * group_channels)
    out_h = output_size(height, kernel_h, stride_h, *pad_h, dilation_h, axis="height")
    out_w = output_size(width, kernel_w, stride_w, *pad_w, dilation_w, axis="width")

    extent = (dilation_h * (kernel_h - 1) + 1, dilation_w * (kernel_w - 1) + 1)
    padded = np.pad(x, ((0, 0), pad_h, pad_w, (0, 0)))
    windows = sliding_window_view(padded, extent, axis=(1, 2))
    windows = windows[:, ::stride_h, ::stride_w, :, ::dilation_h, ::dilation_w]
    windows = windows.reshape(images, out_h, out_w, groups, group_channels, kernel_h, kernel_w)
    windows = windows.transpose(0, 3, 1, 2, 5, 6, 4)
    kernels = w.reshape(kernel_h, kernel_w, group_channels, groups, out_channels // groups)
    kernels = kernels.transpose(3, 0, 1, 2, 4).reshape(groups, -1, out_channels // groups)

    y = np.empty((images, out_h, out_w, out_channels), dtype=np.int32)
    # The columns of one image are KH * KW times as large as the image: those of a batch may not fit memory.
    for image, result in zip(windows, y, strict=True):
        columns = image.reshape(groups, out_h * out_w, -1)
        result[...] = exact_product(columns, kernels).transpose(1, 0, 2).reshape(result.shape)
    return y


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding_before: int = 0,
    padding_after: int = 0,
    dilation: int = 1,
    *,
    axis: str = "axis",
) -> int:
    """Count the windows along one axis; a window that would overhang the padding is dropped.

    Parameters
    ----------
    size, kernel : int
        Elements of the input and of the kernel along the axis.
    stride, padding_before, padding_after, dilation : int
        As in `conv2d`, for this axis.
    axis : str
        What the sentence of an error calls the axis.

    Returns
    -------
    int
        ``(padding_before + size + padding_after - extent) // stride + 1``, where the kernel's extent is
        ``dilation * (kernel - 1) + 1``.

    Raises
    ------
    ValueError
        If size, kernel, stride or dilation is less than 1, if padding is negative, or if the kernel's extent
        is larger than the padded input.

    Examples
    --------
    Seven elements and a zero on either side hold a three-tap kernel at 0, 2, 4 and 6.

    >>> output_size(7, 3, 2, 1, 1, 1)
    4
    """
    for name, value, least in (
        ("size", size, 1),
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("dilation", dilation, 1),
        ("padding before", padding_before, 0),
        ("padding after", padding_after, 0),
    ):
        if value < least:
            raise ValueError(f"{axis}: {name} must be at least {least}, got {value}")
    padded = padding_before + size + padding_after
    extent = dilation * (kernel - 1) + 1
    if extent > padded:
        raise ValueError(
            f"{axis}: the kernel's extent must be at most the padded input, got extent {extent} "
            f"(kernel {kernel}, dilation {dilation}) and padded input {padded} "
            f"({padding_before} + {size} + {padding_after})"
        )
    return (padded - extent) // stride + 1


def _require_groups(groups: int, channels: int, group_channels: int, out_channels: int) -> None:
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    if channels % groups:
        raise ValueError(f"groups must divide the channels of x, got groups {groups} and C {channels}")
    if out_channels % groups:
        raise ValueError(f"groups must divide the output channels, got groups {groups} and OC {out_channels}")
    if group_channels != channels // groups:
        raise ValueError(
            f"axis 2 of w must be C // groups = {channels // groups} (C {channels}, groups {groups}), got {group_channels}"
        )


def _pair(name: str, value: Pair) -> tuple[int, int]:
    first, second = _both(name, value)
    return _integer(name, first), _integer(name, second)


def _both(name: str, value: Pair | tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    both = value if isinstance(value, tuple) else (value, value)
    if len(both) != 2:
        raise TypeError(f"{name} must be one entry or a pair of entries, got {value!r}")
    return both


def _integer(name: str, value: object) -> int:
    if not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer or made of integers, got {value!r}")
    return index(value)
