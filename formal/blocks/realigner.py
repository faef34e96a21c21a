"""Realigner: beats of the bus into pieces of words, and back."""

from __future__ import annotations

from functools import partial
from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.rtl.prefetch.engine_words import item_layout
from podweave.rtl.prefetch.realigner import PORT_CYCLES, Realigner
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from .walker import CONFIG, TRIPS, Walk, legal

_ROOM, _ITEMS, _BYTES = 16, 4, 8
_BACK = PORT_CYCLES + CONFIG.host_read_latency
"""Cycles from a step that reads to its piece."""


class _Use:
    """A realigner with an engine around it that keeps to what the contract asks of it.

    ``pop``: a beat is delivered from; ``here``: how many there are; ``level``: items that have begun and not ended; ``storing``:
    from the cycle behind the begin of a store until it has ended and all its beats are gone.
    """

    def __init__(self, h: Harness):
        self.h = h
        self.kept: list[Signal] = []
        self.dut = dut = h.place(Realigner(CONFIG))
        self.item = Signal(struct(item_layout(CONFIG)), name="item_word")
        h.m.d.comb += self.item.as_value().eq(dut["item"])
        begin, store = dut["begin_item"], self.item.kind == DescriptorKind.STORE
        self.here, self.level, self.storing = self.reg("here", 5), self.reg("level", 3), self.reg("storing")
        # Beats of a store: with room for them, of which in the buffer.
        self.reserved, self.stored = self.reg("reserved", 5), self.reg("stored", 5)
        self.pop = dut["release"] & ~dut["write_pop"]
        # Numbers of the next beat that comes into the buffer, and of the next one that leaves it, modulo twice its room.
        self.came, self.gone = (self.reg(name, range(2 * _ROOM)) for name in ("came", "gone"))
        h.assume(~begin | ((self.level != _ITEMS) & ~self.storing & (self.item.kind <= max(DescriptorKind))))
        h.assume(~(begin & store) | ((self.level == 0) & (self.here == 0) & ~dut["beat_valid"]))
        h.assume(~dut["beat_valid"] | (~self.storing & (self.here != _ROOM)))
        h.assume(~dut["write_pop"] | (self.storing & (self.stored != 0) & (self.here == 0)))
        h.assume(~dut["credit"] | (self.reserved != _ROOM))
        over = (self.level == 0) & (self.reserved == 0)
        h.m.d.sync += [
            self.came.eq(self.came + (dut["beat_valid"] | dut["stored"])),
            self.gone.eq(self.gone + dut["release"]),
            self.here.eq(self.here + dut["beat_valid"] - self.pop),
            self.level.eq(self.level + begin - dut["item_ended"]),
            self.reserved.eq(self.reserved + dut["reserve"] - dut["write_pop"]),
            self.stored.eq(self.stored + dut["stored"] - dut["write_pop"]),
            self.storing.eq((begin & store) | (self.storing & ~over)),
        ]

    def reg(self, name: str, shape: Any = 1) -> Signal:
        """A register that a clear resets."""
        self.kept.append(Signal(shape, name=name))
        return self.kept[-1]

    def past(self, value: Value, name: str, cycles: int = 1) -> Value:
        """``value`` some cycles earlier; 0 if there was a clear between."""
        for cycle in range(cycles):
            before = self.reg(f"past_{name}_{cycle}", Value.cast(value).shape())
            self.h.m.d.sync += before.eq(value)
            value = before
        return value

    def clears(self) -> None:
        """All registers above, at a clear; to be called at last."""
        with self.h.m.If(self.dut["clear"]):
            self.h.m.d.sync += [register.eq(0) for register in self.kept]


def room(h: Harness) -> None:
    u = _Use(h)
    dut = u.dut
    h.check(~u.pop | (u.here != 0), "a beat is popped only if one came in an earlier cycle")
    h.check(~dut["reserve"] | dut["credit"], "room is taken only with a credit")
    h.check(~dut["write_pop"] | dut["release"], "a beat that is written gives its room back in the cycle of its pop")
    stored = u.past(dut["reserve"], "reserve", _BACK + 1)
    h.check(dut["stored"] == stored, "what took room is in the buffer when the contract says, and nothing else")
    h.cover(u.pop & (u.here == 1) & dut["beat_valid"], "the only beat is popped as another comes")
    h.cover(u.here == _ROOM, "the buffer is full of beats to deliver")
    h.cover(dut["reserve"] & (u.reserved == 2), "a third beat of a store")
    h.cover(dut["write_pop"] & dut["stored"], "a beat is written as another comes")
    u.clears()


