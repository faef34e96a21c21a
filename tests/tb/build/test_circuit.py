"""Who is wired to whom: what drives every bit of every input, through modules of only wires, and in which order it is evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import In, Out

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.parts.wired_block import WiredBlock
from podweave.tb.build.blocks import block_of, modules_of, with_bytes
from podweave.tb.build.circuit import HARNESS, Circuit, CircuitError, Piece, circuit_of


class Register(Block):
    """``o``: ``i``, one cycle later. ``through``: ``i`` and ``j``, at once."""

    kind = "register"

    def __init__(self) -> None:
        super().__init__({"i": In(4), "j": In(1), "o": Out(4), "through": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i)
        m.d.comb += self.through.eq(self.i[0] & self.j)
        return m


class Pair(WiredBlock):
    """Two registers; ``wire`` connects them and the ports."""

    kind = "pair"

    def __init__(self, wire: Callable[[Module, Any, Any, Any], None], inner: bool = False) -> None:
        self.wire, self.inner = wire, inner
        super().__init__({"a": In(4), "y": Out(4), "z": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.wire(m, self, place(m, "first", Register()), place(m, "second", Register()))
        return m


class Around(WiredBlock):
    """A pair in a module of only wires."""

    kind = "around"

    def __init__(self, wire: Callable[[Module, Any, Any, Any], None]) -> None:
        self.wire = wire
        super().__init__({"b": In(4), "y": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pair = place(m, "pair", Pair(self.wire))
        m.d.comb += [pair["a"].eq(Cat(self.b[2:], self.b[:2])), self.y.eq(Cat(pair["z"], pair["y"][1:]))]
        return m


def circuit(wire: Callable[[Module, Any, Any, Any], None], top: type = Pair) -> Circuit:
    emitted = emit_block(top(wire))
    return circuit_of(**emitted.circuit, top=emitted.top, scope="bench.dut")


def chain(m: Module, pair: Any, first: Any, second: Any) -> None:
    m.d.comb += [
        first["i"].eq(pair.a),
        first["j"].eq(second["o"][3]),
        second["i"].eq(Cat(first["o"][2:], Const(2, 2))),
        second["j"].eq(first["through"]),
        pair.y.eq(Cat(second["o"][:2], pair.a[3], first["o"][0])),
        pair.z.eq(second["through"]),
    ]


def test_every_input_has_its_pieces() -> None:
    found = circuit(chain)
    assert found.units == {HARNESS: "", "bench.dut.first": "register", "bench.dut.second": "register"}
    first, second = "bench.dut.first", "bench.dut.second"
    assert found.inputs[first, "i"] == [Piece(HARNESS, "a", 0, 4)]
    assert found.inputs[first, "rst"] == [Piece(HARNESS, "rst", 0, 1)]
    assert found.inputs[first, "j"] == [Piece(second, "o", 3, 1)]
    assert found.inputs[second, "i"] == [Piece(first, "o", 2, 2), Piece("", "", 0, 2, 2)]
    assert found.inputs[HARNESS, "y"] == [Piece(second, "o", 0, 2), Piece(HARNESS, "a", 3, 1), Piece(first, "o", 0, 1)]
    assert found.ports == {"register": {"rst": 1, "i": 4, "j": 1, "o": 4, "through": 1}}
    assert not any(port == "clk" for _, port in found.inputs)


def test_wires_go_through_modules_of_only_wires() -> None:
    found = circuit(chain, Around)
    first, second = "bench.dut.pair.first", "bench.dut.pair.second"
    assert found.inputs[first, "i"] == [Piece(HARNESS, "b", 2, 2), Piece(HARNESS, "b", 0, 2)]
    assert found.inputs[HARNESS, "y"] == [
        Piece(second, "through", 0, 1),
        Piece(second, "o", 1, 1),
        Piece(HARNESS, "b", 1, 1),
        Piece(first, "o", 0, 1),
    ]


def test_units_with_paths_come_in_the_order_of_their_paths() -> None:
    assert circuit(chain).order == ["bench.dut.first", "bench.dut.second"]

    def other_way(m: Module, pair: Any, first: Any, second: Any) -> None:
        chain(m, pair, second, first)

    assert circuit(other_way).order == ["bench.dut.second", "bench.dut.first"]


def test_a_loop_is_refused_with_its_path() -> None:
    def loop(m: Module, pair: Any, first: Any, second: Any) -> None:
        m.d.comb += [
            first["i"].eq(pair.a),
            first["j"].eq(second["through"]),
            second["i"].eq(pair.a),
            second["j"].eq(first["through"]),
            pair.y.eq(first["o"]),
            pair.z.eq(second["o"][0]),
        ]

    path = "bench.dut.first.through <- bench.dut.second.through <- bench.dut.first.through"
    with pytest.raises(CircuitError, match=f"^outputs of blocks depend on each other in one cycle: {re.escape(path)}$"):
        circuit(loop)


def test_sums_are_of_one_port_and_constants() -> None:
    def with_sum(number: Any) -> Callable[[Module, Any, Any, Any], None]:
        def wire(m: Module, pair: Any, first: Any, second: Any) -> None:
            m.d.comb += [
                first["i"].eq((second["o"] + number(first))[:4]),
                first["j"].eq(0),
                second["i"].eq(pair.a),
                second["j"].eq(0),
                pair.y.eq(first["o"]),
                pair.z.eq(first["through"]),
            ]

        return wire

    found = circuit(with_sum(lambda first: 5))
    assert found.inputs["bench.dut.first", "i"] == [Piece("bench.dut.second", "o", 0, 4, 5, 4)]
    assert "sum 1 i 0 2 o 0 4 4 5\n" in found.text()
    with pytest.raises(CircuitError, match=r"bench\.dut\.sum: between blocks only bits of one port and constants are added"):
        circuit(with_sum(lambda first: first["o"]))


def test_text_has_a_line_for_everything() -> None:
    lines = circuit(chain).text().splitlines()
    assert lines[:3] == ["unit - harness", "unit register bench.dut.first", "unit register bench.dut.second"]
    assert "wire 2 i 0 1 o 2 2" in lines
    assert "constant 2 i 2 2 2" in lines
    assert lines[-2:] == ["order 1", "order 2"]


def test_a_block_is_a_module_with_what_is_below_it() -> None:
    emitted = emit_block(Pair(chain))
    modules = modules_of(emitted.verilog)
    assert set(modules) == {"pair", "register"}
    below = {name: list(module["instances"]) for name, module in emitted.sidecar["modules"].items()}
    block = block_of("register", modules, below, emitted.control + 'no_inline -module "pair"\n')
    assert block.verilog == modules["register"]
    assert block.control == 'no_inline -module "register"'
    assert "pair" in block_of("pair", modules, below, emitted.control).verilog


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("VL_EXTENDS_II(32,8, (0x000000ffU & (vlSelfRef.x_o[0U] >> 8U)))", "podweave::signed_byte(vlSelfRef.x_o, 1)"),
        ("VL_EXTENDS_II(32,8,\n   (vlSelfRef.__PVT__a_1[3U]\n >> 0x00000018U))", "podweave::signed_byte(vlSelfRef.__PVT__a_1, 15)"),
        ("VL_EXTENDS_II(32,8, (0x000000ffU & vlSymsp->TOP.w[2U]))", "podweave::signed_byte(vlSymsp->TOP.w, 8)"),
        # Not whole bytes, not bytes, not of a word.
        ("VL_EXTENDS_II(32,8, (0x000000ffU & (x[0U] >> 3U)))", None),
        ("VL_EXTENDS_II(32,16, (0x0000ffffU & (x[0U] >> 8U)))", None),
        ("VL_EXTENDS_II(32,8, (0x000000ffU & (IData)(x)))", None),
    ],
)
def test_bytes_of_words_are_read_as_bytes(source: str, found: str | None) -> None:
    assert with_bytes(f"a = {source};") == f"a = {found or source};"
