"""Cycle model of the port of a chip through which the collective engine reaches X and P banks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, wrap

P, X = 0, 1
"""Kinds of accesses."""
SETTLED = {P: 2, X: 1}
"""Cycles from a write to the first read of the same word that is right."""


def link_read_data(
    *,
    latency: int,
    psum_width: int,
    cols: int,
    rows: int,
    valid: NDArray[np.bool_],
    write: NDArray[np.bool_],
    add: NDArray[np.bool_],
    kind: NDArray[np.int64],
    unit: NDArray[np.int64],
    address: NDArray[np.int64],
    data: NDArray[np.int64],
) -> PortTrace:
    """The port ``link_read_data`` bit by bit, (cycles, bits), as ``data`` is; all others (cycles,).

    Words are known from their first store on. Known too is the 0 of a cycle in which nothing is read.
    """
    cycles, bits = data.shape
    value, known = np.zeros((cycles, bits), np.int64), np.ones((cycles, bits), bool)
    for which, lanes, width in ((P, cols, psum_width), (X, rows, 8)):
        mine = np.flatnonzero((valid != 0) & (kind == which))
        # The accesses of each word one behind the other, in the order of time.
        mine = mine[np.lexsort((mine, address[mine], unit[mine]))]
        word = np.stack([unit[mine], address[mine]])
        first = np.ones(len(mine), bool)
        first[1:] = (word[:, 1:] != word[:, :-1]).any(axis=0)
        reads = write[mine] == 0
        adds = ~reads & (add[mine] != 0) & (which == P)
        stores = ~reads & ~adds
        places = np.arange(len(mine))
        begin = np.maximum.accumulate(np.where(first, places, 0))
        stored = np.maximum.accumulate(np.where(stores, places, -1))
        written = _before(np.maximum.accumulate(np.where(reads, -1, places)))
        numbers = _numbers(data[mine, : lanes * width], lanes, width)
        added = np.cumsum(numbers * adds[:, None], axis=0)
        content = wrap(numbers[stored] + added - added[stored], width)
        since = np.where(written >= begin, mine - mine[written], cycles)
        certain = (stored >= begin) & (since >= SETTLED[which])
        at = mine + latency
        seen = reads & (at < cycles)
        value[at[seen], : lanes * width] = _bits(content[seen], width)
        known[at[seen], : lanes * width] = certain[seen, None]
    return PortTrace(value, known)


def _before(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[-1], places[:-1]])[: len(places)]


def _numbers(bits: NDArray[np.int64], lanes: int, width: int) -> NDArray[np.int64]:
    """Words as numbers, (words, lanes)."""
    return (bits.reshape(len(bits), lanes, width) << np.arange(width)).sum(axis=2)


def _bits(numbers: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return (numbers[:, :, None] >> np.arange(width) & 1).reshape(len(numbers), numbers.shape[1] * width)
