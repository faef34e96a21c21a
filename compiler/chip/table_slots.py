"""Activation tables of post-processors: which of a network's lies in which slot, epoch after epoch."""

from __future__ import annotations

import copy
from collections.abc import Mapping


class TableSlots:
    """All post-processors hold the same tables. If there is a slot for each table of the network, it is that of its number;
    else epochs take turns: an epoch finds what is still there, and loads the rest into slots that have not been used for longest.

    Parameters
    ----------
    slots : int
        Tables that a post-processor holds.
    count : int
        Tables of the network.
    fixed : int
        Of those, the first ones, which stay in the slots of their numbers: operations on rows look them up.

    Members
    -------
    limit : int
        Slots, beside the fixed ones, that an epoch may use.
    """

    def __init__(self, slots: int, count: int = 0, fixed: int = 0):
        self.slots, self.fixed = slots, count if count <= slots else fixed
        self.limit = slots - self.fixed
        self._held: list[int | None] = [number if number < self.fixed else None for number in range(slots)]
        self._used = [-1] * slots
        self._epoch = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableSlots) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def copied(self) -> TableSlots:
        """The same, apart from what is taken later."""
        made = copy.copy(self)
        made._held, made._used = list(self._held), list(self._used)
        return made

    def limited(self, share: float) -> TableSlots:
        """A copy for an epoch: it may use half of the slots, so that those of the next one are loaded meanwhile; with a share of
        1, all."""
        made, most = self.copied(), self.slots - self.fixed
        made.limit = most if share >= 1 else -(-most // 2)
        return made

    def next_epoch(self) -> TableSlots:
        """What the epoch after this one finds."""
        made = self.copied()
        made._epoch += 1
        return made

    def take(self, number: int) -> int | None:
        """The slot in which this epoch finds a table; None if no more may be used."""
        if number in self._held:
            slot = self._held.index(number)
        elif self.fixed < self.slots:
            slot = min(range(self.fixed, self.slots), key=self._used.__getitem__)
        else:
            return None
        if slot >= self.fixed and self._used[slot] != self._epoch and self._taken >= self.limit:
            return None
        if self._held[slot] != number and self._used[slot] == self._epoch:
            return None
        self._held[slot], self._used[slot] = number, self._epoch
        return slot

    @property
    def _taken(self) -> int:
        return sum(used == self._epoch for used in self._used[self.fixed :])

    @property
    def in_use(self) -> dict[int, int]:
        """By slot that this epoch uses, the number of the table there."""
        pairs = enumerate(zip(self._held, self._used, strict=True))
        return {slot: held for slot, (held, used) in pairs if used == self._epoch and held is not None}


def count_tables(tables: Mapping[str, int]) -> int:
    """How many tables there are, of the table of each operation."""
    return max(tables.values(), default=-1) + 1
