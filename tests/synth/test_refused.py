"""What synthesis refuses: reports, libraries, designs and answers of Yosys that are not as they should be, each by its sentence."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podweave.spec.presets import load_config
from podweave.synth import cells, equivalence, yosys
from podweave.synth.area import _only
from podweave.synth.blocks import BlockModule, Hierarchy
from podweave.synth.equivalence import is_equivalent
from podweave.synth.errors import SynthesisError
from podweave.synth.liberty import OWN_LIBRARY, load_liberty
from podweave.synth.mutants import Mutants, Mutation, _chosen_by_file
from podweave.synth.network_table import network_table

GROUP = BlockModule("group", "array_group", "", {"cell": 2}, 0)


def report(**changes: Any) -> str:
    whole = {"num_cells": 5, "area": 9.5, "sequential_area": 5.0, "num_cells_by_type": {"cell": 2, "NAND2": 3}}
    return json.dumps({"modules": {"\\group": {key: value for key, value in (whole | changes).items() if value is not None}}})


def test_a_report_counts_cells_without_blocks_and_markers_of_flattening() -> None:
    marked = report(num_cells=7, num_cells_by_type={"cell": 2, "NAND2": 3, "$scopeinfo": 2})
    assert cells._read_report(report(), GROUP) == cells._read_report(marked, GROUP) == cells.Cells(9.5, 5.0, 3)
    # A module of wires has neither areas nor kinds.
    empty = BlockModule("group", "array_group", "", {}, 0)
    assert cells._read_report('{"modules": {"\\\\group": {"num_cells": 0}}}', empty) == cells.Cells(0, 0, 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"Yosys wrote an incomplete area report of group \(JSONDecodeError"),
        ('{"modules": {}}', r"Yosys wrote an incomplete area report of group \(KeyError\('\\\\group'\)\)"),
        (report(num_cells=None), r"Yosys wrote an incomplete area report of group \(KeyError\('num_cells'\)\)"),
        (report(area=[]), r"Yosys wrote an incomplete area report of group \(TypeError"),
        (report(num_cells=6), r"an incomplete area report of group: 6 cells, \{'cell': 2, 'NAND2': 3\}"),
        (
            report(num_cells_by_type={"cell": 2, "$mul": 2, "$add": 1}),
            r"the library has no cells for \$add, \$mul, which group needs",
        ),
        (report(num_cells_by_type={"cell": 1, "NAND2": 4}), "group is said to hold 2 instances of cell, but its netlist has 1"),
    ],
)
def test_reports_of_area_that_are_not_whole_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(SynthesisError, match=sentence):
        cells._read_report(text, GROUP)


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    cells._keep(tmp_path / "file" / "kept.json", "{}")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"
    cells._keep(tmp_path / "new" / "kept.json", "{}")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["kept.json"]


def test_a_library_without_areas_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.lib"
    path.write_text(re.sub(r"\barea\s*:[^;]*;", "", OWN_LIBRARY.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SynthesisError, match=r"none\.lib gives no areas: none of its \d+ cells has an area attribute"):
        load_liberty(path)


ADDER = """  cell(FA2) {{ area : {area};
    pin(A) {{ direction : input; }} pin(B) {{ direction : input; }} pin(CI) {{ direction : input; }}
    pin(S) {{ direction : output; function : "{sum}"; }} pin(CO) {{ direction : {carries}; function : "{carry}"; }} }}
