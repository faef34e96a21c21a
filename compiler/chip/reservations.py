"""Reservations: when a wire, a port or an engine is taken."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache

from podweave.spec.config_parts import bits


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
        if not ends or ends[-1] <= time:
            return time
        index = bisect_right(ends, time)
        while index < len(starts) and starts[index] < time + length:
            time = ends[index]
            index += 1
        return time

    def add(self, time: int, length: int) -> None:
        """Reserve ``length`` cycles from ``time`` on, which must be free."""
        starts, ends = self.starts, self.ends
        end = time + length
        if not ends or ends[-1] < time:
            # The usual case: behind all others.
            starts.append(time)
            ends.append(end)
            return
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

    def remove(self, time: int, length: int) -> None:
        """Give ``length`` cycles from ``time`` on back, all of which must be taken."""
        starts, ends = self.starts, self.ends
        end, index = time + length, bisect_right(starts, time) - 1
        if index < 0 or ends[index] < end:
            raise ValueError(f"cycles {time} to {end - 1} are not all taken")
        left = [(starts[index], time), (end, ends[index])]
        starts[index : index + 1] = [first for first, last in left if first < last]
        ends[index : index + 1] = [last for first, last in left if first < last]


def earliest(
    lines: Sequence[Timeline], time: int, length: int, *, phase: int = 0, beats: int = 1, before: int | None = None
) -> int:
    """The first cycle from ``time`` on at which all ``lines`` are free for ``length`` cycles.

    ``phase``, ``beats``: among cycles that are ``phase`` more than a multiple of ``beats``. ``before``: where none is before that
    cycle, any that is not may be returned.
    """
    time += (phase - time) % beats
    settled, wanted = 0, len(lines)
    while settled < wanted:
        for line in lines:
            # `Timeline.next_free` in place: this is called more often than anything else in the compiler.
            ends = line.ends
            if ends and ends[-1] > time:
                starts, begin = line.starts, time
                index = bisect_right(ends, time)
                while index < len(starts) and starts[index] < time + length:
                    time = ends[index]
                    index += 1
                if time != begin:
                    late = (phase - time) % beats
                    time += late
                    if before is not None and time >= before:
                        return time
                    # In the next cycle of that phase, this line may be taken as well.
                    settled = 0 if late else 1
                    continue
            settled += 1
            if settled >= wanted:
                break
    return time


@lru_cache(maxsize=1 << 16)
def path(pods: int, is_crossbar: bool, source: int, target: int) -> tuple[int, ...]:
    """Numbers of the wires from a P bank to an X bank."""
    stages = bits(pods)
    if is_crossbar:
        return (stages * pods + target,)
    # After stage s the low s + 1 bits are those of the target.
    inner = (s * pods + (source >> s + 1 << s + 1 | target & (2 << s) - 1) for s in range(stages - 1))
    return (*inner, stages * pods + target)
