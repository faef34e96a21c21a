"""Exact times of collectives in a ring of chips, all against each other.

Of a unit (a head or a word) it is enough to know its last flit. With u(f) the cycle in which flit f is accepted by the link,
and s(f) that in which it is handed to the port: s(f) = max(s(f - 1) + 1, u(f - 2)), as there is room for two on the way, and
what waits behind a link that is slower than a flit per cycle leaves in its rhythm. So the only loop is over words.
"""

from __future__ import annotations

import copy
import dataclasses
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .words import Job, LinkGeometry, P

# Cycles, at the least, from ...
_FIRST, _HEAD = 3, 4  # begin: to the first word, and the head
_QUEUE = 2  # the word that was read: to its first flit
_SEND, _RECEIVE = 2, 3  # a flit handed to a port: to the link; one from the link: to the receiver
_COUNTED = 2  # the last flit of a word that is taken: to the count of words received
_GIVE = 2  # a start, or the last flit of a word that is taken: to its credit
_OVER = 2  # the last flit sent or taken: to the end of the collective


@dataclass(frozen=True, kw_only=True)
class LinkRate:
    """How fast a link carries flits.

    A flit offered in cycle t is accepted if t * 16 + 15 is at least a number that each flit makes the larger of itself and 16 *
    t, plus ``beat_sixteenths``. It arrives ``latency`` cycles later, or up to ``jitter`` more, as a generator says that begins
    with ``seed`` when the chip that sends starts; in order, one per cycle. Credits take ``latency`` cycles.
    """

    latency: int
    beat_sixteenths: int = 16
    jitter: int = 0
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class ChipWalk:
    """What a chip does in a collective. ``send``: of each job (words, whether it follows, needs). ``receive``: words."""

    send: tuple[tuple[int, int, int], ...] = ()
    receive: int = 0
    kind: int = P

    @classmethod
    def of(cls, send: Sequence[Job], receive: Sequence[Job]) -> ChipWalk:
        """That of legal jobs."""
        sent = tuple((job.count, job.follows, job.needs) for job in send) if send[0].words else ()
        return cls(send=sent, receive=receive[0].words, kind=receive[0].kind)

    @property
    def joined(self) -> ChipWalk:
        """The same words in as few jobs as can be: what walks of chips that do the same have in common."""
        send: list[tuple[int, int, int]] = []
        for words, follows, needs in self.send:
            before = send[-1] if send else (0, 0, 0)
            if before[0] and before[1] == follows and (not follows or needs == before[2] + before[0]):
                send[-1] = before[0] + words, follows, before[2]
            else:
                send.append((words, follows, needs))
        return dataclasses.replace(self, send=tuple(send))


class CollectiveFigures(NamedTuple):
    over: int
    """The first cycle with ``busy`` low again."""
    waits: int
    """Cycles in which its head was waited for."""
    sent: int
    """Flits."""
    received: int


class _Extra:
    """Cycles that flits take longer, by their number."""

    def __init__(self, rate: LinkRate):
        self.spread, self.state = rate.jitter + 1, rate.seed
        self.known: list[int] = []

    def of(self, first: int, count: int) -> list[int]:
        while len(self.known) < first + count:
            x = self.state
            x ^= x << 13 & 0xFFFFFFFF
            x ^= x >> 17
            x ^= x << 5 & 0xFFFFFFFF
            self.state = x
            self.known.append(x * self.spread >> 32)
        return self.known[first : first + count]


