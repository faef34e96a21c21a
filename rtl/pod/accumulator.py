"""Local accumulators: partial sums of a tile stay in the pod until its last K step."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.jobs import Accumulate
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, place
from ..parts.sram import Sram


class Accumulator(Block):
    """Bypass, store or add one row of partial sums per cycle; the same row may follow itself.

    With ``depth`` 0 there is no memory and only BYPASS exists.

    Latency: 1 cycle from ``psum`` to ``result``; ``next_*`` come 1 cycle ahead of ``psum``.

    Parameters
    ----------
    depth : int
        Rows of the memory; 0: none.
    lanes : int
        Partial sums of a row.
    width : int
        Bits of a partial sum.

    Members
    -------
    next_valid : In(1)
        There are partial sums in the next cycle.
    next_code : In(2)
        What to do with them, an `Accumulate` code, one cycle ahead of the partial sums it is for.
    next_row : In(bits_for_index(depth))
        Row of the memory, one cycle ahead of the partial sums it is for.
    psum : In(lanes * width)
        The partial sums, in the cycle after their ``next_valid``.
    result : Out(lanes * width)
        One cycle after ``psum``, the sums of the last valid row.
    """

    kind = "accumulator"

    def __init__(self, *, depth: int, lanes: int, width: int):
        self.depth, self.lanes, self.width = depth, lanes, width
        self.variant = f"{depth}x{lanes}x{width}"
        super().__init__(
            {
                "next_valid": In(1),
                "next_code": In(2),
                "next_row": In(bits_for_index(depth)),
                "psum": In(lanes * width),
                "result": Out(lanes * width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Signal()
        result = Signal(self.lanes * self.width, reset_less=True)
        m.d.sync += valid.eq(self.next_valid)
        m.d.comb += self.result.eq(result)
        if not self.depth:
            with m.If(valid):
                m.d.sync += result.eq(self.psum)
            return m

        memory = place(m, "memory", Sram(self.depth, self.lanes * self.width))
        code = Signal(2, reset_less=True)
        row = Signal(bits_for_index(self.depth), reset_less=True)
        writes, forward = Signal(), Signal(reset_less=True)
        m.d.sync += [
            code.eq(self.next_code),
            row.eq(self.next_row),
            # The row written in this cycle is read too early from the memory: it is still in `result` next cycle.
            forward.eq(writes & (row == self.next_row)),
        ]
        m.d.comb += [
            writes.eq(valid & (code != Accumulate.BYPASS)),
            memory["read_enable"].eq(self.next_valid & (self.next_code == Accumulate.ADD)),
            memory["read_address"].eq(self.next_row),
            memory["write_enable"].eq(writes),
            memory["write_address"].eq(row),
        ]
        adds = Signal()
        m.d.comb += adds.eq(code == Accumulate.ADD)
        old = Signal(self.lanes * self.width)
        m.d.comb += old.eq(Mux(adds, Mux(forward, result, memory["read_data"]), 0))
        sums = []
        for lane in range(self.lanes):
            total = Signal(self.width, name=f"total_{lane}")
            m.d.comb += total.eq(self.psum.word_select(lane, self.width) + old.word_select(lane, self.width))
            sums.append(total)
        total_row = Signal(self.lanes * self.width)
        m.d.comb += [total_row.eq(Cat(*sums)), memory["write_data"].eq(total_row)]
        with m.If(valid):
            m.d.sync += result.eq(total_row)
        return m
