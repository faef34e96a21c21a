"""Burst issuer: walks over the runs of a descriptor in memory, cuts them into bursts, and puts these on the address channels."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import bits
from podweave.spec.descriptors import DESCRIPTOR_BYTES, STORABLE

from ..parts.blocks import Block, struct
from .engine_words import ReadClass, beat_bits, burst_layout, prefetch_of, run_bytes_width, targets, walk_layout

PAGE_BYTES = 4096
"""No burst crosses a multiple of this."""


class BurstIssuer(Block):
    """Three stages, each of which holds one thing and hands it on in the cycle in which the next is free or becomes free.

    *Walker*: one run per cycle; a lane of a column store is a run here. A descriptor that begins in cycle t is there from cycle
    t + 1 on, until it has handed on its last run.
    *Splitter*: one burst per cycle, of the beats of a run, aligned down to a beat: up to the end of the run, a multiple of 4 KiB
    or ``max_burst`` beats, whichever comes first. A run handed on in cycle t is there in cycle t + 1; a run may come in the cycle
    in which the last burst of the one before goes.
    *Issue*: a burst handed on in cycle t is here in cycle t + 1. It is issued in the first cycle in which all of this holds: the
    address channel is free or accepts; fewer than ``outstanding`` bursts are under way; and for a read no descriptor is requested
    and ``credits`` are enough, for a write its beats are in the buffer. It is on the channel in the next cycle. The request of a
    descriptor only needs the first two. With ``stopped`` nothing is issued.

    A read is under way from its issue in cycle t (counted from t + 1) to its last beat at ``read_ended`` in cycle t (not counted
    from t + 1), a write to ``write_ended``. Credits: ``buffer_beats``, less the beats of a read from the cycle after its issue on;
    ``reserve`` takes one and ``release`` gives one, for the next cycle.

    Latency: 1 cycle from stage to stage, and 1 from the issue of a burst to its address channel.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``, whose ``address_width`` is ``address`` below.

    Members
    -------
    clear : In(1)
        Forget everything.
    stopped : In(1)
        Nothing is issued.
    begin : In(1)
        A descriptor begins (only if not ``walking``).
    walk : In(walk_layout(config).width)
        That descriptor, laid out by `walk_layout`.
    walking : Out(1)
        A descriptor is in the walker.
    busy : Out(1)
        Something is in one of the stages.
    request_valid : In(1)
        A descriptor is to be fetched.
    request_ring, request_address : In(1), In(address)
        Its ring and its byte address.
    granted : Out(1)
        The request is issued.
    reserve : In(1)
        Takes room of one beat in the buffer (only with ``credit``, and while no read of data is issued: stores reserve).
    release : In(1)
        Gives room of one beat in the buffer.
    credit : Out(1)
        There is room of at least one beat in the buffer.
    stored : In(1)
        A beat to be written came into the buffer.
    read_issued : Out(1)
        A read is issued.
    burst : Out(burst_layout(config).width)
        That read, laid out by `burst_layout`.
    read_ended : In(1)
        A read ends.
    write_issued : Out(1)
        A write is issued.
    write_address, write_length : Out(address), Out(8)
        Its byte address, and its beats - 1.
    write_ended : In(1)
        A write ends.
    reading, writing : Out(1)
        Reads (writes) are under way, or on their address channel.
    stall_buffer : Out(1)
        In the cycle before, a read waited for credits.
    stall_bus : Out(1)
        In the cycle before, a read waited for ``arready``.
    m_axi_ar*, m_axi_aw* : addr Out(address), len Out(8), valid Out(1), ready In(1)
        The address channels, without ids.
    """

    kind = "burst_issuer"

    def __init__(self, config: ChipConfig):
        self.config = config
        prefetch = prefetch_of(config)
        self.address, self.byte = prefetch.address_width, beat_bits(config)
        channel = {"addr": Out(self.address), "len": Out(8), "valid": Out(1), "ready": In(1)}
        super().__init__(
            {
                "clear": In(1),
                "stopped": In(1),
                "begin": In(1),
                "walk": In(walk_layout(config).width),
                "walking": Out(1),
                "busy": Out(1),
                "request_valid": In(1),
                "request_ring": In(1),
                "request_address": In(self.address),
                "granted": Out(1),
                "reserve": In(1),
                "release": In(1),
                "credit": Out(1),
                "stored": In(1),
                "read_issued": Out(1),
                "burst": Out(burst_layout(config).width),
                "read_ended": In(1),
                "write_issued": Out(1),
                "write_address": Out(self.address),
                "write_length": Out(8),
                "write_ended": In(1),
                "reading": Out(1),
                "writing": Out(1),
                "stall_buffer": Out(1),
                "stall_bus": Out(1),
                **{f"m_axi_{way}{name}": member for way in ("ar", "aw") for name, member in channel.items()},
            }
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        taken, issued = Signal(name="run_taken"), Signal(name="burst_issued")
        run = self._walker(m, taken)
        burst = self._splitter(m, run, taken, issued)
        self._issue(m, burst, issued)
        m.d.comb += self.busy.eq(self.walking | self._split_valid | burst["valid"])
        return ResetInserter(self.clear)(m)

    def _walker(self, m: Module, taken: Signal) -> dict[str, Value]:
        """The run that is next, until it is ``taken``."""
        begun, walk = (
            Signal(struct(walk_layout(self.config)), name=name, reset_less=name == "walk_held") for name in ("begun", "walk_held")
        )
        start = Signal(self.address, name="run_start", reset_less=True)
        left1, left2 = (Signal(len(walk.n1), name=f"left_{i}", reset_less=True) for i in (1, 2))
        end1, end2 = Signal(), Signal()
        m.d.comb += [Value.cast(begun).eq(self.walk), end1.eq(left1 == 1), end2.eq(left2 == 1)]
        origin, over = start, taken
        if prefetch_of(self.config).column_words:
            origin, over = self._lanes(m, taken, walk, start)
        following = origin + Mux(end1, walk.stride2, walk.stride1)
        with m.If(self.begin):
            m.d.sync += [self.walking.eq(1), walk.eq(begun), start.eq(begun.address), left1.eq(begun.n1), left2.eq(begun.n2)]
        with m.Elif(over):
            m.d.sync += [
                start.eq(following),
                left1.eq(Mux(end1, walk.n1, left1 - 1)),
                left2.eq(left2 - end1),
                self.walking.eq(~(end1 & end2)),
            ]
        if prefetch_of(self.config).column_words:
            with m.If(self.begin | over):
                m.d.sync += origin.eq(Mux(self.begin, begun.address, following))
        return {"start": start, "bytes": walk.run_bytes, "store": walk.store, "ring": walk.ring, "tag": walk.tag}

    def _lanes(self, m: Module, taken: Signal, walk: data.View, start: Signal) -> tuple[Signal, Signal]:
        """Goes from lane to lane; returns where the first one of a run begins, and whether the last one is ``taken``."""
        lanes = {select: target.bytes for select, target in targets(self.config).items() if select in STORABLE}
        lane, last = (
            Signal(range(max(lanes.values())), name=name, reset_less=name == "last_lane") for name in ("lane", "last_lane")
        )
        origin, over = Signal(self.address, name="run_origin", reset_less=True), Signal(name="run_over")
        with m.Switch(walk.select):
            for select, count in lanes.items():
                with m.Case(select):
                    m.d.comb += last.eq(count - 1)
        m.d.comb += over.eq(taken & (~walk.column | (lane == last)))
        with m.If(over):
            m.d.sync += lane.eq(0)
        with m.Elif(taken):
            m.d.sync += [lane.eq(lane + 1), start.eq(start + walk.lane_stride)]
        return origin, over

    def _splitter(self, m: Module, run: dict[str, Value], taken: Signal, issued: Signal) -> dict[str, Signal]:
        """The burst that is next, until it is ``issued``."""
        beat_bytes = 1 << self.byte
        beats_of_page = PAGE_BYTES // beat_bytes
        limit = min(prefetch_of(self.config).max_burst, beats_of_page)
        names = ("store", "ring", "tag")
        valid, last, goes = (Signal(name=f"split_{name}") for name in ("valid", "last", "goes"))
        at = Signal(self.address - self.byte, name="split_at", reset_less=True)
        left = Signal(run_bytes_width(self.config) - self.byte + 1, name="split_left", reset_less=True)
        split = {name: Signal(len(run[name]), name=f"split_{name}", reset_less=True) for name in names}
        burst = {name: Signal(len(run[name]), name=f"burst_{name}", reset_less=True) for name in names}
        burst["valid"] = Signal(name="burst_valid")
        burst["at"] = Signal(len(at), name="burst_at", reset_less=True)
        burst["beats"] = Signal(range(limit + 1), name="burst_beats", reset_less=True)
        room, beats = Signal(range(limit + 1)), Signal(range(limit + 1))
        to_page_end = beats_of_page - at[: bits(beats_of_page)]
        m.d.comb += [
            room.eq(Mux(to_page_end < limit, to_page_end, limit)),
            last.eq(left <= room),
            beats.eq(Mux(last, left, room)),
            goes.eq(valid & (~burst["valid"] | issued)),
            taken.eq(self.walking & (~valid | (goes & last))),
        ]
        with m.If(taken):
            first = run["start"][: self.byte]
            m.d.sync += [
                at.eq(run["start"][self.byte :]),
                left.eq((run["bytes"] + first + (beat_bytes - 1)) >> self.byte),
                *(split[name].eq(run[name]) for name in names),
            ]
        with m.Elif(goes):
            m.d.sync += [at.eq(at + beats), left.eq(left - beats)]
        m.d.sync += [valid.eq(taken | (valid & ~(goes & last))), burst["valid"].eq(goes | (burst["valid"] & ~issued))]
        with m.If(goes):
            m.d.sync += [burst["at"].eq(at), burst["beats"].eq(beats), *(burst[name].eq(split[name]) for name in names)]
        self._split_valid = valid
        return burst

    def _issue(self, m: Module, burst: dict[str, Signal], issued: Signal) -> None:
        prefetch = prefetch_of(self.config)
        credits = Signal(range(prefetch.buffer_beats + 1), init=prefetch.buffer_beats)
        stored = Signal(range(prefetch.buffer_beats + 1), name="stored_beats")
        reads, writes = (Signal(range(prefetch.outstanding + 1), name=name) for name in ("reads", "writes"))
        may_read, fits, loads, stores = (Signal(name=name) for name in ("may_read", "fits", "loads", "stores"))
        address, length = Cat(Const(0, self.byte), burst["at"]), Signal(8)
        word = Signal(struct(burst_layout(self.config)), name="issued_burst")
        m.d.comb += [
            may_read.eq((~self.m_axi_arvalid | self.m_axi_arready) & (reads != prefetch.outstanding) & ~self.stopped),
            fits.eq(credits >= burst["beats"]),
            self.granted.eq(may_read & self.request_valid),
            loads.eq(burst["valid"] & ~burst["store"] & may_read & ~self.request_valid & fits),
            stores.eq(
                burst["valid"]
                & burst["store"]
                & (~self.m_axi_awvalid | self.m_axi_awready)
                & (writes != prefetch.outstanding)
                & (stored >= burst["beats"])
                & ~self.stopped
            ),
            issued.eq(loads | stores),
            self.credit.eq(credits != 0),
            self.read_issued.eq(self.granted | loads),
            word.read_class.eq(Mux(self.granted, ReadClass.DESCRIPTOR, Mux(burst["ring"], ReadClass.PREFETCH, ReadClass.DEMAND))),
            word.ring.eq(Mux(self.granted, self.request_ring, burst["ring"])),
            word.tag.eq(burst["tag"]),
            word.address.eq(Mux(self.granted, self.request_address, address)),
            self.burst.eq(word),
            self.write_issued.eq(stores),
            self.write_address.eq(address),
            length.eq((burst["beats"] - 1)[:8]),
            self.write_length.eq(length),
            self.reading.eq((reads != 0) | self.m_axi_arvalid),
            self.writing.eq((writes != 0) | self.m_axi_awvalid),
        ]
        m.d.sync += [
            credits.eq(credits - Mux(loads, burst["beats"], 0) - self.reserve + self.release),
            stored.eq(stored - Mux(stores, burst["beats"], 0) + self.stored),
            reads.eq(reads + self.read_issued - self.read_ended),
            writes.eq(writes + stores - self.write_ended),
            self.stall_buffer.eq(burst["valid"] & ~burst["store"] & ~fits),
            self.stall_bus.eq(self.m_axi_arvalid & ~self.m_axi_arready),
        ]
        descriptor_length = DESCRIPTOR_BYTES // (1 << self.byte) - 1
        self._channel(m, "ar", self.read_issued, word.address, Mux(self.granted, descriptor_length, length))
        self._channel(m, "aw", stores, address, length)

    def _channel(self, m: Module, name: str, issued: Value, address: Value, length: Value) -> None:
        """An address channel: holds what is issued until it is accepted."""
        valid, ready = (getattr(self, f"m_axi_{name}{signal}") for signal in ("valid", "ready"))
        held = {
            "addr": Signal(self.address, name=f"{name}_address", reset_less=True),
            "len": Signal(8, name=f"{name}_length", reset_less=True),
        }
        m.d.sync += valid.eq(issued | (valid & ~ready))
        with m.If(issued):
            m.d.sync += [held["addr"].eq(address), held["len"].eq(length)]
        m.d.comb += [getattr(self, f"m_axi_{name}{field}").eq(signal) for field, signal in held.items()]
