"""Lines and branches of Python: one folder measured, figures by hand, and what the pages say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.coverage import python_code
from tests.coverage.command import main
from tests.coverage.python_code import figures, folders, judged, measured, report, table
from tests.coverage.python_waivers import Waiver

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "docs" / "coverage.json").read_text(encoding="utf-8"))["python"]
FOLDER = "tests/golden/cycle"


def row(lines: tuple[int, int], branches: tuple[int, int]) -> dict[str, dict[str, int]]:
    reached, there = lines
    return {
        "summary": {
            "covered_lines": reached,
            "num_statements": there,
            "covered_branches": branches[0],
            "num_branches": branches[1],
        }
    }


def test_files_are_added_by_room() -> None:
    counted = {
        "ir/graph.py": row((3, 4), (1, 2)),
        "ir/frontends/builder.py": row((5, 6), (0, 0)),
        "tb/lockstep/ports.py": row((0, 9), (0, 4)),
    }
    rooms = figures(counted, [])
    assert rooms["ir"] == {"lines": [8, 10], "branches": [1, 2], "waived": [0, 0]}
    assert rooms["tb"] == {"lines": [0, 9], "branches": [0, 4], "waived": [0, 0]}
    lines = table({name: rooms[name] for name in ("ir", "tb")})
    assert lines[2:] == [
        "| `ir` | 8 of 10, 80.0% | 1 of 2, 50.0% | - |",
        "| `tb` | 0 of 9, 0.0% | 0 of 4, 0.0% | - |",
        "| all | 8 of 19, 42.1% | 1 of 6, 16.7% | - |",
    ]


def test_what_is_waived_is_taken_out_of_the_total_and_counted() -> None:
    counted: dict[str, Any] = {"ir/graph.py": row((3, 9), (1, 4)), "tb/lockstep/ports.py": row((5, 6), (2, 2))}
    counted["ir/graph.py"]["functions"] = {"read": {"summary": {"missing_lines": 4, "missing_branches": 3}}}
    rooms = figures(counted, [Waiver("ir/graph.py", ("read",), "never", "")])
    assert rooms["ir"] == {"lines": [3, 5], "branches": [1, 1], "waived": [4, 3]}
    assert table({name: rooms[name] for name in ("ir", "tb")})[2:] == [
        "| `ir` | 3 of 5, 60.0% | 1 of 1, 100.0% | 4, 3 |",
        "| `tb` | 5 of 6, 83.3% | 2 of 2, 100.0% | - |",
        "| all | 8 of 11, 72.7% | 3 of 3, 100.0% | 4, 3 |",
    ]


def test_rooms_are_judged_whose_tests_have_all_run() -> None:
    spec = [folder for folder in folders() if folder.startswith("tests/spec")]
    assert judged([*spec, "tests/golden"]) == ["spec"]
    assert judged(folders()) == python_code.ROOMS


@pytest.mark.campaign
def test_one_folder_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(python_code, "ROOMS", ["golden"])
    assert measured([FOLDER], tmp_path, said.append) == [FOLDER]
    assert said == [f"1/1 {FOLDER}"]
    files = report([FOLDER], tmp_path)
    assert files["golden/cycle/ports.py"]["summary"]["covered_lines"] > 20
    # What no test of the folder needs is there, too.
    assert files["golden/system.py"]["summary"]["covered_lines"] == 0 < files["golden/system.py"]["summary"]["num_statements"]
    # What is there is not measured again.
    said.clear()
    assert measured([FOLDER], tmp_path, said.append) == [FOLDER]
    assert said == []


def test_a_folder_whose_tests_fail_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, said = tmp_path / "root", list[str]()
    (root / "tests" / "bad").mkdir(parents=True)
    (root / "tests" / "bad" / "test_it.py").write_text("def test_it():\n    assert 2 < 1\n", encoding="utf-8")
    monkeypatch.setattr(python_code, "ROOT", root)
    assert measured(["tests/bad"], tmp_path / "data", said.append) == []
    assert said == ["1/1 tests/bad", "pytest tests/bad has ended with exit code 1"]


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="there is no folder of tests tests/gearbox; there are tests, tests/compiler"):
        main(["--python", "--tests", "tests/gearbox"])


def test_a_waiver_of_nothing_ends_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when the folders that were asked for have been measured before."""
    counted = {"podweave/language/nano/learning.py": {**row((2, 2), (0, 0)), "functions": {}}}
    monkeypatch.setattr(python_code, "measured", lambda wanted, data, progress, processes: list(wanted))
    monkeypatch.setattr(python_code, "report", lambda found, data: counted)
    with pytest.raises(SystemExit, match="there is no code outside of functions in podweave/language/nano/learning"):
        main(["--python", "--tests", FOLDER, "--json", str(tmp_path / "kept.json")])
    assert not (tmp_path / "kept.json").exists()


def test_the_table_of_the_page_is_what_was_measured() -> None:
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert "\n".join(table(STORED["rooms"])) in page
    assert set(STORED["folders"]) <= set(folders())
    assert f"all {len(STORED['folders'])} folders" in page
    assert STORED["date"] in page
