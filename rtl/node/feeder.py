"""Feeder: a program store that pushes the jobs of one epoch after the other into a job queue."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.jobs import store_layout
from podweave.spec.layout import Layout, bits_for_index

from ..parts.blocks import Block, place, struct
from ..parts.sram import Sram


class Feeder(Block):
    """``depth`` words of `store_layout`; pushes the jobs of an epoch, in order, up to one per cycle.

    An epoch is the words from where the epoch before ended, up to and including one with ``last``; words without ``valid`` push
    nothing.

    Latency: 2 cycles, at the least, from ``fill`` to the push of the first word of its epoch.

    Parameters
    ----------
    layout : Layout
        Of a job.
    depth : int
        Words of the store.

    Members
    -------
    fill : In(1)
        An epoch begins (only with ``done``).
    rewind : In(1)
        The next epoch begins at word 0 (only with ``done``).
    done : Out(1)
        The last word of the epoch was pushed or passed over in an earlier cycle.
    job_valid : Out(1)
        A push, only in cycles with ``job_ready``.
    job : Out(layout.width)
        The job pushed.
    job_ready : In(1)
        The queue has room.
    host_write : In(1)
        Writes a word. A word that is read in the same cycle is undefined.
    host_address : In(bits_for_index(depth))
        Index of the word to write.
    host_data : In(store_layout(layout).width)
        The word to write.
    """

    def __init__(self, layout: Layout, depth: int):
        self.kind = f"{layout.name}_feeder"
        self.variant = f"{depth}x{layout.width}"
        self.layout, self.depth = layout, depth
        self.word_layout = store_layout(layout)
        super().__init__(
            {
                "fill": In(1),
                "rewind": In(1),
                "done": Out(1),
                "job_valid": Out(1),
                "job": Out(layout.width),
                "job_ready": In(1),
                "host_write": In(1),
                "host_address": In(bits_for_index(depth)),
                "host_data": In(self.word_layout.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        store = place(m, "store", Sram(self.depth, self.word_layout.width))
        word = Signal(struct(self.word_layout))
        running, present, taken, fetch = (Signal(name=name) for name in ("running", "present", "taken", "fetch"))
        address = Signal(range(self.depth))
        m.d.comb += [
            Value.cast(word).eq(store["read_data"]),
            self.job.eq(store["read_data"]),
            self.job_valid.eq(present & word.valid & self.job_ready),
            taken.eq(present & (self.job_ready | ~word.valid)),
            # The word that may be the last of the epoch decides whether there is a next one in the cycle in which it goes.
            fetch.eq(running & (~present | (taken & ~word.last))),
            self.done.eq(~running),
            store["read_enable"].eq(fetch),
            store["read_address"].eq(address),
            store["write_enable"].eq(self.host_write),
            store["write_address"].eq(self.host_address),
            store["write_data"].eq(self.host_data),
        ]
        m.d.sync += present.eq(fetch | (present & ~taken))
        with m.If(fetch):
            m.d.sync += address.eq(address + 1)
            if self.depth & (self.depth - 1):
                with m.If(address == self.depth - 1):
                    m.d.sync += address.eq(0)
        with m.If(self.fill):
            m.d.sync += running.eq(1)
        with m.Elif(taken & word.last):
            m.d.sync += running.eq(0)
        with m.If(self.rewind):
            m.d.sync += address.eq(0)
        return m