def ends(h: Harness) -> None:
    u = _Use(h)
    dut = u.dut
    h.check(~dut["stopped"] | ~(u.pop | dut["reserve"] | dut["item_ended"]), "no step is made while stopped")
    h.check(~dut["item_ended"] | (u.level != 0), "no more items end than began")
    h.check(
        dut["ended"] == u.past(dut["item_ended"], "item_ended", PORT_CYCLES), "ended: once for each, when its last piece is there"
    )
    # Pieces on the port were on their way in the cycle before, too; reads until they are back.
    read = dut["host_valid"] & ~dut["host_write"]
    back = [u.past(read, f"read_{i}", i) for i in range(_BACK - PORT_CYCLES + 1)]
    pushed = [u.past(dut["reserve"], f"push_{i}", i) for i in range(1, _BACK + 2)]
    moves = Cat(back, pushed, dut["ended"], dut["host_valid"]).any()
    busy = u.past(dut["busy"], "busy")
    h.check(~moves | dut["busy"], "busy: while something is on its way")
    h.check(~(dut["host_valid"] | dut["ended"]) | busy, "busy from the cycle behind a step on")
    # No step is made while stopped or without an item; what one has sent is back, or stored, so many cycles later.
    for name, may, so in (("runs", ~dut["stopped"], "stopped"), ("has", u.level != 0, "without an item")):
        steps = [u.past(may, f"{name}_{i}", i) for i in range(1, _BACK + 2)]
        h.check(~dut["busy"] | Cat(steps).any(), f"not busy when it was {so} for so long that all is back")
    h.cover(dut["item_ended"] & u.past(dut["item_ended"], "ends"), "two items end in a row")
    h.cover(~dut["busy"] & u.past(dut["stored"], "last") & (u.level == 0), "not busy behind a store")
    u.clears()


def _failing(u: _Use) -> tuple[Signal, Signal]:
    """Of the item of this step: a beat that was popped had failed; one is not known to be good."""
    m, dut = u.h.m, u.dut
    # What is known of the beats in the buffer, by their number from a clear on, modulo their room.
    good, bad = u.reg("good", _ROOM), u.reg("bad", _ROOM)
    came, gone = (number[:-1] for number in (u.came, u.gone))
    comes = dut["beat_valid"] | dut["stored"]
    with m.If(comes):
        m.d.sync += good.bit_select(came, 1).eq(dut["beat_valid"] & ~dut["beat_failed"])
        m.d.sync += bad.bit_select(came, 1).eq(dut["beat_valid"] & dut["beat_failed"])
    # Nothing is known of a beat that is popped as it comes, which never happens (`room`).
    known = ~(comes & (came == gone))
    failed, doubted = Signal(), Signal()
    is_bad, is_good = bad.bit_select(gone, 1) & known, good.bit_select(gone, 1) & known
    for name, value, now in (("failed", is_bad, failed), ("doubted", ~is_good, doubted)):
        before = u.reg(f"{name}_before")
        m.d.comb += now.eq((u.pop & value) | before)
        m.d.sync += before.eq(now & ~dut["item_ended"])
    return failed, doubted


def failures(h: Harness) -> None:
    u = _Use(h)
    dut = u.dut
    failed, doubted = _failing(u)
    failed_then, doubted_then = (u.past(value, name, PORT_CYCLES) for name, value in (("f", failed), ("d", doubted)))
    ended, wrote = dut["ended"], dut["host_valid"] & dut["host_write"]
    h.check(~(ended & failed_then) | dut["ended_failed"], "ended_failed if a beat of the item had failed")
    h.check(~(ended & ~doubted_then) | ~dut["ended_failed"], "not if all were good, whatever others were")
    h.check(~(wrote & failed_then), "no piece of a failed beat, or behind one in its item, reaches the load port")
    h.cover(ended & failed_then & u.past(wrote, "wrote"), "the last beat of an item fails")
    h.cover(ended & ~doubted_then & u.past(ended & failed_then, "before"), "an item behind one that failed does not fail")
    h.cover(failed & ~u.past(ended, "none") & (u.level != 0) & ~dut["item_ended"] & u.pop, "a beat before the last fails")
    h.cover(wrote & u.past(ended & failed_then, "next"), "a piece behind an item that failed")
    u.clears()


