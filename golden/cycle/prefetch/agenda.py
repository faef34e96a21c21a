"""What is known to happen to a prefetch engine in cycles to come, and what has happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

FOREVER = 1 << 62


class Agenda:
    """Changes of registers by cycle. ``log``: what is kept for traces, by kind; None if nothing is."""

    def __init__(self, *, trace: bool):
        self.log: dict[str, list[Any]] | None = {} if trace else None
        # (cycle, number, what, value, stirs); the number keeps changes of one cycle in order.
        self._queue: list[tuple[int, int, Callable[[Any], None], Any, bool]] = []
        self._number = 0
        self.next = FOREVER
        """The cycle of the first change that is not made."""

    def at(self, cycle: int, apply: Callable[[Any], None], value: Any = None, *, stirs: bool = True) -> None:
        """From ``cycle`` on, registers are as ``apply(value)`` makes them. ``stirs``: descriptors may begin for it."""
        heapq.heappush(self._queue, (cycle, self._number, apply, value, stirs))
        self._number += 1
        if cycle < self.next:
            self.next = cycle

    def wake(self, cycle: int) -> None:
        """Something may happen in ``cycle``."""
        self.at(cycle, _nothing)

    def pass_to(self, cycle: int) -> bool:
        """Make all changes up to ``cycle``; whether there were any that stir."""
        queue, stirred = self._queue, False
        while queue and queue[0][0] <= cycle:
            _, _, apply, value, stirs = heapq.heappop(queue)
            apply(value)
            stirred = stirred or stirs
        self.next = queue[0][0] if queue else FOREVER
        return stirred

    def to_come(self, what: Callable[[Any], None]) -> list[Any]:
        """Values of all changes of a kind that are not made yet."""
        return [value for _, _, apply, value, _ in self._queue if apply == what]

    def note(self, name: str, *value: Any) -> None:
        if self.log is not None:
            self.log.setdefault(name, []).append(value)


def _nothing(_: Any) -> None:
    """For the sake of the cycle."""
