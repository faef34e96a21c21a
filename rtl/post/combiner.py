"""Combiner: what becomes of reduced words before they are requantised: products of pairs, rotations, distances from a row's
value."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.row_functions import Combine

from ..parts.blocks import Block


class Combiner(Block):
    """``lanes`` lanes of 32 bits, which are values, or pairs of 16 bits of which the first is above.

    Lane by lane the value, the product of the pair, or the pair rotated by its neighbour (`Combine`); then, if asked to, the
    value of the row minus that. All modulo 2**33.

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
        With stage 1, one cycle later: a `Combine`.
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
                "subtract": In(1),
                "row_value": In(signed(32)),
                "results": Out(33 * lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values = [self.values.word_select(i, 32) for i in range(self.lanes)]
        firsts, seconds = [v[16:].as_signed() for v in values], [v[:16].as_signed() for v in values]

        def kept(name: str, value: Value, width: int) -> Signal:
            signal = Signal(signed(width), name=name, reset_less=True)
            with m.If(self.stages[0]):
                m.d.sync += signal.eq(value)
            return signal

        plain = [kept(f"plain_{i}", value.as_signed(), 32) for i, value in enumerate(values)]
        own = [kept(f"own_{i}", firsts[i] * seconds[i], 32) for i in range(self.lanes)]
        cross = [kept(f"cross_{i}", firsts[i ^ 1] * seconds[i], 32) for i in range(self.lanes)]
        results = []
        for i in range(self.lanes):
            turned = cross[i] + cross[i - 1] if i % 2 else own[i] - own[i + 1]
            chosen = Signal(signed(33), name=f"chosen_{i}")
            result = Signal(signed(33), name=f"result_{i}", reset_less=True)
            code = Mux(self.combine == Combine.PRODUCT, own[i], plain[i])
            m.d.comb += chosen.eq(Mux(self.combine == Combine.ROTATE, turned, code))
            with m.If(self.stages[1]):
                m.d.sync += result.eq(Mux(self.subtract, self.row_value - chosen, chosen))
            results.append(result)
        m.d.comb += self.results.eq(Cat(results))
        return m
