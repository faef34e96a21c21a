"""What the words of a chip hold after each load: those that lie in their place already are not loaded again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride, words_of
from podweave.spec.load_port import HostSelect

RESIDENT = (
    HostSelect.W,
    HostSelect.PARAMETERS,
    HostSelect.TABLE,
    HostSelect.LOAD_STORE,
    HostSelect.STREAM_STORE,
    HostSelect.POST_STORE,
)
"""Words that only loads write: what one leaves in its place stays there until another one writes it."""
_GAP_BEATS = 12
"""Beats of words that are loaded again rather than left out, if words on both sides of them are loaded: a descriptor more is
checked for as long."""


class ChipContents:
    """The words of all nodes, as loads leave them, in the order in which the programs of a chip ask for words.

    A word whose place holds what is asked for needs no load, in whatever epoch, band or run it is asked for: whoever had asked
    for other words there in between would have been noted here. Words of X and P banks, which pods and post-processors write,
    are never known.

    Parameters
    ----------
    config : ChipConfig
        The chip, of whose words nothing is known at first.
    """

    def __init__(self, config: ChipConfig):
        self.config = config
        self._gap_bytes = _GAP_BEATS * config.host_bits // 8
        self._bytes: dict[HostSelect, NDArray[np.uint8]] = {}
        self._known: dict[HostSelect, NDArray[np.bool_]] = {}

    def load(self, select: HostSelect, nodes: slice, base: int, words: NDArray[np.uint8]) -> list[tuple[int, int]]:
        """Asks for words (n, bytes as in memory) in the places from ``base`` on of nodes that get the same.

        Returns (first of these words, count) of the pieces that must be loaded, in order; a few words that lie there already may
        be among them, where leaving them out costs more than they do.
        """
        count = len(words)
        if select not in RESIDENT:
            return [(0, count)]
        held, known = self._held(select)
        place = slice(base, base + count)
        missing = ~(known[nodes, place] & (held[nodes, place] == words).all(axis=-1)).all(axis=0)
        held[nodes, place], known[nodes, place] = words, True
        which = np.flatnonzero(missing)
        if not len(which):
            return []
        most = max(1, self._gap_bytes // words.shape[1])
        cuts = np.flatnonzero(np.diff(which) - 1 > most)
        begins, ends = which[np.append(0, cuts + 1)], which[np.append(cuts, len(which) - 1)] + 1
        return [(int(begin), int(end - begin)) for begin, end in zip(begins, ends, strict=True)]

    def forget(self, select: HostSelect, node: int, places: NDArray[np.int64]) -> None:
        """Words are loaded that are not known, as those of inputs and caches."""
        if select in RESIDENT:
            self._held(select)[1][node, places] = False

    def _held(self, select: HostSelect) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Bytes of each word of each node, and whether they are known."""
        if select not in self._bytes:
            shape = self.config.pods, words_of(self.config, select)
            self._bytes[select] = np.zeros((*shape, memory_stride(self.config, select)), np.uint8)
            self._known[select] = np.zeros(shape, np.bool_)
        return self._bytes[select], self._known[select]
