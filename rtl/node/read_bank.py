"""Banks of activations and of weights: what answers the read requests of the pods."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, place
from ..parts.planes import lowest, planes_of, several
from ..parts.sram import Sram


class ReadBank(Block):
    """One bank of X or W words (``kind`` "x" or "w"): at most one read, and for X one write, per cycle.

    An X word is ``rows`` int8 lanes in slots of ``post_lanes`` that are written one by one; a W word is ``cols`` lanes. Ports of
    the k = ``planes`` planes of the network lie side by side, plane 0 least significant; the lowest valid plane is served.

    Members
    -------
    ``read_valid``, ``read_address``: requests. Planes valid together must name the same word.
    ``data``: the word, exactly one cycle after its request, until one cycle after the next. Undefined before the first read.
    ``write_valid``, ``write_slot``, ``write_address``, ``write_data`` (X only): one word of outputs into one slot, readable from
    the next cycle on. A slot that does not exist is not written.
    ``host_read``, ``host_write``, ``host_address``, ``host_data``: a whole word; one that is read is on ``data`` in the next cycle.
    Gives way to reads (writes) of the network in the same cycle.
    ``reads``, ``writes`` (X only): in this cycle the network reads (writes) a word.
    ``conflict``: in this cycle two planes ask for different words, or two planes write.
    ``hazard`` (X only): in this cycle the network reads the word that it writes; ``data`` is then undefined in that slot. So it is
    when the host reads what it writes in the same cycle.
    """

    def __init__(self, config: ChipConfig, kind: str):
        assert kind in ("x", "w")
        memory, array = config.memory, config.array
        self.kind = f"{kind}_bank"
        self.planes = memory.planes
        self.depth = memory.x_words if kind == "x" else memory.w_words
        self.slot_bits = 8 * (config.post_lanes if kind == "x" else array.cols)
        self.slots = 8 * (array.rows if kind == "x" else array.cols) // self.slot_bits
        self.writable = kind == "x"
        self.variant = f"{self.depth}x{self.slots}x{self.slot_bits}_planes{self.planes}"
        self.address_width, self.slot_width = bits_for_index(self.depth), bits_for_index(self.slots)
        word = self.slots * self.slot_bits
        written: dict[str, Any] = {
            "write_valid": In(self.planes),
            "write_slot": In(self.planes * self.slot_width),
            "write_address": In(self.planes * self.address_width),
            "write_data": In(self.planes * self.slot_bits),
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
                "reads": Out(1),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read_address, write_address = (Signal(self.address_width, name=f"served_{way}_address") for way in ("read", "write"))
        read_conflict, write_conflict = Signal(), Signal()
        addresses = planes_of(self.read_address, self.planes)
        m.d.comb += [
            self.reads.eq(self.read_valid.any()),
            read_address.eq(lowest(self.read_valid, addresses)),
            read_conflict.eq(Cat(v & (a != read_address) for v, a in zip(self.read_valid, addresses, strict=True)).any()),
            self.conflict.eq(read_conflict | write_conflict),
        ]
        written = Signal(self.slots)
        data = Signal(self.slot_bits, name="served_write_data")
        network_writes = Signal()
        if self.writable:
            slot = Signal(self.slot_width, name="served_write_slot")
            m.d.comb += [
                network_writes.eq(self.write_valid.any()),
                self.writes.eq(network_writes),
                write_address.eq(lowest(self.write_valid, planes_of(self.write_address, self.planes))),
                data.eq(lowest(self.write_valid, planes_of(self.write_data, self.planes))),
                slot.eq(lowest(self.write_valid, planes_of(self.write_slot, self.planes))),
                *(written[i].eq(network_writes & (slot == i)) for i in range(self.slots)),
                write_conflict.eq(several(self.write_valid)),
                self.hazard.eq(self.reads & network_writes & (read_address == write_address)),
            ]
        words = []
        for i in range(self.slots):
            memory = place(m, f"slot_{i}", Sram(self.depth, self.slot_bits))
            m.d.comb += [
                memory["read_enable"].eq(self.reads | self.host_read),
                memory["read_address"].eq(Mux(self.reads, read_address, self.host_address)),
                memory["write_enable"].eq(Mux(network_writes, written[i], self.host_write)),
                memory["write_address"].eq(Mux(network_writes, write_address, self.host_address)),
                memory["write_data"].eq(Mux(network_writes, data, self.host_data.word_select(i, self.slot_bits))),
            ]
            words.append(memory["read_data"])
        m.d.comb += self.data.eq(Cat(*words))
        return m
