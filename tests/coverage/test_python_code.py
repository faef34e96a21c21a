"""Lines and branches of Python: one folder measured, figures by hand, and what the pages say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.coverage import python_code
from tests.coverage.command import main
from tests.coverage.python_code import figures, folders, judged, measured, report, table

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
    rooms = figures(counted)
    assert rooms["ir"] == {"lines": [8, 10], "branches": [1, 2]}
    assert rooms["tb"] == {"lines": [0, 9], "branches": [0, 4]}
    lines = table({name: rooms[name] for name in ("ir", "tb")})
    assert lines[2:] == [
        "| `ir` | 8 of 10, 80.0% | 1 of 2, 50.0% |",
        "| `tb` | 0 of 9, 0.0% | 0 of 4, 0.0% |",
        "| all | 8 of 19, 42.1% | 1 of 6, 16.7% |",
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


def test_the_table_of_the_page_is_what_was_measured() -> None:
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert "\n".join(table(STORED["rooms"])) in page
    assert set(STORED["folders"]) <= set(folders())
    assert all(f"`{folder}`" in page for folder in STORED["folders"])
    assert STORED["date"] in page
