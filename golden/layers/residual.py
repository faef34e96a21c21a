"""The residual of a language model from its first row to its last choice: embedding, additions, argmax."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import refuse

from .fixed_point import require_integers, require_type


def embedding(tokens: NDArray[np.integer], rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Take the row of every token.

    Parameters
    ----------
    tokens : ndarray of integers, shape (...)
        In [0, V).
    rows : ndarray of int32, shape (V, C)
        Of real embeddings as `ir.quantise.fixed_point` rounds them, to half of a unit.

    Returns
    -------
    ndarray of int32, shape (..., C)
        ``rows[tokens]``.

    Raises
    ------
    TypeError
        If ``tokens`` does not hold integers, or ``rows`` is not int32.
    ValueError
        If ``rows`` is not a matrix, or a token has no row.

    Examples
    --------
    >>> embedding(np.array([1, 0, 1]), np.array([[1, 2], [3, 4]], dtype=np.int32))
    array([[3, 4],
           [1, 2],
           [3, 4]], dtype=int32)
    """
    require_type("rows", rows, np.int32, 2)
    if rows.ndim != 2:
        raise ValueError(f"rows must be (V, C), got shape {rows.shape}")
    numbers = require_integers("tokens", tokens)
    refuse(numbers, (numbers < 0) | (numbers >= len(rows)), f"tokens must be in [0, {len(rows)}), the rows there are")
    return rows[numbers]


def embedding_float(tokens: NDArray[np.integer], rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """What `embedding` rounds.

    Parameters
    ----------
    tokens : ndarray of integers, shape (...)
        In [0, V).
    rows : ndarray of real numbers, shape (V, C)
        Embeddings.

    Returns
    -------
    ndarray of float64, shape (..., C)
        ``rows[tokens]``.

    Examples
    --------
    >>> embedding_float(np.array([1]), np.array([[0.5], [0.25]]))
    array([[0.25]])
    """
    return rows.astype(np.float64)[tokens]


def residual_add(x: NDArray[np.int32], update: NDArray[np.int32], psum_width: int = 32) -> NDArray[np.int32]:
    """Add what a layer has made to the residual, which never wraps and never saturates.

    Parameters
    ----------
    x, update : ndarray of int32, shape (..., C)
        The residual, and what is added.
    psum_width : int
        In [17, 32]: bits of an accumulator.

    Returns
    -------
    ndarray of int32, shape (..., C)
        ``x + update``, exactly.

    Raises
    ------
    TypeError
        If one is not int32.
    ValueError
        If the shapes differ, or ``psum_width`` is out of range.
    OverflowError
        If a sum does not fit ``psum_width`` bits.

    Examples
    --------
    >>> residual_add(np.array([2**30], dtype=np.int32), np.array([-7], dtype=np.int32))
    array([1073741817], dtype=int32)
    """
    for name, array in (("x", x), ("update", update)):
        require_type(name, array, np.int32, 0)
    if x.shape != update.shape:
        raise ValueError(f"x and update must have the same shape, got {x.shape} and {update.shape}")
    if not 17 <= psum_width <= 32:
        raise ValueError(f"psum_width must be in [17, 32], got {psum_width}")
    total = x.astype(np.int64) + update
    limit = 1 << (psum_width - 1)
    wrong = (total < -limit) | (total >= limit)
    if wrong.any():
        raise OverflowError(f"a residual must fit psum_width {psum_width}, [{-limit}, {limit - 1}], got {total[wrong][0]}")
    return total.astype(np.int32)


def residual_add_float(x: NDArray[np.floating], update: NDArray[np.floating]) -> NDArray[np.float64]:
    """What `residual_add` does, of real numbers.

    Parameters
    ----------
    x, update : ndarray of real numbers
        The residual, and what is added.

    Returns
    -------
    ndarray of float64
        ``x + update``.

    Examples
    --------
    >>> residual_add_float(np.array([0.5]), np.array([0.25]))
    array([0.75])
    """
    return x.astype(np.float64) + update


def argmax(x: NDArray[np.int32]) -> NDArray[np.int64]:
    """The channel of the largest value of each row; of equals, the lowest.

    Parameters
    ----------
    x : ndarray of int32, shape (..., C)
        Rows: logits.

    Returns
    -------
    ndarray of int64, shape (...)
        In [0, C).

    Raises
    ------
    TypeError
        If ``x`` is not int32.
    ValueError
        If there are no channels.

    Examples
    --------
    >>> argmax(np.array([[3, 9, 9], [-1, -1, -2]], dtype=np.int32))
    array([1, 0])
    """
    require_type("x", x, np.int32)
    return np.asarray(x.argmax(axis=-1), dtype=np.int64)