def _follow(u: _Use, kind: DescriptorKind, select: HostSelect) -> tuple[Walk, Value]:
    """One item of a kind, chosen by a solver; returns its steps, and whether these reach the load port in this cycle."""
    h, m, dut = u.h, u.h.m, u.dut
    item = Signal(u.item.shape(), name="followed")
    m.d.comb += item.as_value().eq(h.constant("followed_item", len(dut["item"])))
    h.assume(legal(kind, item))
    # It is loaded when it is at the head, 2 cycles after its begin at the earliest, and the one before made its last step.
    waits, ahead = u.reg("waits"), u.reg("items_ahead", 3)
    begins = dut["begin_item"] & h.free("chosen_item") & (dut["item"] == item.as_value()) & ~waits
    # More than this is more than a solver knows in minutes; walks of any words and loops are proven of the `PieceWalker`.
    h.assume(~dut["clear"] & (~dut["begin_item"] | (begins & (u.level == 0))))
    h.assume((item.select == select) & (item.n1 == 1) & (item.n2 == 1))
    fresh = u.past(begins, "begins")
    load = waits & ~fresh & ~dut["stopped"] & ((ahead == 0) | ((ahead == 1) & dut["item_ended"]))
    ready = u.here != 0 if kind == DescriptorKind.LOAD else dut["credit"]
    walk = Walk(h, u.reg, kind=kind, item=item, load=load, stopped=dut["stopped"], ready=ready)
    h.assume(~(begins & walk.active))
    with m.If(begins):
        m.d.sync += [waits.eq(1), ahead.eq(u.level - dut["item_ended"])]
    with m.Elif(waits & dut["item_ended"] & (ahead != 0)):
        m.d.sync += ahead.eq(ahead - 1)
    with m.If(load):
        m.d.sync += waits.eq(0)

    h.check(~walk.active | (dut["item_ended"] == walk.last), "the item ends with the step that the contract says")
    then = u.past(Cat(walk.piece, walk.address, walk.commits), "port", PORT_CYCLES)
    active_then = u.past(walk.active, "active", PORT_CYCLES)
    here = active_then & dut["host_valid"]
    found = Cat(dut["host_beat"], dut["host_address"])
    same = Cat(dut[f"host_{name}"] == item[name] for name in ("select", "broadcast", "unit"))
    h.check(~here | ((found == then[:-1]) & same.all()), "a piece is on the load port as the one of its word and place")
    if kind == DescriptorKind.LOAD:
        h.check(~here | (dut["host_commit"] == then[-1]), "the last one of a word commits it")
    told = (dut["ended_ring"] == item.ring) & (dut["ended_counts"] == item.counts)
    h.check(~(active_then & dut["ended"]) | told, "ring and count are those of the item")
    return walk, active_then


def loads(h: Harness, select: HostSelect) -> None:
    u = _Use(h)
    m, dut = h.m, u.dut
    walk, active_then = _follow(u, DescriptorKind.LOAD, select)
    failed, _ = _failing(u)
    h.check(~walk.active | (u.pop == (walk.step & walk.beats)), "a load pops its beats when the contract says")
    valid = u.past(walk.step & walk.moves & ~failed, "valid", PORT_CYCLES)
    h.check(~active_then | (dut["host_valid"] == valid), "a piece is on the load port 2 cycles behind its step, unless left out")
    h.check(~(active_then & valid) | dut["host_write"], "as a write")
    size = u.past(walk.size, "size", PORT_CYCLES)
    beyond = Cat((size <= i) & dut["host_data"].word_select(i, 8).any() for i in range(_BYTES))
    h.check(~(active_then & valid) | ~beyond.any(), "bytes beyond the piece are 0")
    # One bit of one beat, whichever these are.
    bit, watches, slot, value = h.constant("bit", 6), u.reg("watches"), u.reg("slot", 5), u.reg("value")
    with m.If(dut["beat_valid"] & h.free("chosen_beat") & ~watches):
        m.d.sync += [watches.eq(1), slot.eq(u.came), value.eq(dut["beat_data"].bit_select(bit, 1))]
    now, held, place, held_place = Signal(), u.reg("held"), Signal(7), u.reg("held_place", 7)
    m.d.comb += [
        now.eq(walk.active & u.pop & watches & (slot == u.gone)),
        place.eq(Mux(now, Cat(bit[3:], walk.beat), held_place)),
    ]
    m.d.sync += [held.eq((held | now) & ~walk.run_over), held_place.eq(place)]
    with m.If((u.pop & (slot == u.gone) & ~now) | (walk.run_over & (held | now))):
        m.d.sync += watches.eq(0)
    mine = walk.step & walk.moves & ~failed & (held | now) & (place >= walk.at) & (place < walk.end)
    where = u.past(Cat(bit[:3], (place - walk.at)[:3]), "where", PORT_CYCLES)
    mine_then, value_then = u.past(mine, "mine", PORT_CYCLES), u.past(value, "value", PORT_CYCLES)
    h.check(~mine_then | (dut["host_data"].bit_select(where, 1) == value_then), "a byte of a beat is where it belongs in its piece")
    h.cover(
        mine_then & value_then & (where[3:] != bit[3:]) & ~u.past(now, "now", PORT_CYCLES),
        "a byte of a piece that began in it, shifted",
    )
    h.cover(mine & now & (walk.beat != 0) & (place - walk.at != 0), "a byte of the second beat of a piece")
    h.cover(walk.step & walk.beats & ~walk.moves, "a step that only pops")
    h.cover(mine & (walk.address != walk.item.base), "a byte of a word that is not the first one")
    h.cover(walk.last & dut["item_ended"], "the item ends")
    u.clears()


