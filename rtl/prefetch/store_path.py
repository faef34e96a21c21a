"""Store path: the write data and write response channels."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import TAG_WIDTH, PrefetchError

from ..parts.blocks import Block, place, register, struct
from ..parts.word_queue import WordQueue
from .engine_words import fault_layout, prefetch_of


class StorePath(Block):
    """Sends the beats of write bursts, all of which are in the buffer when their burst is issued, and takes the responses.

    Beats go in order, without a gap while ``wready`` is high. The response channel is always ready; a response ends its burst
    (``ended``).

    Latency: 3 cycles, at the least, from ``issued`` to the first beat, whether its address was accepted or not; 1 from a response
    on the channel to here.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``: ``data_width`` and ``address_width``.

    Members
    -------
    clear : In(1)
        Forget the bursts issued.
    issued : In(1)
        A burst is issued.
    address, length : In(address_width), In(8)
        Its byte address, and its beats - 1.
    pop : Out(1)
        Take a beat from the buffer.
    data, strobe : In(data_width), In(data_width // 8)
        That beat, from the next cycle until the one after the next pop.
    ring, tag : In(1), In(TAG_WIDTH)
        Of the store.
    ended : Out(1)
        A response.
    fault_valid, fault : Out(1), Out(fault_layout(config).width)
        It is an error, of the store ``ring``, ``tag``; that, laid out by `fault_layout`.
    beat : Out(1)
        A beat was accepted in the cycle before.
    m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_wvalid : Out(data_width), Out(data_width // 8), Out(1), Out(1)
        The write data channel.
    m_axi_wready : In(1)
        The memory takes a beat.
    m_axi_bresp, m_axi_bvalid, m_axi_bready : In(2), In(1), Out(1)
        The response channel, without id.
    """

    kind = "store_path"

    def __init__(self, config: ChipConfig):
        self.config = config
        prefetch = prefetch_of(config)
        super().__init__(
            {
                "clear": In(1),
                "issued": In(1),
                "address": In(prefetch.address_width),
                "length": In(8),
                "pop": Out(1),
                "data": In(prefetch.data_width),
                "strobe": In(prefetch.data_width // 8),
                "ring": In(1),
                "tag": In(TAG_WIDTH),
                "ended": Out(1),
                "fault_valid": Out(1),
                "fault": Out(fault_layout(config).width),
                "beat": Out(1),
                "m_axi_wdata": Out(prefetch.data_width),
                "m_axi_wstrb": Out(prefetch.data_width // 8),
                "m_axi_wlast": Out(1),
                "m_axi_wvalid": Out(1),
                "m_axi_wready": In(1),
                "m_axi_bresp": In(2),
                "m_axi_bvalid": In(1),
                "m_axi_bready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        prefetch = prefetch_of(self.config)
        m = Module()
        lengths = place(m, "lengths", WordQueue(prefetch.outstanding, 8))
        addresses = place(m, "addresses", WordQueue(prefetch.outstanding, prefetch.address_width))
        sent = Signal(8)
        last = Signal()
        m.d.comb += [
            lengths["clear"].eq(self.clear),
            lengths["push"].eq(self.issued),
            lengths["push_word"].eq(self.length),
            self.pop.eq(lengths["head_valid"] & (~self.m_axi_wvalid | self.m_axi_wready)),
            last.eq(sent == lengths["head"]),
            lengths["pop"].eq(self.pop & last),
            self.m_axi_wdata.eq(self.data),
            self.m_axi_wstrb.eq(self.strobe),
        ]
        with m.If(self.pop):
            m.d.sync += [sent.eq(Mux(last, 0, sent + 1)), self.m_axi_wlast.eq(last)]
        m.d.sync += [
            self.m_axi_wvalid.eq(self.pop | (self.m_axi_wvalid & ~self.m_axi_wready)),
            self.beat.eq(self.m_axi_wvalid & self.m_axi_wready),
        ]

        response = register(m, self.m_axi_bresp, name="response")
        answered = register(m, self.m_axi_bvalid, name="answered", reset_less=False)
        fault = Signal(struct(fault_layout(self.config)))
        m.d.comb += [
            addresses["clear"].eq(self.clear),
            addresses["push"].eq(self.issued),
            addresses["push_word"].eq(self.address),
            addresses["pop"].eq(self.ended),
            self.m_axi_bready.eq(1),
            self.ended.eq(answered & addresses["head_valid"]),
            self.fault_valid.eq(self.ended & response[1]),
            fault.code.eq(Mux(response[0], PrefetchError.WRITE_DECERR, PrefetchError.WRITE_SLVERR)),
            fault.ring.eq(self.ring),
            fault.tag.eq(self.tag),
            fault.address.eq(addresses["head"]),
            self.fault.eq(fault),
        ]
        return m
