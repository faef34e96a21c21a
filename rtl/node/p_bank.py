"""Bank of partial sums: a memory that stores or adds what is written into it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, place, register
from ..parts.planes import lowest, planes_of, several
from ..parts.sram import Sram


class PBank(Block):
    """One bank of rows of ``cols`` partial sums: one word stored or accumulated per cycle, and one read.

    Ports of the ``planes`` planes of the P network lie side by side, plane 0 least significant; the lowest valid plane is served.
    With row functions, the post-processor is one more plane, the last. A word that arrives in cycle t is written into the SRAM
    in cycle t + 1; the same row may arrive again in cycle t + 1.

    Latency: 1 cycle from ``read_enable`` to ``read_data``; a row of the host may be read 2 cycles after its ``host_write``, be it
    stored or added.

    Parameters
    ----------
    config : ChipConfig
        ``cols`` and ``psum_width`` of its array, ``p_words`` and ``p_planes`` of its memory; whether it has row functions, and
        links.

    Members
    -------
    write_valid : In(planes)
        Words of the network arrive.
    write_accumulate : In(planes)
        Add to what the row holds, modulo ``2**psum_width`` per lane (1), or store (0).
    write_address : In(planes * bits_for_index(p_words))
        Their rows.
    write_data : In(planes * cols * psum_width)
        The words.
    read_enable : In(1)
        A read, of the post-processor, the host or the collective engine.
    read_address : In(bits_for_index(p_words))
        The row to read.
    read_data : Out(cols * psum_width)
        The row one cycle later, without a word that arrived in the cycle of the read. Undefined in all other cycles, and after a
        ``busy_conflict`` or ``hazard``.
    host_write : In(1)
        Stores a row, as if it came from a plane; gives way to the network in the same cycle.
    host_accumulate : In(1)
        Only with links: it is added instead, as if it came from a plane.
    host_address : In(bits_for_index(p_words))
        Row of the host.
    host_data : In(cols * psum_width)
        Word of the host.
    stores, accumulates : Out(1)
        In this cycle the network stores (adds) a word.
    conflict : Out(1)
        In this cycle two planes write.
    busy_conflict : Out(1)
        In this cycle there is a read and a word to be added, which needs the read port.
    hazard : Out(1)
        In this cycle the row that is read is written into the SRAM: it arrived in the cycle before.
    """

    kind = "p_bank"

    def __init__(self, config: ChipConfig):
        self.lanes, self.width = config.array.cols, config.array.psum_width
        self.depth, self.planes = config.memory.p_words, config.memory.p_planes + config.has_rows
        self.host_adds = config.links is not None
        self.variant = f"{self.depth}x{self.lanes}x{self.width}_planes{self.planes}{'_host_adds' * self.host_adds}"
        self.address_width = bits_for_index(self.depth)
        word = self.lanes * self.width
        super().__init__(
            {
                "write_valid": In(self.planes),
                "write_accumulate": In(self.planes),
                "write_address": In(self.planes * self.address_width),
                "write_data": In(self.planes * word),
                "read_enable": In(1),
                "read_address": In(self.address_width),
                "read_data": Out(word),
                "host_write": In(1),
                **({"host_accumulate": In(1)} if self.host_adds else {}),
                "host_address": In(self.address_width),
                "host_data": In(word),
                "stores": Out(1),
                "accumulates": Out(1),
                "conflict": Out(1),
                "busy_conflict": Out(1),
                "hazard": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = self.lanes * self.width
        memory = place(m, "memory", Sram(self.depth, word))

        network, arrives, adds = (Signal(name=name) for name in ("network", "arrives", "adds"))
        network_adds = adds
        if self.host_adds:
            network_adds = Signal(name="network_adds")
            m.d.comb += adds.eq(network_adds | (self.host_write & self.host_accumulate & ~network))
        address = Signal(self.address_width, name="arriving_address")
        data = Signal(word, name="arriving_data")
        m.d.comb += [
            network.eq(self.write_valid.any()),
            arrives.eq(network | self.host_write),
            network_adds.eq(network & lowest(self.write_valid, planes_of(self.write_accumulate, self.planes))),
            address.eq(Mux(network, lowest(self.write_valid, planes_of(self.write_address, self.planes)), self.host_address)),
            data.eq(Mux(network, lowest(self.write_valid, planes_of(self.write_data, self.planes)), self.host_data)),
            self.stores.eq(network & ~network_adds),
            self.accumulates.eq(network_adds),
            self.conflict.eq(several(self.write_valid)),
            memory["read_enable"].eq(adds | self.read_enable),
            memory["read_address"].eq(Mux(adds, address, self.read_address)),
            self.read_data.eq(memory["read_data"]),
        ]

        writes = register(m, arrives, name="writes", reset_less=False)
        held_adds, forward = Signal(reset_less=True), Signal(reset_less=True)
        held_address = Signal(self.address_width, reset_less=True)
        held_data, forwarded = Signal(word, reset_less=True), Signal(word, reset_less=True)
        total = Signal(word)
        again = Signal()
        m.d.comb += again.eq(writes & adds & (held_address == address))
        with m.If(arrives):
            m.d.sync += [held_adds.eq(adds), held_address.eq(address), held_data.eq(data), forward.eq(again)]
        # The row written in this cycle is read too early from the memory by a word that arrives now.
        with m.If(again):
            m.d.sync += forwarded.eq(total)
        old = Signal(word)
        sums = []
        m.d.comb += old.eq(Mux(held_adds, Mux(forward, forwarded, memory["read_data"]), 0))
        for lane in range(self.lanes):
            lane_total = Signal(self.width, name=f"total_{lane}")
            m.d.comb += lane_total.eq(held_data.word_select(lane, self.width) + old.word_select(lane, self.width))
            sums.append(lane_total)
        m.d.comb += [
            total.eq(Cat(*sums)),
            memory["write_enable"].eq(writes),
            memory["write_address"].eq(held_address),
            memory["write_data"].eq(total),
            self.busy_conflict.eq(self.read_enable & adds),
            self.hazard.eq(self.read_enable & writes & (held_address == self.read_address)),
        ]
        return m