def stores(h: Harness, select: HostSelect) -> None:
    u = _Use(h)
    m, dut = h.m, u.dut
    walk, active_then = _follow(u, DescriptorKind.STORE, select)
    pushes, reads = walk.step & walk.beats, walk.step & walk.moves
    h.check(~walk.active | (dut["reserve"] == pushes), "a store takes room for its beats when the contract says")
    valid = u.past(reads, "reads", PORT_CYCLES)
    h.check(~active_then | (dut["host_valid"] == valid), "a piece is read on the load port 2 cycles behind its step")
    h.check(~(active_then & valid) | ~dut["host_write"], "as a read")
    # Number of the next beat that takes room; nothing else comes into the buffer meanwhile.
    number = u.reg("number", 5)
    m.d.sync += number.eq(number + dut["beat_valid"] + dut["reserve"])
    # One byte of one beat, whichever these are: whether it is of the run.
    byte, watches, slot, inside = h.constant("byte", 3), u.reg("watches"), u.reg("slot", 5), u.reg("inside")
    place = Cat(byte, walk.beat)
    with m.If(pushes & h.free("chosen_beat") & ~watches):
        m.d.sync += [watches.eq(1), slot.eq(number), inside.eq((place >= walk.start) & (place < walk.end))]
    # It is there from the cycle behind its pop until that of the next one.
    popped = u.reg("popped")
    with m.If(dut["write_pop"]):
        m.d.sync += popped.eq(watches & (slot == u.gone))
    strobe = dut["write_strobe"]
    h.check(~popped | (strobe.bit_select(byte, 1) == inside), "a byte of a beat has its strobe exactly if it is of the run")
    # One bit of one piece, whichever these are: where it belongs.
    bit, reads_bit, its_slot, its_place = h.constant("bit", 6), u.reg("reads_bit"), u.reg("its_slot", 5), u.reg("its_place", 3)
    where = Signal(7)
    m.d.comb += where.eq(walk.at + bit[3:])
    chosen = reads & h.free("chosen_piece") & ~reads_bit & (bit[3:] < walk.size)
    with m.If(chosen):
        m.d.sync += [reads_bit.eq(1), its_slot.eq(number + (where >> 3) - walk.beat), its_place.eq(where[:3])]
    value = u.reg("value")
    with m.If(u.past(chosen, "chosen_piece", _BACK)):
        m.d.sync += value.eq(dut["host_read_data"].bit_select(bit, 1))
    with_bit = u.reg("with_bit")
    with m.If(dut["write_pop"]):
        m.d.sync += with_bit.eq(reads_bit & (its_slot == u.gone))
    found = dut["write_data"].bit_select(Cat(bit[:3], its_place), 1)
    h.check(~with_bit | (found == value), "a byte that was read is in its place of its beat")
    h.check(~with_bit | strobe.bit_select(its_place, 1), "with its strobe")
    h.cover(with_bit & value & (its_place != bit[3:]), "a byte that was shifted is written")
    h.cover(popped & ~inside & strobe.any(), "a byte of no piece")
    h.cover(pushes & ~reads, "a step that only pushes")
    h.cover(chosen & ((where >> 3) != walk.beat), "a byte of the beat behind the one in which its piece begins")
    u.clears()


