"""What a row needs once: the reciprocal of a sum, and the reciprocal square root of a sum of squares, as mantissa and shift."""

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import refuse

from .fixed_point import require_integers

MAX_SUM = (1 << 31) - 1
"""Largest argument of `reciprocal`."""
MAX_SQUARES = (1 << 41) - 1
"""Largest argument of `reciprocal_square_root`: 2,047 squares of 16-bit values."""

# Entry i - 64 is for mantissas of [256 i, 256 i + 256), and right in their middle.
_ROOTS = np.rint(2.0**23 / np.sqrt(256 * np.arange(64, 256) + 128)).astype(np.uint16)


def reciprocal_square_root_table() -> NDArray[np.uint16]:
    """The table of `reciprocal_square_root`.

    Returns
    -------
    ndarray of uint16, shape (192,)
        Entry i - 64 is ``round(2**23 / sqrt(256 * i + 128))``, for i from 64 to 255.

    Examples
    --------
    By hand: 2**23 / sqrt(16512) = 65281.49 and 2**23 / sqrt(65408) = 32800.06.

    >>> reciprocal_square_root_table()[[0, 191]]
    array([65281, 32800], dtype=uint16)
    """
    return _ROOTS.copy()


def reciprocal(total: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide 1 by integers: a mantissa of 17 bits by one serial division, and a shift.

    Parameters
    ----------
    total : ndarray of integers
        In [0, 2**31). 0 is taken as 1: it is the sum of a row in which nothing is, and whatever is divided by it is 0.

    Returns
    -------
    mantissa, bits : ndarray of int64
        ``1 / total = mantissa / 2**(15 + bits)`` but for a relative error of less than 2**-15. ``bits`` is the number of
        bits of ``total``, ``mantissa`` is ``2**31 // (total * 2**(16 - bits))``, the divisor rounded down, in [2**15, 2**16].

    Raises
    ------
    TypeError
        If ``total`` does not hold integers.
    ValueError
        If one is out of range.

    Examples
    --------
    By hand: 3 has 2 bits; 2**31 // (3 * 2**14) = 43690, and 43690 / 2**17 = 0.333328.

    >>> reciprocal(np.array([3, 1, 0]))
    (array([43690, 65536, 65536]), array([2, 1, 1]))
    """
    values = require_integers("total", total)
    refuse(values, (values < 0) | (values > MAX_SUM), f"total must be in [0, {MAX_SUM}]")
    values = np.maximum(values, 1)
    bits = _bits(values)
    return (1 << 31) // _to_16_bits(values, bits), bits


def reciprocal_float(total: NDArray[np.floating]) -> NDArray[np.float64]:
    """What `reciprocal` approximates.

    Parameters
    ----------
    total : ndarray of real numbers
        At least 0; 0 is taken as 1.

    Returns
    -------
    ndarray of float64
        ``1 / total``.

    Examples
    --------
    >>> reciprocal_float(np.array([4.0, 0.0]))
    array([0.25, 1.  ])
    """
    return 1.0 / np.where(total == 0, 1.0, total)


def reciprocal_square_root(squares: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide 1 by the square roots of integers: a mantissa of 16 bits from a table of 192 entries, and a shift.

    Parameters
    ----------
    squares : ndarray of integers
        In [1, 2**41).

    Returns
    -------
    mantissa, bits : ndarray of int64
        ``1 / sqrt(squares) = mantissa / 2**(15 + bits / 2)`` but for a relative error of less than 2**-8. ``bits`` is the
        smallest even number with ``squares < 2**bits``; ``mantissa`` is the entry of `reciprocal_square_root_table` for
        the upper 8 of the 16 bits of ``squares * 2**(16 - bits)``, rounded down.

    Raises
    ------
    TypeError
        If ``squares`` does not hold integers.
    ValueError
        If one is out of range.

    Examples
    --------
    By hand: 100 < 2**8, and 100 * 2**8 is in the 36th entry: 2**23 / sqrt(25728) = 52298.2. 52298 / 2**19 = 0.09975.

    >>> reciprocal_square_root(np.array([100, 1]))
    (array([52298, 65281]), array([8, 2]))
    """
    values = require_integers("squares", squares)
    refuse(values, (values < 1) | (values > MAX_SQUARES), f"squares must be in [1, {MAX_SQUARES}]")
    bits = (_bits(values) + 1) // 2 * 2
    return _ROOTS[(_to_16_bits(values, bits) >> 8) - 64].astype(np.int64), bits


def reciprocal_square_root_float(squares: NDArray[np.floating]) -> NDArray[np.float64]:
    """What `reciprocal_square_root` approximates.

    Parameters
    ----------
    squares : ndarray of real numbers
        Positive.

    Returns
    -------
    ndarray of float64
        ``1 / sqrt(squares)``.

    Examples
    --------
    >>> reciprocal_square_root_float(np.array([16.0]))
    array([0.25])
    """
    return np.asarray(1.0 / np.sqrt(squares), dtype=np.float64)


def _bits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    # float64 holds every number here, so that its exponent is exact.
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _to_16_bits(values: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """``values * 2**(16 - bits)``, rounded down."""
    return (values << np.maximum(16 - bits, 0)) >> np.maximum(bits - 16, 0)
