"""Waivers of Python: a small program as coverage.py sees it, waivers planted wrong, and those given against the sources."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.coverage.python_waivers import WAIVERS, Waiver, waived

ROOT = Path(__file__).parents[2]
FILE = "plant/gearbox.py"
PROGRAM = """\
class Box:
    def open(self, wide):
        if wide:
            wide += 1
            wide += 2
        return wide

    def opened(self):
        return 2

    def shut(self):
        def within():
            return 1

        return within()


def used():
    return 3


Box().open(0)
used()
if used() > 4:
    used()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What coverage.py says of the program."""
    folder = tmp_path_factory.mktemp("waivers")
    (folder / "plant").mkdir()
    (folder / FILE).write_text(PROGRAM, encoding="utf-8")
    (folder / "settings").write_text("[run]\nbranch = true\n", encoding="utf-8")
    for arguments in (["run", FILE], ["json", "--quiet", "-o", "report.json"]):
        command = [sys.executable, "-m", "coverage", arguments[0], "--rcfile=settings", "--data-file=data", *arguments[1:]]
        subprocess.run(command, cwd=folder, check=True)
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
    return found


@pytest.mark.parametrize(
    ("functions", "lines", "branches"),
    [
        (("Box.open",), 2, 1),
        (("Box.opened",), 1, 0),
        (("Box.shut",), 3, 0),
        (("Box.shut.within",), 1, 0),
        (("",), 1, 1),
        (("Box.open", "Box.shut", ""), 6, 2),
    ],
)
def test_what_functions_miss_is_counted(files: dict[str, Any], functions: tuple[str, ...], lines: int, branches: int) -> None:
    """With what is defined within them, once; of a class and a module, only what is in no function."""
    assert waived(files, [Waiver(FILE, functions, "never", "")]) == {FILE: {"lines": lines, "branches": branches}}


def test_waivers_of_a_file_are_added(files: dict[str, Any]) -> None:
    several = [Waiver(FILE, (name,), "never", "") for name in ("Box.open", "Box.shut")]
    assert waived(files, several) == {FILE: {"lines": 5, "branches": 1}}


@pytest.mark.parametrize(
    ("waivers", "sentence"),
    [
        ([(FILE, ("used",))], "nothing of function used of plant/gearbox.py is missed, which a waiver is about: drop it"),
        ([(FILE, ("Box.open", "Box.lock"))], "there is no function Box.lock in plant/gearbox.py, which a waiver is about: drop it"),
        ([(FILE, ("Box",))], "there is no function Box in plant/gearbox.py, which a waiver is about: drop it"),
        ([("plant/wheel.py", ("turn",))], "there is no file plant/wheel.py, which a waiver is about: drop it"),
        ([(FILE, ("Box.open", "Box.open"))], "function Box.open of plant/gearbox.py is waived twice: drop one"),
        (
            [(FILE, ("Box.shut.within",)), (FILE, ("Box.shut",))],
            "function Box.shut.within of plant/gearbox.py is waived twice: drop one",
        ),
    ],
)
def test_a_wrong_waiver_is_refused(files: dict[str, Any], waivers: list[tuple[str, tuple[str, ...]]], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        waived(files, [Waiver(file, functions, "never", "") for file, functions in waivers])


@pytest.mark.parametrize("waiver", WAIVERS, ids=lambda waiver: waiver.file)
def test_what_is_waived_is_there_and_reached_by_a_test_that_is_not_fast(waiver: Waiver) -> None:
    assert waiver.reason
    assert set(waiver.functions) - {""} <= set(functions_of(ast.parse((ROOT / waiver.file).read_text(encoding="utf-8"))))
    file, name = waiver.reached_by.split("::")
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    (test,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name)
    marked = any("mark.campaign" in ast.unparse(mark) for mark in test.decorator_list)
    skipped = any("pytest.importorskip" in ast.unparse(node) for node in module.body if isinstance(node, ast.Assign | ast.Expr))
    assert marked or skipped


def functions_of(node: ast.AST, path: str = "") -> list[str]:
    """Functions below a node, as coverage.py names them."""
    found = []
    for child in ast.iter_child_nodes(node):
        inner = path
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{path}{child.name}."
            found += [] if isinstance(child, ast.ClassDef) else [inner[:-1]]
        found += functions_of(child, inner)
    return found
