"""Row registers: values of statistics, the scales that are made of them, and lengths of rows."""

from __future__ import annotations

from functools import reduce
from math import sqrt
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import ELEMENT_WIDTH, MANTISSA_WIDTH, ROW_SHIFT_WIDTH, SCALAR_CYCLES, STATISTIC_WIDTH, Scalar

from ..parts.blocks import Block, place, register
from ..parts.sram import Sram

_BITS_PER_CYCLE = 3
"""Of a quotient; all but two cycles of a scale are for it."""
ROOTS = tuple(round(2**23 / sqrt(256 * i + 128)) for i in range(64, 256))
"""Reciprocal square roots of the middle of each i, from 64 on."""


class RowRegisters(Block):
    """``depth`` registers of a value, a mantissa and a shift; as many lengths; and the unit that makes scales of values (`Scalar`).

    A value that arrives is written at once. A scale is written `SCALAR_CYCLES` cycles after it; until then, no other scale can
    be begun. A register is ready from the cycle after its scale, or, without one, its value was written, until it is cleared.

    Latency: 1 cycle from each of the reads to its data, which stays until the next.

    Parameters
    ----------
    depth : int
        Registers: a power of two.

    Members
    -------
    arrives : In(1)
        A statistic is complete.
    arriving_row : In(bits_for_index(depth))
        The register that it is for.
    arriving_scalar : In(2)
        The `Scalar` to make of it.
    arriving_value : In(signed(STATISTIC_WIDTH))
        Its value.
    clear : In(1)
        A register is given to another row; the arrival for it in the same cycle counts.
    clear_row : In(bits_for_index(depth))
        That register.
    checks : In(1)
        A register is about to be read.
    check_row : In(bits_for_index(depth))
        That register.
    not_ready : Out(1)
        In this cycle: it is not ready.
    scalar_lost : Out(1)
        In this cycle a value to make a scale of arrives too early after another one; its register never becomes ready.
    busy : Out(1)
        A scale is being made.
    value_read, mantissa_read, shift_read : In(1)
        Reads.
    value_row, mantissa_row, shift_row : In(bits_for_index(depth))
        Their registers.
    value : Out(signed(STATISTIC_WIDTH))
        The value.
    mantissa : Out(MANTISSA_WIDTH)
        The mantissa.
    shift : Out(ROW_SHIFT_WIDTH)
        The shift.
    length_read : In(1)
        Reads a length.
    length_row : In(bits_for_index(depth))
        Which.
    length : Out(ELEMENT_WIDTH)
        The length.
    length_write : In(1)
        Writes a length; one that is read in the same cycle is undefined.
    length_address : In(bits_for_index(depth))
        Which.
    length_data : In(ELEMENT_WIDTH)
        What is written.
    """

    kind = "row_registers"

    def __init__(self, depth: int):
        self.depth, self.variant = depth, str(depth)
        row = bits_for_index(depth)
        super().__init__(
            {
                "arrives": In(1),
                "arriving_row": In(row),
                "arriving_scalar": In(2),
                "arriving_value": In(signed(STATISTIC_WIDTH)),
                "clear": In(1),
                "clear_row": In(row),
                "checks": In(1),
                "check_row": In(row),
                "not_ready": Out(1),
                "scalar_lost": Out(1),
                "busy": Out(1),
                "value_read": In(1),
                "mantissa_read": In(1),
                "shift_read": In(1),
                "value_row": In(row),
                "mantissa_row": In(row),
                "shift_row": In(row),
                "value": Out(signed(STATISTIC_WIDTH)),
                "mantissa": Out(MANTISSA_WIDTH),
                "shift": Out(ROW_SHIFT_WIDTH),
                "length_read": In(1),
                "length_row": In(row),
                "length": Out(ELEMENT_WIDTH),
                "length_write": In(1),
                "length_address": In(row),
                "length_data": In(ELEMENT_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scalar = (self.arriving_scalar == Scalar.RECIPROCAL) | (self.arriving_scalar == Scalar.RSQRT)
        begins, done, row, mantissa, shift = self._scale(m, self.arrives & scalar)
        m.d.comb += self.scalar_lost.eq(self.arrives & scalar & ~begins)
        is_ready = self._ready(m, [(self.arrives & ~scalar, self.arriving_row), (done, row)])
        m.d.comb += self.not_ready.eq(self.checks & ~is_ready)

        reads = {"value": STATISTIC_WIDTH, "mantissa": MANTISSA_WIDTH, "shift": ROW_SHIFT_WIDTH, "length": ELEMENT_WIDTH}
        writes: dict[str, tuple[Value, Value, Value]] = {
            "value": (self.arrives, self.arriving_row, self.arriving_value),
            "mantissa": (done, row, mantissa),
            "shift": (done, row, shift),
            "length": (self.length_write, self.length_address, self.length_data),
        }
        for name, width in reads.items():
            memory = place(m, f"{name}_memory", Sram(self.depth, width))
            enable, address, data = writes[name]
            m.d.comb += [
                memory["read_enable"].eq(getattr(self, f"{name}_read")),
                memory["read_address"].eq(getattr(self, f"{name}_row")),
                getattr(self, name).eq(memory["read_data"]),
                memory["write_enable"].eq(enable),
                memory["write_address"].eq(address),
                memory["write_data"].eq(data),
            ]
        return m

    def _ready(self, m: Module, found: list[tuple[Value, Value]]) -> Value:
        """A bit for each register: whether that of the row that is checked is set. Rows are decoded in two halves, so that a port
        costs a bit one gate."""
        low = len(self.check_row) // 2
        columns = 1 << low

        def halves(enable: Value, row: Value, name: str) -> tuple[Signal, Signal]:
            high, column = Signal(self.depth // columns, name=f"{name}_high"), Signal(columns, name=f"{name}_low")
            m.d.comb += [high.eq(Mux(enable, Const(1, len(high)) << row[low:], 0)), column.eq(Const(1, columns) << row[:low])]
            return high, column

        sets = [halves(*port, f"found_{i}") for i, port in enumerate(found)]
        gone_high, gone_low = halves(self.clear, self.clear_row, "lost")
        looks_high, looks_low = halves(self.checks, self.check_row, "looks")
        seen: list[Value] = []
        for a in range(len(looks_high)):
            ready, is_found, is_lost = (Signal(columns, name=f"{name}_{a}") for name in ("ready", "found", "lost"))
            m.d.comb += [
                is_found.eq(reduce(or_, (high[a].replicate(columns) & column for high, column in sets))),
                is_lost.eq(gone_high[a].replicate(columns) & gone_low),
            ]
            m.d.sync += ready.eq((ready & ~is_lost) | is_found)
            seen.append(looks_high[a] & (ready & looks_low).any())
        return Cat(seen).any()

    def _scale(self, m: Module, wanted: Value) -> tuple[Value, Value, Value, Value, Value]:
        """The unit: whether it begins, is done, for which register, and mantissa and shift then."""
        width = STATISTIC_WIDTH
        left = Signal(range(SCALAR_CYCLES + 1), name="scale_left")
        begins, done = Signal(name="scale_begins"), Signal(name="scale_done")
        value, row = (
            Signal(width, name="scaled_value", reset_less=True),
            Signal.like(self.arriving_row, name="scaled_row", reset_less=True),
        )
        root = Signal(name="scaled_root", reset_less=True)
        m.d.comb += [begins.eq(wanted & (left <= 1)), done.eq(left == 1), self.busy.eq(left != 0)]
        with m.If(begins):
            # Below 1 there is nothing to take a root or a reciprocal of.
            m.d.sync += value.eq(Mux(self.arriving_value < 1, 1, self.arriving_value))
            m.d.sync += [row.eq(self.arriving_row), root.eq(self.arriving_scalar == Scalar.RSQRT), left.eq(SCALAR_CYCLES)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)

        # How far the highest one is below the top, in powers of two from the largest down; for a root, an even way.
        places, shifted = Signal(ROW_SHIFT_WIDTH, name="places"), value
        found: list[Value] = []
        for k in reversed(range(ROW_SHIFT_WIDTH)):
            step = Signal(name=f"shifts_{k}")
            m.d.comb += step.eq(shifted[max(0, width - (1 << k)) :] == 0)
            if k == 0:
                # An even width, so the number of bits is odd where the way is.
                m.d.comb += [places.eq(Cat(step, *reversed(found)))]
                step = step & ~root
            after = Signal(width, name=f"shifted_{k}")
            m.d.comb += after.eq(Mux(step, (shifted << (1 << k))[:width], shifted))
            found.append(step)
            shifted = after
        normal = Signal(16, name="normal", reset_less=True)
        bits = Signal(ROW_SHIFT_WIDTH, name="bits")
        power = Signal(ROW_SHIFT_WIDTH, name="power", reset_less=True)
        m.d.comb += bits.eq(width - places)
        second = left == SCALAR_CYCLES
        with m.If(second):
            m.d.sync += [normal.eq(shifted[width - 16 :]), power.eq(Mux(root, (bits + 1) >> 1, bits))]

        # 2**31 by a number from 2**15 to 2**16 - 1: 17 bits, a few in a cycle. The first 13 bits of the dividend are less than it.
        rest, quotient = Signal(17, name="rest", reset_less=True), Signal(MANTISSA_WIDTH, name="quotient", reset_less=True)
        left_over: Signal = rest
        bits_found: list[Signal] = []
        for i in range(_BITS_PER_CYCLE):
            doubled, fits, after = Signal(17, name=f"doubled_{i}"), Signal(name=f"fits_{i}"), Signal(17, name=f"rest_{i}")
            m.d.comb += [doubled.eq(left_over << 1), fits.eq(doubled >= normal), after.eq(Mux(fits, doubled - normal, doubled))]
            left_over = after
            bits_found.insert(0, fits)
        with m.If(second):
            m.d.sync += rest.eq(1 << 31 - _BITS_PER_CYCLE * (SCALAR_CYCLES - 2))
        with m.Elif(left > 1):
            m.d.sync += [rest.eq(left_over), quotient.eq(Cat(*bits_found, quotient))]
        inverse = Signal(16, name="inverse_root")
        with m.Switch(normal[8:]):
            for i, entry in enumerate(ROOTS, start=64):
                with m.Case(i):
                    m.d.comb += inverse.eq(entry)
        held = register(m, inverse, name="inverse_root_held")
        return begins, done, row, Mux(root, held, quotient), power
