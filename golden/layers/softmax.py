"""Softmax that divides last: exponentials of scores from a table, and their sums."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import exp_table

from .fixed_point import LIMITS, Integers, Rounding, require_int32, require_integers, require_type
from .requant import requantize_wide

_EXP = exp_table()


def causal_lengths(queries: int, keys: int) -> NDArray[np.int64]:
    """How many keys each query sees if the last query is the newest token, and each sees itself and what came before.

    Parameters
    ----------
    queries, keys : int
        At least 1; no more queries than keys.

    Returns
    -------
    ndarray of int64, shape (queries,)
        For `visible_keys`.

    Raises
    ------
    ValueError
        If there are no queries, or fewer keys than queries.

    Examples
    --------
    >>> causal_lengths(3, 5)
    array([3, 4, 5])
    """
    if not 1 <= queries <= keys:
        raise ValueError(f"causal attention needs at least 1 query and as many keys, got {queries} queries and {keys} keys")
    return np.arange(keys - queries + 1, keys + 1)


def visible_keys(lengths: NDArray[np.integer], keys: int) -> NDArray[np.bool_]:
    """Which keys are there for each query: those before its length.

    Parameters
    ----------
    lengths : ndarray of integers, shape (Q,)
        In [0, keys].
    keys : int
        Number of keys.

    Returns
    -------
    ndarray of bool, shape (Q, keys)
        ``j < lengths[q]``.

    Raises
    ------
    TypeError
        If ``lengths`` does not hold integers.
    ValueError
        If a length is out of range.

    Examples
    --------
    >>> visible_keys(np.array([1, 3]), 3)
    array([[ True, False, False],
           [ True,  True,  True]])
    """
    counts = require_integers("lengths", lengths)
    wrong = (counts < 0) | (counts > keys)
    if wrong.any():
        raise ValueError(f"lengths must be in [0, {keys}], the number of keys, got {counts[wrong][0]}")
    return np.arange(keys) < counts[..., None]


def softmax(
    scores: NDArray[np.int32],
    multiplier: Integers,
    shift: Integers,
    visible: NDArray[np.bool_] | None = None,
    table: NDArray[np.uint16] | None = None,
    rounding: Rounding = "half_away",
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Exponentials of the scores of each row, and their sums: softmax before its division.

    Parameters
    ----------
    scores : ndarray of int32, shape (..., K)
        A row for each query of each head.
    multiplier, shift : int, or ndarray of integers that broadcast to (..., 1)
        From scores to sixteenths of a nat; ranges as in `golden.layers.requant.requantize`.
    visible : ndarray of bool that broadcasts to (..., K), or None
        Which keys are there; None are all.
    table : ndarray of uint16, shape (256,), or None
        As `ir.quantise.exp_table` makes it, up to 32639; None is that of 4095.
    rounding : 'half_away' or 'half_even'
        As `golden.layers.fixed_point.round_shift` has them.

    Returns
    -------
    weights : ndarray of int16, shape (..., K)
        ``table[min(255, round((largest - scores) * multiplier / 2**shift))]``, and 0 where a key is not visible; the largest of
        the visible scores of each row.
    total : ndarray of int32, shape (...)
        Their sum; 0 if no key is visible.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If a shape is not as above, or multiplier, shift or table are out of range.
    OverflowError
        If a total leaves int32.

    Notes
    -----
    With exact weights ``w = exp(score - largest)``, their sum W over n visible keys, and L the entry of 0 of the table,
    ``sum |weights / L - w| <= d * W`` with ``d = exp(1 / 32) - 1 + n / (2 * L * W)``: half a step of the index, and half of
    the last place of an entry. So no ``weights / total`` is further than ``d / (1 - d)`` from softmax.

    Examples
    --------
    By hand, 1/16 nat per 10: indices 0, 1, 16, and 4095, 4095 / e**(1/16) = 3846.9, 4095 / e = 1506.5.

    >>> weights, total = softmax(np.array([[500, 490, 340, 999]], dtype=np.int32), 1677722, 24, np.array([1, 1, 1, 0]) > 0)
    >>> weights, total
    (array([[4095, 3847, 1506,    0]], dtype=int16), array([9448], dtype=int32))
    """
    require_type("scores", scores, np.int32)
    entries = _EXP if table is None else table
    require_type("table", entries, np.uint16)
    limit = LIMITS["int16"][1]
    if entries.shape != (256,) or entries.max() > limit:
        raise ValueError(f"table must have 256 entries of at most {limit}, got shape {entries.shape}, largest {entries.max()}")
    rows = (*scores.shape[:-1], 1)
    factor, places = (_per_row(name, value, rows) for name, value in (("multiplier", multiplier), ("shift", shift)))
    there = _visible(visible, scores.shape)
    top = np.where(there, scores, np.iinfo(np.int32).min).max(axis=-1, keepdims=True)
    # A hidden score may be above the largest visible one: its index is 0, and not used.
    index = requantize_wide(top.astype(np.int64) - scores, factor, places, "uint8", rounding)
    weights = np.where(there, entries[index], 0).astype(np.int16)
    return weights, require_int32("a sum of weights", np.asarray(weights.sum(axis=-1, dtype=np.int64)))


def softmax_float(scores: NDArray[np.floating], visible: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """What `softmax` approximates, divided.

    Parameters
    ----------
    scores : ndarray of real numbers, shape (..., K)
        In nats.
    visible : ndarray of bool that broadcasts to (..., K), or None
        Which keys are there; None are all.

    Returns
    -------
    ndarray of float64, shape (..., K)
        ``exp(scores)`` divided by its sum over the visible keys, 0 elsewhere and in rows without any.

    Examples
    --------
    >>> softmax_float(np.log([3.0, 1.0, 8.0]), np.array([True, True, False]))
    array([0.75, 0.25, 0.  ])
    """
    there = _visible(visible, scores.shape)
    hidden = np.where(there, scores, -np.inf)
    top = hidden.max(axis=-1, keepdims=True)
    weights = np.where(there, np.exp(hidden - np.where(np.isfinite(top), top, 0.0)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1.0, total), dtype=np.float64)


def _per_row(name: str, value: Integers, rows: tuple[int, ...]) -> NDArray[np.int64]:
    array = require_integers(name, value)
    if array.ndim == 0:
        return array
    try:
        return np.broadcast_to(array, rows)
    except ValueError:
        raise ValueError(f"{name} must have shape () or one that broadcasts to rows {rows}, got {array.shape}") from None


def _visible(visible: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if visible is None:
        return np.broadcast_to(np.True_, shape)
    require_type("visible", visible, np.bool_)
    try:
        return np.broadcast_to(visible, shape)
    except ValueError:
        raise ValueError(f"visible must broadcast to the scores' shape {shape}, got {visible.shape}") from None
