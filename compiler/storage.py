"""Words of the banks: who has how many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtl.config import ChipConfig

from .graph import Node
from .layers import WorkloadError
from .program import Place


class Storage:
    """Bump allocation: within an epoch, nothing that was placed is overwritten by something else."""

    def __init__(self, config: ChipConfig):
        memory = config.memory
        self.limits = {"x": memory.x_words, "w": memory.w_words, "p": memory.p_words}
        self.filled = {kind: [0] * memory.banks for kind in self.limits}

    def place(self, kind: str, banks: Sequence[int], words: int, node: Node) -> Place:
        """``words`` words in the emptiest of ``banks``; raises `WorkloadError` if they do not fit."""
        filled = self.filled[kind]
        bank = banks[0] if len(banks) == 1 else min(banks, key=filled.__getitem__)
        base = filled[bank]
        if base + words > self.limits[kind]:
            excess = base + words - self.limits[kind]
            raise WorkloadError(
                f"{node.name}: {kind.upper()} bank {bank} is full: {words} words more are {excess} more than {kind}_words "
                f"({self.limits[kind]})"
            )
        filled[bank] = base + words
        return Place(bank, base)

    def room(self, kind: str) -> float:
        """Words that are left in a bank, on average."""
        return self.limits[kind] - float(np.mean(self.filled[kind]))

    def used(self) -> dict[str, int]:
        """Words of the fullest bank, and of all banks, of each kind."""
        most = {f"{kind}_words": int(np.max(filled)) for kind, filled in self.filled.items()}
        return most | {f"{kind}_words_total": int(np.sum(filled)) for kind, filled in self.filled.items()}
