"""Banks of activations and of weights: what answers the read requests of the pods."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, place
from ..parts.planes import lowest, planes_of, several
from ..parts.sram import Sram


class ReadBank(Block):
    """One bank of X or W words: at most one read, and for X one write, per cycle.

    An X word is ``rows`` int8 lanes in slots of ``post_lanes`` that are written one by one; a W word is ``cols`` lanes. Ports of
    all planes of a network lie side by side, plane 0 least significant; the lowest valid plane is served. An X bank is read on the
    planes of the X network and written on those of the Y network; ``planes``: of the network that reads, X or W.

    An X bank is ``x_parts`` memories, selected by the highest bits of a word's address. With several, the host may use one while
    the network uses others.

    Latency: 1 cycle from ``read_valid`` or ``host_read`` to the word, exactly; a word is readable 1 cycle after its write.

    Parameters
    ----------
    config : ChipConfig
        ``rows``, ``cols`` and ``post_lanes``; ``x_words``, ``x_parts``, ``x_planes`` and ``y_planes``, or ``w_words`` and
        ``w_planes``, of its memory.
    kind : str
        "x" or "w".

    Members
    -------
    read_valid : In(planes)
        Requests. Planes valid together must name the same word.
    read_address : In(planes * bits_for_index(words))
        Their words.
    data : Out(bits of a word)
        The word, exactly one cycle after its request, until one cycle after the next; with several parts, that of the host counts
        if it is for the same part. Undefined before the first read.
    write_valid : In(y_planes)
        X only: one word of outputs into one slot, readable from the next cycle on.
    write_slot : In(y_planes * bits_for_index(slots))
        X only: the slot. A slot that does not exist is not written.
    write_address : In(y_planes * bits_for_index(words))
        X only: the word.
    write_data : In(y_planes * 8 * post_lanes)
        X only: the outputs.
    writes : Out(1)
        X only: in this cycle the network writes a word.
    hazard : Out(1)
        X only: in this cycle the network reads the word that it writes; ``data`` is then undefined in that slot. So it is when the
        host reads what it writes in the same cycle.
    host_read : In(1)
        Reads a whole word, on ``data``, or ``host_word``, in the next cycle. Gives way to reads of the network in the same cycle
        and part.
    host_write : In(1)
        Writes a whole word. Gives way to writes of the network in the same cycle and part.
    host_address : In(bits_for_index(words))
        Word of the host.
    host_data : In(bits of a word)
        What the host writes.
    host_word : Out(bits of a word)
        Only with several parts: what the host read, as long as ``data`` keeps what the network read.
    reads : Out(1)
        In this cycle the network reads a word.
    conflict : Out(1)
        In this cycle two planes ask for different words, or two planes write; with several parts also: the host reads (writes) a
        part that the network reads (writes).
    """

    def __init__(self, config: ChipConfig, kind: str):
        assert kind in ("x", "w")
        memory, array = config.memory, config.array
        self.kind = f"{kind}_bank"
        self.planes, self.depth = (memory.x_planes, memory.x_words) if kind == "x" else (memory.w_planes, memory.w_words)
        self.write_planes = memory.y_planes if kind == "x" else 0
        self.slot_bits = 8 * (config.post_lanes if kind == "x" else array.cols)
        self.slots = 8 * (array.rows if kind == "x" else array.cols) // self.slot_bits
        self.writable = kind == "x"
        self.parts = memory.x_parts if kind == "x" else 1
        planes = f"_planes{self.planes}{f'_{self.write_planes}' * self.writable}"
        self.variant = f"{self.depth}x{self.slots}x{self.slot_bits}{planes}{f'_parts{self.parts}' if self.parts > 1 else ''}"
        self.address_width, self.slot_width = bits_for_index(self.depth), bits_for_index(self.slots)
        word = self.slots * self.slot_bits
        written: dict[str, Any] = {
            "write_valid": In(self.write_planes),
            "write_slot": In(self.write_planes * self.slot_width),
            "write_address": In(self.write_planes * self.address_width),
            "write_data": In(self.write_planes * self.slot_bits),
            "writes": Out(1),
            "hazard": Out(1),
        }
        super().__init__(
            {
                "read_valid": In(self.planes),
                "read_address": In(self.planes * self.address_width),
                "data": Out(word),
                **(written if self.writable else {}),
                "host_read": In(1),
                "host_write": In(1),
                "host_address": In(self.address_width),
                "host_data": In(word),
                **({"host_word": Out(word)} if self.parts > 1 else {}),
                "reads": Out(1),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read_address, write_address = (Signal(self.address_width, name=f"served_{way}_address") for way in ("read", "write"))
        read_conflict, write_conflict, part_conflict = Signal(), Signal(), Signal()
        addresses = planes_of(self.read_address, self.planes)
        m.d.comb += [
            self.reads.eq(self.read_valid.any()),
            read_address.eq(lowest(self.read_valid, addresses)),
            read_conflict.eq(Cat(v & (a != read_address) for v, a in zip(self.read_valid, addresses, strict=True)).any()),
            self.conflict.eq(read_conflict | write_conflict | part_conflict),
        ]
        written = Signal(self.slots)
        data = Signal(self.slot_bits, name="served_write_data")
        network_writes = Signal()
        if self.writable:
            slot = Signal(self.slot_width, name="served_write_slot")
            m.d.comb += [
                network_writes.eq(self.write_valid.any()),
                self.writes.eq(network_writes),
                write_address.eq(lowest(self.write_valid, planes_of(self.write_address, self.write_planes))),
                data.eq(lowest(self.write_valid, planes_of(self.write_data, self.write_planes))),
                slot.eq(lowest(self.write_valid, planes_of(self.write_slot, self.write_planes))),
                *(written[i].eq(network_writes & (slot == i)) for i in range(self.slots)),
                write_conflict.eq(several(self.write_valid)),
                self.hazard.eq(self.reads & network_writes & (read_address == write_address)),
            ]
        if self.parts == 1:
            served = self.reads, network_writes, self.host_read, self.host_write
            m.d.comb += self.data.eq(self._part(m, "", served, read_address, write_address, written, data))
            return m
        within = bits_for_index(self.depth // self.parts)
        read_part, write_part, host_part = (address[within:] for address in (read_address, write_address, self.host_address))
        words = []
        for part in range(self.parts):
            here = Signal(4, name=f"part_{part}_served")
            m.d.comb += here.eq(
                Cat(
                    self.reads & (read_part == part),
                    network_writes & (write_part == part),
                    self.host_read & (host_part == part),
                    self.host_write & (host_part == part),
                )
            )
            words.append(self._part(m, f"part_{part}_", tuple(here), read_address, write_address, written, data))
        m.d.comb += part_conflict.eq(
            (self.reads & self.host_read & (read_part == host_part))
            | (network_writes & self.host_write & (write_part == host_part))
        )
        for asked, part, word in ((self.reads, read_part, self.data), (self.host_read, host_part, self.host_word)):
            source = Signal(len(part), name=f"{word.name}_part", reset_less=True)
            with m.If(asked):
                m.d.sync += source.eq(part)
            with m.Switch(source):
                for number, value in enumerate(words):
                    with m.Case(number):
                        m.d.comb += word.eq(value)
        return m

    def _part(
        self,
        m: Module,
        prefix: str,
        served: tuple[Value, ...],
        read_address: Value,
        write_address: Value,
        written: Value,
        data: Value,
    ) -> Value:
        """The memories of a part, and what was read of it. ``served``: whether the network reads, writes, the host reads, writes
        in it; ``written``, ``data``: slots of a word that the network writes, and what."""
        reads, writes, host_reads, host_writes = served
        words = []
        for i in range(self.slots):
            memory = place(m, f"{prefix}slot_{i}", Sram(self.depth // self.parts, self.slot_bits))
            m.d.comb += [
                memory["read_enable"].eq(reads | host_reads),
                memory["read_address"].eq(Mux(reads, read_address, self.host_address)),
                memory["write_enable"].eq(Mux(writes, written[i], host_writes)),
                memory["write_address"].eq(Mux(writes, write_address, self.host_address)),
                memory["write_data"].eq(Mux(writes, data, self.host_data.word_select(i, self.slot_bits))),
            ]
            words.append(memory["read_data"])
        return Cat(*words)
