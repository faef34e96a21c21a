"""Column walker: walks over a column store, piece by piece and then lane by lane, and over the beats that its lanes lie in."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import bits
from podweave.spec.descriptors import STORABLE

from ..parts.blocks import Block
from .engine_words import beat_bits, item_registers, prefetch_of, targets, walker_members


class ColumnWalker(Block):
    """Makes up to one step per cycle, in the first cycle in which it may be made.

    For each piece of the words of a run: a step for each word, that reads this piece of it (``reads``); then a step for each lane
    of the piece (``lane``), which is a byte of it that does not only fill the place of the word in memory. The bytes of a lane, one
    of each word of the run, begin at ``offset`` of a beat, and the step pushes that beat (``pushes``); if they reach into one more
    beat, a step after it pushes that. Pushing needs ``credit``.

    Latency: 1 cycle, at the least, from the load of an item to its first step.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch`` with ``column_words``; gives beats and the members of a load port.

    Members
    -------
    clear : In(1)
        Forget everything.
    stopped : In(1)
        No step is made and nothing loaded.
    item_valid, item : In(1), In(item_layout(config).width)
        There is a column store, legal, and nothing else under way; it, laid out by `item_layout`.
    item_pop : Out(1)
        Takes it.
    credit : In(1)
        There is room to push a beat.
    step : Out(1)
        There is a step in this cycle, which all up to ``ring`` are of.
    reads, lane, pushes : Out(1)
        What the step does.
    first, last : Out(1)
        It is the first (last) of its item.
    offset : Out(beat_bits(config))
        Byte in the beat where the lane begins.
    select, unit, address, beat : Out(width in load_port_members)
        As on the load port.
    ring : Out(1)
        Of the item.
    lane_bytes : Out(bits(column_words + 1))
        Words of a run of the last item loaded, from the cycle after that on.
    active : Out(1)
        There is an item.
    """

    kind = "column_walker"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__(
            walker_members(
                config,
                asks=("credit",),
                flags=("step", "reads", "lane", "pushes", "first", "last"),
                fields=("select", "unit", "ring"),
                lane_bytes=Out(bits(prefetch_of(config).column_words + 1)),
            )
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        byte = beat_bits(self.config)
        incoming, item = item_registers(self.config)
        # A run has no more words than the buffer has room for.
        counts = len(self.lane_bytes), len(item.n1), len(item.n2)
        left0, left1, left2 = (Signal(width, name=f"left_{i}", reset_less=True) for i, width in enumerate(counts))
        offset, run_offset = (Signal(byte, name=name, reset_less=True) for name in ("lane_offset", "run_offset"))
        address, run_address = (Signal(len(self.address), name=name, reset_less=True) for name in ("word", "run_word"))
        beat = Signal(len(self.beat), reset_less=True)
        laning, flushing, starting = (Signal(name=name, reset_less=True) for name in ("laning", "flushing", "starting"))
        self._sizes(m, item)
        lanes_left = Signal(len(self._full), reset_less=True)

        end0, end1, end2, straddles, word_end, lane_end, piece_end, run_end = (
            Signal(name=n) for n in ("end_0", "end_1", "end_2", "straddles", "word_end", "lane_end", "piece_end", "run_end")
        )
        m.d.comb += [
            Value.cast(incoming).eq(self.item),
            self.item_pop.eq(self.item_valid & ~self.stopped & ~self.active),
            *(flag.eq(left == 1) for flag, left in ((end0, left0), (end1, left1), (end2, left2))),
            straddles.eq(offset + self.lane_bytes > 1 << byte),
            word_end.eq(beat == self._last_piece),
            lane_end.eq(laning & (flushing | ~straddles)),
            piece_end.eq(lane_end & (lanes_left == 1)),
            run_end.eq(piece_end & word_end),
            self.reads.eq(~laning),
            self.lane.eq(laning & ~flushing),
            self.pushes.eq(laning),
            self.step.eq(self.active & ~self.stopped & (~laning | self.credit)),
            self.first.eq(starting),
            self.last.eq(self.step & run_end & end1 & end2),
            self.offset.eq(offset),
            self.address.eq(address),
            self.beat.eq(beat),
            self.lane_bytes.eq(item.n0[: len(self.lane_bytes)]),
            *(getattr(self, name).eq(item[name]) for name in ("select", "unit", "ring")),
        ]
        with m.If(self.item_pop):
            m.d.sync += [
                self.active.eq(1),
                item.eq(incoming),
                *(left.eq(incoming[f"n{i}"]) for i, left in enumerate((left0, left1, left2))),
                *(at.eq(incoming.offset) for at in (offset, run_offset)),
                *(word.eq(incoming.base) for word in (address, run_address)),
                *(flag.eq(value) for flag, value in ((laning, 0), (flushing, 0), (starting, 1), (beat, 0))),
            ]
        with m.Elif(self.step):
            m.d.sync += [starting.eq(0), self.active.eq(~self.last)]
            with m.If(~laning):
                # Behind the last piece the next run begins, behind another one the same words again.
                following = Mux(word_end, address + Mux(end1, item.step2, item.step1), run_address)
                m.d.sync += [
                    address.eq(Mux(end0, following, address + item.step0)),
                    left0.eq(Mux(end0, item.n0, left0 - 1)),
                    laning.eq(end0),
                    lanes_left.eq(Mux(word_end, self._final, self._full)),
                ]
            with m.Elif(~lane_end):
                m.d.sync += flushing.eq(1)
            with m.Else():
                m.d.sync += [
                    flushing.eq(0),
                    laning.eq(~piece_end),
                    lanes_left.eq(lanes_left - 1),
                    offset.eq(offset + item.lane_stride),
                ]
                with m.If(piece_end):
                    m.d.sync += beat.eq(Mux(word_end, 0, beat + 1))
                with m.If(run_end):
                    next_offset = (run_offset + Mux(end1, item.stride2, item.stride1))[:byte]
                    m.d.sync += [
                        offset.eq(next_offset),
                        run_offset.eq(next_offset),
                        run_address.eq(address),
                        left1.eq(Mux(end1, item.n1, left1 - 1)),
                        left2.eq(left2 - end1),
                    ]
        return ResetInserter(self.clear)(m)

    def _sizes(self, m: Module, item: data.View) -> None:
        """Of the words of an item: number of the last piece, lanes of that one, and of all others."""
        found = {select: target for select, target in targets(self.config).items() if select in STORABLE}
        most = max(target.piece_bytes for target in found.values())
        self._last_piece = Signal(len(self.beat), name="last_piece")
        self._full, self._final = (Signal(range(most + 1), name=name) for name in ("lanes_of_piece", "lanes_of_last"))
        with m.Switch(item.select):
            for select, target in found.items():
                with m.Case(select):
                    m.d.comb += [
                        self._last_piece.eq(target.pieces - 1),
                        self._full.eq(target.piece_bytes),
                        self._final.eq(target.bytes - (target.pieces - 1) * target.piece_bytes),
                    ]
