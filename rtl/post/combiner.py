"""Combiner: what becomes of reduced words before they are requantised: products of pairs, rotations, distances from a row's
value."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.row_functions import Combine

from ..parts.blocks import Block


class Combiner(Block):
    """``lanes`` lanes of 32 bits, which are values, or pairs of 16 bits of which the first is above.

    Lane by lane the value, the product of the pair, or the pair rotated by its neighbour (`Combine`); then, if asked to, the
    value of the row minus that. All modulo 2**33.

    There is one multiplier per lane. A rotation takes stage 0 twice, in successive cycles with the same ``values``: the products of
    the pairs, then those of the second value of each with the first one of its neighbour.

    Latency: 2 cycles from ``values`` to ``results``, with the two stages one cycle after the other.

    Parameters
    ----------
    lanes : int
        An even number.

    Members
    -------
    stages : In(2)
        Bit i lets stage i take a word in this cycle; a stage without one keeps what it has.
    values : In(32 * lanes)
        With stage 0.
    combine : In(2)
        With stage 0: a `Combine`.
    second : In(1)
        With stage 0: the second cycle of a rotation.
    turns : In(1)
        With stage 1, one cycle later: it is a rotation.
    subtract : In(1)
        With stage 1.
    row_value : In(signed(32))
        With stage 1.
    results : Out(33 * lanes)
        One cycle after stage 1, until one cycle after the next.
    """

    kind = "combiner"

    def __init__(self, lanes: int):
        self.lanes, self.variant = lanes, str(lanes)
        super().__init__(
            {
                "stages": In(2),
                "values": In(32 * lanes),
                "combine": In(2),
                "second": In(1),
                "turns": In(1),
                "subtract": In(1),
                "row_value": In(signed(32)),
                "results": Out(33 * lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values = [self.values.word_select(i, 32) for i in range(self.lanes)]
        firsts, seconds = [v[16:].as_signed() for v in values], [v[:16].as_signed() for v in values]

        takes, plain = self.stages[0], self.combine == Combine.VALUE
        kept = [Signal(signed(32), name=f"kept_{i}", reset_less=True) for i in range(self.lanes)]
        # Of the first products of a rotation, the difference: that is lane 2i.
        turned = [Signal(signed(33), name=f"turned_{i}", reset_less=True) for i in range(0, self.lanes, 2)]
        for i in range(self.lanes):
            product = Signal(signed(32), name=f"product_{i}")
            m.d.comb += product.eq(Mux(self.second, firsts[i ^ 1], firsts[i]) * seconds[i])
            with m.If(takes):
                m.d.sync += kept[i].eq(Mux(plain, values[i], product))
        with m.If(takes & self.second):
            m.d.sync += [signal.eq(kept[2 * i] - kept[2 * i + 1]) for i, signal in enumerate(turned)]
        results = []
        for i in range(self.lanes):
            chosen = Signal(signed(33), name=f"chosen_{i}")
            result = Signal(signed(33), name=f"result_{i}", reset_less=True)
            m.d.comb += chosen.eq(Mux(self.turns, kept[i] + kept[i - 1] if i % 2 else turned[i // 2], kept[i]))
            with m.If(self.stages[1]):
                m.d.sync += result.eq(Mux(self.subtract, self.row_value - chosen, chosen))
            results.append(result)
        m.d.comb += self.results.eq(Cat(results))
        return m
