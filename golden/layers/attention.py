"""Attention of 16-bit queries over int8 keys and values, head by head."""

import numpy as np
from numpy.typing import NDArray

from .fixed_point import (
    Integers,
    Rounding,
    from_planes,
    require_integers,
    require_streamed,
    require_type,
    round_shift,
    saturate,
    to_planes,
)
from .gemm import exact_product, require_reduction
from .scalars import reciprocal
from .softmax import softmax, softmax_float


def scores(q: NDArray[np.int16], k: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply every query by every key of its head.

    Parameters
    ----------
    q : ndarray of int16, shape (Q, H, D)
        Queries of H heads, streamed in two planes.
    k : ndarray of int8, shape (K, G, D)
        Keys. G divides H: ``H // G`` neighbouring heads share keys.

    Returns
    -------
    ndarray of int32, shape (H, Q, K)
        ``256 * sum(hi * k) + sum(lo * k)``, the sums over D.

    Raises
    ------
    TypeError
        If ``q`` is not int16 or ``k`` not int8.
    ValueError
        If a shape or a value of ``q`` is not as above.
    OverflowError
        If a score leaves int32.

    Examples
    --------
    By hand: 300 * 2 - 5 * 3 = 585 and 300 * -1 - 5 * 4 = -320.

    >>> scores(np.array([[[300, -5]]], dtype=np.int16), np.array([[[2, 3]], [[-1, 4]]], dtype=np.int8))
    array([[[ 585, -320]]], dtype=int32)
    """
    require_streamed("q", q)
    require_type("q", q, np.int16, 3)
    require_type("k", k, np.int8, 3)
    if q.ndim != 3 or k.ndim != 3 or q.shape[2] != k.shape[2]:
        raise ValueError(f"q must be (Q, H, D) and k (K, G, D), got {q.shape} and {k.shape}")
    queries, heads, size = q.shape
    groups = _require_groups(heads, "k", k)
    require_reduction("D", size)
    rows = q.transpose(1, 0, 2).reshape(groups, -1, size)
    hi, lo = (exact_product(plane, k.transpose(1, 2, 0)) for plane in to_planes(rows))
    return from_planes(hi, lo).reshape(heads, queries, -1)


def weighted_values(weights: NDArray[np.int16], v: NDArray[np.int8]) -> NDArray[np.int32]:
    """Sum the values of all keys, each with its weight.

    Parameters
    ----------
    weights : ndarray of int16, shape (H, Q, K)
        As `softmax` makes them, streamed in two planes.
    v : ndarray of int8, shape (K, G, D)
        Values; heads share them as they share keys.

    Returns
    -------
    ndarray of int32, shape (H, Q, D)
        ``256 * sum(hi * v) + sum(lo * v)``, the sums over K.

    Raises
    ------
    TypeError
        If ``weights`` is not int16 or ``v`` not int8.
    ValueError
        If a shape or a weight is not as above.
    OverflowError
        If a sum leaves int32: a smaller table, or blocks of keys, have room.

    Examples
    --------
    By hand: 4095 * 3 + 1000 * -7 = 5285.

    >>> weighted_values(np.array([[[4095, 1000]]], dtype=np.int16), np.array([[[3]], [[-7]]], dtype=np.int8))
    array([[[5285]]], dtype=int32)
    """
    require_streamed("weights", weights)
    require_type("weights", weights, np.int16, 3)
    require_type("v", v, np.int8, 3)
    if weights.ndim != 3 or v.ndim != 3 or weights.shape[2] != v.shape[0]:
        raise ValueError(f"weights must be (H, Q, K) and v (K, G, D), got {weights.shape} and {v.shape}")
    heads, queries, keys = weights.shape
    groups = _require_groups(heads, "v", v)
    require_reduction("K", keys)
    rows = weights.reshape(groups, -1, keys)
    hi, lo = (exact_product(plane, v.transpose(1, 0, 2)) for plane in to_planes(rows))
    return from_planes(hi, lo).reshape(heads, queries, -1)


def divide(values: NDArray[np.int32], total: NDArray[np.int32], rounding: Rounding = "half_away") -> NDArray[np.int16]:
    """Divide weighted values by the sums of their weights, in 256ths.

    Parameters
    ----------
    values : ndarray of int32, shape (..., D)
        As `weighted_values` makes them.
    total : ndarray of int32, shape (...)
        As `softmax` makes it; where it is 0, values are 0 too, and so is the result.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    ndarray of int16, shape (..., D)
        ``256 * values / total``: times the mantissa of `golden.layers.scalars.reciprocal`, right by 7 and its bits, rounded
        once, saturated. Off by at most 1/2, and by 2**-15 of the result.

    Raises
    ------
    TypeError
        If one is not int32.
    ValueError
        If shapes do not agree, or a total is negative.

    Examples
    --------
    By hand: 5285 / 5095 * 256 = 265.547; -1000 / 4095 * 256 = -62.515.

    >>> divide(np.array([[5285], [-1000]], dtype=np.int32), np.array([5095, 4095], dtype=np.int32)).ravel()
    array([266, -63], dtype=int16)
    """
    require_type("values", values, np.int32)
    require_type("total", total, np.int32, 0)
    if values.shape[:-1] != total.shape:
        raise ValueError(f"total must have shape {values.shape[:-1]}, one for each row of values, got {total.shape}")
    mantissa, bits = reciprocal(total)
    return saturate(round_shift(values * mantissa[..., None], 7 + bits[..., None], rounding), "int16")


def attention(
    q: NDArray[np.int16],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    multiplier: Integers,
    shift: Integers,
    visible: NDArray[np.bool_] | None = None,
    table: NDArray[np.uint16] | None = None,
    rounding: Rounding = "half_away",
) -> NDArray[np.int16]:
    """Attend: `scores`, `softmax`, `weighted_values`, `divide`.

    Prefill has as many queries as keys and `causal_lengths`; decoding has few queries, and lengths within a cache of keys.

    Parameters
    ----------
    q : ndarray of int16, shape (Q, H, D)
        Queries.
    k, v : ndarray of int8, shape (K, G, D)
        Keys and values; ``H // G`` neighbouring heads share them.
    multiplier, shift : int, or ndarray of integers, shape (H,)
        From scores to sixteenths of a nat, one for all heads or one for each.
    visible : ndarray of bool, shape (Q, K), or None
        As `visible_keys` makes it, or any; None are all.
    table : ndarray of uint16, shape (256,), or None
        As in `softmax`.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    ndarray of int16, shape (Q, H, D)
        In 256ths of what 1 stands for in ``v``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As the four.

    Notes
    -----
    With d of `softmax` and s the difference of the largest and the smallest value of a channel, the result is off by at most
    ``256 * s * d / (1 - d) + 1/2``, and by 2**-15 of itself.

    Examples
    --------
    By hand: scores 320 and 0 are 20 steps of 16, weights 4095 and 4095 * exp(-20 / 16) = 1173;
    (4095 * 10 - 1173 * 6) / 5268 * 256 = 1647.97.

    >>> q = np.array([[[32, 0]]], dtype=np.int16)
    >>> k, v = np.array([[[10, 5]], [[0, 7]]], dtype=np.int8), np.array([[[10]], [[-6]]], dtype=np.int8)
    >>> attention(q, k, v, 1, 4)
    array([[[1648]]], dtype=int16)
    """
    factor, places = (per_head_rows(name, value, q.shape[1]) for name, value in (("multiplier", multiplier), ("shift", shift)))
    weights, total = softmax(scores(q, k), factor, places, visible, table, rounding)
    return divide(weighted_values(weights, v), total, rounding).transpose(1, 0, 2)


def attention_float(
    q: NDArray[np.floating],
    k: NDArray[np.floating],
    v: NDArray[np.floating],
    scale: float = 1.0,
    visible: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """What `attention` approximates, of real numbers.

    Parameters
    ----------
    q : ndarray of real numbers, shape (Q, H, D)
        Queries.
    k, v : ndarray of real numbers, shape (K, G, D)
        Keys and values.
    scale : float
        Nats for a score of 1.
    visible : ndarray of bool, shape (Q, K), or None
        Which keys are there; None are all.

    Returns
    -------
    ndarray of float64, shape (Q, H, D)
        ``softmax(scale * q @ k.T) @ v``, head by head.

    Examples
    --------
    Scores log 3 and 0: 3/4 of 8 and 1/4 of -4.

    >>> attention_float(np.array([[[1.0]]]), np.log([[[3.0]], [[1.0]]]), np.array([[[8.0]], [[-4.0]]]))
    array([[[5.]]])
    """
    shared = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), shared, axis=1) for x in (k, v))
    weights = softmax_float(scale * np.einsum("qhd,khd->hqk", q.astype(np.float64), keys), visible)
    return np.einsum("hqk,khd->qhd", weights, values)


def per_head_rows(name: str, value: Integers, heads: int) -> NDArray[np.int64]:
    """Bring what is given for each head into the shape in which `softmax` takes it.

    Parameters
    ----------
    name : str
        What the sentence of an error calls it.
    value : int, or ndarray of integers, shape (H,)
        One for all heads or one for each.
    heads : int
        H.

    Returns
    -------
    ndarray of int64, shape () or (H, 1, 1)
        The same numbers.

    Raises
    ------
    TypeError
        If it does not hold integers.
    ValueError
        If its shape is neither.
    """
    array = require_integers(name, value)
    if array.shape not in ((), (heads,)):
        raise ValueError(f"{name} must have shape () or (H,) = ({heads},), got shape {array.shape}")
    return array.reshape(-1, 1, 1) if array.ndim else array


def _require_groups(heads: int, name: str, shared: NDArray[np.int8]) -> int:
    groups = shared.shape[1]
    if heads % groups:
        raise ValueError(f"heads of {name} must divide those of the queries, got {groups} and {heads}")
    return groups
