"""Piece walker: walks over the words of a descriptor on the chip, piece by piece, and over the beats that they lie in."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import bits
from podweave.spec.descriptors import DescriptorKind

from ..parts.blocks import Block
from .engine_words import beat_bits, item_registers, targets, walker_members


class PieceWalker(Block):
    """Makes up to one step per cycle.

    An item is loaded in the first cycle in which it is at the head and there is none here or the one here makes its last step.
    The pieces of a run cover its bytes one after the other; the last piece of a word may be smaller than others. A step is made
    in the first cycle in which it may be.

    LOAD: a step pops a beat if its piece ends in another beat than the piece before, and delivers the piece. If the first piece of
    a run reaches into the second beat, a step before pops the first one and delivers nothing. Popping needs ``available``.
    STORE: a step reads a piece, and pushes a beat if the piece reaches the end of the beat or is the last one of its run. If
    that last piece reaches into one more beat, a step after it reads nothing and pushes that. Pushing needs ``credit``.
    NOP: one step, that does neither.

    Latency: 1 cycle, at the least, from the load of an item to its first step.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``; gives beats and the members of a load port.

    Members
    -------
    clear : In(1)
        Forget everything.
    stopped : In(1)
        No step is made and nothing loaded.
    item_valid, item : In(1), In(item_layout(config).width)
        There is a next item; it, laid out by `item_layout`.
    item_pop : Out(1)
        Takes it.
    available : In(1)
        There is a beat to pop.
    credit : In(1)
        There is room to push a beat.
    step : Out(1)
        There is a step in this cycle, which all up to ``counts`` are of.
    pops, delivers, reads, pushes : Out(1)
        What the step does.
    first, last : Out(1)
        It is the first (last) of its item.
    straddles : Out(1)
        Its piece ends in the next beat.
    commit : Out(1)
        Its piece is the last one of its word.
    offset : Out(beat_bits(config))
        Byte in the beat where the piece begins.
    select, broadcast, unit : Out(width in item_layout)
        As on the load port.
    address, beat : Out(host_address_width(config)), Out(host_beat_width(config))
        As on the load port.
    ring, counts : Out(width in item_layout)
        Of the item.
    piece_bits : Out(bits(beat_bits(config) + 1))
        Logarithm of the bytes of the piece of the step.
    active : Out(1)
        There is an item.
    """

    kind = "piece_walker"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__(
            walker_members(
                config,
                asks=("available", "credit"),
                flags=("step", "pops", "delivers", "reads", "pushes", "first", "last", "straddles", "commit"),
                fields=("select", "broadcast", "unit", "ring", "counts"),
                piece_bits=Out(bits(beat_bits(config) + 1)),
            )
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        byte = beat_bits(self.config)
        incoming, item = item_registers(self.config)
        loads, stores = Signal(), Signal()
        m.d.comb += [
            Value.cast(incoming).eq(self.item),
            self.item_pop.eq(self.item_valid & ~self.stopped & (~self.active | self.last)),
            loads.eq(self.active & (item.kind == DescriptorKind.LOAD)),
            stores.eq(self.active & (item.kind == DescriptorKind.STORE)),
        ]
        last_piece = Signal(len(self.beat), reset_less=True)
        whole_bits, last_bits = (Signal(len(self.piece_bits), name=f"{n}_bits", reset_less=True) for n in ("whole", "last"))
        fresh, primed, flushing, starting = (Signal(name=n, reset_less=True) for n in ("fresh", "primed", "flushing", "starting"))
        left0, left1, left2 = (Signal(len(item[f"n{i}"]), name=f"left_{i}", reset_less=True) for i in range(3))
        offset, run_offset = (Signal(byte, name=name, reset_less=True) for name in ("piece_offset", "run_offset"))
        address, beat = Signal(len(self.address), reset_less=True), Signal(len(self.beat), reset_less=True)

        end = Signal(byte + 1)
        end0, end1, end2, word_end, run_end, primes, piece_ends = (
            Signal(name=n) for n in ("end_0", "end_1", "end_2", "word_end", "run_end", "primes", "piece_ends")
        )
        m.d.comb += [
            self.piece_bits.eq(Mux(word_end, last_bits, whole_bits)),
            end.eq(offset + (1 << self.piece_bits)),
            self.straddles.eq(end > 1 << byte),
            *(flag.eq(left == 1) for flag, left in ((end0, left0), (end1, left1), (end2, left2))),
            word_end.eq(beat == last_piece),
            run_end.eq(word_end & end0),
            primes.eq(fresh & self.straddles & ~primed),
            self.delivers.eq(loads & ~primes),
            self.pops.eq(loads & (fresh | (offset == 0) | self.straddles)),
            self.reads.eq(stores & ~flushing),
            self.pushes.eq(stores & (flushing | end[byte] | run_end)),
            self.step.eq(self.active & ~self.stopped & (~self.pops | self.available) & (~self.pushes | self.credit)),
            piece_ends.eq(Mux(stores, flushing | ~(run_end & self.straddles), ~primes)),
            self.first.eq(starting),
            self.last.eq(self.step & ((~loads & ~stores) | (piece_ends & run_end & end1 & end2))),
            self.commit.eq(word_end),
            self.offset.eq(offset),
            self.address.eq(address),
            self.beat.eq(beat),
            *(getattr(self, name).eq(item[name]) for name in ("select", "broadcast", "unit", "ring", "counts")),
        ]
        with m.If(self.item_pop):
            m.d.sync += [
                self.active.eq(1),
                item.eq(incoming),
                *(left.eq(incoming[f"n{i}"]) for i, left in enumerate((left0, left1, left2))),
                offset.eq(incoming.offset),
                run_offset.eq(incoming.offset),
                address.eq(incoming.base),
                *(flag.eq(value) for flag, value in ((fresh, 1), (primed, 0), (flushing, 0), (starting, 1), (beat, 0))),
            ]
            self._sizes(m, incoming, last_piece, whole_bits, last_bits)
        with m.Elif(self.step):
            m.d.sync += [starting.eq(0), self.active.eq(~self.last)]
            with m.If(~piece_ends):
                m.d.sync += [primed.eq(1), flushing.eq(1)]
            with m.Else():
                m.d.sync += [fresh.eq(run_end), primed.eq(0), flushing.eq(0), offset.eq(end), beat.eq(Mux(word_end, 0, beat + 1))]
                with m.If(word_end):
                    step = Mux(end0, Mux(end1, item.step2, item.step1), item.step0)
                    m.d.sync += [address.eq(address + step), left0.eq(Mux(end0, item.n0, left0 - 1))]
                with m.If(run_end):
                    next_offset = (run_offset + Mux(end1, item.stride2, item.stride1))[:byte]
                    m.d.sync += [
                        offset.eq(next_offset),
                        run_offset.eq(next_offset),
                        left1.eq(Mux(end1, item.n1, left1 - 1)),
                        left2.eq(left2 - end1),
                    ]
        return ResetInserter(self.clear)(m)

    def _sizes(self, m: Module, incoming: data.View, last_piece: Signal, whole_bits: Signal, last_bits: Signal) -> None:
        with m.Switch(incoming.select):
            for select, target in targets(self.config).items():
                with m.Case(select):
                    sizes = (whole_bits, target.piece_bytes), (last_bits, target.last_bytes)
                    m.d.sync += [last_piece.eq(target.pieces - 1), *(signal.eq(bits(size)) for signal, size in sizes)]
