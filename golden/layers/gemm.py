"""Matrix product of int8 operands with int32 accumulation: the layer model of GEMM."""

import numpy as np
from numpy.typing import NDArray

MAX_REDUCTION = 1 << 16
"""Longest reduction (products per output) that podweave accepts: 2**16 products of magnitude at most 2**14
stay within 2**30, so int32 accumulation cannot wrap, in any order, and half its range is left for a bias."""

# A float32 holds every integer up to 2**24 and a product of two int8 is at most 2**14, so over a slice of
# 2**10 terms every product and every partial sum, in whatever order and with whatever fusing BLAS forms them,
# is an integer that float32 holds: no operation rounds. float64 would need no slices, at half the speed and
# twice the memory.
_EXACT_SLICE = 1 << 10


def gemm(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply an activation matrix by a weight matrix, exactly.

    Parameters
    ----------
    x : ndarray of int8, shape (M, K)
        Activations.
    w : ndarray of int8, shape (K, N)
        Weights.

    Returns
    -------
    ndarray of int32, shape (M, N)
        ``sum over k of x[m, k] * w[k, n]``.

    Raises
    ------
    TypeError
        If an operand is not int8.
    ValueError
        If an operand is not a matrix or has an empty axis, if the inner sizes differ, or if K exceeds
        ``MAX_REDUCTION``.

    Examples
    --------
    By hand: 1*5 + 2*7 = 19, 1*6 + 2*-8 = -10, -3*5 + 4*7 = 13, -3*6 + 4*-8 = -50.

    >>> x = np.array([[1, 2], [-3, 4]], dtype=np.int8)
    >>> w = np.array([[5, 6], [7, -8]], dtype=np.int8)
    >>> gemm(x, w)
    array([[ 19, -10],
           [ 13, -50]], dtype=int32)
    """
    require_int8("x", x, ("M", "K"))
    require_int8("w", w, ("K", "N"))
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"x and w must agree in K, got K = {x.shape[1]} in x and K = {w.shape[0]} in w")
    require_reduction("K", x.shape[1])
    return exact_product(x, w)


def exact_product(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply matrices, or stacks of matrices, whose operands have been checked.

    Parameters
    ----------
    x : ndarray of int8, shape (..., M, K)
        K is at most ``MAX_REDUCTION``.
    w : ndarray of int8, shape (..., K, N)
        The leading axes are those of ``x``.

    Returns
    -------
    ndarray of int32, shape (..., M, N)
        The exact products.

    Examples
    --------
    A stack of two 1x1 products, 2*3 and -4*5.

    >>> x = np.array([[[2]], [[-4]]], dtype=np.int8)
    >>> w = np.array([[[3]], [[5]]], dtype=np.int8)
    >>> exact_product(x, w).ravel()
    array([  6, -20], dtype=int32)
    """
    total = np.zeros((*x.shape[:-1], w.shape[-1]), dtype=np.int32)
    for start in range(0, x.shape[-1], _EXACT_SLICE):
        terms = slice(start, start + _EXACT_SLICE)
        left = x[..., terms].astype(np.float32, order="C")
        right = w[..., terms, :].astype(np.float32, order="C")
        total += np.matmul(left, right).astype(np.int32)
    return total


def require_int8(name: str, array: NDArray[np.int8], axes: tuple[str, ...]) -> None:
    """Refuse an operand that is not a non-empty int8 array with the named axes.

    Parameters
    ----------
    name : str
        What the sentence of the error calls the operand.
    array : ndarray of int8
        The operand.
    axes : tuple of str
        The name of each axis.

    Raises
    ------
    TypeError
        If ``array`` is not an int8 array.
    ValueError
        If its rank is not ``len(axes)`` or an axis has size 0.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.int8:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} must be an int8 array, got {found}")
    layout = f"({', '.join(axes)})"
    if array.ndim != len(axes):
        raise ValueError(f"{name} must have the {len(axes)} axes {layout}, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"every axis of {name} {layout} must be at least 1, got shape {array.shape}")


def require_reduction(name: str, length: int) -> None:
    """Refuse a reduction that could wrap an int32 accumulator.

    Parameters
    ----------
    name : str
        What the sentence of the error calls the reduction.
    length : int
        Products per output.

    Raises
    ------
    ValueError
        If ``length`` exceeds ``MAX_REDUCTION``.
    """
    if length > MAX_REDUCTION:
        raise ValueError(f"{name} must be at most {MAX_REDUCTION}, so that int32 cannot wrap, got {length}")
