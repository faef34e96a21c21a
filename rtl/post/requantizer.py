"""Requantiser: from a reduced partial sum to an activation."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.row_functions import Saturate

from ..parts.blocks import Block

_INT16_MOST = 32639
"""What splits into two int8 planes: 127 * 256 + 127."""


class Requantizer(Block):
    """One lane: ``saturate(round((sum + bias) * multiplier / 2**shift))``, exact but for the one rounding, to nearest.

    The sum with its bias is saturated to ``sum_bits`` bits first. A half goes away from zero, or to the even neighbour
    (``rounding`` of `PostConfig`). A zero point may be added before a result is saturated, to int8, or with row functions as
    ``saturate`` says.

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
        With stage 0. Sum and bias are taken modulo 2**33, then saturated.
    bias : In(signed(32))
        With stage 0.
    multiplier : In(scale_bits)
        Unsigned, with stage 1, one cycle later.
    shift : In(6), with row functions In(7)
        With stage 2.
    zero_point : In(signed(8))
        Only with ``zero_points`` of `PostConfig`: with stage 2.
    saturate : In(2)
        Only with row functions: with stage 2, a `Saturate`.
    result : Out(signed(8)), with row functions Out(signed(psum_width))
        One cycle after stage 2, until one cycle after the next.
    """

    kind = "requantizer"
    inline = True

    def __init__(self, config: ChipConfig) -> None:
        self.rows, self.even = config.has_rows, config.post.rounding == "half_even"
        self.width = config.array.psum_width if self.rows else 8
        self.scale_bits, self.sum_bits = config.post.scale_bits, config.post.sum_bits
        wide = ["wide", str(self.width)] if self.rows else []
        self.zero_points = config.post.zero_points
        ways = [*(["even"] if self.even else []), *(["zero"] if self.zero_points else [])]
        self.variant = "_".join([*wide, f"{self.sum_bits}x{self.scale_bits}", *ways])
        # What is rounded has a bit more than the result where something is added to it.
        self.kept = self.width + self.zero_points
        saturate: dict[str, Any] = {"saturate": In(2)} if self.rows else {}
        saturate |= {"zero_point": In(signed(8))} if self.zero_points else {}
        super().__init__(
            {
                "stages": In(3),
                "sum": In(signed(32 + self.rows)),
                "bias": In(signed(32)),
                "multiplier": In(self.scale_bits),
                "shift": In(6 + self.rows),
                **saturate,
                "result": Out(signed(self.width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, total, biased = self.sum_bits, Signal(signed(33)), Signal(signed(self.sum_bits), reset_less=True)
        m.d.comb += total.eq(self.sum + self.bias)
        above = total[bits - 1 :]
        limit = Cat((~total[-1]).replicate(bits - 1), total[-1])
        with m.If(self.stages[0]):
            m.d.sync += biased.eq(Mux(above.all() | ~above.any(), total[:bits], limit))

        # Its sign is that of its second factor, and 1 less still fits. "Half away from zero" is "half up", but for negative ones:
        # what is a little less than they are rounds as they should.
        product = Signal(signed(bits + self.scale_bits), reset_less=True)
        with m.If(self.stages[1]):
            m.d.sync += product.eq(self.multiplier * biased - (Const(0, 1) if self.even else biased < 0))

        doubled, lost, fits = self._shifted(m, Cat(Const(0, 1) if self.even else product[-1], product))
        # One bit more than the result rounds it, and one less is left of it.
        rounded = Signal(signed(self.kept + 1))
        up = doubled[0] & (lost | doubled[1]) if self.even else doubled[0]
        m.d.comb += rounded.eq(doubled[1:].as_signed() + up)

        result = Signal(signed(self.width), reset_less=True)
        m.d.comb += self.result.eq(result)
        with m.If(self.stages[2]):
            m.d.sync += result.eq(self._saturated(rounded, fits, product[-1]))
        return m

    def _shifted(self, m: Module, value: Value) -> tuple[Value, Value, Value]:
        """``value >> shift`` in one bit more than is kept; whether a 1 was shifted out; and whether nothing is above.

        Behind the step that shifts by 2**k there are 2**k - 1 bits more than are wanted, which the steps to come may still need:
        those beyond are above whatever they do.
        """
        width, sign = self.kept + 1, value[-1]
        above: Value = Const(0, 1)
        lost: Value = Const(0, 1)
        for step in reversed(range(6)):
            by, shifts = 1 << step, self.shift[step]
            left = min(width + by - 1, len(value))
            lost |= shifts & value[:by].any()
            above |= ~shifts & Mux(sign, ~value[left:].all(), value[left:].any()) if left < len(value) else 0
            moved = value[by : by + left]
            shifted = Signal(left, name=f"shifted_{by}")
            m.d.comb += shifted.eq(Mux(shifts, Cat(moved, sign.replicate(left - len(moved))), value[:left]))
            value = shifted
        above |= value[-1] != sign
        if len(self.shift) == 7:
            # Nothing is left but the sign.
            far = self.shift[6]
            return Mux(far, sign.replicate(width), value), far | lost, far | ~above
        return value, lost, ~above

    def _saturated(self, rounded: Value, fits: Value, negative: Value) -> Value:
        """``rounded``, with the zero point; or the limit that it is beyond, where ``negative`` is the sign of what does not fit.

        What does not fit is beyond every result with any zero point.
        """
        width, value = self.width, rounded + self.zero_point if self.zero_points else rounded
        below = Mux(fits, value[-1], negative)

        def is_within(bits: int) -> Value:
            high = value[bits - 1 :]
            return fits & (high.all() | ~high.any())

        if not self.rows:
            return Mux(is_within(width), value[:width], Cat((~below).replicate(width - 1), below))
        int16, unsigned = is_within(16) & (value[-1] | ~value[7:15].all()), fits & ~value[8:].any()
        cases = {
            Saturate.UINT8: (unsigned, 0, 255),
            Saturate.INT16: (int16, -_INT16_MOST - 129, _INT16_MOST),
            Saturate.WIDE: (is_within(width), -1 << width - 1, (1 << width - 1) - 1),
        }
        found, limit = is_within(8), Mux(below, Const(-128, signed(width)), Const(127, signed(width)))
        for code, (within, least, most) in cases.items():
            found = Mux(self.saturate == code, within, found)
            limit = Mux(self.saturate == code, Mux(below, Const(least, signed(width)), Const(most, signed(width))), limit)
        return Mux(found, value[:width], limit[:width])
