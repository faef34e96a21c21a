"""Words of the banks, and sets of parameters: who has how many."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from ..jobs import Place
from .table_slots import TableSlots

_BANKS = {"x": "X bank", "w": "W bank", "set": "post-processor"}
_BROUGHT = (
    *(HostSelect.X, HostSelect.W, HostSelect.PARAMETERS),
    *(HostSelect.LOAD_STORE, HostSelect.STREAM_STORE, HostSelect.POST_STORE),
)
_LIMITS = {"x": "x_words", "w": "w_words", "set": "parameter_sets"}


class EpochFullError(WorkloadError):
    """What does not fit into an epoch any more; it may fit into the next one."""


def zero_word(config: ChipConfig) -> int:
    """The word of every P bank that is 0: padding is post-processed from it."""
    return config.memory.p_words - 1


class BankWords:
    """Within an epoch, nothing that was placed is overwritten by something else. Between epochs,

    - X banks are empty but for inputs of the graph, if they are kept. What is computed grows from a word upwards, inputs from there
      downwards, both around the ends of the bank. If banks have parts, the next epoch begins below the inputs of this one: its
      inputs then lie in parts that this one does not use, and what it computes comes to this one's outputs last, so that engines
      can load the former, and store the latter, beside an epoch, as long as both fit;
    - W banks and parameter sets are rings: an epoch goes on where the one before ended, so that the next one's words can be
      loaded while this one's are in use, as long as both fit;
    - P banks keep what later epochs read; `release` gives the rest back;
    - activation tables stay in post-processors until others need their slots (`TableSlots`).

    Beside others in the same banks, epochs have some words of the X banks, one piece (`use_x`), and P words that others `hold` are
    taken.
    """

    def __init__(self, config: ChipConfig, tables: int = 0, fixed_tables: int = 0):
        memory, post = config.memory, config.post
        self.tables = TableSlots(post.tables, tables, fixed_tables)
        self.depths = {"x": memory.x_words, "w": memory.w_words, "p": zero_word(config), "set": post.parameter_sets}
        self.limits = dict(self.depths)
        self.x_begin, self.x_part = 0, memory.x_part_words
        self.turns = memory.x_parts > 1
        self.x_starts = [0] * memory.banks
        """From where words of X banks grow, counted from the first word that may be taken."""
        self.filled = {kind: [0] * memory.banks for kind in (*self.depths, "input", "kept")}
        self.starts = {kind: [0] * memory.banks for kind in ("w", "set")}
        """Where the epoch began in the rings."""
        self.promised = {kind: [0] * memory.banks for kind in ("x", "set")}
        """What outputs of the epoch will still take: nothing else may."""
        self._free = [[(0, self.depths["p"])] for _ in range(memory.banks)]
        self._of_manager = config.nodes_per_manager
        self._strides = {select: memory_stride(config, select) for select in _BROUGHT} if config.prefetch else {}
        self.brought = [0] * -(-memory.banks // self._of_manager)
        """Bytes that each manager has brought in all epochs, about."""

    def copied(self) -> BankWords:
        """The same, apart from what is taken later."""
        made = copy.copy(self)
        # Of lists and dictionaries of numbers: `copy.deepcopy` looks at each of them.
        vars(made).update({name: _copied(value) for name, value in vars(self).items()})
        made.tables = self.tables.copied()
        return made

    def bring(self, node: int, select: HostSelect, words: int = 1) -> None:
        """The manager of a node has so many words more to bring."""
        self.brought[node // self._of_manager] += words * self._strides.get(select, 0)

    def brought_to(self, node: int) -> int:
        """What the manager of a node brings."""
        return self.brought[node // self._of_manager]

    def limited(self, share: float) -> BankWords:
        """A copy for an epoch that may take that much of the W banks and parameter sets."""
        copied = self.copied()
        for kind in self.starts:
            copied.limits[kind] = max(1, int(self.depths[kind] * share))
        copied.tables = self.tables.limited(share)
        return copied

    def restarted(self) -> BankWords:
        """A copy without inputs, whose rings begin at word 0: words are skipped only where no piece fits."""
        copied = self.copied()
        for starts in (*copied.starts.values(), copied.x_starts):
            starts[:] = [0] * len(starts)
        copied.filled["input"] = [0] * len(copied.filled["input"])
        return copied

    def next_epoch(self, *, inputs: bool = False) -> BankWords:
        """What the epoch after this one finds, with or without the inputs that are there."""
        after = self.copied()
        after.tables = self.tables.next_epoch()
        if not inputs:
            if self.turns:
                after.x_starts = [self._next_start(bank) for bank in range(len(self.x_starts))]
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

    def place_kept(self, bank: int, words: int, operation: Linear) -> Place:
        """Words that were kept; raises `EpochFullError` if there is no room for them in one piece."""
        self.filled["kept"][bank] -= words
        return self.place("x", (bank,), words, operation)

    def region(self, kind: str, words: int, at: int | None = None) -> int | None:
        """So many words of a ring, the same in all banks; None if they do not fit beside what is placed. ``at``: from where on, if
        nothing is."""
        depth, starts, filled = self.depths[kind], self.starts[kind], self.filled[kind]
        if at is not None and not any(filled):
            starts[:] = [at] * len(starts)
        ends = {start + used for start, used in zip(starts, filled, strict=True)}
        base = max(ends)
        if base % depth + words > depth:
            base += -base % depth
        if max(starts) != min(starts) or base + words - starts[0] > self.limits[kind]:
            return None
        filled[:] = [base + words - start for start in starts]
        return base % depth

    def take_table(self, number: int, operation: Linear) -> int:
        """The slot of an activation table; raises `EpochFullError` if all that the epoch may use have others."""
        slot = self.tables.take(number)
        if slot is None:
            depth, most = self.tables.slots, self.tables.limit
            of = "" if most == depth else f" the {most} that it may use of"
            what = "post-processors are full: 1 activation table more"
            raise EpochFullError(f"{operation.name}: {what} in an epoch is 1 more than{of} tables ({depth})")
        return slot

    def redeem(self, kind: str, bank: int, words: int) -> None:
        """Words that were promised are about to be placed, or needed no more."""
        self.promised[kind][bank] -= words

    def place(self, kind: str, banks: Sequence[int], words: int, operation: Linear) -> Place:
        """``words`` words in the emptiest of ``banks``; raises `EpochFullError` if they do not fit."""
        in_x = kind in ("x", "input")
        filled = self.filled["x" if in_x else kind]
        if in_x:
            inputs, kept = self.filled["input"], self.filled["kept"]
            bank = banks[0] if len(banks) == 1 else min(banks, key=lambda each: filled[each] + inputs[each] + kept[each])
        else:
            bank = banks[0] if len(banks) == 1 else min(banks, key=filled.__getitem__)
        if kind == "p":
            return Place(bank, self._take(bank, words, operation))
        if in_x:
            at, skipped = self._x_place(kind, bank, words)
            taken = filled[bank] + inputs[bank] + kept[bank] + self.promised["x"][bank] + words + skipped
            if taken > self.limits["x"]:
                self._refuse("x", bank, words, taken - self.limits["x"], operation)
            self.filled[kind][bank] += words + skipped
            if kind == "input":
                self.bring(bank, HostSelect.X, words)
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
        if kind == "set":
            self.bring(bank, HostSelect.PARAMETERS, words)
        if kind in self.starts:
            base = (self.starts[kind][bank] + base) % self.depths[kind]
        return Place(bank, base)

    def _x_place(self, kind: str, bank: int, words: int) -> tuple[int, int]:
        """Where the next words of an X bank lie, and how many are skipped before them: one piece does not go around the end."""
        depth, start = self.limits["x"], self.x_starts[bank]
        if kind == "x":
            at = (start + self.filled["x"][bank]) % depth
            return (at, 0) if at + words <= depth or not start else (0, depth - at)
        end = (start - self.filled["input"][bank] - 1) % depth + 1
        return (end - words, 0) if end >= words or not start else (depth - words, end)

    def _next_start(self, bank: int) -> int:
        """The begin of the part in which the last input of the epoch lies; of that below, if it has none."""
        last = (self.x_starts[bank] - max(1, self.filled["input"][bank])) % self.limits["x"]
        return max(0, last - (self.x_begin + last) % self.x_part)

    def use_x(self, begin: int, words: int) -> None:
        """These words of every X bank, and no others."""
        self.x_begin, self.limits["x"] = begin, words
        self.x_starts = [0] * len(self.x_starts)

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


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(each) for each in value] if value and isinstance(value[0], list) else list(value)
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, dict) else value


def _runs(free: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pieces [begin, end) of free words."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free.astype(np.int8), [0]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
