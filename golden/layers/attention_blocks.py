"""Attention over blocks of keys, each by itself, and what two blocks together give: long contexts, shared prefixes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import exp_table

from .attention import divide, per_head_rows, scores, weighted_values
from .fixed_point import Integers, require_int32, require_type, round_shift
from .requant import requantize_wide
from .softmax import softmax

PEAK_BITS = 12
"""Peaks are in units of 2**-12 nat: 8 bits finer than the indices of softmax, so that rescaling adds next to nothing."""
MAX_HEADROOM = 8
"""Most bits that `attend_block` takes off: of a table of 4095, the total of a row that sees a key is then still 15 or more."""

_UNIT_BITS = 15
_FINE_BITS = PEAK_BITS - 4
_COARSE = exp_table(1 << _UNIT_BITS).astype(np.int64)
_FINE = np.rint(2.0**_UNIT_BITS * np.exp(np.arange(1 << _FINE_BITS) / -(2.0**PEAK_BITS))).astype(np.int64)


class Partial(NamedTuple):
    """What a block of keys adds to the attention of each row.

    ``peak`` int32 (H, Q): its largest score, in 4096ths of a nat. ``total`` int32 (H, Q): the sum of its weights, which are
    relative to the largest. ``values`` int32 (H, Q, D): its values, each with its weight.
    """

    peak: NDArray[np.int32]
    total: NDArray[np.int32]
    values: NDArray[np.int32]


def attend_block(
    q: NDArray[np.int16],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    multiplier: Integers,
    shift: Integers,
    visible: NDArray[np.bool_] | None = None,
    table: NDArray[np.uint16] | None = None,
    headroom: int = 0,
) -> Partial:
    """Attend to a block of keys, and leave the division to whoever has all blocks.

    Parameters
    ----------
    q, k, v, multiplier, shift, visible, table
        As in `golden.layers.attention.attention`, of the keys of this block; shifts are at least 8.
    headroom : int
        In [0, 8]: ``total`` and ``values`` are divided by its power of two, and rounded, so that values of more keys fit an
        int32. The same for all blocks that are merged.

    Returns
    -------
    Partial
        Of all rows; rows that see no key of the block have 0 in ``total`` and ``values``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `golden.layers.attention.attention`, and if ``headroom`` or a shift is out of range.

    Examples
    --------
    By hand: scores 320 and 0 are 20 sixteenths of a nat (5120 / 4096) and 0; 4095 * 10 + 1173 * -6 = 33912.

    >>> q = np.array([[[32, 0]]], dtype=np.int16)
    >>> k, v = np.array([[[10, 5]], [[0, 7]]], dtype=np.int8), np.array([[[10]], [[-6]]], dtype=np.int8)
    >>> [x.item() for x in attend_block(q, k, v, 16, 8)]
    [5120, 5268, 33912]
    """
    if not 0 <= headroom <= MAX_HEADROOM:
        raise ValueError(f"headroom must be in [0, {MAX_HEADROOM}], got {headroom}")
    all_scores = scores(q, k)
    factor, places = (per_head_rows(name, value, q.shape[1]) for name, value in (("multiplier", multiplier), ("shift", shift)))
    if places.min() < _FINE_BITS:
        raise ValueError(f"shift must be at least {_FINE_BITS} for blocks of keys, got {places.min()}")
    weights, total = softmax(all_scores, factor, places, visible, table)
    shown = all_scores if visible is None else np.where(visible, all_scores, np.iinfo(np.int32).min)
    largest = shown.max(axis=-1, keepdims=True).astype(np.int64)
    factor, places = (np.broadcast_to(x, largest.shape) for x in (factor, places - _FINE_BITS))
    peak = requantize_wide(largest, factor, places, "int32")[..., 0]
    total, values = (round_shift(x, headroom).astype(np.int32) for x in (total, weighted_values(weights, v)))
    return Partial(peak, total, values)


def merge(a: Partial, b: Partial) -> Partial:
    """Attention to the keys of both blocks.

    The block whose peak is lower by x is rescaled by ``round(coarse[x >> 8] * fine[x & 255] / 2**15) / 2**15``: ``coarse`` is
    the exp table of 2**15, its last entry for all that is beyond it, ``fine[j]`` is ``round(2**15 * exp(-j / 4096))``. The other
    stays exactly as it is.

    Parameters
    ----------
    a, b : Partial
        Of the same rows, with different keys and the same headroom. Either may be the result of a merge.

    Returns
    -------
    Partial
        The higher of the peaks; totals and values, each rescaled and rounded, summed.

    Raises
    ------
    TypeError
        If an array is not int32.
    ValueError
        If shapes do not agree.
    OverflowError
        If a total or a value leaves int32: more headroom is needed.

    Notes
    -----
    Let n keys be visible in m blocks, s be the difference of the largest and the smallest value of a channel, T the merged
    total, and L the entry of 0 of the table. Against real attention, what `finish` gives is as near as
    `golden.layers.attention.attention` is, but for

        ``d = exp(1 / 32 + 1 / 4096 + 3 * (m - 1) / 2**15) * (1 + n * (1/2 + 3 * L / 2**16) / (L * W)) - 1``

    and ``256 * m * (1 + max |v|) / T`` more for the roundings of totals and values. So a merge costs 1e-4 of a weight: peaks
    are whole, and the errors of their differences do not add up. Against attention to all keys at once it is within the sum
    of both bounds: indices may differ, because the score that they are taken from does.

    Examples
    --------
    By hand: one nat lower is a factor of 12055 / 2**15 = 1 / e; 1000 / e = 367.88, -700 / e = -257.5.

    >>> def partial(peak, total, value):
    ...     return Partial(*(np.array(x, dtype=np.int32) for x in ([[peak]], [[total]], [[[value]]])))
    >>> [x.item() for x in merge(partial(904, 1000, -700), partial(5000, 4095, 9000))]
    [5000, 4463, 8742]
    """
    for partial in (a, b):
        for name, array, axes in zip(Partial._fields, partial, (2, 2, 3), strict=True):
            require_type(name, array, np.int32, axes)
    shapes = [[x.shape for x in partial] for partial in (a, b)]
    if shapes[0] != shapes[1] or not a.peak.shape == a.total.shape == a.values.shape[:-1]:
        raise ValueError(f"partial results must be of the same rows, got shapes {shapes[0]} and {shapes[1]}")
    peak = np.maximum(a.peak, b.peak)
    total = np.zeros(a.total.shape, dtype=np.int64)
    values = np.zeros(a.values.shape, dtype=np.int64)
    for partial in (a, b):
        factor = _factor(peak.astype(np.int64) - partial.peak)
        total += round_shift(partial.total * factor, _UNIT_BITS)
        values += round_shift(partial.values * factor[..., None], _UNIT_BITS)
    return Partial(peak, require_int32("a merged total", total), require_int32("a merged value", values))


def finish(partial: Partial) -> NDArray[np.int16]:
    """Divide, once all blocks are merged.

    Parameters
    ----------
    partial : Partial
        Of all keys.

    Returns
    -------
    ndarray of int16, shape (Q, H, D)
        As `golden.layers.attention.attention` gives it.

    Raises
    ------
    TypeError, ValueError
        As `golden.layers.attention.divide`.

    Examples
    --------
    By hand, 33912 / 5268 * 256 = 1647.97.

    >>> finish(Partial(*(np.array(x, dtype=np.int32) for x in ([[5120]], [[5268]], [[[33912]]]))))
    array([[[1648]]], dtype=int16)
    """
    return divide(partial.values, partial.total).transpose(1, 0, 2)


def _factor(below: NDArray[np.int64]) -> NDArray[np.int64]:
    coarse = _COARSE[np.minimum(below >> _FINE_BITS, 255)]
    return round_shift(coarse * _FINE[below & ((1 << _FINE_BITS) - 1)], _UNIT_BITS)
