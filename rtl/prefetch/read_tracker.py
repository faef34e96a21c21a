"""Read tracker: knows of every beat that comes from memory which burst it belongs to."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import PrefetchError

from ..parts.blocks import Block, place, register, struct
from ..parts.word_queue import WordQueue
from .engine_words import ReadClass, burst_layout, fault_layout, prefetch_of


class ReadTracker(Block):
    """One register between the read data channel, which is always ready, and the rest.

    Bursts are answered in the order of their issue. All of ``beat_*``, ``ended`` and ``fault*`` is about the beat that is here.

    Latency: 1 cycle from a beat on the channel to here.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``: ``data_width`` and ``address_width``.

    Members
    -------
    clear : In(1)
        Forget the bursts issued.
    issued, burst : In(1), In(burst_layout(config).width)
        A burst is issued; it, laid out by `burst_layout`.
    m_axi_rdata, m_axi_rresp, m_axi_rlast, m_axi_rvalid : In(data_width), In(2), In(1), In(1)
        The read data channel, without id.
    m_axi_rready : Out(1)
        Always high.
    beat_valid, beat_data, beat_last : Out(1), Out(data_width), Out(1)
        A beat.
    beat_failed : Out(1)
        Its response is an error.
    beat_class, beat_ring, beat_address : Out(2), Out(1), Out(address_width)
        Of its burst: `ReadClass`, ring and byte address.
    ended : Out(1)
        It is the last one of its burst.
    fault_valid, fault : Out(1), Out(fault_layout(config).width)
        It is a beat of data with an error; that, laid out by `fault_layout`.
    """

    kind = "read_tracker"

    def __init__(self, config: ChipConfig):
        self.config = config
        prefetch = prefetch_of(config)
        super().__init__(
            {
                "clear": In(1),
                "issued": In(1),
                "burst": In(burst_layout(config).width),
                "m_axi_rdata": In(prefetch.data_width),
                "m_axi_rresp": In(2),
                "m_axi_rlast": In(1),
                "m_axi_rvalid": In(1),
                "m_axi_rready": Out(1),
                "beat_valid": Out(1),
                "beat_data": Out(prefetch.data_width),
                "beat_last": Out(1),
                "beat_failed": Out(1),
                "beat_class": Out(2),
                "beat_ring": Out(1),
                "beat_address": Out(prefetch.address_width),
                "ended": Out(1),
                "fault_valid": Out(1),
                "fault": Out(fault_layout(config).width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bursts = place(m, "bursts", WordQueue(prefetch_of(self.config).outstanding, burst_layout(self.config).width))
        burst, fault = Signal(struct(burst_layout(self.config))), Signal(struct(fault_layout(self.config)))
        response = register(m, self.m_axi_rresp, name="response")
        valid = register(m, self.m_axi_rvalid, name="valid", reset_less=False)
        m.d.comb += [
            bursts["clear"].eq(self.clear),
            bursts["push"].eq(self.issued),
            bursts["push_word"].eq(self.burst),
            bursts["pop"].eq(self.ended),
            Value.cast(burst).eq(bursts["head"]),
            self.m_axi_rready.eq(1),
            self.beat_valid.eq(valid & bursts["head_valid"]),
            self.beat_data.eq(register(m, self.m_axi_rdata, name="data")),
            self.beat_last.eq(register(m, self.m_axi_rlast, name="last")),
            self.beat_failed.eq(response[1]),
            self.beat_class.eq(burst.read_class),
            self.beat_ring.eq(burst.ring),
            self.beat_address.eq(burst.address),
            self.ended.eq(self.beat_valid & self.beat_last),
            self.fault_valid.eq(self.beat_valid & self.beat_failed & (burst.read_class != ReadClass.DESCRIPTOR)),
            fault.code.eq(Mux(response[0], PrefetchError.READ_DECERR, PrefetchError.READ_SLVERR)),
            fault.ring.eq(burst.ring),
            fault.tag.eq(burst.tag),
            fault.address.eq(burst.address),
            self.fault.eq(fault),
        ]
        return m
