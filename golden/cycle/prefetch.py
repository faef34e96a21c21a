"""Cycle model of a prefetch engine on a channel of HBM: what it does when, from its descriptors and what its gates do over time.

The engine is evaluated in the cycles in which something changes, and passes over all others: a burst costs a few steps, whatever
its length and however long anything waits. Cycle 0 is the one after that of ``start``, in which the channel restarts too.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .hbm import HbmChannel, Piece
from .prefetch_delivery import Burst, Delivery, Item
from .prefetch_store import PORT_CYCLES, StoreModel
from .prefetch_words import (
    BEYOND_MEMORY,
    CANCELLED,
    DEMAND,
    DESCRIPTOR_BYTES,
    LOAD,
    MISALIGNED,
    NOP,
    PAGE,
    PREFETCH,
    READ_ERROR,
    STORE,
    WRITE_ERROR,
    Descriptor,
    DescriptorCheck,
    EngineGeometry,
)

CHECK_CYCLES = 12
TO_CHECK = 4
"""Cycles from the last beat of a descriptor on R to its check."""
COUNTED_TAGS = 16
FOREVER = 1 << 62
STALLS = ("gate", "gap", "cap", "buffer", "bus")
CLASSES = ("descriptor", "demand", "prefetch")


@dataclass
class Inputs:
    """Of an engine, from some cycle on. ``base``, ``tail``: of the demand and the prefetch ring."""

    base: tuple[int, int]
    memory_bytes: int
    tail: tuple[int, int] = (0, 0)
    enable: bool = True
    cap: int = 0
    epochs_done: int = 0
    gap: bool = True
    stop: bool = False
    cancel: int | None = None
    """Tag that is cancelled in this one cycle."""


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

    ``late``: loads of the prefetch ring that were taken when their epoch was the next one already.
    """

    complete: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    read_beats: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    write_beats: int = 0
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STALLS, 0))
    prefetched: int = 0
    late: int = 0


class _Head:
    """A descriptor in its ring, which can be seen from cycle ``valid`` on."""

    __slots__ = ("address", "code", "descriptor", "tag", "valid")

    def __init__(self, valid: int, descriptor: Descriptor, code: int, tag: int, address: int):
        self.valid, self.descriptor, self.code, self.tag, self.address = valid, descriptor, code, tag, address


class _Run:
    """What is left of a run in the splitter: from beat ``at`` of memory on, ``left`` of its ``beats``."""

    __slots__ = ("at", "beats", "ends_item", "item", "left", "offset")

    def __init__(self, item: Item, at: int, beats: int, offset: int, ends_item: bool):
        self.item, self.at, self.beats, self.left, self.offset, self.ends_item = item, at, beats, beats, offset, ends_item


# Decisions about a head.
_NOTHING, _BEGIN, _REFUSE, _CANCEL, _SKIP = range(5)