"""


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, "FA2"),
        # A larger one; what is not a function; two sums; a carry that is neither output nor input.
        ({"area": 900}, "FA"),
        ({"carry": "A @ B"}, "FA"),
        ({"carry": "A ^ B ^ CI"}, "FA"),
        ({"carries": "inout"}, "FA"),
    ],
)
def test_only_a_full_adder_is_taken_for_one_and_the_smallest(changes: dict[str, Any], chosen: str, tmp_path: Path) -> None:
    parts = {"area": 0.5, "sum": "A ^ B ^ CI", "carry": "A B + CI (A + B)", "carries": "output"} | changes
    text = OWN_LIBRARY.read_text(encoding="utf-8").rstrip().removesuffix("}") + ADDER.format(**parts) + "}\n"
    (tmp_path / "more.lib").write_text(text, encoding="utf-8")
    adder = load_liberty(tmp_path / "more.lib").full_adder
    assert adder is not None
    assert (adder.cell, adder.inputs, adder.sum, adder.carry) == (chosen, ("A", "B", "CI"), "S", "CO")


@dataclass
class Emitted:
    top: str = "top"
    verilog: str = "".join(f"module {name}(input a);\nendmodule\n" for name in ("top", "left", "right", "column"))
    sidecar: dict[str, Any] = field(
        default_factory=lambda: {
            "modules": {
                "top": {"kind": "array", "instances": {"left": 2, "right": 3}, "sram_bits": 0},
                "left": {"kind": "group_column", "instances": {"column": 2}, "sram_bits": 0},
                "right": {"kind": "group_column", "instances": {"column": 1}, "sram_bits": 0},
                "column": {"kind": "group_column", "instances": {}, "sram_bits": 0},
            }
        }
    )


def test_a_module_that_is_dissolved_in_two_ways_is_there_once() -> None:
    found = Hierarchy(Emitted())["top"]
    assert sorted(re.findall(r"module (\w+)", found.source)) == ["column", "left", "right", "top"]
    assert found.children == {}


def test_a_description_of_what_is_not_there_is_refused() -> None:
    design = Emitted(verilog="module top(input a);\nendmodule\n")
    with pytest.raises(SynthesisError, match=r"^the emitted Verilog has no module left, which its description names$"):
        Hierarchy(design)


def test_of_several_kinds_of_a_block_one_must_be_chosen() -> None:
    blocks = {"pod_a": {"kind": "pod"}, "pod_b": {"kind": "pod"}, "bank": {"kind": "bank"}}
    assert (_only("bank", blocks), _only("array", blocks)) == ("bank", None)
    with pytest.raises(SynthesisError, match=r"^the design has several kinds of pod \(pod_a, pod_b\): choose one with block=$"):
        _only("pod", blocks)


def test_a_yosys_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match=r"^Yosys could not be started \(.*nothing: No such file or directory\)$"):
        yosys._execute([str(tmp_path / "nothing")], cwd=None, timeout=5, purpose="starting")
    with pytest.raises(SynthesisError, match=r"^Yosys did not end within 0 s while waiting$"):
        yosys._execute([sys.executable, "-c", "import time; time.sleep(9)"], cwd=None, timeout=0.1, purpose="waiting")


def test_mutants_in_another_form_are_refused() -> None:
    with pytest.raises(SynthesisError, match=r"^Yosys wrote mutants of keeper in a form that is not known here$"):
        _chosen_by_file("keeper", "module other(clk);\nendmodule\n")
    with pytest.raises(SynthesisError, match=r"^Yosys wrote mutants of keeper in a form that is not known here$"):
        _chosen_by_file("keeper", "module keeper(clk);\nendmodule\n")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("mutate -mode inv -cell add -port \\A -portbit 2 -wire \\held -wirebit 1", "inv add.\\A[2] (\\held[1])"),
        ("mutate -mode cnot0 -cell add -port \\A -portbit 2 -ctrlbit 3", "cnot0 by [3] add.\\A[2]"),
        ("mutate -mode const1 -cell add -port \\Y -portbit 0", "const1 add.\\Y[0]"),
    ],
)
def test_mutants_in_words(line: str, text: str) -> None:
    assert Mutation(7, line).text == text


def test_what_yosys_cannot_answer_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants, mutation = Mutants("keeper", "", (), ""), Mutation(4, "mutate -mode inv")

    def answers(*texts: str) -> None:
        left = list(texts)
        monkeypatch.setattr(equivalence, "run_yosys", lambda commands, files, outputs, **_: dict.fromkeys(outputs, left.pop(0)))

    flop = {
        "type": "$dff",
        "parameters": {"WIDTH": 1},
        "port_directions": {"CLK": "input", "D": "input", "Q": "output"},
        "connections": {"CLK": [2], "D": [3], "Q": [4]},
    }
    ports = {name: {"direction": "input", "bits": [bit]} for name, bit in (("clk", 2), ("mutate", 5))}
    box = {"type": "box", "connections": {"a": [4]}}
    gate = {
        "type": "$xor",
        "parameters": {},
        "port_directions": {"A": "input", "B": "input", "Y": "output"},
        "connections": {"A": [4], "B": [5], "Y": [3]},
    }

    def pair(*more: dict[str, Any]) -> str:
        every = {f"c{i}": cell for i, cell in enumerate((flop, gate, *more))}
        return json.dumps({"modules": {"keeper": {"cells": every, "ports": ports | {equivalence.CHOICE: ports["mutate"]}}}})

    answers(pair(box))
    with pytest.raises(SynthesisError, match=r"^ports of box are not known while comparing mutant 4 of keeper$"):
        equivalence._Pair.of(mutants, mutation)
    answers(pair(box))
    assert is_equivalent(mutants, mutation) == 0
    # SAT that ran out of time.
    answers(pair(), "Interrupted SAT solver: TIMEOUT!")
    with pytest.raises(SynthesisError, match=r"^SAT did not end while comparing mutant 4 of keeper$"):
        equivalence._Pair.of(mutants, mutation).settle()
    answers(pair(), "Interrupted SAT solver: TIMEOUT!")
    assert is_equivalent(mutants, mutation) == 0
    # No output shows the register that the mutant changes: equal, whatever it holds. But not if it is never known what may differ.
    answers(pair(), "FAIL!\n \\differs_0 1 1\n", "SUCCESS!")
    assert is_equivalent(mutants, mutation) == 1
    monkeypatch.setattr(equivalence, "_ROUNDS", 1)
    answers(pair(), "FAIL!\n \\differs_0 1 1\n")
    assert is_equivalent(mutants, mutation) == 0


def test_a_table_of_networks_tells_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    table = sys.modules["podweave.synth.network_table"]
    monkeypatch.setattr(table, "yosys_version", lambda: "0")
    monkeypatch.setattr(table, "pod_area", lambda *_, **__: 100.0)
    monkeypatch.setattr(table, "synthesise_network_block", lambda *_, **__: cells.Cells(2.0, 1.0, 1))
    told: list[str] = []
    config = load_config("chip2x4")
    rows = network_table(config, pods=(2, 4), y_planes=(1,), pipelines=(1, 2), progress=told.append)["rows"]
    assert told == [
        "starting Yosys (the first time on a machine takes a minute or two)",
        *(
            f"synthesising {pods} pods, 1 planes of Y, {pipeline} stages per register"
            for pods, pipeline in ((2, 1), (2, 2), (4, 1), (4, 2))
        ),
    ]
    assert [(row["pods"], row["pipeline"], row["pod_area"]) for row in rows] == [(n, k, 100.0) for n in (2, 4) for k in (1, 2)]
    for row in rows:
        areas = {name: network["area"] for name, network in row["networks"].items()}
        # Of blocks of 2 each.
        assert areas.pop("all") == pytest.approx(sum(areas.values()))
        assert all(area > 0 and area % 2 == 0 for area in areas.values())