_REALIGNER, _WALKER = "rtl.prefetch.realigner", "rtl.prefetch.piece_walker"
_SIZES = f"beats of 64 bits, a buffer of {_ROOM} beats, {_ITEMS} items under way"
_RUN = (
    f"one {{}} at a time, the same again and again, of a run of up to {TRIPS} words of {{}} bytes from any byte on; without a clear"
)
PROPERTIES = (
    Property(
        name="realigner.room",
        rule="no beat is popped that is not there, no room is taken without a credit; what took room is stored when it should be, "
        "and nothing else; a beat that is popped gives its room back",
        sizes=f"{_SIZES}, any items; without column stores",
        build=room,
        reach=24,
        faults=(
            Fault(_REALIGNER, "available.eq(available + self.beat_valid - pop)", "available.eq(available + self.beat_valid)"),
            Fault(_REALIGNER, 'self.reserve.eq(walker["step"] & walker["pushes"])', 'self.reserve.eq(walker["pushes"])'),
            Fault(_REALIGNER, "self.release.eq(pop | self.write_pop)", "self.release.eq(pop)"),
        ),
    ),
    Property(
        name="realigner.ends",
        rule="nothing is stepped while stopped; every item ends at most once, and that is told when its last piece is on the load "
        "port; busy while anything is on its way, and not longer",
        sizes=f"{_SIZES}, any items; without column stores",
        build=ends,
        reach=24,
        faults=(
            Fault(_REALIGNER, "line[1:]), self._stage1,", "line[1:]),"),
            Fault(_REALIGNER, "held(step & walker[name], name, control=True)", "held(walker[name], name, control=True)"),
            Fault(_WALKER, "self.active & ~self.stopped & (~self.pops", "self.active & (~self.pops"),
            Fault(_WALKER, "self.active.eq(~self.last)", "self.active.eq(1)"),
        ),
    ),
    Property(
        name="realigner.failures",
        rule="an item is told to have failed exactly if a beat of it had; no piece of such a beat, or behind it in its item, "
        "reaches the load port",
        sizes=f"{_SIZES}, any items; without column stores",
        build=failures,
        engine="bounded",
        cycles=20,
        reach=24,
        faults=(
            Fault(_REALIGNER, "| (failed & ~first))", ")"),
            Fault(_REALIGNER, "| (failed & ~first))", "| failed)"),
            Fault(_REALIGNER, "popped.eq(popped + self.release)", 'popped.eq(popped + (walker["step"] & walker["delivers"]))'),
            Fault(_REALIGNER, '"valid": (delivers & ~failing) | reads', '"valid": delivers | reads'),
        ),
    ),
    *(
        Property(
            name=f"realigner.loads_{size}_bytes",
            rule="a load pops its beats, and its pieces are on the load port, when and where the contract says; bytes of beats are "
            "in their places in pieces, all others 0; pieces are left out only behind a beat that failed",
            sizes=f"{_SIZES.partition(',')[0]}; {_RUN.format('load', size)}",
            build=partial(loads, select=select),
            engine="bounded",
            cycles=12,
            faults=(
                *own,
                Fault(
                    _REALIGNER, "shifted.eq(_rotated_right(m, window, offset,", "shifted.eq(_rotated_right(m, window, offset[:2],"
                ),
            ),
        )
        for size, select, own in (
            (
                2,
                HostSelect.X,
                (
                    Fault(_REALIGNER, "inside = piece_bits >= i.bit_length()", "inside = piece_bits >= i.bit_length() - 1"),
                    Fault(_WALKER, "fresh | (offset == 0) | self.straddles", "fresh | self.straddles"),
                ),
            ),
            (
                8,
                HostSelect.P,
                (
                    Fault(_REALIGNER, "straddles & (offset <= i)", "straddles & (offset < i)"),
                    Fault(_REALIGNER, 'before.eq(buffer["read_data"][:width])', "before.eq(self.beat_data)"),
                ),
            ),
        )
    ),
    Property(
        name="realigner.stores_8_bytes",
        rule="a store reads its pieces, and takes room for its beats, when and where the contract says; bytes that were read are "
        "in their places in beats, with their strobes; those of no piece have none",
        sizes=f"{_SIZES.partition(',')[0]}; {_RUN.format('store', 8)}",
        build=partial(stores, select=HostSelect.P),
        engine="bounded",
        cycles=16,
        reach=24,
        faults=(
            Fault(_REALIGNER, "above = reads & (offset <= i)", "above = reads & (offset < i)"),
            Fault(_REALIGNER, "kept_strobe.eq(over)", "kept_strobe.eq(0)"),
            Fault(_REALIGNER, "PORT_CYCLES + self.config.host_read_latency", "PORT_CYCLES + self.config.host_read_latency - 1"),
        ),
    ),
)
