"""Words of the banks of all nodes in an order, and the fewest walks of three loops that go over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LONGEST = (1 << 16) - 1, (1 << 12) - 1, (1 << 12) - 1
"""Trips of the loops of a walk, the innermost first, as many as their fields hold."""
_KEPT = 8
"""How many of the furthest places are gone on from."""


@dataclass(frozen=True, eq=False)
class BankWords:
    """Words in an order: word ``address[i]`` of the bank of node ``unit[i]``, both of shape (words,)."""

    unit: Ints
    address: Ints

    @classmethod
    def of_runs(cls, runs: Iterable[tuple[int, int, int]]) -> BankWords:
        """Of (node, first word, words), one behind the other."""
        found = [(np.full(count, unit, np.int64), first + np.arange(count, dtype=np.int64)) for unit, first, count in runs]
        none = np.zeros(0, np.int64)
        return cls(np.concatenate([none, *(unit for unit, _ in found)]), np.concatenate([none, *(at for _, at in found)]))

    def __len__(self) -> int:
        return len(self.unit)

    def __getitem__(self, which: slice | Ints) -> BankWords:
        return BankWords(self.unit[which], self.address[which])


@dataclass(frozen=True)
class Walk:
    """The first ``n0 * n1 * n2`` words from word ``first`` of a list on, as fields of a job."""

    first: int
    fields: dict[str, int]

    @property
    def words(self) -> int:
        return self.fields["n0"] * self.fields["n1"] * self.fields["n2"]

    def halves(self) -> tuple[Walk, Walk]:
        """The same words in two walks, cut between trips of the outermost loop that has any; there are two words or more."""
        of = self.fields
        loop = next(loop for loop in (2, 1, 0) if of[f"n{loop}"] > 1)
        trips = of[f"n{loop}"] // 2
        first = Walk(self.first, of | {f"n{loop}": trips})
        # How often each loop has advanced up to the first word of the second, an outer one in place of those inside of it.
        inner, outer = first.words // of["n0"], first.words // (of["n0"] * of["n1"])
        advanced = first.words - inner, inner - outer, outer
        begin = {
            "unit": of["unit"] + advanced[1] * of["unit1"] + advanced[2] * of["unit2"],
            "address": of["address"] + sum(count * of[f"step{i}"] for i, count in enumerate(advanced)),
        }
        return first, Walk(self.first + first.words, of | begin | {f"n{loop}": of[f"n{loop}"] - trips})


def walks(words: BankWords) -> list[Walk]:
    """As few walks, in order, as go over all words, as far as a search finds them.

    A rectangle of words, node by node, and what is left of one:

    >>> words = BankWords.of_runs([(1, 8, 3), (2, 6, 4), (3, 6, 4)])
    >>> [(walk.first, walk.fields["n0"], walk.fields["n1"]) for walk in walks(words)]
    [(0, 3, 1), (3, 4, 2)]
    """
    unit, address, count = np.diff(words.unit), np.diff(words.address), len(words)
    before: dict[int, Walk] = {}
    places = [0]
    while places[0] < count:
        reached: set[int] = set()
        for place in places:
            for counts in _choices(unit, address, place):
                end = place + counts[0] * counts[1] * counts[2]
                if end not in before:
                    before[end] = Walk(place, _fields(words, place, counts))
                    reached.add(end)
        places = sorted(reached, reverse=True)[:_KEPT]
    found: list[Walk] = []
    end = count
    while end:
        found.append(before[end])
        end = before[end].first
    return found[::-1]


def _choices(unit: Ints, address: Ints, place: int) -> set[tuple[int, int, int]]:
    """Trips of walks that may begin with a word: with one, two and three loops, each as long as can be."""
    unit, address = unit[place:], address[place:]
    inner = 1
    if len(unit) and unit[0] == 0:
        inner = min(1 + _length((unit == 0) & (address == address[0])), LONGEST[0])
    middle = _repeats(unit, address, inner, LONGEST[1])
    outer = _repeats(unit, address, inner * middle, LONGEST[2])
    return {(inner, 1, 1), (inner, middle, 1), (inner, middle, outer)}


def _repeats(unit: Ints, address: Ints, block: int, most: int) -> int:
    """How often a block of words is followed by one alike, as far away as the second is from the first, itself included."""
    if block > len(unit):
        return 1
    alike = _length((unit[block:] == unit[:-block]) & (address[block:] == address[:-block]))
    return min((alike + 1) // block + 1, most)


def _length(holds: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return len(holds) if holds.all() else int(np.argmin(holds))


def _fields(words: BankWords, place: int, counts: tuple[int, int, int]) -> dict[str, int]:
    found = {"unit": int(words.unit[place]), "address": int(words.address[place])}
    block = 1
    for loop, count in enumerate(counts):
        last = place + block - 1
        moves = [int(of[last + 1] - of[last]) if count > 1 else 0 for of in (words.unit, words.address)]
        found |= {f"n{loop}": count, f"step{loop}": moves[1]} | ({f"unit{loop}": moves[0]} if loop else {})
        block *= count
    return found
