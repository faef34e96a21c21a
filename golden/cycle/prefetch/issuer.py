"""What cuts runs into bursts and issues them, in a prefetch engine: a `golden.cycle.prefetch.engine.EngineModel` has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..memory.hbm import HbmChannel
from .agenda import FOREVER, Agenda
from .delivery import Burst, Delivery, Item
from .reader import ReaderModel, Request
from .store import StoreModel
from .words import DESCRIPTOR_BYTES, LOAD, PAGE, EngineGeometry


class _Run:
    """What is left of a run in the splitter: from beat ``at`` of memory on, ``left`` of its ``beats``."""

    __slots__ = ("at", "beats", "ends_item", "item", "left", "offset")

    def __init__(self, item: Item, at: int, beats: int, offset: int, ends_item: bool):
        self.item, self.at, self.beats, self.left, self.offset, self.ends_item = item, at, beats, beats, offset, ends_item


class IssuerModel:
    """``accepted`` (cycle, address, beats, what): a read is accepted by memory. Bursts of stores go to ``store``."""

    def __init__(
        self,
        geometry: EngineGeometry,
        agenda: Agenda,
        channel: HbmChannel,
        reader: ReaderModel,
        delivery: Delivery,
        accepted: Callable[[int, int, int, Burst | Request], None],
    ):
        self.geometry, self.agenda, self.channel, self.reader, self.delivery = geometry, agenda, channel, reader, delivery
        self.accepted = accepted
        self.descriptor_beats = DESCRIPTOR_BYTES // geometry.beat_bytes
        self.store: StoreModel | None = None
        self.stopped_at: int | None = None
        self.reads = self.writes = 0
        """Under way."""
        self.read_ends: deque[int] = deque()
        """Cycles from which on reads that were accepted are not, in order."""
        # Where runs begin, the bytes of each, and how many have been handed on.
        self.walk: tuple[Item, list[int], int, int] | None = None
        self._run: _Run | None = None
        self._burst: Burst | None = None
        self._claimed = 0
        """Beats of all reads of data so far."""
        # On AR and AW, from some cycle on.
        self.ar: tuple[int, int, int, Burst | Request] | None = None
        self.aw: tuple[int, Burst] | None = None
        self._addressed = 0

    @property
    def busy(self) -> bool:
        return self.walk is not None or self._run is not None or self._burst is not None

    @property
    def writing(self) -> bool:
        return self.writes > 0 or self.aw is not None

    def begin(self, item: Item) -> None:
        """A load or store is in the walker from the next cycle on."""
        starts, size = item.descriptor.memory_runs(self.geometry.targets[item.descriptor.select])
        self.walk = item, starts.tolist(), size, 0

    def end_reads(self, t: int) -> None:
        """Reads that are over in cycle ``t``."""
        while self.read_ends and self.read_ends[0] <= t:
            self.read_ends.popleft()
            self.reads -= 1

    @property
    def next_end(self) -> int:
        """The next cycle in which the end of a read changes anything: that of one, if no more may be under way; else of all."""
        if not self.read_ends:
            return FOREVER
        return self.read_ends[0 if self.reads >= self.geometry.outstanding else -1]

    def read_address(self, t: int) -> int:
        """AR in cycle ``t``: it is accepted if it can be; else when it may be."""
        if not self.ar:
            return FOREVER
        ready = self.channel.reads_left[0] + 1
        if ready > t:
            return ready
        begin, address, beats, what = self.ar
        self.ar = None
        self.agenda.note("ar", begin, t, address, beats, what)
        self.accepted(t, address, beats, what)
        return FOREVER

    def write_address(self, t: int) -> tuple[bool, int]:
        """The same of AW."""
        if not self.aw:
            return False, FOREVER
        ready = self.channel.write_ready(self._addressed)
        if ready is None or ready > t:
            return False, FOREVER if ready is None else ready
        begin, burst = self.aw
        self.aw = None
        self._addressed += 1
        self.agenda.note("aw", begin, t, burst.address, burst.beats)
        assert self.store
        self.store.address_accepted(t)
        return True, FOREVER

    def issue(self, t: int, stopped: bool) -> tuple[bool, int, bool]:
        """Whether anything is issued in cycle ``t``; else when it may be; whether a read waits for room."""
        may_read = self.ar is None and self.reads < self.geometry.outstanding and not stopped
        burst, request = self._burst, self.reader.request
        issued, wake, full = False, FOREVER, False
        if burst and burst.item.descriptor.kind == LOAD:
            wake = self._room(burst.beats)
            full = wake > t
            issued = not full and may_read and request is None
            if issued:
                self._claimed += burst.beats
                self._put_on_ar(t, burst.address, burst.beats, burst)
        elif burst:
            assert self.store
            ready = self.store.can_issue(burst.beats)
            if ready is not None and self.aw is None and self.writes < self.geometry.outstanding and not stopped:
                wake, issued = ready, ready <= t
            if issued:
                self.store.issue(t, burst)
                self.writes += 1
                self.aw = t + 1, burst
        if issued:
            self._burst = None
        if request and may_read:
            self._put_on_ar(t, request.address, self.descriptor_beats, request)
            self.reader.request = None
            issued = True
        return issued, wake if wake > t else FOREVER, full

    def _room(self, beats: int) -> int:
        """First cycle in which there is room in the buffer."""
        needed = self._claimed + beats - self.geometry.buffer_beats
        if needed <= 0:
            return 0
        popped = self.delivery.pop_time(needed - 1)
        if popped is None or (self.stopped_at is not None and popped >= self.stopped_at):
            return FOREVER
        return popped + 1

    def _put_on_ar(self, t: int, address: int, beats: int, what: Burst | Request) -> None:
        self.reads += 1
        self.ar = t + 1, address, beats, what

    def split(self) -> bool:
        """From the walker to the splitter, and from there to the issue stage; whether anything moves."""
        run, beat, moved = self._run, self.geometry.beat_bytes, False
        if run and self._burst is None:
            page = PAGE // beat
            room = min(page - run.at % page, self.geometry.burst_limit)
            last, beats, first = run.left <= room, min(run.left, room), run.beats - run.left
            self._burst = Burst(run.item, run.at * beat, beats, first, run.beats, run.offset, last and run.ends_item)
            run.at += beats
            run.left -= beats
            moved = True
            if last:
                self._run = None
        if self.walk and self._run is None:
            item, starts, size, index = self.walk
            at, offset = divmod(starts[index], beat)
            self._run = _Run(item, at, -(-(offset + size) // beat), offset, index + 1 == len(starts))
            self.walk = (item, starts, size, index + 1) if index + 1 < len(starts) else None
            moved = True
        return moved
