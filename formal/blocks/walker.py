"""Piece walker: the steps of one item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.rtl.prefetch.engine_words import item_layout
from podweave.rtl.prefetch.piece_walker import PieceWalker
from podweave.spec.descriptors import STORABLE, DescriptorKind, loadable, memory_stride, piece_bytes, word_pieces

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

CONFIG = small(data_width=64, address_width=32, buffer_beats=16, max_burst=4, outstanding=2, descriptors=2)
TRIPS = 3


class Walk:
    """Steps of a load or store of up to `TRIPS` trips of each loop, as the contract of a `PieceWalker` has them.

    Places are bytes from the begin of the first beat of a run on: that of the run, ``start``, of the piece of the step, ``at``, and
    behind it, ``end``. ``beat``: beats of the run that were popped, or pushed. Of the ``step``: it ``moves`` its piece, and
    ``beats``: it pops or pushes a beat.

    Parameters
    ----------
    reg : Callable[..., Signal]
        Makes registers.
    item : Any
        It; holds still.
    load : Value
        It is loaded.
    stopped, ready : Value
        No step is made; there is a beat to pop, or room to push one.
    """

    def __init__(
        self, h: Harness, reg: Callable[..., Any], *, kind: DescriptorKind, item: Any, load: Value, stopped: Value, ready: Value
    ):
        m = h.m
        self.item, self.kind = item, kind
        selects = STORABLE if kind == DescriptorKind.STORE else loadable(CONFIG)
        self.active, self.started = reg("active"), reg("started")
        self.start, self.at, self.end, self.beat = reg("start", 3), reg("at", 7), Signal(7), reg("beat", 4)
        self.piece, self.address = reg("piece", 2), reg("address", len(item.base))
        trips = [reg(f"trip_{i}", 2) for i in range(3)]
        self.size, self.commits = Signal(4), Signal()
        with m.Switch(item.select):
            for select in selects:
                stride, whole, pieces = (of(CONFIG, select) for of in (memory_stride, piece_bytes, word_pieces))
                with m.Case(select):
                    m.d.comb += self.commits.eq(self.piece == pieces - 1)
                    m.d.comb += self.size.eq(Mux(self.commits, stride - (pieces - 1) * whole, whole))
        ends = [trip == item[f"n{i}"][:2] - 1 for i, trip in enumerate(trips)]
        run_ends = self.commits & ends[0]
        self.step, self.moves, self.beats, self.last, done = Signal(), Signal(), Signal(), Signal(), Signal()
        flushing = reg("flushing")
        m.d.comb += self.end.eq(self.at + self.size)
        if kind == DescriptorKind.LOAD:
            # Beats of the run up to the end of the piece, of which one step pops one.
            need = ((self.end - 1) >> 3) + 1
            m.d.comb += [self.beats.eq(self.beat < need), self.moves.eq(self.beat + self.beats >= need), done.eq(self.moves)]
        else:
            m.d.comb += [
                self.moves.eq(~flushing),
                self.beats.eq(flushing | ((self.end >> 3) > self.beat) | run_ends),
                done.eq(~(run_ends & (self.end > (self.beat + 1) << 3))),
            ]
            m.d.sync += flushing.eq(Mux(self.step, ~done, flushing))
        self.run_over = self.step & done & run_ends
        m.d.comb += self.step.eq(self.active & ~stopped & (~self.beats | ready))
        m.d.comb += self.last.eq(self.run_over & ends[1] & ends[2])
        with m.If(self.last):
            m.d.sync += self.active.eq(0)
        with m.If(self.step):
            m.d.sync += [self.beat.eq(self.beat + self.beats), self.started.eq(1)]
        with m.If(self.step & done):
            m.d.sync += [self.at.eq(self.end), self.piece.eq(Mux(self.commits, 0, self.piece + 1))]
            with m.If(self.commits):
                step = Mux(~ends[0], item.step0, Mux(~ends[1], item.step1, item.step2))
                m.d.sync += [self.address.eq(self.address + step), trips[0].eq(Mux(ends[0], 0, trips[0] + 1))]
            with m.If(run_ends):
                start = (self.start + Mux(ends[1], item.stride2, item.stride1))[:3]
                m.d.sync += [self.start.eq(start), self.at.eq(start), self.beat.eq(0)]
                m.d.sync += [trips[1].eq(Mux(ends[1], 0, trips[1] + 1)), trips[2].eq(trips[2] + ends[1])]
        with m.If(load):
            m.d.sync += [self.active.eq(1), self.start.eq(item.offset), self.at.eq(item.offset), self.address.eq(item.base)]
            m.d.sync += [register.eq(0) for register in (*trips, self.piece, self.beat, flushing, self.started)]


def legal(kind: DescriptorKind, item: Any) -> Value:
    """It is such a load or store."""
    selects = STORABLE if kind == DescriptorKind.STORE else loadable(CONFIG)
    loops = [(item[f"n{i}"] != 0) & (item[f"n{i}"] <= TRIPS) for i in range(3)]
    return (item.kind == kind) & Cat(loops).all() & Cat(item.select == select for select in selects).any()


def _steps(kind: DescriptorKind) -> Callable[[Harness], None]:
    def steps(h: Harness) -> None:
        dut = h.place(PieceWalker(CONFIG))
        h.assume(~dut["clear"])
        word = Signal(struct(item_layout(CONFIG)), name="item_word")
        h.m.d.comb += word.as_value().eq(dut["item"])
        # One item, whichever it is, whenever it comes.
        item = Signal(struct(item_layout(CONFIG)), name="followed")
        h.m.d.comb += item.as_value().eq(h.constant("followed_item", len(dut["item"])))
        load = dut["item_pop"] & h.free("chosen") & (dut["item"] == item.as_value())
        h.assume(legal(kind, item))
        loads = kind == DescriptorKind.LOAD
        walk = Walk(
            h,
            lambda name, shape=1: Signal(shape, name=name),
            kind=kind,
            item=item,
            load=load,
            stopped=dut["stopped"],
            ready=dut["available" if loads else "credit"],
        )
        follows, step = walk.active, walk.step
        h.check(~follows | (dut["step"] == step), "a step is made in the first cycle in which it may be")
        h.check(~follows | (dut["last"] == walk.last), "the last one ends the item")
        h.check(dut["item_pop"] == (dut["item_valid"] & ~dut["stopped"] & (~dut["active"] | dut["last"])), "the next item follows")
        h.check(~follows | dut["active"], "active: there is an item")
        h.check(~step | (dut["first"] == ~walk.started), "the first step is told")
        does = {
            "pops": walk.beats & loads,
            "delivers": walk.moves & loads,
            "reads": walk.moves & ~loads,
            "pushes": walk.beats & ~loads,
        }
        same = Cat(dut[name] == value for name, value in does.items())
        h.check(~step | same.all(), "a step moves a piece, and pops or pushes a beat, as the contract says")
        moves = step & walk.moves
        h.check(~moves | (dut["offset"] == walk.at[:3]), "a piece begins at its byte of a beat")
        h.check(~moves | (1 << dut["piece_bits"] == walk.size), "it has its size")
        h.check(~moves | (dut["straddles"] == ((walk.end - 1) >> 3 != walk.at >> 3)), "that it ends in the next beat is told")
        h.check(~moves | ((dut["commit"] == walk.commits) & (dut["beat"] == walk.piece)), "it has its place in its word")
        h.check(~moves | (dut["address"] == walk.address), "and the address of that word")
        fields = ("select", "broadcast", "unit", "ring", "counts")
        h.check(~step | Cat(dut[name] == item[name] for name in fields).all(), "and what is of the item")
        h.cover(step & ~walk.moves, "a step that moves no piece")
        h.cover(moves & (walk.start != item.offset) & (walk.at != walk.start), "a later piece of a later run")
        h.cover(walk.last & load, "the same item again, without a gap")
        if loads:
            h.cover(moves & (walk.piece == 1) & ~walk.commits, "a piece within a word")

    return steps


_WALKER = "rtl.prefetch.piece_walker"
_SIZES = (
    f"beats of 64 bits; one item, of any words, from any byte on and with any strides, loops of up to {TRIPS} trips, between any "
    "others; without a clear"
)
PROPERTIES = (
    Property(
        name="piece_walker.loads",
        rule="every step of a load is made in the cycle that the contract says, and pops and delivers what it says",
        sizes=_SIZES,
        build=_steps(DescriptorKind.LOAD),
        faults=(
            Fault(_WALKER, "fresh | (offset == 0) | self.straddles", "fresh | self.straddles"),
            Fault(_WALKER, "(run_offset + Mux(", "(offset + Mux("),
            Fault(_WALKER, "fresh & self.straddles & ~primed", "fresh & self.straddles & primed"),
            Fault(_WALKER, "Mux(end1, item.step2, item.step1)", "item.step1"),
        ),
    ),
    Property(
        name="piece_walker.stores",
        rule="every step of a store is made in the cycle that the contract says, and reads and pushes what it says",
        sizes=_SIZES,
        build=_steps(DescriptorKind.STORE),
        faults=(
            Fault(_WALKER, "flushing | end[byte] | run_end", "flushing | self.straddles | run_end"),
            Fault(_WALKER, "(~self.pushes | self.credit)", "1"),
            Fault(_WALKER, "flushing | ~(run_end & self.straddles)", "1"),
        ),
    ),
)