class _Link:
    """From the sender of a chip to the receiver of the next one."""

    def __init__(self, rate: LinkRate, buffer_words: int, start: int):
        self.rate, self.extra = rate, _Extra(rate)
        # Number that the next flit must reach, and how many there were.
        self.next16, self.flits = 0, 0
        # Of the last flit: when it was handed on, accepted (and the one before), arrived, taken.
        self.handed = self.accepted = self.accepted_before = self.arrived = self.taken = -1
        # From when on each credit counts, and when the receiver gave the last one.
        self.credits = [start + _GIVE + i + rate.latency + 1 for i in range(buffer_words)]
        self.given = start + _GIVE + buffer_words - 1
        self.units = 0

    def send(self, ready: int, flits: int) -> None:
        """A unit that may be handed on from cycle ``ready`` on, for which there is a credit."""
        beat = self.rate.beat_sixteenths
        begin = max(ready, self.credits[self.units], self.handed + 1, self.accepted_before)
        first = max(begin + _SEND, self.next16 >> 4)
        after = max(self.next16, first << 4) + beat
        times = [self.accepted_before, self.accepted, first, *((after + i * beat) >> 4 for i in range(flits - 1))]
        self.handed = max(begin + flits - 1, times[flits - 1])
        self.accepted_before, self.accepted = times[-2:]
        self.next16 = after + (flits - 1) * beat
        arrives = self.accepted
        if self.rate.jitter:
            late = enumerate(zip(times[2:], self.extra.of(self.flits, flits), strict=True))
            arrives = max(time + extra + flits - 1 - i for i, (time, extra) in late)
        self.arrived = max(self.arrived + flits, arrives + self.rate.latency)
        self.units, self.flits = self.units + 1, self.flits + flits

    def take(self, opens: int, flits: int) -> int:
        """That unit is taken by the receiver, not before cycle ``opens``; returns when all of it is."""
        self.taken = max(self.taken + flits, self.arrived + _RECEIVE, opens + flits - 1)
        self.given = max(self.given + 1, self.taken + _GIVE)
        self.credits.append(self.given + self.rate.latency + 1)
        return self.taken


class _Chip:
    """A chip in one collective."""

    def __init__(self, walk: ChipWalk, begin: int, geometry: LinkGeometry):
        self.begin, self.flits, self.geometry = begin, geometry.flits[walk.kind], geometry
        # Of each word to send: the word that must have been received before, -1 for none.
        self.after = [needs + j if follows else -1 for words, follows, needs in walk.send for j in range(words)]
        self.to_receive = walk.receive
        # Units that are ready to be handed on, by the cycle from which on they are.
        self.ready: deque[int] = deque([begin + _HEAD] if self.after else [])
        self.read = 0
        self.free = begin + _FIRST
        self.waiting = False
        # When the last flits of words were handed on, and taken; the word taken that may be in the way of the next read.
        self.handed: list[int] = []
        self.head_sent = False
        self.taken: list[int] = []
        self.head_taken: int | None = None
        self.next_taken = 0

    def may_read(self) -> int | None:
        """From when on the next word may be read, but for what is written; None if that is not known, or there is none."""
        ahead = self.read - self.geometry.words_ahead
        if self.read == len(self.after) or ahead >= len(self.handed) or self.after[self.read] >= len(self.taken):
            return None
        room = self.handed[ahead] + 1 if ahead >= 0 else 0
        received = self.taken[self.after[self.read]] + _COUNTED if self.after[self.read] >= 0 else 0
        return max(self.free, room, received)

    def writes(self, cycle: int) -> bool:
        """Whether a word is written in this cycle, which is not before the one asked about last."""
        while self.next_taken < len(self.taken) and self.taken[self.next_taken] < cycle:
            self.next_taken += 1
        return self.next_taken < len(self.taken) and self.taken[self.next_taken] == cycle

    def figures(self) -> CollectiveFigures:
        sent, opens = len(self.after), self.begin + _FIRST
        ends = [self.handed[-1] if sent else opens, self.taken[-1] if self.to_receive else opens]
        waits = max(0, self.head_taken - opens) if self.head_taken is not None else 0
        flits = (words * self.flits + 1 if words else 0 for words in (sent, self.to_receive))
        return CollectiveFigures(max(ends) + _OVER, waits, *flits)


