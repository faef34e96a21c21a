"""One operation of a network in exact integers: operands into the same accumulators, reduction of windows, post-processing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .conv import conv2d
from .fixed_point import Integers, require_int32
from .pool import Kind, Padding, pad, reduce_windows
from .post import post_process


class Operand(NamedTuple):
    """Activations and the weights that they meet.

    ``x``: int8 (B, H, W, C), concatenated along the channels if they come from several tensors. ``w``: int8
    (KH, KW, C // groups, O). ``padding``: ((top, bottom), (left, right)), filled with ``pad_value``.
    """

    x: NDArray[np.int8]
    w: NDArray[np.int8]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0


class Window(NamedTuple):
    """The arguments of `golden.layers.pool.reduce_windows`."""

    kind: Kind
    kernel: tuple[int, int]
    stride: tuple[int, int]


def accumulate(operands: Sequence[Operand], before: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Convolve every operand and sum the results.

    Parameters
    ----------
    operands : sequence of Operand
        At least one; all give the same shape.
    before : ndarray of int32, shape (B, OH, OW, O), optional
        Sums to which they add.

    Returns
    -------
    ndarray of int32, shape (B, OH, OW, O)
        The exact sums.

    Raises
    ------
    TypeError
        For what `golden.layers.conv.conv2d` refuses.
    ValueError
        If there are no operands or their shapes differ, or for what `golden.layers.conv.conv2d` and `golden.layers.pool.pad`
        refuse.
    OverflowError
        If a sum leaves int32.

    Examples
    --------
    By hand, a 1 x 1 convolution by 3 and a residual that is scaled by 100: 2*3 + 1*100 and -4*3 + 5*100.

    >>> x = np.array([2, -4], dtype=np.int8).reshape(1, 1, 2, 1)
    >>> residual = np.array([1, 5], dtype=np.int8).reshape(1, 1, 2, 1)
    >>> one = np.ones((1, 1, 1, 1), dtype=np.int8)
    >>> accumulate([Operand(x, 3 * one), Operand(residual, 100 * one)]).ravel()
    array([106, 488], dtype=int32)
    """
    if not operands:
        raise ValueError("an operation needs at least one operand")
    total = None if before is None else before.astype(np.int64)
    for operand in operands:
        padded = pad(operand.x, operand.padding, operand.pad_value)
        acc = conv2d(padded, operand.w, stride=operand.stride, dilation=operand.dilation, groups=operand.groups)
        if total is None:
            total = acc.astype(np.int64)
        elif total.shape == acc.shape:
            total += acc
        else:
            raise ValueError(f"operands must give the same shape, got {total.shape} and {acc.shape}")
    assert total is not None
    return require_int32("a sum of operands", total)


def linear_node(
    operands: Sequence[Operand],
    window: Window | None,
    bias: NDArray[np.int32],
    multiplier: Integers,
    shift: Integers,
    table: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Evaluate an operation: `accumulate`, `golden.layers.pool.reduce_windows` if there is a window,
    `golden.layers.post.post_process`.

    Parameters
    ----------
    operands : sequence of Operand
        At least one; all give the same shape (B, AH, AW, O).
    window : Window or None
        Reduction of the accumulators, before the bias.
    bias, multiplier, shift, table
        As in `golden.layers.post.post_process`, with C = O.

    Returns
    -------
    ndarray of int8, shape (B, OH, OW, O)
        The output tensor.

    Raises
    ------
    TypeError, ValueError, OverflowError
        For what the three steps refuse.

    Examples
    --------
    By hand, the mean of 1, 2, -3 and 6 as a sum times 1/4, 6/4 = 1.5, which rounds to 2.

    >>> x = np.array([1, 2, -3, 6], dtype=np.int8).reshape(1, 2, 2, 1)
    >>> operation = [Operand(x, np.ones((1, 1, 1, 1), dtype=np.int8))], Window("sum", (2, 2), (2, 2))
    >>> linear_node(*operation, bias=np.zeros(1, dtype=np.int32), multiplier=1, shift=2).item()
    2
    """
    acc = accumulate(operands)
    if window is not None:
        acc = reduce_windows(acc, *window)
    return post_process(acc, bias, multiplier, shift, table)
