"""A store of a prefetch engine: pieces that are read, beats that wait in the buffer, and the write data channel."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .delivery import FIRST_STEP, Burst, Item
from .words import Descriptor, EngineGeometry

PORT_CYCLES = 2
"""Cycles from a step to the load port."""


def store_steps(descriptor: Descriptor, geometry: EngineGeometry) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of all steps in order: whether it reads a piece, whether it pushes a beat."""
    if descriptor.column:
        return _column_steps(descriptor, geometry)
    beat, target = geometry.beat_bytes, geometry.targets[descriptor.select]
    size, pieces = target.piece_bytes, descriptor.n0 * target.pieces
    reads, pushes = [], []
    for offset in (descriptor.run_starts() % beat).tolist():
        end = offset + size * np.arange(1, pieces + 1)
        push = end // beat > (end - size) // beat
        push[-1] = True
        flush = (end[-1] - 1) // beat > (end[-1] - size) // beat
        reads += [np.ones(pieces, bool), np.zeros(int(flush), bool)]
        pushes += [push, np.ones(int(flush), bool)]
    return np.concatenate(reads), np.concatenate(pushes)


def _column_steps(descriptor: Descriptor, geometry: EngineGeometry) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each piece of the words of a run: a step to read it of each word, and a push for each beat that a byte of it is in."""
    target = geometry.targets[descriptor.select]
    starts, size = descriptor.memory_runs(target)
    beats = -(-(starts % geometry.beat_bytes + size) // geometry.beat_bytes)
    reads = []
    for run in beats.reshape(-1, target.bytes):
        for first in range(0, target.bytes, target.piece_bytes):
            reads += [np.ones(descriptor.n0, bool), np.zeros(run[first : first + target.piece_bytes].sum(), bool)]
    found = np.concatenate(reads)
    return found, ~found


class StoreModel:
    """One store. Beats are numbered from 0 in the order in which they are pushed, and sent."""

    def __init__(self, geometry: EngineGeometry, item: Item):
        self.geometry, self.item = geometry, item
        self.reads, self.pushes = store_steps(item.descriptor, geometry)
        self.at = np.flatnonzero(self.pushes).tolist()
        """Step of every push."""
        self.push_times: list[int] = []
        self.pop_times: list[int] = []
        self.claimed = 0
        """Beats of bursts that were issued."""
        self.accepted: list[int] = []
        """Cycle in which W accepts each beat."""
        # Bursts whose beats are not all known to be accepted, and the first cycles in which they may be popped.
        self.issued: deque[tuple[int, Burst]] = deque()
        self.addressed: deque[int] = deque()
        self.all_bursts: list[Burst] = []
        self._push()

    def _push(self) -> None:
        """Pushes, as far as it is known when there is room for them."""
        room = self.geometry.buffer_beats
        while len(self.push_times) < len(self.at):
            number = len(self.push_times)
            if number:
                time = self.push_times[-1] + self.at[number] - self.at[number - 1]
            else:
                time = self.item.begin + FIRST_STEP + self.at[0]
            if number >= room:
                if number - room >= len(self.pop_times):
                    return
                time = max(time, self.pop_times[number - room] + 1)
            self.push_times.append(time)
        # The last step pushes.
        self.item.last_step = self.push_times[-1]

    def can_issue(self, beats: int) -> int | None:
        """First cycle in which all beats of the next burst are in the buffer; None if not known yet."""
        last = self.claimed + beats - 1
        if last >= len(self.push_times):
            return None
        return self.push_times[last] + PORT_CYCLES + self.geometry.read_latency + 2

    def issue(self, cycle: int, burst: Burst) -> None:
        self.claimed += burst.beats
        self.all_bursts.append(burst)
        self.issued.append((cycle + 2, burst))
        if len(self.issued) == 1:
            self._pop_first()

    def _pop_first(self) -> None:
        """The first beat of a burst leaves the buffer when W is free, whether its address was accepted or not."""
        after = self.accepted[-1] if self.accepted else 0
        self.pop_times.append(max(self.issued[0][0], after))
        self._push()

    def address_accepted(self, cycle: int) -> None:
        self.addressed.append(cycle)

    def send(self) -> tuple[int, Burst] | None:
        """The next burst, once its address is accepted, and the cycle in which W accepts its last beat; to be called until None."""
        if not self.issued or not self.addressed:
            return None
        _, burst = self.issued.popleft()
        first = max(self.pop_times[-1] + 1, self.addressed.popleft() + 1)
        self.accepted += range(first, first + burst.beats)
        self.pop_times += range(first, first + burst.beats - 1)
        self._push()
        if self.issued:
            self._pop_first()
        return first + burst.beats - 1, burst

    def ends_before(self, cycle: int) -> list[int]:
        """Last cycles in which something is on its way from or to the load port, if no step is made from ``cycle`` on."""
        made = self.step_times()
        back = PORT_CYCLES + self.geometry.read_latency
        kinds = ((self.reads[: len(made)], back), (self.pushes[: len(made)], back + 1))
        return [int(made[which & (made < cycle)][-1]) + way for which, way in kinds if (which & (made < cycle)).any()]

    def step_times(self) -> NDArray[np.int64]:
        """Cycle of every step, up to the first one that is not known yet."""
        pushed, at = np.array(self.push_times, np.int64), np.array(self.at, np.int64)
        steps = np.arange(len(self.pushes) if len(pushed) == len(at) else at[len(pushed)])
        # A step that does not push follows the one before at once: as many steps after the last push as it comes later.
        before = np.searchsorted(at, steps)
        origin = np.concatenate([[-1], at])[before]
        times = np.concatenate([[self.item.begin + FIRST_STEP - 1], pushed])[before] + steps - origin
        times[at[: len(pushed)]] = pushed
        return times