class RingModel:
    """A run of a ring: chip i sends to chip i + 1, the last one to the first.

    Chips that do the same over links alike do it in the same cycles: one of them stands for all, as if it sent to itself.

    Parameters
    ----------
    geometry : LinkGeometry
        Of all chips.
    rates : sequence of LinkRate
        Of the links, by the chip that sends.
    starts : sequence of int
        Cycle of ``start`` of each chip, of one clock.
    """

    def __init__(self, geometry: LinkGeometry, rates: Sequence[LinkRate], starts: Sequence[int]):
        self.geometry, self.chips = geometry, len(rates)
        # Without jitter a seed is of no account.
        kinds = {rate if rate.jitter else dataclasses.replace(rate, seed=1) for rate in rates}
        alike = len(kinds) == 1 and len(set(starts)) == 1 and not rates[0].jitter
        # Credits of a link are given at the start of the chip that receives.
        after = [*starts[1:], starts[0]]
        links = [_Link(rate, geometry.buffer_words, start) for rate, start in zip(rates, after, strict=True)]
        self.links = links[:1] if alike else links
        """By the chip that sends; one for all as long as chips have been alike."""

    def collective(self, walks: Sequence[ChipWalk], begins: Sequence[int]) -> list[CollectiveFigures]:
        """The next collective of the run. ``begins``: cycle of ``begins`` of each chip.

        Raises
        ------
        ValueError
            What a chip sends is not what the next one expects, or chips wait for each other for ever.
        """
        n = self.chips
        for i, walk in enumerate(walks):
            sent, (receive, kind) = sum(job[0] for job in walk.send), (walks[(i + 1) % n].receive, walks[(i + 1) % n].kind)
            if (sent, walk.kind if sent else kind) != (receive, kind):
                raise ValueError(f"chip {i} sends {sent} words of kind {walk.kind}, the next one expects {receive} of kind {kind}")
        if len(self.links) < n:
            if len({walk.joined for walk in walks}) == 1 and len(set(begins)) == 1:
                return self._collective(walks[:1], begins[:1]) * n
            self.links = [copy.deepcopy(self.links[0]) for _ in range(n)]
        return self._collective(walks, begins)

    def _collective(self, walks: Sequence[ChipWalk], begins: Sequence[int]) -> list[CollectiveFigures]:
        """That of chips of which it is known that they fit each other."""
        n = len(self.links)
        chips = [_Chip(walk, begin, self.geometry) for walk, begin in zip(walks, begins, strict=True)]
        # Reads by the cycle in which they may be made. All that may be in the way of the earliest one is known.
        reads: list[tuple[int, int]] = []

        def look(i: int) -> None:
            chip = chips[i]
            cycle = None if chip.waiting else chip.may_read()
            if cycle is not None:
                chip.waiting = True
                heapq.heappush(reads, (cycle, i))

        def move(i: int) -> None:
            """What can be sent by chip i is, and is received."""
            self._send(i, chips[i], chips[(i + 1) % n])
            look(i)
            look((i + 1) % n)

        for i in range(n):
            move(i)
        while reads:
            cycle, i = heapq.heappop(reads)
            chip = chips[i]
            if chip.writes(cycle):
                heapq.heappush(reads, (cycle + 1, i))
                continue
            chip.waiting, chip.read, chip.free = False, chip.read + 1, cycle + 1
            chip.ready.append(cycle + 1 + self.geometry.read_latency + _QUEUE)
            move(i)
        for i, chip in enumerate(chips):
            if chip.read < len(chip.after) or chip.ready:
                raise ValueError(f"chip {i} waits for ever for what it needs to send word {len(chip.handed)}")
        return [chip.figures() for chip in chips]

    def _send(self, i: int, chip: _Chip, following: _Chip) -> None:
        link = self.links[i]
        while chip.ready and link.units < len(link.credits):
            flits = chip.flits if chip.head_sent else 1
            link.send(chip.ready.popleft(), flits)
            taken = link.take(following.begin + _FIRST, flits)
            if chip.head_sent:
                chip.handed.append(link.handed)
                following.taken.append(taken)
            else:
                chip.head_sent, following.head_taken = True, taken


def collective_times(
    geometry: LinkGeometry, walks: Sequence[ChipWalk], begins: Sequence[int], rate: LinkRate
) -> list[CollectiveFigures]:
    """One collective of a ring, whose runs have started long before; all links alike, but for seeds."""
    rates = [dataclasses.replace(rate, seed=(rate.seed + 0x9E3779B9 * i) % (1 << 32) or 1) for i in range(len(walks))]
    starts = [min(begins) - geometry.buffer_words - rate.latency - 4] * len(walks)
    return RingModel(geometry, rates, starts).collective(walks, begins)
