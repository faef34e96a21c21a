"""Reservations: when a wire, a port or an engine is taken."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


class Timeline:
    """Busy intervals of one resource, [start, end) in cycles; adjacent ones are merged.

    >>> line = Timeline()
    >>> line.add(4, 5); line.add(9, 2); line.next_free(2, 2), line.next_free(3, 2)
    (2, 11)
    """

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def copy(self) -> Timeline:
        """The same intervals, apart from what is added later."""
        line = Timeline()
        line.starts, line.ends = self.starts.copy(), self.ends.copy()
        return line

    def next_free(self, time: int, length: int) -> int:
        """The first cycle from ``time`` on at which ``length`` cycles are free."""
        starts, ends = self.starts, self.ends
        index = bisect_right(ends, time)
        while index < len(starts) and starts[index] < time + length:
            time = ends[index]
            index += 1
        return time

    def add(self, time: int, length: int) -> None:
        """Reserve ``length`` cycles from ``time`` on, which must be free."""
        starts, ends = self.starts, self.ends
        end = time + length
        index = bisect_left(starts, time)
        if (index and ends[index - 1] > time) or (index < len(starts) and starts[index] < end):
            raise ValueError(f"cycles {time} to {end - 1} are taken")
        joins_before = index > 0 and ends[index - 1] == time
        joins_after = index < len(starts) and starts[index] == end
        if joins_before and joins_after:
            ends[index - 1] = ends.pop(index)
            starts.pop(index)
        elif joins_before:
            ends[index - 1] = end
        elif joins_after:
            starts[index] = time
        else:
            starts.insert(index, time)
            ends.insert(index, end)


def earliest(lines: Sequence[Timeline], time: int, length: int) -> int:
    """The first cycle from ``time`` on at which all ``lines`` are free for ``length`` cycles."""
    settled = 0
    while True:
        for line in lines:
            found = line.next_free(time, length)
            if found != time:
                time, settled = found, 0
            settled += 1
            if settled >= len(lines):
                return time
