"""Requantiser: from a reduced partial sum to an int8 activation."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from ..parts.blocks import Block


class Requantizer(Block):
    """One lane: ``saturate(round((sum + bias) * multiplier / 2**shift))``, exact but for the one rounding, half away from zero.

    Latency: 3 cycles from ``sum`` to ``result``, with the three stages one cycle after the other.

    Members
    -------
    stages : In(3)
        Bit i lets stage i take a word in this cycle; a stage without one keeps what it has.
    sum, bias : In(signed(32))
        With stage 0.
    multiplier : In(31)
        Unsigned, with stage 1, one cycle later.
    shift : In(6)
        With stage 2.
    result : Out(signed(8))
        int8, one cycle after stage 2, until one cycle after the next.
    """

    kind = "requantizer"
    inline = True

    def __init__(self) -> None:
        super().__init__(
            {
                "stages": In(3),
                "sum": In(signed(32)),
                "bias": In(signed(32)),
                "multiplier": In(31),
                "shift": In(6),
                "result": Out(signed(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        biased = Signal(signed(33), reset_less=True)
        with m.If(self.stages[0]):
            m.d.sync += biased.eq(self.sum + self.bias)

        # At most 2**32 times 2**31 - 1. Of the magnitude, "half away from zero" is "half up".
        magnitude, product = Signal(33), Signal(63, reset_less=True)
        negative = Signal(reset_less=True)
        m.d.comb += magnitude.eq(Mux(biased < 0, -biased, biased))
        with m.If(self.stages[1]):
            m.d.sync += [product.eq(magnitude * self.multiplier), negative.eq(biased < 0)]

        # One bit more than the result rounds it.
        doubled, rounded = Signal(64), Signal(9)
        result = Signal(signed(8), reset_less=True)
        positive_result, negative_result = Signal(8), Signal(8)
        m.d.comb += [
            doubled.eq(Cat(0, product) >> self.shift),
            rounded.eq((doubled[:9] + 1) >> 1),
            positive_result.eq(Mux(doubled[9:].any() | (rounded > 127), 127, rounded)),
            negative_result.eq(Mux(doubled[9:].any() | (rounded > 128), 128, -rounded)),
            self.result.eq(result),
        ]
        with m.If(self.stages[2]):
            m.d.sync += result.eq(Mux(negative, negative_result, positive_result).as_signed())
        return m
