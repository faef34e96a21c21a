"""How mutants of Python are judged, on faults by hand; what the page says of the last run of the session."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.python_mutants.command import table, undecided, verdict
from tests.python_mutants.equivalent import EQUIVALENT
from tests.python_mutants.mutant import ROOT, SHARES, Mutant

STORED = json.loads((ROOT / "docs" / "python_mutants.json").read_text(encoding="utf-8"))
PATH, TESTS = "golden/layers/pool.py", "tests/golden/layers/test_pool.py"
_JUDGED = """
import json, sys
from tests.python_mutants.judge import run_tests
from tests.python_mutants.mutant import Mutant
print(json.dumps([run_tests(sys.argv[2:], Mutant(**each), 25) for each in json.loads(sys.argv[1])]))
"""


def changed(before: str, after: str) -> Mutant:
    text = (ROOT / PATH).read_text(encoding="utf-8")
    assert before in text
    return Mutant(PATH, "by hand", text.replace(before, after), f"{before} -> {after}")


def judged(mutants: list[Mutant], *files: str) -> list[list[object]]:
    """In a process without threads: it forks."""
    command = [sys.executable, "-c", _JUDGED, json.dumps([vars(each) for each in mutants]), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.campaign
def test_a_fault_is_found_and_none_is_not() -> None:
    line = "windows.sum(axis=(-2, -1), dtype=np.int64)"
    faults = line, line.replace("sum", "max"), "no Python"
    none, wrong, unreadable = judged([changed(line, fault) for fault in faults], TESTS)
    assert none == [0, ""]
    assert wrong[0] == 1
    assert str(wrong[1]).startswith(f"{TESTS}::")
    # What cannot be imported fails where tests are collected.
    assert unreadable == [1, TESTS]


def test_nearest_tests_come_first() -> None:
    from tests.python_mutants.judge import levels

    found = list(levels(Mutant("golden/layers/norm.py", "", "", "")))
    assert [name for name, _ in found] == ["own file", "own folder", "tests that name it", "tests that name its package"]
    assert [Path(file).name for file in found[0][1]] == ["test_norm.py"]
    files = [file for _, of_level in found for file in of_level]
    assert len(files) == len(set(files))
    (name, files), *_ = reversed(list(levels(Mutant("golden/cycle/pod/tiles.py", "", "", ""))))
    assert (name, ROOT / "tests/golden/cycle/chip/test_chip.py" in map(Path, files)) == ("tests of what imports it", True)
    # Of a folder without tests, those above it.
    (name, above), *_ = levels(Mutant("golden/cycle/accelerator/control.py", "", "", ""))
    assert (name, Path(above[0]).parent.name) == ("own folder", "accelerator")


def test_what_was_not_decided_is_judged_again_with_more_time() -> None:
    stopped, survived = {"verdict": "stopped", "seconds": 25}, {"verdict": "survived"}
    assert [undecided("a", row, 300) for row in (None, stopped, survived)] == [True, True, False]
    assert [undecided("a", row, 25) for row in (None, stopped, survived)] == [True, False, False]
    assert [undecided(next(iter(EQUIVALENT)), row, 300) for row in (None, stopped, survived)] == [True, False, False]


def test_the_same_seed_draws_the_same() -> None:
    pytest.importorskip("cosmic_ray")
    from tests.python_mutants.sample import draw

    drawn = draw(3, 3)
    assert drawn == draw(3, 3)
    assert {mutant.room for mutant in drawn} <= set(SHARES)
    for mutant in drawn:
        assert mutant.source != (ROOT / mutant.path).read_text(encoding="utf-8")
        compile(mutant.source, mutant.path, "exec")


def test_the_table_of_the_page_is_that_of_the_figures() -> None:
    page = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    assert "\n".join(table(STORED)) in page
    name, row = next((name, row) for name, row in STORED["mutants"].items() if row["verdict"] == "killed")
    other = {**STORED, "mutants": {**STORED["mutants"], name: {**row, "verdict": "survived"}}}
    assert table(other) != table(STORED)


def test_survivors_are_named_on_the_page_and_equivalent_ones_have_a_reason() -> None:
    page = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    for name, row in STORED["mutants"].items():
        if verdict(name, row) == "survived":
            assert name.split(":", 1)[0] in page, name
    for name, reason in EQUIVALENT.items():
        assert len(reason) > 20
        assert STORED["mutants"][name]["verdict"] in ("survived", "stopped"), name
