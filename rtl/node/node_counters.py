"""Activity counters of a node."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.load_port import Counter

from ..parts.blocks import Block

COUNTER_WIDTH = 32


class NodeCounters(Block):
    """One 32-bit counter for each `Counter`; an event of cycle t is counted from cycle t + 1 on.

    WAITING has no event of its own: it counts the cycles with ``run`` and without ``x_words`` that are followed by one with
    ``x_words`` before ``run`` falls: a stream job was queued and none in progress. They are added when that word is requested.

    Members
    -------
    clear : In(1)
        All counters to 0.
    run : In(1)
        The epoch is on.
    x_words, w_words, p_words, x_reads, x_writes, w_reads, p_stores, p_accumulates, post_words : In(1)
        The events.
    select : In(4)
        A `Counter`.
    value : Out(32)
        That counter, in the same cycle; 0 of any other number.
    """

    kind = "counters"

    def __init__(self) -> None:
        events = {counter.name.lower(): In(1) for counter in Counter if counter != Counter.WAITING}
        super().__init__({"clear": In(1), "run": In(1), **events, "select": In(4), "value": Out(COUNTER_WIDTH)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        gap = Signal(COUNTER_WIDTH)
        m.d.sync += gap.eq(Mux(self.run & ~self.x_words, gap + 1, 0))
        # One register, so that a test bench finds all of them in one place.
        values = Signal(COUNTER_WIDTH * len(Counter))
        grown = []
        for counter in Counter:
            old = values.word_select(counter, COUNTER_WIDTH)
            if counter == Counter.WAITING:
                step = Mux(self.x_words, gap, 0)
            else:
                step = getattr(self, counter.name.lower())
            grown.append((old + step)[:COUNTER_WIDTH])
        m.d.sync += values.eq(Mux(self.clear, 0, Cat(grown)))
        m.d.comb += self.value.eq(Array(values.word_select(counter, COUNTER_WIDTH) for counter in Counter)[self.select])
        return m