class EngineModel:
    """One engine since its start. ``rings``: descriptors in the order in which they are published, index i at base + 64 * (i mod
    size). ``trace``: keep what `golden.cycle.prefetch_ports` needs.
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
        self.geometry, self.channel, self.rings, self.sizes, self.inputs = geometry, channel, rings, sizes, inputs
        self.now = 0
        self.events = Events()
        self.error: Fault | None = None
        self.log: dict[str, list[Any]] | None = {} if trace else None
        self.delivery = Delivery(geometry, channel.timing.beat_sixteenths, self._item_ended)
        self.checker = DescriptorCheck(geometry)
        self.base = inputs.base
        self._descriptor_beats = DESCRIPTOR_BYTES // geometry.beat_bytes
        # Changes that come: (cycle, number, what, value).
        self._queue: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._number = 0
        # Reader.
        self._index, self._held = [0, 0], [0, 0]
        self._broken_code = [0, 0]
        self._request: tuple[int, int] | None = None
        self._unchecked = 0
        self._check_free = 0
        self._heads: tuple[deque[_Head], deque[_Head]] = (deque(), deque())
        self._popped = [-1, -1]
        # Gate.
        self._decision, self._seen = [_NOTHING, _NOTHING], [False, False]
        self._level = 0
        self._store: StoreModel | None = None
        self._store_faulty = False
        self._failed = [False, False]
        self._ring_failed = [False, False]
        self._fault_tag: list[int | None] = [None, None]
        self._refused_tag: list[int | None] = [None, None]
        self._cancelled: int | None = None
        self._reported = [False, False]
        self._counted: deque[list[int]] = deque()
        self.unconsumed = 0
        # Issuer.
        self._walk: tuple[Item, list[int], int] | None = None
        self._run: _Run | None = None
        self._burst: Burst | None = None
        self._claimed = 0
        self._reads = self._writes = 0
        self._ar: tuple[int, int, Burst | tuple[int, int]] | None = None
        self._aw: Burst | None = None
        self._aw_begin = 0
        self._addressed = 0
        self._write_bursts: deque[Burst] = deque()
        self._sent: deque[tuple[int, Burst]] = deque()
        self._stopped = False
        self.stopped_at: int | None = None
        """First cycle in which nothing is issued, taken or stepped any more."""
        self.busy_until = -1
        """Last cycle in which something is on its way to the chip or to be counted."""
        self.quiet_from: int | None = None
        """Cycle from which on ``quiet`` is high without an interruption; None if it is not."""

    # -- Driving.

    def change(self, **inputs: Any) -> None:
        """Inputs from cycle ``now`` on."""
        self.inputs = dataclasses.replace(self.inputs, **inputs)

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
        t, queue = self.now, self._queue
        while queue and queue[0][0] <= t:
            _, _, apply, value = heapq.heappop(queue)
            apply(value)
        changed, wake, stalls, working = self._cycle(t)
        if changed:
            following = t + 1
        else:
            following = min(wake, queue[0][0] if queue else FOREVER)
        ends = following >= FOREVER
        if ends and limit >= FOREVER:
            # Nothing will happen: what is left is on its way out.
            following = max(t, self.busy_until + 1) + 1
        following = min(following, limit)
        self._account(t, following, stalls, working)
        self.now = following
        return not ends

    def _account(self, t: int, following: int, stalls: tuple[bool, ...], working: bool) -> None:
        """Events of cycles ``t`` to ``following``, each on its port one cycle later."""
        for name, stalled in zip(STALLS, stalls, strict=True):
            if stalled:
                self.events.stalls[name] += following - t
                self._note(f"stall_{name}", t + 1, following + 1)
        quiet = None if working else max(t, self.busy_until + 1) + 1
        if quiet is None or quiet > following:
            self.quiet_from = None
        else:
            if self.quiet_from is None or quiet > t + 1:
                self.quiet_from = quiet
            self._note("quiet", quiet, following + 1)

    def _note(self, name: str, *value: Any) -> None:
        if self.log is not None:
            self.log.setdefault(name, []).append(value)

    def _at(self, cycle: int, apply: Callable[[Any], None], value: Any = None) -> None:
        heapq.heappush(self._queue, (cycle, self._number, apply, value))
        self._number += 1

    def waiting(self, channel: str) -> tuple[int, int, int] | None:
        """What is on "ar" or "aw" and not accepted yet: first cycle, address, beats."""
        if channel == "aw":
            return (self._aw_begin, self._aw.address, self._aw.beats) if self._aw else None
        if not self._ar:
            return None
        begin, address, what = self._ar
        return begin, address, what.beats if isinstance(what, Burst) else self._descriptor_beats

    # -- One cycle: parts in an order in which each reads the registers as they are before the end of the cycle.

    def _cycle(self, t: int) -> tuple[bool, int, tuple[bool, ...], bool]:
        """Whether anything changes at the end of cycle ``t``; else when it may; what stalls; whether the engine is at work."""
        stopped, walking, storing, level = self._stopped, self._walk is not None, self._store, self._level
        writing = self._writes > 0 or self._aw is not None
        moving = writing or self._reads > 0 or self._ar is not None
        busy = walking or self._run is not None or self._burst is not None
        requested, unchecked, held = self._request is not None, self._unchecked, tuple(self._held)
        unconsumed = self.unconsumed
        changed = self._pulses(t)

        accepted, wake, ar_free, bus = self._address_channels(t)
        issued, wake, full = self._issue(t, wake, ar_free, stopped)
        split = self._split()
        looks, valid, gated = self._look(t)
        chosen = not requested and not stopped and self._fetch()
        taken = self._take(t, walking, level, stopped)
        expired = self._expire()
        if self.unconsumed != unconsumed:
            self._note("unconsumed", t + 1, self.unconsumed)
        changed = changed or accepted or issued or split or chosen or taken is not None or expired

        waiting = chosen or requested or unchecked > 0
        for ring in (DEMAND, PREFETCH):
            decision, seen = self._decision[ring], self._seen[ring]
            waiting = waiting or decision != _NOTHING or looks[ring] != _NOTHING or (held[ring] > 0 and not seen)
            self._decision[ring] = _NOTHING if taken == ring else looks[ring]
            self._seen[ring] = valid[ring] and taken != ring
            changed = changed or self._decision[ring] != decision or self._seen[ring] != seen
        if storing and not busy and not writing and level == 0:
            self._end_store(t)
            changed = True
        working = moving or ((waiting or level > 0 or storing is not None or busy) and not stopped)
        return changed, wake, (*gated, full, bus), working

    def _pulses(self, t: int) -> bool:
        changed = self.inputs.stop and not self._stopped
        if changed:
            self._at(t + 1, self._set_stopped)
        if self.inputs.cancel is not None:
            self._at(t + 1, self._set_cancelled, self.inputs.cancel)
            self.inputs = dataclasses.replace(self.inputs, cancel=None)
            changed = True
        return changed

    def _set_stopped(self, _: None) -> None:
        """Nothing is stepped from now on, so less is on its way than was thought."""
        now = self.now
        self._stopped, self.stopped_at = True, now
        items = [value for _, _, apply, value in self._queue if apply == self._delivered]
        ends = [time - 1 for times in self.events.complete for time in times]
        for item in (*items, *self.delivery.items):
            made = item.piece_steps(self.geometry)
            dropped = item.failed_from if item.failed_from is not None else FOREVER
            for low, high, way in ((0, dropped, PORT_CYCLES), (dropped, FOREVER, 1)):
                ends += (made[(made >= low) & (made < min(now, high))][-1:] + way).tolist()
            if 0 <= item.last_step < now:
                ends.append(item.last_step + PORT_CYCLES)
        if self._store:
            ends += self._store.ends_before(now)
        self.busy_until = max(ends, default=-1)

    def _set_cancelled(self, tag: int) -> None:
        self._cancelled = tag

    def _address_channels(self, t: int) -> tuple[bool, int, bool, bool]:
        """AR and AW, and the writes that memory has received whole: whether anything is accepted, when it may be, AR is free."""
        accepted, wake, bus = False, FOREVER, False
        if self._ar:
            ready = self.channel.reads_left[0] + 1
            if ready <= t:
                self._read_accepted(t, *self._ar)
                accepted = True
                self._ar = None
            else:
                wake, bus = ready, True
        while self._sent and self._sent[0][0] <= t:
            self._write_received(*self._sent.popleft())
        if self._aw:
            when = self.channel.write_ready(self._addressed)
            if when is not None and when <= t:
                self._addressed += 1
                self._note("aw", self._aw_begin, t, self._aw)
                self._aw, accepted = None, True
                assert self._store
                self._store.address_accepted(t)
                self._send()
            elif when is not None:
                wake = min(wake, when)
        return accepted, wake, self._ar is None, bus

    def _issue(self, t: int, wake: int, ar_free: bool, stopped: bool) -> tuple[bool, int, bool]:
        """A descriptor or a burst goes to its address channel: whether one does, when one may, whether one waits for room."""
        may_read = ar_free and self._reads < self.geometry.outstanding and not stopped
        request, burst, full = self._request, self._burst, False
        granted = may_read and request is not None
        issued = False
        if burst and burst.item.descriptor.kind == LOAD:
            needed = self._claimed + burst.beats - self.geometry.buffer_beats
            popped = self.delivery.pop_time(needed - 1) if needed > 0 else -1
            if popped is not None and self.stopped_at is not None and popped >= self.stopped_at:
                popped = None
            full = popped is None or popped >= t
            if full and popped is not None:
                wake = min(wake, popped + 1)
            if not full and may_read and request is None:
                issued = True
                self._claimed += burst.beats
                self._put_on_ar(t, burst.address, burst)
        elif burst and self._aw is None and self._writes < self.geometry.outstanding and not stopped:
            assert self._store
            ready = self._store.can_issue(burst.beats)
            if ready is not None and ready <= t:
                issued = True
                self._store.issue(t, burst)
                self._writes += 1
                self._aw, self._aw_begin = burst, t + 1
                self._write_bursts.append(burst)
            elif ready is not None:
                wake = min(wake, ready)
        if issued:
            self._burst = None
        if granted:
            assert request
            ring, index = request
            self._put_on_ar(t, self._ring_address(ring, index), request)
            self._request = None
        return granted or issued, wake, full

    def _put_on_ar(self, t: int, address: int, what: Burst | tuple[int, int]) -> None:
        self._reads += 1
        self._ar = t + 1, address, what

    def _split(self) -> bool:
        """From the walker to the splitter, and from there to the issue stage."""
        run, changed = self._run, False
        beat = self.geometry.beat_bytes
        if run and self._burst is None:
            page = PAGE // beat
            room = min(page - run.at % page, self.geometry.burst_limit)
            last = run.left <= room
            beats = min(run.left, room)
            self._burst = Burst(run.item, run.at * beat, beats, run.beats - run.left, run.beats, run.offset, last and run.ends_item)
            run.at += beats
            run.left -= beats
            changed = True
            if last:
                self._run = None
        if self._walk and self._run is None:
            item, starts, index = self._walk
            start = starts[index]
            offset = start % beat
            descriptor = item.descriptor
            size = descriptor.n0 * self.geometry.targets[descriptor.select].stride
            beats = -(-(offset + size) // beat)
            self._run = _Run(item, start // beat, beats, offset, index + 1 == len(starts))
            self._walk = (item, starts, index + 1) if index + 1 < len(starts) else None
            changed = True
        return changed

    def _look(self, t: int) -> tuple[list[int], list[bool], tuple[bool, bool, bool]]:
        """For both rings, what may happen to the head, and whether there is one; whether one waits for gate, gap, cap."""
        looks, valid = [_NOTHING, _NOTHING], [False, False]
        gate_stall = gap_stall = cap_stall = False
        inputs = self.inputs
        for ring in (DEMAND, PREFETCH):
            heads = self._heads[ring]
            if heads and heads[0].valid <= t and self._popped[ring] < t:
                valid[ring] = True
                head = heads[0]
                tag, descriptor = head.tag, head.descriptor
                skip = tag in (self._fault_tag[ring], self._refused_tag[ring])
                cancel = tag == self._cancelled
                if not head.code:
                    due = inputs.epochs_done >= tag
                    banks = descriptor.kind != NOP and descriptor.select in self.geometry.epoch_banks
                    gate = inputs.epochs_done >= descriptor.after
                    fits = True
                    if ring == PREFETCH:
                        gate = gate and (due or (inputs.enable and not banks))
                        fits = due or self._fits_cap(tag, descriptor.words)
                    else:
                        gate = gate and (due or not banks)
                    gap = inputs.gap or not banks
                    gate_stall = gate_stall or not gate
                    gap_stall = gap_stall or (gate and not gap)
                    cap_stall = cap_stall or (gate and gap and not fits)
                    if gate and gap and fits and not skip and not cancel:
                        looks[ring] = _BEGIN
                elif not skip and not cancel:
                    looks[ring] = _REFUSE
                if skip or cancel:
                    looks[ring] = _SKIP if skip else _CANCEL
            elif self._broken_code[ring] and not self._held[ring] and not self._reported[ring]:
                looks[ring] = _REFUSE
        return looks, valid, (gate_stall, gap_stall, cap_stall)

    def _fits_cap(self, tag: int, words: int) -> bool:
        room = len(self._counted) < COUNTED_TAGS or self._counted[-1][0] == tag
        return room and (not self.inputs.cap or self.unconsumed + min(words, 1 << 32) <= self.inputs.cap)

    def _take(self, t: int, walking: bool, level: int, stopped: bool) -> int | None:
        """The ring whose head is taken, if one is."""
        ring = DEMAND if self._decision[DEMAND] else PREFETCH
        decision = self._decision[ring]
        if not decision or self._store is not None or stopped:
            return None
        heads = self._heads[ring]
        if decision == _BEGIN:
            descriptor = heads[0].descriptor
            if descriptor.kind == STORE:
                if level:
                    return None
            elif level == 2 * self.geometry.descriptors or (descriptor.kind == LOAD and walking):
                return None
            self._begin(t, ring, heads[0])
        elif decision in (_REFUSE, _CANCEL):
            if heads and heads[0].valid <= t:
                code = CANCELLED if decision == _CANCEL else heads[0].code
                self._refuse(t, ring, code, heads[0].tag, heads[0].address)
            else:
                self._reported[ring] = True
                tag = self.checker.previous_tag(ring)
                self._refuse(t, ring, self._broken_code[ring], tag, self._ring_address(ring, self._index[ring]))
        if heads and heads[0].valid <= t:
            heads.popleft()
            self._popped[ring] = t
            self._held[ring] -= 1
        return ring

    def _begin(self, t: int, ring: int, head: _Head) -> None:
        descriptor = head.descriptor
        item = Item(t, ring, descriptor, bool(descriptor.last) and not self._failed[ring])
        self._level += 1
        self._note("items", item)
        if descriptor.kind != NOP:
            starts = descriptor.run_starts().tolist()
            self._walk = item, starts, 0
            if ring == PREFETCH:
                self.events.prefetched += 1
                self.events.late += self.inputs.epochs_done >= head.tag
                self._count(head.tag, min(descriptor.words, 1 << 32))
        if descriptor.kind == STORE:
            self._store, self._store_faulty = StoreModel(self.geometry, item), False
            self._note("stores", self._store)
            self._store_steps_made()
        else:
            self.delivery.begin(item)

    def _refuse(self, t: int, ring: int, code: int, tag: int, address: int) -> None:
        self._failed[ring] = True
        self._refused_tag[ring] = tag
        self._first_error(Fault(t + 1, code, ring, tag, address), response=False)

    def _first_error(self, fault: Fault, *, response: bool) -> None:
        """Keeps the earliest; of several in one cycle, that of a response."""
        if self.error is None or fault.cycle < self.error.cycle or (fault.cycle == self.error.cycle and response):
            self.error = fault

    def _count(self, tag: int, words: int) -> None:
        if tag <= self.inputs.epochs_done:
            return
        self.unconsumed += words
        if self._counted and self._counted[-1][0] == tag:
            self._counted[-1][1] += words
        else:
            self._counted.append([tag, words])

    def _expire(self) -> bool:
        if not self._counted or self._counted[0][0] > self.inputs.epochs_done:
            return False
        self.unconsumed -= self._counted.popleft()[1]
        return True

    def _ring_address(self, ring: int, index: int) -> int:
        return self.base[ring] + DESCRIPTOR_BYTES * (index % self.sizes[ring])

    def _fetch(self) -> bool:
        """Decides what to fetch next; whether it looks at a ring."""
        for ring in (DEMAND, PREFETCH):
            index = self._index[ring]
            if self._broken_code[ring] or index == self.inputs.tail[ring] or self._held[ring] == self.geometry.descriptors:
                continue
            address = self._ring_address(ring, index)
            if address % DESCRIPTOR_BYTES or address + DESCRIPTOR_BYTES > self.inputs.memory_bytes:
                self._broken_code[ring] = MISALIGNED if address % DESCRIPTOR_BYTES else BEYOND_MEMORY
            else:
                self._request = ring, index
                self._index[ring] += 1
                self._held[ring] += 1
                self._unchecked += 1
            return True
        return False

    # -- What memory answers, and when.

    def _read_accepted(self, t: int, begin: int, address: int, what: Burst | tuple[int, int]) -> None:
        beats = what.beats if isinstance(what, Burst) else self._descriptor_beats
        accepted, pieces = self.channel.read(t, address, beats)
        assert accepted == t
        last = self.channel.last_cycle(pieces)
        self._at(last + 2, self._read_ended)
        self._note("ar", begin, t, address, beats, what, pieces)
        failed = self.channel.failing(address, beats)
        if isinstance(what, Burst):
            self.events.read_beats[CLASSES[1 + what.item.ring]] += beats
            popped = self.delivery.popped
            self.delivery.arrive(what, pieces)
            self._data_failed(what, pieces, failed, popped)
        else:
            self.events.read_beats["descriptor"] += beats
            self._descriptor_read(last, what, bool(failed))

    def _read_ended(self, _: None) -> None:
        self._reads -= 1

    def _descriptor_read(self, last: int, which: tuple[int, int], failed: bool) -> None:
        ring, index = which
        descriptor = self.rings[ring][index]
        begin = max(last + TO_CHECK, self._check_free)
        self._check_free = begin + CHECK_CYCLES
        self._at(begin + CHECK_CYCLES, self._checked)
        self._at(begin + CHECK_CYCLES - 1, self._check, (begin + CHECK_CYCLES + 1, ring, index, descriptor, failed))

    def _checked(self, _: None) -> None:
        self._unchecked -= 1

    def _check(self, value: tuple[int, int, int, Descriptor, bool]) -> None:
        valid, ring, index, descriptor, failed = value
        before = self.checker.previous_tag(ring)
        code = self.checker.check(ring, descriptor, self.inputs.memory_bytes, unreadable=failed)
        tag = before if failed else descriptor.tag
        self._heads[ring].append(_Head(valid, descriptor, code, tag, self._ring_address(ring, index)))
        self._at(valid, self._nothing)

    def _nothing(self, _: Any) -> None:
        """For the sake of the cycle."""

    def _data_failed(self, burst: Burst, pieces: list[Piece], failed: list[tuple[int, int]], popped: int) -> None:
        """Some beats of a burst, (number, response) each, are errors."""
        item, ring = burst.item, burst.item.ring
        if failed and item.failed_from is None:
            item.failed_from = self.delivery.time_of(popped + failed[0][0])
        for number, response in failed:
            seen = self.channel.beat_cycle(pieces, number) + 2
            self._at(seen, self._faulty, Fault(seen, READ_ERROR[response], ring, item.descriptor.tag, burst.address))

    def _faulty(self, fault: Fault) -> None:
        self._fault_tag[fault.ring] = fault.tag
        self._first_error(fault, response=True)

    # -- Ends.

    def _item_ended(self, item: Item) -> None:
        """The last step of a load or NOP is known."""
        self._at(item.last_step + 1, self._level_down, item)
        self._at(item.last_step + PORT_CYCLES, self._delivered, item)
        self._busy(item.last_step + PORT_CYCLES)

    def _busy(self, cycle: int) -> None:
        self.busy_until = max(self.busy_until, cycle)

    def _made(self, item: Item) -> bool:
        """Whether the last step of an item was made after all."""
        return self.stopped_at is None or item.last_step < self.stopped_at

    def _level_down(self, item: Item) -> None:
        self._level -= self._made(item)

    def _delivered(self, item: Item) -> None:
        if self._made(item):
            self._ended(item.last_step + PORT_CYCLES, item.ring, item.counts, item.failed_from is not None)

    def _ended(self, t: int, ring: int, counts: bool, fails: bool) -> None:
        """A descriptor is through in cycle ``t``."""
        if counts and not fails and not self._ring_failed[ring]:
            self.events.complete[ring].append(t + self.geometry.host_levels + 2)
            self._busy(t + self.geometry.host_levels + 1)
        self._ring_failed[ring] = self._ring_failed[ring] or fails

    def _store_steps_made(self) -> None:
        assert self._store
        item = self._store.item
        if item.last_step >= 0 and not item.started:
            item.started = True
            self._at(item.last_step + 1, self._level_down, item)
            self.delivery.free = item.last_step + 1

    def _send(self) -> None:
        """Data of the writes whose addresses are accepted."""
        assert self._store
        while (last := self._store.send()) is not None:
            self._sent.append((last, self._write_bursts.popleft()))
            self._at(last, self._nothing)
        self._store_steps_made()

    def _write_received(self, t: int, burst: Burst) -> None:
        self.events.write_beats += burst.beats
        answered = self.channel.write(t, burst.address, burst.beats)
        self._note("b", answered, burst)
        self._at(answered + 2, self._write_ended)
        responses = [response for _, response in self.channel.failing(burst.address, burst.beats)]
        if responses:
            code = WRITE_ERROR[max(responses)]
            fault = Fault(answered + 2, code, burst.item.ring, burst.item.descriptor.tag, burst.address)
            self._at(answered + 2, self._store_failed, fault)

    def _store_failed(self, fault: Fault) -> None:
        self._store_faulty = True
        self._faulty(fault)

    def _write_ended(self, _: None) -> None:
        self._writes -= 1

    def _end_store(self, t: int) -> None:
        assert self._store
        item = self._store.item
        self._store = None
        self._ended(t, item.ring, item.counts, self._store_faulty)
