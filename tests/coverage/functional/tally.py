"""Named points, and how often each was seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Table = Mapping[str, Sequence[str]]
"""Points by group."""
Hit = tuple[str, str]
"""Group and name of a point."""


class Tally:
    """Counts of the points of some tables.

    Parameters
    ----------
    tables : Table
        Groups of different tables have different names.

    Members
    -------
    counts : dict of str to dict of str to int
        By group and name, every point of the tables.
    """

    def __init__(self, *tables: Table):
        self.counts = {group: dict.fromkeys(names, 0) for table in tables for group, names in table.items()}

    def add(self, hits: Iterable[Hit], times: int = 1) -> None:
        """Raises `KeyError` for what is no point: what can happen and is in no table is a hole in the table."""
        for group, name in hits:
            if name not in self.counts[group]:
                raise KeyError(f"{name!r} is no point of {group!r}")
            self.counts[group][name] += times

    def seen(self) -> dict[str, dict[str, int]]:
        """Points that were seen."""
        found = {group: {name: count for name, count in names.items() if count} for group, names in self.counts.items()}
        return {group: names for group, names in found.items() if names}


def crossed(*parts: Sequence[str]) -> list[str]:
    """Every choice of one of each.

    >>> crossed(["load", "store"], ["at once", "later"])
    ['load, at once', 'load, later', 'store, at once', 'store, later']
    """
    return [", ".join(each) for each in itertools.product(*parts)]


def several(counts: Sequence[str]) -> list[str]:
    """Which of some counts are more than one, every way."""
    return [_loops(each) for length in range(len(counts) + 1) for each in itertools.combinations(counts, length)]


def loops_of(fields: Mapping[str, NDArray[np.int64]], i: int, counts: Sequence[str]) -> str:
    """The one of `several` that job ``i`` is."""
    return _loops([name for name in counts if fields[name][i] > 1])


def _loops(names: Sequence[str]) -> str:
    return "loops " + " ".join(names) if names else "one word"


SIGNS = ("backwards", "in place", "forwards")


def sign(step: int) -> str:
    return SIGNS[1 + (step > 0) - (step < 0)]


def ends(group: str, what: str, places: NDArray[np.int64], count: int) -> Iterator[Hit]:
    """``what``: the first, or the last of ``count`` is among ``places``."""
    if len(places):
        if places.min() == 0:
            yield group, f"first {what}"
        if places.max() == count - 1:
            yield group, f"last {what}"


def both_ends(*what: str) -> list[str]:
    return [f"{end} {each}" for each in what for end in ("first", "last")]


FOLLOWS = ("at once", "after a pause")


def follows(begin: NDArray[np.int64], length: NDArray[np.int64]) -> list[str]:
    """Of each of jobs that began in order: in the cycle of the last word of the one before, or later."""
    free = np.concatenate([[-1], (begin + length)[:-1]])
    return [FOLLOWS[int(late)] for late in begin != free]
