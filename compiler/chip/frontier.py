"""Operations that are left, and in which order they may be scheduled."""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence

from podweave.ir.graph import Graph

from ..lower.operation import LoweredOperation
from .producers import Producer


class Frontier:
    """What is left of a graph: which operations need nothing more from earlier epochs, and who waits for whom.

    What an epoch costs here does not grow with the operations that it does not come to. ``chosen``: of these operations only, in
    order, which need nothing of others that is not there; by default all.
    """

    def __init__(self, lowered: Sequence[LoweredOperation], graph: Graph, chosen: Sequence[int] | None = None):
        self.lowered = lowered
        some = range(len(lowered)) if chosen is None else chosen
        numbers = {graph.operations[index].name: index for index in some}
        needs = {index: [numbers[name] for name in lowered[index].needs if name in numbers] for index in some}
        self._waiting = {index: len(needed) for index, needed in needs.items()}
        self._followers: dict[int, list[int]] = {index: [] for index in some}
        for index, needed in needs.items():
            for other in needed:
                self._followers[other].append(index)
        self._ready = [index for index, count in self._waiting.items() if not count]
        self.left = len(some)
        """How many operations there are."""

    @property
    def first(self) -> int:
        """The operation that comes next."""
        return self._ready[0]

    def order(self, producers: Mapping[str, Producer]) -> Iterator[int]:
        """Operations in the order in which their inputs are complete: what waits for others must not stand before what need not.

        Each operation must be in ``producers`` before the next one is asked for. What earlier epochs computed is complete from the
        beginning, so that operations that need nothing else come first.
        """
        waiting: dict[int, int] = {}
        later: list[tuple[int, int]] = []
        first = 0
        while True:
            if first < len(self._ready):
                index = self._ready[first]
                first += 1
            elif later:
                _, index = heapq.heappop(later)
            else:
                return
            yield index
            for follower in self._followers[index]:
                waiting[follower] = waiting.get(follower, self._waiting[follower]) - 1
                if not waiting[follower]:
                    complete = max(producers[name].complete for name in self.lowered[follower].needs)
                    heapq.heappush(later, (complete, follower))

    def remove(self, operations: Sequence[int]) -> None:
        """These have been computed in an epoch."""
        self.left -= len(operations)
        gone = set(operations)
        self._ready = [index for index in self._ready if index not in gone]
        for index in operations:
            for follower in self._followers[index]:
                self._waiting[follower] -= 1
                if not self._waiting[follower] and follower not in gone:
                    insort(self._ready, follower)
