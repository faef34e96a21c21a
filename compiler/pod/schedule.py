"""Start times of jobs in an epoch: as early as the array and its shadow weights allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def start_times(
    rows: NDArray[np.int64], words: NDArray[np.int64], load_of: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start times of loads and streams.

    ``rows`` (loads,): weight rows of each load. ``words`` (streams,): words of each stream job. ``load_of`` (streams,), ascending
    from 0 without gaps: the load whose weights it uses; the first stream job of each load swaps them in.

    The shadow weights are free for the next load from the cycle of a swap on, and complete ``rows`` cycles after it began.
    So tile k streams from t(k) = t(k - 1) + max(words of tile k - 1, rows(k)): no bubble as long as a tile streams at least as many
    words as the next one has rows.

    >>> start_times(np.array([4, 4]), np.array([6, 1]), np.array([0, 1]))
    (array([0, 4]), array([ 4, 10]))
    """
    per_load = np.bincount(load_of, weights=words, minlength=len(rows)).astype(np.int64)
    first = np.cumsum(np.concatenate([rows[:1], np.maximum(per_load[:-1], rows[1:])]))
    loads = np.concatenate([[0], first[:-1]]).astype(np.int64)
    before = np.concatenate([[0], np.cumsum(words)[:-1]]).astype(np.int64)
    before_tile = before[np.searchsorted(load_of, np.arange(len(rows)))]
    return loads, first[load_of] + before - before_tile[load_of]
