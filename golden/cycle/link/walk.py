"""The words of one collective, as a store of jobs has them, and which of them may not be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .words import Job, X


@dataclass(frozen=True)
class Walk:
    """Legal words, in order; then perhaps one that is illegal, at which the walk ends.

    Parameters
    ----------
    unit, address : array
        Of the legal words.
    after : array
        Word received before each of them, -1 for none.
    add : array
        Whether they are added.
    words, kind : int
        As the first job says.
    illegal : bool
        The walk ends with a word, or a job, that may not be.
    next : int
        As the last job says.
    used : int
        Words of the store.
    """

    unit: NDArray[np.int64]
    address: NDArray[np.int64]
    after: NDArray[np.int64]
    add: NDArray[np.int64]
    words: int
    kind: int
    illegal: bool
    next: int
    used: int


def walk_of(store: dict[int, Job], size: int, begin: int, id: int, units: int, depths: tuple[int, int], most: int) -> Walk:
    """The walk of collective ``id`` from word ``begin`` of a store of ``size`` on.

    ``units``, ``depths``: nodes, and P and X words of each. ``most``: more words are not looked at.
    """
    first = store[begin]
    empty = np.zeros(0, np.int64)
    if first.words == 0:
        return Walk(empty, empty, empty, empty, 0, first.kind, first.id != id or not first.last, first.next, 1)
    parts: list[tuple[NDArray[np.int64], ...]] = []
    left, used, illegal, job = first.words, 0, False, first
    while left > 0 and most > 0 and not illegal:
        job = store[(begin + used) % size]
        used += 1
        if job.id != id or job.kind != first.kind or not job.count or (job.kind == X and job.add):
            illegal = True
            break
        unit, address = job.places(min(left, most))
        inside = (unit >= 0) & (unit < units) & (address >= 0) & (address < depths[job.kind])
        good = int(np.argmin(inside)) if not inside.all() else len(inside)
        # The last word of the last job, and no other one, must be the last that the first job speaks of.
        if job.count < left and job.last:
            good = min(good, job.count - 1)
        if job.count > left or (job.count == left and not job.last):
            good = min(good, left - 1)
        illegal = good < min(job.count, left, most)
        number = np.arange(good)
        after = job.needs + number if job.follows else np.full(good, -1)
        parts.append((unit[:good], address[:good], after, np.full(good, job.add)))
        left -= good
        most -= good
        if job.last:
            break
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [empty] * 4
    return Walk(columns[0], columns[1], columns[2], columns[3], first.words, first.kind, illegal, job.next, used)
