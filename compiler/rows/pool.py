"""Words that all banks of a kind have free, at the same addresses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError


class Pool:
    """Words 0 to ``words`` - 1 of every bank of a kind, in one piece each time; a word that is given back may be written again
    from a cycle of an epoch on."""

    def __init__(self, kind: str, words: int):
        self.kind, self.words = kind, words
        self._taken = np.zeros(words, bool)
        self._free_from = np.zeros(words, np.int64)

    def take(self, count: int, what: str) -> tuple[int, int]:
        """The first of ``count`` words, and the cycle from which they may be written."""
        begins, ends = self._runs()
        fits = ends - begins >= count
        if not fits.any():
            raise WorkloadError(
                f"{what}: every {self.kind} bank must hold {count} words more, {count - self.largest} more than are free in one "
                f"piece ({self.largest} of {self.words})"
            )
        # At either end of a piece: where words are free first.
        places = np.unique(np.concatenate([begins[fits], ends[fits] - count]))
        base = int(min(places, key=lambda at: (self._free_from[at : at + count].max(), at)))
        self._taken[base : base + count] = True
        return base, int(self._free_from[base : base + count].max())

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which words are."""
        return self._taken.copy()

    def hold(self, words: NDArray[np.bool_]) -> None:
        """Take these words, which are free."""
        assert not self._taken[words].any()
        self._taken |= words

    def free(self, words: NDArray[np.bool_]) -> None:
        """Give these words back, between epochs."""
        assert self._taken[words].all()
        self._taken &= ~words

    @property
    def gap(self) -> tuple[int, int]:
        """The first word, and how many words, of the largest piece that is free."""
        begins, ends = self._runs()
        if not len(begins):
            return 0, 0
        at = int(np.argmax(ends - begins))
        return int(begins[at]), int(ends[at] - begins[at])

    @property
    def largest(self) -> int:
        """Words that are free in one piece."""
        return self.gap[1]

    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where pieces of free words begin and end."""
        edges = np.flatnonzero(np.diff(np.concatenate([[1], self._taken.astype(np.int8), [1]])))
        return edges[::2], edges[1::2]

    def give(self, base: int, count: int, time: int) -> None:
        """Words that nobody reads from that cycle on."""
        assert self._taken[base : base + count].all()
        self._taken[base : base + count] = False
        self._free_from[base : base + count] = time

    def next_epoch(self) -> None:
        """All that was done before is over."""
        self._free_from[:] = 0
