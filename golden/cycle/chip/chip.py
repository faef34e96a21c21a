"""Exact model of a chip that runs a program without an error: cycles of an epoch and all counters, from the jobs alone.

Everything is planned, so nothing is simulated: a counter is a sum over jobs, and the epoch ends with its last word.
A bank reads once for all pods that ask for the same word in the same cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pod.tiles import ACCUMULATE, STORE, in_time, load_tiles, stream_tiles, words_of

NOWHERE, INTO_X, PLANES, OWN, OWN_ADDED = range(5)
"""Where words of post-processors go; without row functions into X banks."""
ROTATE = 2
"""The code of words whose lanes are rotated by pairs."""
COUNTERS = (
    "x_words",
    "w_words",
    "p_words",
    "x_reads",
    "x_writes",
    "w_reads",
    "p_stores",
    "p_accumulates",
    "post_words",
    "waiting",
)

Jobs = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class ChipGeometry:
    """``write_latency``: cycles from a pod's request to its partial sums on its port. ``post_latency``: from the last read of a
    window to its word on the Y port, or for the own P bank. ``beats``: in which it is requantised. ``statistic_latency``: from
    the last read of a row to the cycle in which its statistic is back; ``scalar_cycles``: that its scale takes more.
    ``epoch_overhead``: cycles of an epoch beyond the time of its last busy cycle."""

    pods: int
    write_latency: int
    post_latency: int
    epoch_overhead: int
    beats: int = 1
    statistic_latency: int = 0
    scalar_cycles: int = 0


@dataclass(frozen=True)
class ChipFigures:
    """``cycles``: of the epoch, as the chip counts them. ``counters``: one value per node."""

    cycles: int
    counters: dict[str, NDArray[np.int64]]

    @property
    def merged_words(self) -> dict[str, int]:
        """Words of the X and W networks that reached a pod without a read of their own."""
        total = {name: int(values.sum()) for name, values in self.counters.items()}
        return {"x": total["x_words"] - total["x_reads"], "w": total["w_words"] - total["w_reads"]}


def chip_figures(loads: Jobs, streams: Jobs, posts: Jobs, geometry: ChipGeometry) -> ChipFigures:
    """Cycles and counters of one epoch.

    ``loads``, ``streams``: job fields and ``pod``; ``posts``: job fields and ``bank``. Times count from epoch time 0.
    Raises ValueError without any job: such an epoch has no last cycle to count from.
    """
    n = geometry.pods
    if not any(len(jobs["start"]) for jobs in (loads, streams, posts)):
        raise ValueError("an epoch needs at least one job")
    load, stream = load_tiles(in_time(loads), loads), stream_tiles(in_time(streams), streams)
    loads, streams = (tiles.fields | {"start": tiles.begin + 1} for tiles in (load, stream))
    words = words_of(streams)
    emits = streams["emit"] != 0
    window, outputs = posts["n0"] * posts["n1"], posts["n2"] * posts["n3"]
    rows = "destination" in posts
    destination = posts["destination"] if rows else np.full(len(window), INTO_X)
    sent = outputs * np.where(destination == PLANES, 2, destination == INTO_X)

    def total(where: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(where, weights=values, minlength=n).astype(np.int64)

    codes = {"p_stores": STORE, "p_accumulates": ACCUMULATE}
    stored = {name: total(streams["p_bank"], words * (streams["emit"] == code)) for name, code in codes.items()}
    counters = {
        "x_words": total(streams["pod"], words),
        "w_words": total(loads["pod"], loads["rows"]),
        "p_words": total(streams["pod"], words * emits),
        "x_reads": _reads(streams["x_bank"], streams["start"], words, n),
        "x_writes": total(posts["x_bank"], sent),
        "w_reads": _reads(loads["w_bank"], loads["start"], loads["rows"], n),
        "p_stores": stored["p_stores"] + total(posts["bank"], outputs * (destination == OWN)),
        "p_accumulates": stored["p_accumulates"] + total(posts["bank"], outputs * (destination == OWN_ADDED)),
        "post_words": total(posts["bank"], sent),
    }
    end = streams["start"] + words
    last = np.full(n, -2, np.int64)
    np.maximum.at(last, streams["pod"], end - 1)
    # ``run`` rises one cycle before time 0; from then to its last word, a pod streams or waits.
    counters["waiting"] = last + 2 - counters["x_words"]

    # A word that is not emitted is gone when it has been added to its accumulator.
    busy = [
        end - 1 + geometry.write_latency - ~emits,
        *_posts_end(posts, window, outputs, destination, geometry),
        loads["start"] + loads["rows"] - 1,
    ]
    final = max(int(times.max()) for times in busy if len(times))
    return ChipFigures(final + geometry.epoch_overhead, {name: counters[name] for name in COUNTERS})


def _posts_end(
    posts: Jobs, window: NDArray[np.int64], outputs: NDArray[np.int64], destination: NDArray[np.int64], geometry: ChipGeometry
) -> list[NDArray[np.int64]]:
    """Times of the last busy cycles of post-processors: their engines, their words, statistics."""
    rows = "destination" in posts
    # Words that are rotated take each beat twice.
    turning = geometry.beats * (posts["combine"] == ROTATE) if rows else 0
    pause = geometry.beats - 1 + turning + (posts["gap"] if rows else 0)
    end = posts["start"] + outputs * (window + pause) - 1
    last_read = end - pause
    found = [end, last_read + geometry.post_latency + turning - (destination == NOWHERE) + (destination == PLANES)]
    if rows:
        counts = posts["statistic"] != 0
        scale = np.where(posts["scalar"] != 0, geometry.scalar_cycles, 0)
        found.append((last_read + geometry.statistic_latency + turning + scale)[counts])
    return found


def _reads(bank: NDArray[np.int64], start: NDArray[np.int64], words: NDArray[np.int64], banks: int) -> NDArray[np.int64]:
    """Cycles in which each bank reads: one word at a time, whoever asks for it, so those that any job covers.

    By hand, bank 1 of 2 is asked in cycles 3, 4, 5 and 4, 5, 6, 7, and bank 0 in cycle 9:

    >>> _reads(np.array([1, 0, 1]), np.array([3, 9, 4]), np.array([3, 1, 4]), 2)
    array([1, 5])
    """
    if not len(start):
        return np.zeros(banks, np.int64)
    # Banks one after the other on one axis of time.
    apart = int((start + words).max())
    begin = start + bank * apart
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], (begin + words)[order]
    covered = np.concatenate([[0], np.maximum.accumulate(end)[:-1]])
    new = np.maximum(0, end - np.maximum(begin, covered))
    return np.bincount(bank[order], weights=new, minlength=banks).astype(np.int64)
