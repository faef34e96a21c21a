"""Sequencer: runs epochs one after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config_parts import FILL_CYCLES

from ..parts.blocks import Block


class Sequencer(Block):
    """A fill pulse, `FILL_CYCLES` later ``run`` until no node is busy and the networks are empty; and again for each epoch.

    With ``node_busy`` high in cycle t for the last time of the epoch, ``run`` is high up to and including cycle
    t + ``drain`` + 1; if t is before the first cycle of ``run``, r, up to and including cycle r + ``drain``.

    An epoch is due from the cycle of its start on, or from the last one of the epoch before; its ``fill`` comes in the cycle after
    the first of these with ``hold`` low. While it waits ``busy`` is low, a start puts its epochs in place of all that wait, and an
    error drops them.

    Latency: 1 cycle from ``start`` to ``fill`` with ``hold`` low; `FILL_CYCLES` from ``fill`` to ``run``.

    Parameters
    ----------
    drain : int
        Cycles in which the networks become empty.

    Members
    -------
    start : In(1)
        Run ``epochs`` epochs; ignored while ``busy``, and with ``epochs`` 0.
    epochs : In(32)
        How many.
    hold : In(1)
        The next epoch waits.
    clear : Out(1)
        In the cycle of a start that is not ignored.
    fill, run : Out(1)
        To the nodes.
    node_busy : In(1)
        Any node is busy; there may be registers between here and the nodes, up to `FILL_CYCLES` - 2 there and back.
    error : In(1)
        Any node has an error, behind registers as ``node_busy``. It ends the epoch as if no node were busy, and drops all that
        follow.
    busy : Out(1)
        An epoch is on, from its ``fill`` to the last cycle with ``run``.
    cycles : Out(32)
        Cycles with ``run`` of this epoch, or of the last.
    total_cycles : Out(32)
        Cycles with ``run`` since the last start.
    done : Out(32)
        Epochs finished since the last start.
    """

    kind = "sequencer"

    def __init__(self, drain: int):
        self.drain = drain
        self.variant = f"drain{drain}"
        super().__init__(
            {
                "start": In(1),
                "epochs": In(32),
                "hold": In(1),
                "clear": Out(1),
                "fill": Out(1),
                "run": Out(1),
                "node_busy": In(1),
                "error": In(1),
                "busy": Out(1),
                "cycles": Out(32),
                "total_cycles": Out(32),
                "done": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(32)
        begin, filling, running, draining = (Signal(name=name) for name in ("begin", "filling", "running", "draining"))
        waiting, due = Signal(), Signal()
        wait = Signal(range(max(FILL_CYCLES, self.drain)))
        accepted, ends, again = Signal(), Signal(), Signal()
        m.d.comb += [
            accepted.eq(self.start & ~self.busy & (self.epochs != 0)),
            self.clear.eq(accepted),
            self.fill.eq(begin),
            self.run.eq(running | draining),
            self.busy.eq(begin | filling | running | draining),
            ends.eq(draining & (wait == 0)),
            again.eq(ends & (left != 1) & ~self.error),
        ]
        m.d.comb += due.eq(accepted | again | (waiting & ~self.error))
        m.d.sync += [begin.eq(due & ~self.hold), waiting.eq(due & self.hold)]
        with m.If(accepted):
            m.d.sync += left.eq(self.epochs)
        with m.If(begin):
            m.d.sync += [filling.eq(1), wait.eq(FILL_CYCLES - 2)]
        with m.If(filling):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 0):
                m.d.sync += [filling.eq(0), running.eq(1)]
        with m.If(running & (~self.node_busy | self.error)):
            m.d.sync += [running.eq(0), draining.eq(1), wait.eq(self.drain - 1)]
        with m.If(draining):
            m.d.sync += wait.eq(wait - 1)
            with m.If(ends):
                m.d.sync += [draining.eq(0), left.eq(left - 1), self.done.eq(self.done + 1)]
        with m.If(begin):
            m.d.sync += self.cycles.eq(0)
        with m.If(self.run):
            m.d.sync += [self.cycles.eq(self.cycles + 1), self.total_cycles.eq(self.total_cycles + 1)]
        with m.If(accepted):
            m.d.sync += [self.total_cycles.eq(0), self.done.eq(0)]
        return m
