"""Words that all banks of a kind have free, at the same addresses."""

from __future__ import annotations

import numpy as np

from podweave.ir.layers import WorkloadError


class Pool:
    """Words 0 to ``words`` - 1 of every bank of a kind, in one piece each time; a word that is given back may be written again
    from a cycle of an epoch on."""

    def __init__(self, kind: str, words: int):
        self.kind, self.words = kind, words
        self._taken = np.zeros(words, bool)
        self._free_from = np.zeros(words, np.int64)
        self.most = 0

    def take(self, count: int, what: str) -> tuple[int, int]:
        """The first of ``count`` words, and the cycle from which they may be written."""
        # Runs of free words: where the number of those before, since the last one taken, reaches the count.
        edges = np.flatnonzero(np.diff(np.concatenate([[1], self._taken.astype(np.int8), [1]])))
        begins, ends = edges[::2], edges[1::2]
        fits = np.flatnonzero(ends - begins >= count)
        if not len(fits):
            largest = int((ends - begins).max(initial=0))
            raise WorkloadError(
                f"{what}: every {self.kind} bank must hold {count} words more, {count - largest} more than are free in one piece "
                f"({largest} of {self.words})"
            )
        base = int(begins[fits[0]])
        self._taken[base : base + count] = True
        self.most = max(self.most, int(self._taken.sum()))
        return base, int(self._free_from[base : base + count].max())

    def give(self, base: int, count: int, time: int) -> None:
        """Words that nobody reads from that cycle on."""
        assert self._taken[base : base + count].all()
        self._taken[base : base + count] = False
        self._free_from[base : base + count] = time

    def next_epoch(self) -> None:
        """All that was done before is over."""
        self._free_from[:] = 0
