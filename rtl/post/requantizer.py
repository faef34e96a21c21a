"""Requantiser: from a reduced partial sum to an activation."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.row_functions import Saturate

from ..parts.blocks import Block

_INT8 = (127, 128)
"""The most that a value may be, and the most that the magnitude of a negative one may be."""


class Requantizer(Block):
    """One lane: ``saturate(round((sum + bias) * multiplier / 2**shift))``, exact but for the one rounding, to nearest.

    A half goes away from zero, or to the even neighbour (``rounding`` of `PostConfig`). Without row functions, results are int8.

    Latency: 3 cycles from ``sum`` to ``result``, with the three stages one cycle after the other.

    Parameters
    ----------
    config : ChipConfig
        Its ``post``, and ``psum_width``.

    Members
    -------
    stages : In(3)
        Bit i lets stage i take a word in this cycle; a stage without one keeps what it has.
    sum : In(signed(32)), with row functions In(signed(33))
        With stage 0. Sum and bias are taken modulo 2**33.
    bias : In(signed(32))
        With stage 0.
    multiplier : In(31)
        Unsigned, with stage 1, one cycle later.
    shift : In(6), with row functions In(7)
        With stage 2.
    saturate : In(2)
        Only with row functions: with stage 2, a `Saturate`.
    result : Out(signed(8)), with row functions Out(signed(psum_width))
        One cycle after stage 2, until one cycle after the next.
    """

    kind = "requantizer"
    inline = True

    def __init__(self, config: ChipConfig) -> None:
        assert config.post is not None
        self.rows, self.even = config.has_rows, config.post.rounding == "half_even"
        self.width = config.array.psum_width if self.rows else 8
        # Two lists of words that nothing sets apart are one block.
        self.variant = "_".join((["wide", str(self.width)] if self.rows else []) + (["even"] if self.even else []))
        saturate: dict[str, Any] = {"saturate": In(2)} if self.rows else {}
        super().__init__(
            {
                "stages": In(3),
                "sum": In(signed(32 + self.rows)),
                "bias": In(signed(32)),
                "multiplier": In(31),
                "shift": In(6 + self.rows),
                **saturate,
                "result": Out(signed(self.width)),
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
        width = self.width
        doubled, rounded = Signal(64), Signal(width + 1)
        result = Signal(signed(width), reset_less=True)
        most, least = Signal(width), Signal(width)
        above = Signal()
        m.d.comb += [
            doubled.eq(Cat(0, product) >> self.shift),
            rounded.eq((doubled[: width + 1] + self._rounds_up(m, product, doubled)) >> 1),
            above.eq(doubled[width + 1 :].any()),
            *self._limits(most, least),
            self.result.eq(result),
        ]
        positive_result, negative_result = Signal(width), Signal(width)
        m.d.comb += [
            positive_result.eq(Mux(above | (rounded > most), most, rounded)),
            negative_result.eq(Mux(above | (rounded > least), -least, -rounded)),
        ]
        with m.If(self.stages[2]):
            m.d.sync += result.eq(Mux(negative, negative_result, positive_result).as_signed())
        return m

    def _rounds_up(self, m: Module, product: Value, doubled: Value) -> Value:
        """What is added before the last bit is dropped: 1 but for a tie that leaves an even number."""
        if not self.even:
            return Const(1, 1)
        below = Signal(64, name="below")
        m.d.comb += below.eq(Cat(0, product) & ~(Const((1 << 64) - 1, 64) << self.shift))
        return below.any() | doubled[1]

    def _limits(self, most: Signal, least: Signal) -> list[Any]:
        if not self.rows:
            return [most.eq(_INT8[0]), least.eq(_INT8[1])]
        limits = {
            Saturate.INT8: _INT8,
            Saturate.UINT8: (255, 0),
            Saturate.INT16: (32639, 32768),
            Saturate.WIDE: ((1 << self.width - 1) - 1, 1 << self.width - 1),
        }
        cases = limits[Saturate.INT8]
        found: list[Value] = [Const(value, self.width) for value in cases]
        for code, values in limits.items():
            found = [Mux(self.saturate == code, value, other) for value, other in zip(values, found, strict=True)]
        return [most.eq(found[0]), least.eq(found[1])]
