"""The channels of a prefetch engine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.rtl.prefetch.burst_issuer import BurstIssuer
from podweave.rtl.prefetch.engine_words import walk_layout
from podweave.rtl.prefetch.prefetch_engine import PrefetchEngine
from podweave.rtl.prefetch.read_tracker import ReadTracker
from podweave.rtl.prefetch.store_path import StorePath

from ..axi import AddressRules, ReadRules, WriteRules
from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_CONFIG = small(data_width=64, address_width=32, buffer_beats=16, max_burst=4, outstanding=2, descriptors=2)
_OUTSTANDING, _ROOM, _BURST, _BEAT = 2, 16, 4, 8
_SIZE, _INCREMENTING = 3, 1


def keep(h: Harness, rules: Any, name: str, **driven: Value) -> Any:
    """Places rules of a bus, and checks those of whoever is proven."""
    h.m.submodules[name] = rules
    h.m.d.comb += [getattr(rules, port).eq(value) for port, value in driven.items()]
    for i, says in enumerate(rules.RULES):
        h.check(~rules.broken[i], f"{name}: never {says}")
    return rules


def _address(h: Harness, dut: dict[str, Any], way: str) -> None:
    prefix = f"m_axi_{way}"
    signals = {name: dut[f"{prefix}{name}"] for name in ("addr", "len", "valid", "ready")}
    # The engine gives every burst this size and kind.
    keep(h, AddressRules(32, 64), way, **signals, size=_SIZE, burst=_INCREMENTING)


def _issuer(h: Harness) -> dict[str, Any]:
    """A burst issuer with whoever uses it as its contract says."""
    walk = Signal(struct(walk_layout(_CONFIG)), name="walk_word")
    dut = h.place(BurstIssuer(_CONFIG))
    m = h.m
    m.d.comb += walk.as_value().eq(dut["walk"])
    h.assume(~dut["begin"] | (~dut["walking"] & (walk.run_bytes != 0) & (walk.n1 != 0) & (walk.n2 != 0)))
    # Descriptors lie at multiples of their 64 bytes, and requests wait until they are granted.
    h.assume(~dut["request_valid"] | (dut["request_address"][:6] == 0))
    return dut


def addresses(h: Harness) -> None:
    dut = _issuer(h)
    h.assume(~dut["clear"] | ~(dut["m_axi_arvalid"] | dut["m_axi_awvalid"] | dut["busy"]))
    for way in ("ar", "aw"):
        _address(h, dut, way)
        length = dut[f"m_axi_{way}len"]
        longest = 7 if way == "ar" else _BURST - 1
        h.check(~dut[f"m_axi_{way}valid"] | (length <= longest), f"{way}: at most max_burst beats, or a descriptor")
        end = (dut[f"m_axi_{way}addr"][3:12] + length)[:9]
        h.cover(dut[f"m_axi_{way}valid"] & (end == 511) & (length == 1), f"{way}: a burst is cut at a multiple of 4 KiB")
        h.cover(dut[f"m_axi_{way}valid"] & ~dut[f"m_axi_{way}ready"] & (length == 2), f"{way}: a burst waits")


def room(h: Harness) -> None:
    m = h.m
    dut = _issuer(h)
    h.assume(~dut["clear"])
    # The buffer: beats of reads that were issued, and room that was reserved, until it is given back.
    taken = Signal(range(2 * _ROOM))
    read = dut["read_issued"] & ~dut["granted"]
    beats = Signal(9)
    pending = h.past(read, "read")
    # The length of a read is on its channel in the next cycle.
    m.d.comb += beats.eq(Mux(pending, dut["m_axi_arlen"] + 1, 0))
    m.d.sync += taken.eq(taken + beats + dut["reserve"] - dut["release"])
    # Stores reserve, and while one is under way no data are read.
    h.assume(~dut["reserve"] | (dut["credit"] & ~read))
    h.assume(~dut["release"] | (taken != 0))
    # Only beats that came are given back.
    h.check(taken + beats <= _ROOM, "reads and reservations never take more than the buffer has")
    reads, writes = Signal(range(_OUTSTANDING + 2)), Signal(range(_OUTSTANDING + 2))
    h.assume(~dut["read_ended"] | (reads != 0))
    h.assume(~dut["write_ended"] | (writes != 0))
    stored = Signal(range(_ROOM + 2))
    h.assume(~dut["stored"] | (stored + Mux(h.past(dut["write_issued"], "w"), dut["m_axi_awlen"] + 1, 0) <= _ROOM))
    written = Mux(dut["write_issued"], dut["write_length"] + 1, 0)
    h.check(written <= stored, "a write is issued when all its beats are in the buffer")
    h.assume(~dut["stored"] | (stored != _ROOM))
    m.d.sync += [
        reads.eq(reads + dut["read_issued"] - dut["read_ended"]),
        writes.eq(writes + dut["write_issued"] - dut["write_ended"]),
        stored.eq(stored - written + dut["stored"]),
    ]
    h.check((reads <= _OUTSTANDING) & (writes <= _OUTSTANDING), "at most outstanding reads and writes are under way")
    h.check(~dut["stopped"] | ~(dut["read_issued"] | dut["write_issued"]), "nothing is issued while stopped")
    h.check(~(reads != 0) | dut["reading"], "reading: reads are under way")
    h.check(~(writes != 0) | dut["writing"], "writing: writes are under way")
    h.cover(taken + beats == _ROOM, "the buffer is claimed whole")
    h.cover(dut["write_issued"] & (written == _BURST) & (writes == 1), "a second write of max_burst beats is issued")
    h.cover(dut["stall_buffer"], "a read waits for room")


def write_data(h: Harness) -> None:
    m = h.m
    dut = h.place(StorePath(_CONFIG))
    h.assume(~dut["clear"])
    issued, length = h.past(dut["issued"], "issued"), h.past(dut["length"], "length")
    # What the issuer keeps to: few bursts under way. The buffer holds its beat until the one behind the next pop.
    under_way = Signal(range(_OUTSTANDING + 1))
    m.d.sync += under_way.eq(under_way + dut["issued"] - dut["ended"])
    h.assume(~dut["issued"] | ((under_way != _OUTSTANDING) & (dut["length"] < _BURST)))
    # One bit of data and one of strobes, whichever they are: the rule is about each by itself.
    bit, byte = h.constant("bit", 6), h.constant("byte", 3)
    beat, popped = Cat(dut["data"].bit_select(bit, 1), dut["strobe"].bit_select(byte, 1)), h.past(dut["pop"], "pop")
    held = h.past(beat, "beat")
    h.assume(popped | (beat == held))
    w = {name: dut[f"m_axi_w{name}"] for name in ("last", "valid", "ready")}
    w |= {"data": dut["m_axi_wdata"].bit_select(bit, 1), "strb": dut["m_axi_wstrb"].bit_select(byte, 1)}
    b = {f"b{name}": dut[f"m_axi_b{name}"] for name in ("valid", "ready", "resp")}
    # A burst is on AW in the cycle behind its issue.
    rules = WriteRules(8, _OUTSTANDING)
    keep(h, rules, "w", announced=issued, length=length, **w, **b)
    h.assume(~rules.wrong.any())
    h.check(dut["m_axi_bready"], "responses are always taken")
    answered = h.past(dut["m_axi_bvalid"], "answered")
    h.check(dut["ended"] == answered, "every response ends a burst, a cycle later")
    h.check(dut["fault_valid"] == (answered & h.past(dut["m_axi_bresp"][1], "bad")), "a response of an error is a fault")
    h.check(dut["beat"] == h.past(dut["m_axi_wvalid"] & dut["m_axi_wready"], "accepted"), "beat: one was accepted")
    h.cover(
        w["valid"] & w["last"] & w["ready"] & (rules.length == 0) & h.past(w["last"], "last"),
        "two bursts of a beat follow each other",
    )
    h.cover(dut["fault_valid"], "a fault")


def read_data(h: Harness) -> None:
    m = h.m
    block = ReadTracker(_CONFIG)
    dut = h.place(block)
    h.assume(~dut["clear"])
    under_way = Signal(range(_OUTSTANDING + 1))
    m.d.sync += under_way.eq(under_way + dut["issued"] - dut["ended"])
    h.assume(~dut["issued"] | (under_way != _OUTSTANDING))
    # The memory answers what was asked, two cycles after the issue at the earliest, as AR takes one.
    ready_bursts = Signal(range(_OUTSTANDING + 1))
    valid, last = dut["m_axi_rvalid"], dut["m_axi_rlast"]
    h.assume(~valid | (ready_bursts != 0))
    m.d.sync += ready_bursts.eq(ready_bursts + h.past(dut["issued"], "issued") - (valid & last))
    # One burst, whichever it is, and what came with it.
    watched, chosen = h.constant("watched", len(dut["burst"])), h.free("chosen")
    inside, ahead = Signal(), Signal(range(_OUTSTANDING + 1))
    with m.If(inside & dut["ended"]):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += inside.eq(0)
    with m.If(dut["issued"] & (dut["burst"] == watched) & chosen & ~inside):
        m.d.sync += [inside.eq(1), ahead.eq(under_way - dut["ended"])]
    here = h.past(valid, "valid")
    h.check(dut["m_axi_rready"], "the memory never waits")
    h.check(dut["beat_valid"] == here, "every beat is here a cycle later")
    h.check(~here | (dut["beat_data"] == h.past(dut["m_axi_rdata"], "data")), "its data")
    h.check(~here | (dut["beat_failed"] == h.past(dut["m_axi_rresp"], "resp")[1]), "whether it failed")
    h.check(dut["ended"] == (here & h.past(last, "last")), "ended: it is the last one of its burst")
    mine = inside & (ahead == 0) & here
    found = Cat(dut["beat_class"], dut["beat_ring"])
    address = watched[-32:]
    h.check(~mine | ((found == watched[:3]) & (dut["beat_address"] == address)), "class, ring and address are of its burst")
    h.check(~dut["fault_valid"] | (dut["beat_class"] != 0), "beats of descriptors are no faults here")
    h.cover(mine & dut["ended"] & (h.past(ahead, "ahead") == 1), "a burst that was second is over")
    h.cover(dut["fault_valid"], "a fault")


def engine(h: Harness) -> None:
    """The whole engine on its bus, whatever the memory answers."""
    dut = h.place(PrefetchEngine(_CONFIG))
    h.assume(~dut["start"] | dut["quiet"])
    for ring in ("demand", "prefetch"):
        h.assume((dut[f"{ring}_base"][:6] == 0) & (dut[f"{ring}_size"] != 0))
    announced = {}
    for way in ("ar", "aw"):
        signals = {name: dut[f"m_axi_{way}{name}"] for name in ("addr", "len", "size", "burst", "valid", "ready")}
        keep(h, AddressRules(32, 64), way, **signals)
        waits = h.past(signals["valid"] & ~signals["ready"], f"{way}_waits")
        announced[way] = {"announced": signals["valid"] & ~waits, "length": signals["len"]}
    reads, writes = ReadRules(64, _OUTSTANDING), WriteRules(64, _OUTSTANDING)
    r = {name: dut[f"m_axi_r{name}"] for name in ("valid", "ready", "data", "resp", "last")}
    keep(h, reads, "r", **announced["ar"], accepted=dut["m_axi_arvalid"] & dut["m_axi_arready"], **r)
    w = {name: dut[f"m_axi_w{name}"] for name in ("valid", "ready", "data", "strb", "last")}
    b = {f"b{name}": dut[f"m_axi_b{name}"] for name in ("valid", "ready", "resp")}
    keep(h, writes, "w", **announced["aw"], **w, **b)
    h.assume(~(reads.wrong.any() | writes.wrong.any()))
    h.check(dut["m_axi_rready"] & dut["m_axi_bready"], "the memory never waits")
    h.cover(dut["m_axi_arvalid"] & ~dut["m_axi_arready"], "a descriptor is requested, and waits")
    h.cover(dut["m_axi_rvalid"] & dut["m_axi_rlast"], "a descriptor is there")


_ISSUER, _STORE = "rtl.prefetch.burst_issuer", "rtl.prefetch.store_path"
_SIZES = "beats of 64 bits, bursts of up to 4, 2 under way"
PROPERTIES = (
    Property(
        name="burst_issuer.addresses",
        rule="AR and AW keep the rules of AXI4: valid and payload hold until ready, legal lengths, no burst across "
        "a multiple of 4 KiB",
        sizes=_SIZES,
        build=addresses,
        faults=(
            Fault(_ISSUER, "room.eq(Mux(to_page_end < limit, to_page_end, limit))", "room.eq(limit)"),
            Fault(_ISSUER, "valid.eq(issued | (valid & ~ready))", "valid.eq(issued)"),
            Fault(_ISSUER, "(~self.m_axi_awvalid | self.m_axi_awready)", "1"),
            Fault(_ISSUER, "beats.eq(Mux(last, left, room))", "beats.eq(left)"),
        ),
    ),
    Property(
        name="burst_issuer.room",
        rule="a read is issued only with room for all its beats, a write only with all its beats there, neither "
        "beyond what may be under way nor while stopped",
        sizes=f"{_SIZES}, a buffer of {_ROOM} beats",
        build=room,
        faults=(
            Fault(_ISSUER, 'fits.eq(credits >= burst["beats"])', "fits.eq(credits != 0)"),
            Fault(_ISSUER, "(reads != prefetch.outstanding) & ~self.stopped", "~self.stopped"),
            Fault(_ISSUER, '(stored >= burst["beats"])', "(stored != 0)"),
        ),
        reach=20,
    ),
    Property(
        name="store_path.write_data",
        rule="W keeps the rules of AXI4: holds until ready, last exactly on the last beat of each burst, in order; "
        "every response ends one",
        sizes=_SIZES,
        build=write_data,
        faults=(
            Fault(_STORE, 'last.eq(sent == lengths["head"])', 'last.eq(sent == lengths["head"][:1])'),
            Fault(
                _STORE,
                "self.m_axi_wvalid.eq(self.pop | (self.m_axi_wvalid & ~self.m_axi_wready))",
                "self.m_axi_wvalid.eq(self.pop)",
            ),
            Fault(_STORE, "(~self.m_axi_wvalid | self.m_axi_wready)", "1"),
        ),
    ),
    Property(
        name="read_tracker.beats",
        rule="every beat is handed on a cycle later with class, ring and address of its burst, in order; R is always ready",
        sizes=_SIZES,
        build=read_data,
        faults=(
            Fault("rtl.prefetch.read_tracker", 'bursts["pop"].eq(self.ended)', 'bursts["pop"].eq(self.beat_valid)'),
            Fault("rtl.prefetch.read_tracker", "self.beat_failed.eq(response[1])", "self.beat_failed.eq(response[0])"),
        ),
    ),
    Property(
        name="prefetch_engine.bus",
        rule="all channels of the manager keep the rules of AXI4, whatever rings, registers and memory do",
        sizes=f"{_SIZES}, a buffer of {_ROOM} beats",
        build=engine,
        engine="bounded",
        cycles=24,
        faults=(
            Fault(_ISSUER, "valid.eq(issued | (valid & ~ready))", "valid.eq(issued)"),
            Fault("rtl.prefetch.prefetch_engine", '(getattr(self, f"m_axi_{way}ready"))', "(1)"),
        ),
    ),
)
