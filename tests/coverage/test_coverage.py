"""Reading and adding up cover points, waivers, and what the pages say of the last session."""

from __future__ import annotations

import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from tests.coverage import command
from tests.coverage.command import main, table
from tests.coverage.judge import FOR_POINTS, MORE, CoverageError
from tests.coverage.points import Point, merged, points_of
from tests.coverage.waivers import WAIVERS, Waiver, waived
from tests.mutants.targets import TARGETS

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "docs" / "coverage.json").read_text(encoding="utf-8"))["blocks"]


def line(page: str, number: int, name: str, where: str, count: int) -> str:
    fields = {"f": "design.v", "l": str(number), "n": "5", "page": page, "o": name, "h": where}
    return f"C '{''.join(f'{chr(1)}{key}{chr(2)}{value}' for key, value in fields.items())}' {count}\n"


def test_instances_and_runs_are_added_and_lines_count_from_the_first(tmp_path: Path) -> None:
    first = "# SystemC::Coverage-3\n" + line("v_branch/adder", 11, "if", "top.a", 2) + line("v_branch/adder", 11, "if", "top.b", 3)
    first += line("v_toggle/adder", 9, "sum[3]:0->1", "top.a", 0) + line("v_user/adder", 9, "cover", "top.a", 1)
    found = points_of(first)
    assert found == {Point("adder", "branch", 2, 5, "if"): 5, Point("adder", "toggle", 0, 5, "sum[3]:0->1"): 0}
    # The same module further down in another file.
    second = line("v_branch/adder", 111, "if", "top", 1) + line("v_toggle/adder", 109, "sum[3]:0->1", "top", 0)
    for name, text in (("first", first), ("second", second)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    total = merged([tmp_path / "first", tmp_path / "second"])
    assert total == {Point("adder", "branch", 2, 5, "if"): 6, Point("adder", "toggle", 0, 5, "sum[3]:0->1"): 0}
    assert len(total) == 2


BLOCKS = {
    "adder": {
        "target": "t",
        "line": {"points": 4, "missed": 0, "names": {}},
        "branch": {"points": 8, "missed": 2, "names": {"adder+3:if": 1, "adder+4:else": 1}},
        "toggle": {"points": 0, "missed": 0, "names": {}},
    }
}


def test_waivers_take_points_out_and_those_of_other_points_are_refused() -> None:
    assert waived(BLOCKS, [Waiver("adder", "branch", r"adder\+3:.*", 1, "never")]) == {"adder": {"branch": 1}}
    assert waived(BLOCKS, [Waiver("adder", "branch", r"adder\+\d:.*", 2, "never")]) == {"adder": {"branch": 2}}
    # One that is reached now, one more that is not, and a name that is wrong.
    for names, points, missed in ((r"adder\+\d:.*", 3, 2), (r"adder\+\d:.*", 1, 2), ("carry", 1, 0)):
        with pytest.raises(ValueError, match=f"about {points} branch points of adder named .* of which {missed} are missed: look"):
            waived(BLOCKS, [Waiver("adder", "branch", names, points, "never")])
    assert waived(BLOCKS, [Waiver("another", "branch", "carry", 1, "never")]) == {}


def test_the_table() -> None:
    assert table(BLOCKS)[2:] == ["| `adder` | 4 of 4, 100.0% | 6 of 8, 75.0% | - |", "| all | 4 of 4, 100.0% | 6 of 8, 75.0% | - |"]


def test_what_the_page_says_is_what_was_measured() -> None:
    assert "\n".join(table(STORED)) in (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_waivers_and_figures_are_of_blocks_that_are_judged() -> None:
    kinds = {kind for target in TARGETS.values() for kind in target.kinds}
    assert set(STORED) <= kinds
    assert {waiver.block for waiver in WAIVERS} <= set(STORED)
    assert {*MORE, *FOR_POINTS} <= set(TARGETS)
    assert all(waiver.reason for waiver in WAIVERS)


def test_a_target_that_fails_is_named_and_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose process ends with no word; and what was in the file of other blocks stays."""
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"blocks": {"csr": STORED["csr"]}, "points": {}, "python": 7}), encoding="utf-8")

    def alone(name: str, *, verilog: bool) -> tuple[float, tuple[dict[str, Any], dict[str, Any]]]:
        assert verilog
        if name == "trees":
            raise CoverageError("pytest has ended")
        if name == "counters":
            raise BrokenProcessPool
        return 1.0, ({name: STORED[name]}, {})

    monkeypatch.setattr(command, "_alone", alone)
    asked = [option for name in ("p_bank", "trees", "counters", "feeder") for option in ("--block", name)]
    with pytest.raises(SystemExit, match=r"no result of (trees, counters|counters, trees)"):
        main([*asked, "--json", str(file), "--processes", "2"])
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert set(kept["blocks"]) == {"csr", "p_bank", "feeder"}
    assert kept["python"] == 7
