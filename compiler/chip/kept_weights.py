"""Weights that bands of a network have at the same words of W banks, so that all but the first find them there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from .state import SchedulerState
from .work import Mapping

_KEPT = 0.25
"""Of a W bank, what may be kept for an operation, some of it in vain."""


class KeptWeights:
    """Words of W banks that are kept for the column tiles of an operation, the same in all banks, whoever of them gets which."""

    def __init__(self, state: SchedulerState):
        self.state, self.config = state, state.config

    def keep(self, index: int, name: str, mapping: Mapping, tiles: int, shared: int, own: int) -> None:
        """Keep words for an operation with so many column tiles, and K steps that those share, and that are their own at most: the
        same as in another band, if the epoch begins with it.

        None are kept if they are too many; then weights lie one behind the other as gangs ask for them.
        """
        parts = [shared * (k + 1) // mapping.split - shared * k // mapping.split for k in range(mapping.split)]
        words = max(*parts, min(parts) + own) * self.config.array.rows
        rounds = -(-tiles // mapping.side)
        if rounds * words > _KEPT * self.config.memory.w_words:
            return
        base = self.state.storage.region("w", rounds * words, self.state.known_regions.get(name))
        if base is not None:
            self.state.regions[index] = base, words

    def first_word(self, index: int, number: int) -> int | None:
        """That of a round of column tiles; None if no words are kept for the operation."""
        base, words = self.state.regions.get(index, (None, 0))
        return None if base is None else base + number * words

    def cycles(self, index: int, name: str, blocks: NDArray[np.int64], tiles: range, steps: int) -> NDArray[np.float64]:
        """Cycles in which the memory brings the weights of column tiles, with so many K steps each, to each block of pods: none to
        where they are, or were in another band."""
        known = self.state.known_weights or ()
        held = [
            (index, base, tiles.start) in self.state.weight_words or (name, base, tiles.start) in known for base in blocks.tolist()
        ]
        beats = len(tiles) * steps * self.config.array.rows * memory_stride(self.config, HostSelect.W)
        return np.where(held, 0.0, beats / (self.config.managers * self.config.host_bits // 8))
