"""Cycle model of a prefetch engine on a channel of HBM: what it does when, from its descriptors and what its gates do over time.

The engine is evaluated in the cycles in which something changes, and passes over all others: a burst costs a few steps, whatever
its length and however long anything waits. Cycle 0 is the one after that of ``start``, in which the channel restarts too.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory.hbm import HbmChannel, Piece
from .agenda import FOREVER, Agenda
from .delivery import Burst, Delivery, Item
from .gate import GateModel, Room
from .issuer import IssuerModel
from .reader import Head, ReaderModel, Request
from .store import PORT_CYCLES, StoreModel
from .words import NOP, PREFETCH, READ_ERROR, STORE, WRITE_ERROR, Descriptor, EngineGeometry, Inputs

STALLS = ("gate", "gap", "cap", "buffer", "bus")
CLASSES = ("descriptor", "demand", "prefetch")


@dataclass
class Fault:
    """The first error of an engine; ``cycle``: the first in which it is on its ports."""

    cycle: int
    code: int
    ring: int
    tag: int
    address: int


@dataclass
class Events:
    """What an engine did. ``complete``: cycles in which a ring counted one more tag. Counts are of cycles, beats or descriptors.

    ``late``: of ``prefetched``, loads of the prefetch ring that began, those whose epoch was the next one already. ``ahead``: when
    the beats of the prefetch ring come; ``others``: when all others that are read do.
    """

    complete: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    read_beats: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    write_beats: int = 0
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STALLS, 0))
    prefetched: int = 0
    late: int = 0
    ahead: list[Piece] = field(default_factory=list)
    others: list[Piece] = field(default_factory=list)


class EngineModel:
    """One engine since its start. ``rings``: descriptors in the order in which they are published, index i at base + 64 * (i mod
    size). ``trace``: keep what `golden.cycle.prefetch.ports` needs.
    """

    def __init__(
        self,
        geometry: EngineGeometry,
        channel: HbmChannel,
        rings: Sequence[Sequence[Descriptor]],
        sizes: Sequence[int],
        inputs: Inputs,
        *,
        trace: bool = False,
    ):
        self.geometry, self.channel, self.inputs = geometry, channel, inputs
        self.now = 0
        """The first cycle that is not evaluated."""
        self.events = Events()
        self.error: Fault | None = None
        self.agenda = Agenda(trace=trace)
        self.delivery = Delivery(geometry, channel.timing.beat_sixteenths, self._item_ended)
        self.reader = ReaderModel(geometry, self.agenda, rings, sizes, inputs)
        self.issuer = IssuerModel(geometry, self.agenda, channel, self.reader, self.delivery, self._read_accepted)
        self.gate = GateModel(geometry, self.reader, self._begin, self._refused)
        self.stopped_at: int | None = None
        """First cycle in which nothing is issued, taken or stepped any more."""
        self.busy_until = -1
        """Last cycle in which something is on its way to the chip or to be counted."""
        self.quiet_from: int | None = None
        """Cycle from which on ``quiet`` is high without an interruption; None if it is not."""
        self._level = 0
        self._delivered_at = -1
        """Last cycle in which what is delivered was on its way."""
        self._store_faulty = False
        # By ring: something of it has failed on its way, so nothing of it completes a tag.
        self._ring_failed = [False, False]
        # Writes whose data are all known, by the cycle in which memory has them.
        self._sent: deque[tuple[int, Burst]] = deque()
        # Descriptors must be looked at; what came of it the last time: something waits.
        self._stirred, self._waiting = True, False

    def prefetch_beats_before(self, cycles: Sequence[int]) -> NDArray[np.int64]:
        """Beats of data for the prefetch ring before each of some cycles, up to which all is evaluated."""
        start16, beats = np.array([(0, 0), *self.events.ahead], np.int64).T
        last16 = 16 * (np.array(cycles, np.int64) - 1)
        piece = np.maximum(np.searchsorted(start16, last16, side="right") - 1, 0)
        # Beat j of a piece is in the first cycle that is not before start16 + j * beat16, and pieces follow each other.
        within = np.clip((last16 - start16[piece]) // self.channel.timing.beat_sixteenths + 1, 0, beats[piece])
        return np.cumsum(beats)[piece] - beats[piece] + within

    # -- Driving.

    def change(self, **inputs: Any) -> None:
        """Inputs from cycle ``now`` on."""
        self.inputs = dataclasses.replace(self.inputs, **inputs)
        self.reader.memory_bytes = self.inputs.memory_bytes
        self._stirred = True

    def run_until(self, cycle: int) -> None:
        """Go on to ``cycle``; all inputs before are those that are known."""
        while self.now < cycle:
            self._advance(cycle)

    def run_until_complete(self, count: int) -> int:
        """The first cycle in which both rings have completed ``count`` tags, if no input changes before.

        Raises RuntimeError if that never comes.
        """
        done = self.events.complete
        while min(len(done[0]), len(done[1])) < count:
            if not self._advance(FOREVER) and min(len(done[0]), len(done[1])) < count:
                names = [name for name, times in zip(("demand", "prefetch"), done, strict=True) if len(times) < count]
                raise RuntimeError(f"the {' and '.join(names)} ring will never complete {count} tags")
        return max((times[count - 1] for times in done), default=0) if count else 0

    def run_until_quiet(self) -> int:
        """The cycle from which on ``quiet`` stays high, if no input changes."""
        while self._advance(FOREVER):
            pass
        assert self.quiet_from is not None
        return self.quiet_from

    def _advance(self, limit: int) -> bool:
        """Evaluate cycle ``now`` and pass on to the next one in which anything may change; False if there is none."""
        t, complete = self.now, self.events.complete
        completed = len(complete[0]) + len(complete[1])
        if self.agenda.next <= t:
            self._stirred = self.agenda.pass_to(t) or self._stirred
        if self.issuer.read_ends:
            self.issuer.end_reads(t)
        changed, wake, full, bus, working = self._cycle(t)
        # What waits for a completion changes inputs then, and nothing may have run past that.
        changed = changed or len(complete[0]) + len(complete[1]) > completed
        following = t + 1 if changed else min(wake, self.agenda.next, self.issuer.next_end)
        ends = following >= FOREVER
        if ends and limit >= FOREVER:
            # Nothing will happen: what is left is on its way out.
            following = max(t, self.busy_until + 1) + 1
        following = min(following, limit)
        self._account(t, following, (*self.gate.stalls, full, bus), working)
        self.now = following
        return not ends

    def _account(self, t: int, following: int, stalls: tuple[bool, ...], working: bool) -> None:
        """Events of cycles ``t`` to ``following``, each on its port one cycle later."""
        if True in stalls:
            for name, stalled in zip(STALLS, stalls, strict=True):
                if stalled:
                    self.events.stalls[name] += following - t
                    self.agenda.note(f"stall_{name}", t + 1, following + 1)
        quiet = FOREVER if working else max(t, self.busy_until + 1) + 1
        if quiet > following:
            self.quiet_from = None
            return
        if self.quiet_from is None or quiet > t + 1:
            self.quiet_from = quiet
        self.agenda.note("quiet", quiet, following + 1)

    def _cycle(self, t: int) -> tuple[bool, int, bool, bool, bool]:
        """Whether anything changes at the end of cycle ``t``; else when it may; waits for room and bus; whether there is work.

        Parts come in an order in which each reads the registers as they are before the end of the cycle.
        """
        issuer, reader, stopped, level = self.issuer, self.reader, self.stopped_at is not None, self._level
        storing, busy, walking = issuer.store is not None, issuer.busy, issuer.walk is not None
        writing = issuer.writes > 0 or issuer.aw is not None
        moving = writing or issuer.reads > 0 or issuer.ar is not None
        requested, looking = reader.request is not None, self._stirred
        waits = requested or reader.unchecked > 0
        changed = self._stirred = self._pulses(t)

        wake = issuer.read_address(t) if issuer.ar else FOREVER
        bus = issuer.ar is not None
        while self._sent and self._sent[0][0] <= t:
            self._write_received(*self._sent.popleft())
        addressed, write_wake = issuer.write_address(t) if issuer.aw else (False, FOREVER)
        if addressed:
            self._send()
        issued, issue_wake, full = issuer.issue(t, stopped)
        split = issuer.split()
        if looking:
            chosen = None if requested or stopped else reader.chosen(self.inputs)
            unconsumed = self.gate.unconsumed
            gated, waiting = self.gate.cycle(t, self.inputs, Room(walking, level, storing, stopped))
            if self.gate.unconsumed != unconsumed:
                self.agenda.note("unconsumed", t + 1, self.gate.unconsumed)
            if chosen is not None:
                reader.fetch(chosen)
            self._waiting, waits = waiting, waits or chosen is not None
            changed = changed or chosen is not None or gated
            self._stirred = self._stirred or changed
        if storing and not busy and not writing and level == 0:
            self._end_store(t)
            changed = self._stirred = True
        # A request that is issued, or an empty walker, may let something begin.
        if (requested and reader.request is None) or (walking and issuer.walk is None):
            self._stirred = True
        # After a read was accepted, what is next for the bus was looked at in this very cycle.
        changed = changed or addressed or issued or split
        working = moving or ((waits or self._waiting or level > 0 or storing or busy) and not stopped)
        return changed, min(wake, write_wake, issue_wake), full, bus, working

    def _pulses(self, t: int) -> bool:
        """Inputs that act one cycle later."""
        stops, cancels = self.inputs.stop and self.stopped_at is None, self.inputs.cancel is not None
        if stops:
            self.agenda.at(t + 1, self._stop, t + 1)
        if cancels:
            self.agenda.at(t + 1, self._cancel, self.inputs.cancel)
            self.inputs = dataclasses.replace(self.inputs, cancel=None)
        return stops or cancels

    def _cancel(self, tag: int) -> None:
        self.gate.cancelled = tag

    def _stop(self, now: int) -> None:
        """Nothing is stepped from now on, so less is on its way than was thought."""
        self.stopped_at = self.issuer.stopped_at = now
        ends = [self._delivered_at, *(time - 1 for times in self.events.complete for time in times)]
        for item in (*self.agenda.to_come(self._delivered), *self.delivery.items):
            made = item.piece_steps(self.geometry)
            dropped = item.failed_from if item.failed_from is not None else FOREVER
            for low, high, way in ((0, dropped, PORT_CYCLES), (dropped, FOREVER, 1)):
                ends += (made[(made >= low) & (made < min(now, high))][-1:] + way).tolist()
            if 0 <= item.last_step < now:
                ends.append(item.last_step + PORT_CYCLES)
        if self.issuer.store:
            ends += self.issuer.store.ends_before(now)
        self.busy_until = max(ends)

    # -- Begins.

    def _begin(self, ring: int, head: Head) -> None:
        """A head is taken in cycle ``now``."""
        descriptor = head.descriptor
        item = Item(self.now, ring, descriptor, bool(descriptor.last) and not self.gate.failed[ring])
        self._level += 1
        self.agenda.note("items", item)
        if descriptor.kind != NOP:
            self.issuer.begin(item)
            if ring == PREFETCH:
                self.events.prefetched += 1
                self.events.late += self.inputs.epochs_done >= head.tag
        if descriptor.kind != STORE:
            self.delivery.begin(item)
            return
        self.issuer.store, self._store_faulty = StoreModel(self.geometry, item), False
        self.agenda.note("stores", self.issuer.store)
        self._steps_made()

    def _refused(self, ring: int, code: int, tag: int, address: int) -> None:
        self._first_error(Fault(self.now + 1, code, ring, tag, address), response=False)

    def _first_error(self, fault: Fault, *, response: bool) -> None:
        """Keeps the earliest; of several in one cycle, that of a response."""
        if self.error is None or fault.cycle < self.error.cycle or (fault.cycle == self.error.cycle and response):
            self.error = fault

    # -- Reads.

    def _read_accepted(self, t: int, address: int, beats: int, what: Burst | Request) -> None:
        _, pieces = self.channel.read(t, address, beats)
        self.agenda.note("r", address, beats, what, pieces)
        last = self.channel.last_cycle(pieces)
        self.issuer.read_ends.append(last + 2)
        failed = self.channel.failing(address, beats)
        ahead = isinstance(what, Burst) and what.item.ring == PREFETCH
        (self.events.ahead if ahead else self.events.others).extend(pieces)
        if isinstance(what, Request):
            self.events.read_beats["descriptor"] += beats
            self.reader.arrive(last, what, failed=bool(failed))
            return
        self.events.read_beats[CLASSES[1 + what.item.ring]] += beats
        popped = self.delivery.popped
        self.delivery.arrive(what, pieces)
        if failed:
            self._data_failed(what, pieces, failed, popped)

    def _data_failed(self, burst: Burst, pieces: list[Piece], failed: list[tuple[int, int]], popped: int) -> None:
        """Some beats of a burst, (number, response) each, are errors."""
        item, ring = burst.item, burst.item.ring
        if item.failed_from is None:
            item.failed_from = self.delivery.time_of(popped + failed[0][0])
        for number, response in failed:
            seen = self.channel.beat_cycle(pieces, number) + 2
            self.agenda.at(seen, self._faulty, Fault(seen, READ_ERROR[response], ring, item.descriptor.tag, burst.address))

    def _faulty(self, fault: Fault) -> None:
        self.gate.fault_tag[fault.ring] = fault.tag
        self._first_error(fault, response=True)

    # -- Writes.

    def _send(self) -> None:
        """Data of the writes whose addresses are accepted."""
        assert self.issuer.store
        while (sent := self.issuer.store.send()) is not None:
            self._sent.append(sent)
            self.agenda.wake(sent[0])
        self._steps_made()

    def _write_received(self, t: int, burst: Burst) -> None:
        self.events.write_beats += burst.beats
        answered = self.channel.write(t, burst.address, burst.beats)
        self.agenda.note("b", answered, burst)
        self.agenda.at(answered + 2, self._write_ended)
        responses = [response for _, response in self.channel.failing(burst.address, burst.beats)]
        if responses:
            code = WRITE_ERROR[max(responses)]
            fault = Fault(answered + 2, code, burst.item.ring, burst.item.descriptor.tag, burst.address)
            self.agenda.at(answered + 2, self._write_failed, fault)

    def _write_failed(self, fault: Fault) -> None:
        self._store_faulty = True
        self._faulty(fault)

    def _write_ended(self, _: None) -> None:
        self.issuer.writes -= 1

    # -- Ends.

    def _item_ended(self, item: Item) -> None:
        """The last step of a load or NOP is known."""
        self.agenda.at(item.last_step + 1, self._level_down, item)
        self.agenda.at(item.last_step + PORT_CYCLES, self._delivered, item)
        if self._made(item):
            self.busy_until = max(self.busy_until, item.last_step + PORT_CYCLES)

    def _steps_made(self) -> None:
        """The same of a store, if it is known."""
        assert self.issuer.store
        item = self.issuer.store.item
        if item.last_step >= 0 and not item.started:
            item.started = True
            self.agenda.at(item.last_step + 1, self._level_down, item)
            self.delivery.free = item.last_step + 1

    def _made(self, item: Item) -> bool:
        """Whether the last step of an item was made after all."""
        return self.stopped_at is None or item.last_step < self.stopped_at

    def _level_down(self, item: Item) -> None:
        self._level -= self._made(item)

    def _delivered(self, item: Item) -> None:
        if self._made(item):
            self._delivered_at = item.last_step + PORT_CYCLES
            self._ended(self._delivered_at, item.ring, item.counts, item.failed_from is not None)

    def _end_store(self, t: int) -> None:
        assert self.issuer.store
        item = self.issuer.store.item
        self.issuer.store = None
        self._ended(t, item.ring, item.counts, self._store_faulty)

    def _ended(self, t: int, ring: int, counts: bool, fails: bool) -> None:
        """A descriptor is through in cycle ``t``."""
        if counts and not fails and not self._ring_failed[ring]:
            self.events.complete[ring].append(t + self.geometry.host_levels + 2)
            self.busy_until = max(self.busy_until, t + self.geometry.host_levels + 1)
        self._ring_failed[ring] = self._ring_failed[ring] or fails
