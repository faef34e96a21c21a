"""Words of the banks, and sets of parameters: who has how many."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig

from ..jobs import Place

_BANKS = {"x": "X bank", "w": "W bank", "set": "post-processor"}
_LIMITS = {"x": "x_words", "w": "w_words", "set": "parameter_sets"}


class EpochFullError(WorkloadError):
    """What does not fit into an epoch any more; it may fit into the next one."""


def zero_word(config: ChipConfig) -> int:
    """The word of every P bank that is 0: padding is post-processed from it."""
    return config.memory.p_words - 1


class BankWords:
    """Within an epoch, nothing that was placed is overwritten by something else. Between epochs,

    - X banks are empty but for inputs of the graph, which lie at their end, if they are kept;
    - W banks and parameter sets are rings: an epoch goes on where the one before ended, so that the next one's words can be
      loaded while this one's are in use, as long as both fit;
    - P banks keep what later epochs read; `release` gives the rest back.

    Beside others in the same banks, epochs have some words of the X banks, one piece (`use_x`), and P words that others `hold` are
    taken.
    """

    def __init__(self, config: ChipConfig):
        memory, post = config.memory, config.post
        assert post is not None
        self.depths = {"x": memory.x_words, "w": memory.w_words, "p": zero_word(config), "set": post.parameter_sets}
        self.limits = dict(self.depths)
        self.x_begin = 0
        self.filled = {kind: [0] * memory.banks for kind in (*self.depths, "input", "kept")}
        self.starts = {kind: [0] * memory.banks for kind in ("w", "set")}
        """Where the epoch began in the rings."""
        self.promised = {kind: [0] * memory.banks for kind in ("x", "set")}
        """What outputs of the epoch will still take: nothing else may."""
        self._free = [[(0, self.depths["p"])] for _ in range(memory.banks)]

    def limited(self, share: float) -> BankWords:
        """A copy for an epoch that may take that much of the W banks and parameter sets."""
        copied = copy.deepcopy(self)
        for kind in self.starts:
            copied.limits[kind] = max(1, int(self.depths[kind] * share))
        return copied

    def restarted(self) -> BankWords:
        """A copy without inputs, whose rings begin at word 0: words are skipped only where no piece fits."""
        copied = copy.deepcopy(self)
        for starts in copied.starts.values():
            starts[:] = [0] * len(starts)
        copied.filled["input"] = [0] * len(copied.filled["input"])
        return copied

    def next_epoch(self, *, inputs: bool = False) -> BankWords:
        """What the epoch after this one finds, with or without the inputs that are there."""
        after = copy.deepcopy(self)
        if not inputs:
            after.filled["input"] = [0] * len(after.filled["input"])
        for kind, starts in after.starts.items():
            filled = zip(starts, self.filled[kind], strict=True)
            after.starts[kind] = [(start + used) % self.depths[kind] for start, used in filled]
        for kind in ("x", "w", "set", "kept"):
            after.filled[kind] = [0] * len(self.filled[kind])
        after.promised = {kind: [0] * len(promised) for kind, promised in self.promised.items()}
        return after

    def promise(self, kind: str, bank: int, words: int, operation: Linear) -> None:
        """Keep words of a bank for later; raises `EpochFullError` if they do not fit beside what is placed and promised."""
        self.promised[kind][bank] += words
        taken = self._filled(kind)[bank] + self.promised[kind][bank]
        if taken > self.limits[kind]:
            self._refuse(kind, bank, words, taken - self.limits[kind], operation)

    def keep(self, banks: Sequence[int], words: int, operation: Linear) -> int:
        """Keep words of the emptiest of some X banks for what will be spilled, and return which; raises `EpochFullError` if they do
        not fit."""
        filled = self._filled("x")
        bank = min(banks, key=filled.__getitem__)
        taken = filled[bank] + self.promised["x"][bank] + words
        if taken > self.limits["x"]:
            self._refuse("x", bank, words, taken - self.limits["x"], operation)
        self.filled["kept"][bank] += words
        return bank

    def place_kept(self, bank: int, words: int) -> Place:
        """Words that were kept."""
        self.filled["kept"][bank] -= words
        self.filled["x"][bank] += words
        return Place(bank, self.x_begin + self.filled["x"][bank] - words)

    def redeem(self, kind: str, bank: int, words: int) -> None:
        """Words that were promised are about to be placed, or needed no more."""
        self.promised[kind][bank] -= words

    def place(self, kind: str, banks: Sequence[int], words: int, operation: Linear) -> Place:
        """``words`` words in the emptiest of ``banks``; raises `EpochFullError` if they do not fit."""
        filled = self._filled("x" if kind == "input" else kind)
        bank = banks[0] if len(banks) == 1 else min(banks, key=filled.__getitem__)
        if kind == "p":
            return Place(bank, self._take(bank, words, operation))
        if kind in ("x", "input"):
            taken = filled[bank] + self.promised["x"][bank] + words
            if taken > self.limits["x"]:
                self._refuse("x", bank, words, taken - self.limits["x"], operation)
            self.filled[kind][bank] += words
            at = self.filled["x"][bank] - words if kind == "x" else self.limits["x"] - self.filled["input"][bank]
            return Place(bank, self.x_begin + at)
        base = filled[bank]
        if kind in self.starts:
            # Words of one piece do not go around the end of the bank.
            start, depth = self.starts[kind][bank], self.depths[kind]
            if (start + base) % depth + words > depth:
                base += -(start + base) % depth
        taken = base + words + (self.promised[kind][bank] if kind in self.promised else 0)
        if taken > self.limits[kind]:
            self._refuse(kind, bank, words, taken - self.limits[kind], operation)
        filled[bank] = base + words
        if kind in self.starts:
            base = (self.starts[kind][bank] + base) % self.depths[kind]
        return Place(bank, base)

    def use_x(self, begin: int, words: int) -> None:
        """These words of every X bank, and no others."""
        self.x_begin, self.limits["x"] = begin, words

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which P words are taken in some bank."""
        return ~np.logical_and.reduce([self._is_free(bank) for bank in range(len(self._free))])

    def hold(self, words: NDArray[np.bool_]) -> None:
        """Take these P words of all banks, which are free."""
        for bank in range(len(self._free)):
            free = self._is_free(bank)
            assert free[words].all()
            self._free[bank] = _runs(free & ~words)
            self.filled["p"][bank] += int(words.sum())

    def give(self, words: NDArray[np.bool_]) -> None:
        """Give these P words of all banks back."""
        for bank in range(len(self._free)):
            free = self._is_free(bank)
            assert not free[words].any()
            self._free[bank] = _runs(free | words)
            self.filled["p"][bank] -= int(words.sum())

    def _is_free(self, bank: int) -> NDArray[np.bool_]:
        free = np.zeros(self.depths["p"], bool)
        for begin, end in self._free[bank]:
            free[begin:end] = True
        return free

    def _take(self, bank: int, words: int, operation: Linear) -> int:
        free = self._free[bank]
        for i, (begin, end) in enumerate(free):
            if end - begin >= words:
                free[i : i + 1] = [(begin + words, end)] if end - begin > words else []
                self.filled["p"][bank] += words
                return begin
        largest = max((end - begin for begin, end in free), default=0)
        raise EpochFullError(
            f"{operation.name}: P bank {bank} is full: {words} words more are {words - largest} more than are free in one piece "
            f"({largest} of p_words {self.depths['p'] + 1})"
        )

    def release(self, place: Place, words: int) -> None:
        """Give words of a P bank back; raises ValueError if one of them is free."""
        free = sorted([*self._free[place.bank], (place.base, place.base + words)])
        merged: list[tuple[int, int]] = []
        for begin, end in free:
            if merged and merged[-1][1] > begin:
                raise ValueError(f"P bank {place.bank}: words {place.base} to {place.base + words - 1} are not all taken")
            if merged and merged[-1][1] == begin:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((begin, end))
        self._free[place.bank] = merged
        self.filled["p"][place.bank] -= words

    def _refuse(self, kind: str, bank: int, words: int, excess: int, operation: Linear) -> None:
        limit, what = self.limits[kind], "sets" if kind == "set" else "words"
        share = f" the {limit} that others leave of" if kind == "x" else f" an epoch's share of {limit} of"
        of = "" if limit == self.depths[kind] else share
        raise EpochFullError(
            f"{operation.name}: {_BANKS[kind]} {bank} is full: {words} {what} more are {excess} more than{of} "
            f"{_LIMITS[kind]} ({self.depths[kind]})"
        )

    def room(self, kind: str) -> float:
        """Words that are left in a bank, on average."""
        return self.limits[kind] - float(np.mean(self._filled(kind)))

    def _filled(self, kind: str) -> list[int]:
        if kind != "x":
            return self.filled[kind]
        return [sum(parts) for parts in zip(*(self.filled[part] for part in ("x", "input", "kept")), strict=True)]

    def used(self) -> dict[str, int]:
        """Words of the fullest bank, and of all banks, of each kind."""
        most = {f"{kind}_words": int(np.max(self._filled(kind))) for kind in ("x", "w", "p")}
        return most | {f"{kind}_words_total": int(np.sum(self._filled(kind))) for kind in ("x", "w", "p")}


def _runs(free: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pieces [begin, end) of free words."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free.astype(np.int8), [0]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
