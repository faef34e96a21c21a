"""Beats into pieces of words, and pieces of words into beats: when an engine makes each step, from when its beats come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..memory.hbm import Piece
from .words import LOAD, Descriptor, EngineGeometry

FIRST_STEP = 3
"""Cycles from the take of an item to its first step."""
TO_POP = 2
"""Cycles from a beat on R to the step that can pop it."""


class Pops(NamedTuple):
    """``beats`` beats, of which number j is popped in cycle max(start + j * steps, ceil((due16 + j * beat16) / 16)).

    Each is followed by ``steps`` - 1 steps that need no other beat."""

    beats: int
    start: int
    steps: int
    due16: int
    beat16: int

    def time(self, j: int) -> int:
        return max(self.start + j * self.steps, -(-(self.due16 + j * self.beat16) // 16))

    def times(self) -> NDArray[np.int64]:
        j = np.arange(self.beats, dtype=np.int64)
        return np.maximum(self.start + j * self.steps, -(-(self.due16 + j * self.beat16) // 16))


class Item:
    """A descriptor that was taken in cycle ``begin``. ``counts``: its end completes a tag."""

    __slots__ = ("begin", "counts", "descriptor", "failed_from", "last_step", "pops", "ring", "started", "whole")

    def __init__(self, begin: int, ring: int, descriptor: Descriptor, counts: bool):
        self.begin, self.ring, self.descriptor, self.counts = begin, ring, descriptor, counts
        self.started = False
        self.whole = False
        """Of a load that has started: each beat is a piece."""
        self.last_step = -1
        self.failed_from: int | None = None
        """Cycle of the first step whose piece is left out."""
        self.pops: list[Pops] = []
        """Of a load."""

    def piece_steps(self, geometry: EngineGeometry) -> NDArray[np.int64]:
        """Cycles of the steps of a load that deliver a piece, as far as they are known."""
        if not self.pops:
            return np.zeros(0, np.int64)
        steps = np.concatenate([np.full(pops.beats, pops.steps) for pops in self.pops])
        within = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
        made = np.repeat(np.concatenate([pops.times() for pops in self.pops]), steps) + within
        target = geometry.targets[self.descriptor.select]
        primed = self.descriptor.run_starts() % geometry.beat_bytes + target.piece_bytes > geometry.beat_bytes
        # The step that only pops the first beat of a run comes before its pieces.
        of_run = self.descriptor.n0 * target.pieces + primed
        primes = (np.cumsum(of_run) - of_run)[primed]
        delivers = np.ones(len(made), bool)
        delivers[primes[primes < len(made)]] = False
        return made[delivers]


class Burst:
    """A burst of data. ``first``: number of its first beat in its run; of the run, ``offset`` and ``run_beats``."""

    __slots__ = ("address", "beats", "ends_item", "first", "item", "offset", "run_beats")

    def __init__(self, item: Item, address: int, beats: int, first: int, run_beats: int, offset: int, ends_item: bool):
        self.item, self.address, self.beats, self.first = item, address, beats, first
        self.run_beats, self.offset, self.ends_item = run_beats, offset, ends_item


class Delivery:
    """Steps of loads and NOPs, in order. ``ended`` is called with each item when its last step is known."""

    def __init__(self, geometry: EngineGeometry, beat16: int, ended: Callable[[Item], None]):
        self.geometry, self.beat16, self.ended = geometry, beat16, ended
        self.free = 0
        """First cycle in which the next step can be made."""
        self.items: deque[Item] = deque()
        self.popped = 0
        """Beats whose pop is known."""
        self.looked = 0
        self.recent: deque[Pops] = deque()

    def begin(self, item: Item) -> None:
        self.items.append(item)
        if len(self.items) == 1:
            self._pass_nops()

    def _pass_nops(self) -> None:
        while self.items and self.items[0].descriptor.kind != LOAD:
            item = self.items.popleft()
            item.last_step = max(item.begin + FIRST_STEP, self.free)
            self.free = item.last_step + 1
            self.ended(item)

    def arrive(self, burst: Burst, pieces: list[Piece]) -> None:
        """The beats of a burst come when ``pieces`` say."""
        item = burst.item
        if not item.started:
            item.started = True
            self.free = max(self.free, item.begin + FIRST_STEP)
            target = self.geometry.targets[item.descriptor.select]
            item.whole = target.piece_bytes == self.geometry.beat_bytes and target.stride % target.piece_bytes == 0
        at = burst.first
        for start16, beats in pieces:
            due16 = start16 + 16 * TO_POP
            if item.whole:
                self._pop(item, beats, 1, due16)
                continue
            while beats:
                count, steps = self._same_steps(burst, at, beats)
                self._pop(item, count, steps, due16)
                at += count
                beats -= count
                due16 += count * self.beat16
        if burst.ends_item:
            self.items.popleft()
            item.last_step = self.free - 1
            self.ended(item)
            self._pass_nops()

    def _same_steps(self, burst: Burst, at: int, beats: int) -> tuple[int, int]:
        """How many beats from number ``at`` of a run on have as many steps each as that one, and how many steps these are."""
        descriptor = burst.item.descriptor
        target = self.geometry.targets[descriptor.select]
        size = target.piece_bytes
        if target.stride % size:
            before, through = (self._pieces_within(burst, beat) for beat in (at, at + 1))
            # If no piece ends in the first beat, one step that only pops it.
            return 1, max(1, through - before)
        pieces, per_beat = descriptor.n0, self.geometry.beat_bytes // size
        if burst.run_beats == 1:
            return 1, pieces
        in_first = (self.geometry.beat_bytes - burst.offset) // size
        if at == 0:
            # If no piece ends there, one step that only pops it.
            return 1, max(1, in_first)
        if at == burst.run_beats - 1:
            return 1, pieces - in_first - (burst.run_beats - 2) * per_beat
        return min(beats, burst.run_beats - 1 - at), per_beat

    def _pieces_within(self, burst: Burst, beats: int) -> int:
        """Pieces of a run that end in its first ``beats`` beats, if the last piece of a word is smaller than others."""
        descriptor = burst.item.descriptor
        target = self.geometry.targets[descriptor.select]
        room = max(0, beats * self.geometry.beat_bytes - burst.offset)
        words, left = divmod(min(room, descriptor.n0 * target.stride), target.stride)
        return words * target.pieces + left // target.piece_bytes

    def _pop(self, item: Item, count: int, steps: int, due16: int) -> None:
        start, beat16 = self.free, self.beat16
        if beat16 <= 16 * steps:
            # The first beat is the only one to wait for.
            start = max(start, -(-due16 // 16))
            self.free = start + count * steps
            pops = Pops(count, start, steps, 0, 0)
        else:
            pops = Pops(count, start, steps, due16, beat16)
            self.free = pops.time(count - 1) + steps
        self.popped += count
        self.recent.append(pops)
        item.pops.append(pops)

    def time_of(self, number: int) -> int:
        """The same of any beat that `pop_time` was not asked beyond."""
        index = self.looked
        for pops in self.recent:
            if number < index + pops.beats:
                return pops.time(number - index)
            index += pops.beats
        raise IndexError(f"the pop of beat {number} is not known")

    def pop_time(self, number: int) -> int | None:
        """Cycle in which beat ``number``, of all ever popped, is popped; None if not known yet. Numbers never decrease."""
        if number >= self.popped:
            return None
        while number - self.looked >= self.recent[0].beats:
            self.looked += self.recent.popleft().beats
        return self.recent[0].time(number - self.looked)
