"""Realigner: a buffer of beats between the bus and the load port, and the shift from bytes of beats to pieces of words and back."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, delay_line, place, register, struct
from ..parts.load_port import load_port_members
from ..parts.sram import Sram
from ..parts.word_queue import WordQueue
from .column_buffer import ColumnBuffer
from .column_walker import ColumnWalker
from .engine_words import beat_bits, item_layout, prefetch_of
from .piece_walker import PieceWalker

PORT_CYCLES = 2
"""Cycles from the step of a piece to the load port."""


class Realigner(Block):
    """Items wait in a queue for the `PieceWalker`; its steps move pieces between beats of memory and the load port.

    Loads: a beat that is here in cycle x (``beat_valid``) can be popped from cycle x + 1 on; a pop in cycle s gives its room back
    (``release`` in cycle s), and the piece of a step in cycle s is on the load port in cycle s + `PORT_CYCLES`. Pieces of a beat
    that failed, and all that follow in its item, are left out; the steps are made nevertheless.
    Stores: a piece read by a step in cycle s is on the load port (as a read) in cycle s + `PORT_CYCLES` and back
    ``host_read_latency`` cycles later, in cycle q; a beat pushed by that step goes into the buffer in cycle q + 1 (``stored``),
    and can be popped from the next cycle on. It takes its room in cycle s (``reserve``). Column stores are the same, but steps are
    those of a `ColumnWalker`, and what a step of a lane brings into the beat in cycle q comes from a `ColumnBuffer`.
    Loads and stores share the buffer: a store begins when no item is under way and no beat is in the buffer; until it has ended and
    its last beat was popped, no other item begins and no beat of data comes.

    Latency: 2 cycles from ``begin_item`` to the load of the item, at the least; `PORT_CYCLES` from a step to the load port.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``; gives beats and the members of a load port; ``width`` is the bits of a beat.

    Members
    -------
    clear : In(1)
        Forget everything.
    stopped : In(1)
        As of a `PieceWalker`.
    begin_item, item : In(1), In(item_layout(config).width)
        An item begins; it, laid out by `item_layout`. At most 2 * ``descriptors`` have begun and not made their last step.
    item_ended : Out(1)
        An item makes its last step.
    beat_valid, beat_data, beat_failed : In(1), In(width), In(1)
        A beat of data, in order (only if there is room for it).
    credit, reserve, release : In(1), Out(1), Out(1)
        Room in the buffer: there is some; one beat of it is taken; one is given back.
    host_* : Out(width in load_port_members)
        The load port of a manager; bytes of ``host_data`` beyond the piece are 0.
    host_read_data : In(width)
        What it reads.
    stored : Out(1)
        A beat goes into the buffer.
    write_pop : In(1)
        A stored beat is popped (only if there is one).
    write_data, write_strobe : Out(width), Out(width // 8)
        That beat, from the next cycle until the one after the next pop.
    ended : Out(1)
        In this cycle the last piece of an item is on the load port (or would be: a NOP, and pieces left out).
    ended_ring, ended_counts : Out(1)
        Of that item.
    ended_failed : Out(1)
        Something of it was left out.
    busy : Out(1)
        Pieces are on their way between here and the load port, or back, or into the buffer: from the cycle behind a step until
        ``ended``, ``stored`` or its piece, whichever is last.
    """

    kind = "realigner"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.byte = beat_bits(config)
        self.bytes = 1 << self.byte
        width = 8 * self.bytes
        super().__init__(
            {
                "clear": In(1),
                "stopped": In(1),
                "begin_item": In(1),
                "item": In(item_layout(config).width),
                "item_ended": Out(1),
                "beat_valid": In(1),
                "beat_data": In(width),
                "beat_failed": In(1),
                "credit": In(1),
                "reserve": Out(1),
                "release": Out(1),
                **{name: Out(bits) for name, bits in load_port_members(config).items()},
                "host_read_data": In(width),
                "stored": Out(1),
                "write_pop": In(1),
                "write_data": Out(width),
                "write_strobe": Out(self.bytes),
                "ended": Out(1),
                "ended_ring": Out(1),
                "ended_counts": Out(1),
                "ended_failed": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> object:
        prefetch = prefetch_of(self.config)
        m = Module()
        items = place(m, "items", WordQueue(2 * prefetch.descriptors, item_layout(self.config).width))
        walker = place(m, "walker", PieceWalker(self.config))
        # A beat of data to deliver has its failure in the place of the first strobe of a beat to write.
        buffer = place(m, "buffer", Sram(prefetch.buffer_beats, 9 * self.bytes))
        available = Signal(range(prefetch.buffer_beats + 1))
        written, popped = Signal(bits_for_index(prefetch.buffer_beats)), Signal(bits_for_index(prefetch.buffer_beats))
        pop = Signal()
        m.d.comb += [
            items["clear"].eq(self.clear),
            items["push"].eq(self.begin_item),
            items["push_word"].eq(self.item),
            walker["clear"].eq(self.clear),
            walker["stopped"].eq(self.stopped),
            walker["item"].eq(items["head"]),
            walker["available"].eq(available != 0),
            walker["credit"].eq(self.credit),
        ]
        if prefetch.column_words:
            walker = self._with_columns(m, items, walker)
        else:
            m.d.comb += walker["item_valid"].eq(items["head_valid"])
        m.d.comb += [
            items["pop"].eq(walker["item_pop"]),
            self.item_ended.eq(walker["last"]),
            pop.eq(walker["step"] & walker["pops"]),
            self.reserve.eq(walker["step"] & walker["pushes"]),
            self.release.eq(pop | self.write_pop),
            buffer["read_enable"].eq(self.release),
            buffer["read_address"].eq(popped),
            buffer["write_enable"].eq(self.beat_valid | self.stored),
            buffer["write_address"].eq(written),
            self.write_data.eq(buffer["read_data"][: 8 * self.bytes]),
            self.write_strobe.eq(buffer["read_data"][8 * self.bytes :]),
        ]
        m.d.sync += [
            written.eq(written + buffer["write_enable"]),
            popped.eq(popped + self.release),
            available.eq(available + self.beat_valid - pop),
        ]
        self._deliver(m, walker, buffer, pop)
        data, strobe = self._collect(m, walker)
        m.d.comb += buffer["write_data"].eq(Mux(self.stored, Cat(data, strobe), Cat(self.beat_data, self.beat_failed)))
        return ResetInserter(self.clear)(m)

    def _with_columns(self, m: Module, items: dict[str, Value], walker: dict[str, Value]) -> dict[str, Value]:
        """Places a `ColumnWalker` beside; returns the outputs of whichever has an item: never do both."""
        columns = place(m, "columns", ColumnWalker(self.config))
        item, is_column = Signal(struct(item_layout(self.config)), name="next_item"), Signal()
        self._column_store = Signal(name="column_store")
        m.d.comb += [
            Value.cast(item).eq(items["head"]),
            is_column.eq((item.kind == DescriptorKind.STORE) & item.column),
            walker["item_valid"].eq(items["head_valid"] & ~is_column),
            columns["item_valid"].eq(items["head_valid"] & is_column),
            columns["item"].eq(items["head"]),
            *(columns[name].eq(getattr(self, name)) for name in ("clear", "stopped", "credit")),
        ]
        # What a store reads is all back before anything else begins.
        with m.If(columns["item_pop"] | walker["item_pop"]):
            m.d.sync += self._column_store.eq(columns["item_pop"])
        self._columns = columns
        active, merged = (
            columns["active"],
            {"item_pop": walker["item_pop"] | columns["item_pop"], "piece_bits": walker["piece_bits"]},
        )
        for name in ("step", "reads", "pushes", "first", "last", "offset", "select", "unit", "ring", "address", "beat"):
            merged[name] = Mux(active, columns[name], walker[name])
        for name in ("pops", "delivers", "commit", "straddles", "broadcast", "counts"):
            merged[name] = ~active & walker[name]
        return merged

    def _deliver(self, m: Module, walker: dict[str, Value], buffer: dict[str, Value], pop: Signal) -> None:
        """From steps to the load port: the buffer is read, then the piece is shifted to its place."""
        width, step = 8 * self.bytes, walker["step"]
        before = Signal(width, name="beat_before", reset_less=True)
        with m.If(pop):
            m.d.sync += before.eq(buffer["read_data"][:width])

        def held(value: Value, name: str, control: bool = False) -> Signal:
            return register(m, value, name=f"{name}_1", reset_less=not control)

        delivers, reads, ends, popped, first = (
            held(step & walker[name], name, control=True) for name in ("delivers", "reads", "last", "pops", "first")
        )
        offset, straddles = held(walker["offset"], "offset"), held(walker["straddles"], "straddles")
        shared = {name: held(walker[name], name) for name in ("select", "broadcast", "unit", "address", "beat")}
        commit = held(walker["commit"], "commit")
        ring, counts = held(walker["ring"], "ring"), held(walker["counts"], "counts")
        piece_bits = held(walker["piece_bits"], "piece_bits")
        failing, failed = Signal(), Signal()
        m.d.comb += failing.eq((popped & buffer["read_data"][width]) | (failed & ~first))
        m.d.sync += failed.eq(failing)

        # Bytes from the offset on come from the beat in which the piece begins, those below it from the next one.
        window = Signal(width)
        for i in range(self.bytes):
            source = Mux(straddles & (offset <= i), before.word_select(i, 8), buffer["read_data"].word_select(i, 8))
            m.d.comb += window.word_select(i, 8).eq(source)
        shifted = Signal(width)
        m.d.comb += shifted.eq(_rotated_right(m, window, offset, self.bytes))
        piece = []
        for i in range(self.bytes):
            # A piece has a power of two of bytes: byte i belongs to it if it has more than i.
            inside = piece_bits >= i.bit_length()
            piece.append(Mux(inside, shifted.word_select(i, 8), 0))
        port = {
            "valid": (delivers & ~failing) | reads,
            "write": delivers,
            "commit": delivers & commit,
            "data": Cat(piece),
            **shared,
        }
        for name, value in port.items():
            signal = getattr(self, f"host_{name}")
            m.d.comb += signal.eq(register(m, value, name=f"port_{name}", reset_less=name != "valid"))
        m.d.comb += [
            self.ended.eq(register(m, ends, name="ended_2", reset_less=False)),
            self.ended_ring.eq(register(m, ring, name="ended_ring_2")),
            self.ended_counts.eq(register(m, counts, name="ended_counts_2")),
            self.ended_failed.eq(register(m, failing, name="ended_failed_2")),
        ]
        self._stage1 = Cat(delivers, reads, ends)

    def _collect(self, m: Module, walker: dict[str, Value]) -> tuple[Signal, Signal]:
        """From pieces that were read to beats with strobes; returns what goes into the buffer with ``stored``."""
        width, step = 8 * self.bytes, walker["step"]
        wait = PORT_CYCLES + self.config.host_read_latency
        brings = walker["reads"]
        if prefetch_of(self.config).column_words:
            brings |= self._columns["active"] & self._columns["lane"]
        lines = {
            name: delay_line(m, step & does, wait, name=f"{name}_wait", reset_less=False)
            for name, does in (("reads", brings), ("pushes", walker["pushes"]))
        }
        reads, pushes = lines["reads"][-1], lines["pushes"][-1]
        offset = Signal(self.byte, name="collect_offset")
        m.d.comb += offset.eq(delay_line(m, walker["offset"], wait, name="offset_wait")[-1])

        strobe = Signal(self.bytes, name="piece_strobe")
        inside, found = Cat(walker["piece_bits"] >= i.bit_length() for i in range(self.bytes)), self.host_read_data
        if prefetch_of(self.config).column_words:
            reads, inside, found = self._lanes(m, Value.cast(reads), Value.cast(pushes), inside)
        m.d.comb += strobe.eq(Cat(reads & inside[i] for i in range(self.bytes)))
        shifted, shifted_strobe = Signal(width, name="read_shifted"), Signal(self.bytes, name="strobe_shifted")
        below = self.bytes - offset
        m.d.comb += [
            shifted.eq(_rotated_right(m, found, below[: self.byte], self.bytes)),
            shifted_strobe.eq(_rotated_right(m, strobe, below[: self.byte], self.bytes, unit=1)),
        ]
        kept, data = Signal(width, name="kept_data", reset_less=True), Signal(width, name="stored_data", reset_less=True)
        kept_strobe, stored_strobe = Signal(self.bytes), Signal(self.bytes, reset_less=True)
        beat, beat_strobe, over = Signal(width, name="beat_made"), Signal(self.bytes), Signal(self.bytes)
        for i in range(self.bytes):
            above = reads & (offset <= i)
            m.d.comb += [
                beat_strobe[i].eq(kept_strobe[i] | (above & shifted_strobe[i])),
                over[i].eq(~above & shifted_strobe[i]),
                beat.word_select(i, 8).eq(Mux(above & shifted_strobe[i], shifted.word_select(i, 8), kept.word_select(i, 8))),
            ]
        with m.If(pushes):
            m.d.sync += [kept.eq(shifted), kept_strobe.eq(over)]
        with m.Elif(reads):
            m.d.sync += [kept.eq(beat), kept_strobe.eq(beat_strobe)]
        m.d.sync += [
            data.eq(Cat(Mux(beat_strobe[i], beat.word_select(i, 8), 0) for i in range(self.bytes))),
            stored_strobe.eq(beat_strobe),
            self.stored.eq(pushes),
        ]
        moving = Cat(*(tap for line in lines.values() for tap in line[1:]), self._stage1, self.host_valid, self.ended, self.stored)
        m.d.comb += self.busy.eq(moving.any())
        return data, stored_strobe

    def _lanes(self, m: Module, reads: Value, pushes: Value, inside: Value) -> tuple[Value, Value, Value]:
        """Whether something is brought into a beat, which of its bytes, and the bytes: of a column store, those of a lane."""
        column, columns = self._column_store, self._columns
        pieces = place(m, "pieces", ColumnBuffer(self.config))
        mine, found = Signal(self.bytes, name="bytes_inside"), Signal(8 * self.bytes, name="bytes_found")
        m.d.comb += [
            pieces["clear"].eq(self.clear),
            pieces["collect"].eq(column & reads & ~pushes),
            pieces["shift"].eq(column & reads & pushes),
            pieces["piece"].eq(self.host_read_data),
            mine.eq(Mux(column, Cat(columns["lane_bytes"] > i for i in range(self.bytes)), inside)),
            found.eq(Mux(column, pieces["column"], self.host_read_data)),
        ]
        return reads & (~column | pushes), mine, found


def _rotated_right(m: Module, value: Value, count: Value, units: int, unit: int = 8) -> Value:
    """``value`` of ``units`` units, rotated to the right by ``count`` of them."""
    for i in range(len(count)):
        rotated = Cat(value[unit << i :], value[: unit << i])
        stage = Signal(len(value), name=f"rotated_{i}")
        m.d.comb += stage.eq(Mux(count[i], rotated, value))
        value = stage
    return value
