"""Job queue: jobs wait here for their start time."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from podweave.spec.layout import Layout

from .blocks import Block, struct


class JobQueue(Block):
    """FIFO of ``depth`` jobs.

    Latency: 1 cycle, at the least, from a push to the head.

    Parameters
    ----------
    layout : Layout
        Of a job.
    depth : int
        Jobs it holds.

    Members
    -------
    push_valid : In(1)
        A job to append.
    push_job : In(layout.width)
        That job.
    ready : Out(1)
        There is room; a job pushed while ``ready`` is low is lost.
    overflow : Out(1)
        A job is pushed while ``ready`` is low, in the same cycle.
    head_valid : Out(1)
        There is a job at the head.
    head : Out(struct(layout))
        The oldest job.
    pop : In(1)
        Remove it (only with ``head_valid``).
    """

    def __init__(self, layout: Layout, depth: int):
        self.kind = f"{layout.name}_queue"
        self.variant = f"{depth}x{layout.width}"
        self.layout, self.depth = layout, depth
        super().__init__(
            {
                "push_valid": In(1),
                "push_job": In(layout.width),
                "ready": Out(1),
                "overflow": Out(1),
                "head_valid": Out(1),
                "head": Out(struct(layout)),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.jobs = jobs = Memory(shape=self.layout.width, depth=self.depth, init=[])
        write, read = jobs.write_port(), jobs.read_port(domain="comb")
        level = Signal(range(self.depth + 1))
        push = Signal()
        m.d.comb += [
            self.ready.eq(level != self.depth),
            self.head_valid.eq(level != 0),
            push.eq(self.push_valid & self.ready),
            self.overflow.eq(self.push_valid & ~self.ready),
            write.en.eq(push),
            write.data.eq(self.push_job),
            self.head.as_value().eq(read.data),
        ]
        for step, port in ((push, write), (self.pop, read)):
            address = Signal(range(self.depth), name="write_address" if port is write else "read_address")
            m.d.comb += port.addr.eq(address)
            with m.If(step):
                m.d.sync += address.eq(address + 1)
                if self.depth & (self.depth - 1):
                    with m.If(address == self.depth - 1):
                        m.d.sync += address.eq(0)
        m.d.sync += level.eq(level + push - self.pop)
        return m
