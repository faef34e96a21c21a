"""Blocks that only wire: every bit is driven exactly once, or the emission is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.parts.wired_block import WiredBlock
from podweave.synth.yosys import run_yosys

ROOT = Path(__file__).resolve().parents[3]
Wire = Callable[[Module, Any], Any]


class Inverter(Block):
    kind = "inverter"

    def __init__(self) -> None:
        super().__init__({"i": In(2), "o": Out(2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


class Wires(WiredBlock):
    """``wire`` says how its output ``y`` of 4 bits comes from its inputs ``a``, of 4, and ``b``, of one."""

    kind = "wires"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        super().__init__({"a": In(4), "b": In(1), "y": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.wire(m, self)
        return m


def whole(m: Module, block: Any) -> None:
    m.d.comb += block.y.eq(block.a)


def in_parts(m: Module, block: Any) -> None:
    m.d.comb += [block.y[3].eq(block.b), Cat(block.y[1:3], block.y[0]).eq(block.a[:3])]


def through_an_instance(m: Module, block: Any) -> None:
    inverter = place(m, "inverter", Inverter())
    m.d.comb += [inverter["i"].eq(block.a[2:]), block.y.eq(Cat(inverter["o"], block.a[:2]))]


def with_a_sum(m: Module, block: Any) -> None:
    m.d.comb += block.y.eq((block.a + block.b)[:4])


@pytest.mark.parametrize(
    ("wire", "lines"),
    [
        (whole, ["assign y = a;"]),
        (in_parts, ["assign y[3] = b;", "assign {y[0], y[2:1]} = a[2:0];"]),
        (through_an_instance, ["assign inverter__i = a[3:2];", "assign y = {a[1:0], inverter__o};", "inverter inverter ("]),
        (with_a_sum, ["assign sum = a + b;", "assign y = sum[3:0];"]),
    ],
)
def test_what_is_driven_once_is_written(wire: Wire, lines: list[str]) -> None:
    text = emit_block(Wires(wire)).verilog
    for line in lines:
        assert f"  {line}\n" in text


class Starter(Block):
    kind = "starter"

    def __init__(self) -> None:
        super().__init__({"begin": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(~self.begin)
        return m


def named_as_verilog(m: Module, block: Any) -> None:
    starter, wire = place(m, "starter", Starter()), Signal(4, name="wire")
    m.d.comb += [starter["begin"].eq(block.b), wire[:3].eq(block.a[:3]), wire[3].eq(starter["o"]), block.y.eq(wire)]


def test_names_that_mean_something_else_in_verilog_are_escaped() -> None:
    text = emit_block(Wires(named_as_verilog)).verilog
    for line in ("wire [3:0] \\wire ;", "assign \\wire [2:0] = a[2:0];", "assign y = \\wire ;", "  .\\begin (starter__begin),"):
        assert f"  {line}\n" in text
    run_yosys(["read_verilog -sv wires.v", "hierarchy -check -top wires"], {"wires.v": text}, [], purpose="reading", timeout=60)


def as_many_bits_as_needed(m: Module, block: Any) -> None:
    m.d.comb += [block.y[0].eq(block.b), block.y[0].eq(block.a[0]), block.y[2:].eq(block.a[2:])]


def overlap(m: Module, block: Any) -> None:
    m.d.comb += [block.y[:3].eq(block.a[:3]), block.y[1:].eq(block.a[1:])]


def two_places(m: Module, block: Any) -> None:
    m.d.comb += [block.y.eq(block.a), Cat(block.y[0], Signal(2, name="spare"), block.y[3]).eq(block.a)]


def an_output_of_a_block(m: Module, block: Any) -> None:
    inverter = place(m, "inverter", Inverter())
    m.d.comb += [inverter["i"].eq(block.a[2:]), inverter["o"][1].eq(block.b), block.y.eq(Cat(inverter["o"], block.a[:2]))]


def an_input(m: Module, block: Any) -> None:
    m.d.comb += [block.y.eq(block.a), block.b.eq(block.a[0])]


def nothing(m: Module, block: Any) -> None:
    pass


def holes(m: Module, block: Any) -> None:
    m.d.comb += block.y[1].eq(block.b)


def an_input_of_a_block(m: Module, block: Any) -> None:
    inverter = place(m, "inverter", Inverter())
    m.d.comb += [inverter["i"][0].eq(block.b), block.y.eq(Cat(inverter["o"], block.a[:2]))]


def a_signal_that_is_read(m: Module, block: Any) -> None:
    middle = Signal(4, name="middle")
    m.d.comb += [middle[:3].eq(block.a[:3]), block.y.eq(middle)]


@pytest.mark.parametrize(
    ("wire", "sentence"),
    [
        (as_many_bits_as_needed, "wires: bit 0 of y is driven twice"),
        (overlap, "wires: bits 2:1 of y are driven twice"),
        (two_places, "wires: bit 0 of y is driven twice"),
        (an_output_of_a_block, "wires: bit 1 of inverter__o is driven twice"),
        (an_input, "wires: bit 0 of b is driven twice"),
        (nothing, "wires: bits 3:0 of y are never driven"),
        (holes, "wires: bits 3:2, 0 of y are never driven"),
        (an_input_of_a_block, "wires: bit 1 of inverter__i is never driven"),
        (a_signal_that_is_read, "wires: bit 3 of middle is never driven"),
    ],
)
def test_bit_that_is_not_driven_exactly_once_is_refused(wire: Wire, sentence: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{re.escape(sentence)}$"):
        emit_block(Wires(wire))


def test_what_is_private_of_amaranth_is_named_in_one_place() -> None:
    private = re.compile(r"amaranth(\.\w+)*\._|_MustUse")
    sources = [path for folder in ("rtl", "tests") for path in (ROOT / folder).rglob("*.py")]
    named = {path.relative_to(ROOT).as_posix() for path in sources if private.search(path.read_text())}
    assert named - {Path(__file__).relative_to(ROOT).as_posix()} == {"rtl/parts/amaranth_internals.py"}
