"""Words that lie on the chip already: what is where it is wanted, and was not overwritten, need not be loaded again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import DESCRIPTOR_BYTES
from podweave.spec.load_port import HostSelect

_WORTH = 2 * DESCRIPTOR_BYTES
"""Bytes that are worth a descriptor more."""


class HeldWords:
    """What the words of each node hold, as far as it is known from what was loaded. ``depth``, ``stride``: words, and bytes of a
    word, of each select that is looked after."""

    def __init__(self, nodes: int, depth: Mapping[HostSelect, int], stride: Mapping[HostSelect, int]):
        self._words = {select: np.zeros((nodes, depth[select], stride[select]), np.uint8) for select in depth}
        self._known = {select: np.zeros((nodes, depth[select]), bool) for select in depth}

    def __contains__(self, select: HostSelect) -> bool:
        return select in self._known

    def forget(self, select: HostSelect, node: int, words: NDArray[np.int64] | slice) -> None:
        """Something else is there now."""
        self._known[select][node, words] = False

    def missing(self, select: HostSelect, node: int, base: int, words: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
        """(first, count) of pieces of ``words`` that must be loaded to be there from word ``base`` on; they are held then."""
        there = slice(base, base + len(words))
        known, held = self._known[select][node, there], self._words[select][node, there]
        same = known & (held == words).all(axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (~same).astype(np.int8), [0]])))
        pieces = edges.reshape(-1, 2).tolist()
        known[:], held[:] = True, words
        begin = end = 0
        for first, beyond in pieces:
            if end > begin and (first - end) * words.shape[1] >= _WORTH:
                yield begin, end - begin
                begin = first
            elif end == begin:
                begin = first
            end = beyond
        if end > begin:
            yield begin, end - begin
