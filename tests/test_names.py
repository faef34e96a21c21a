"""Names of modules and files that comments, docstrings and messages give are those of modules and files that are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_rules import ALLOWED
from tests.test_architecture import ROOT

_ROOMS = "|".join(ALLOWED)
# These plant names of nothing.
_PLANTING = ("test_names.py", "test_docs.py", "test_architecture.py")
# A dotted name in backticks, or what a test's first line is about; a path of a file, wherever it stands.
_DOTTED = re.compile(rf"(?<!`)`(?:podweave\.)?((?:{_ROOMS})(?:\.\w+)+)(?:\([^`]*\))?`(?!`)")
_SUBJECT = re.compile(rf'\A"""((?:{_ROOMS})(?:\.\w+)+)\b')
_PATH = re.compile(rf"(?<![\w/.])((?:{_ROOMS}|tests)/[\w/.-]+\.(?:py|sv|cpp|v|toml))\b")


def is_there(root: Path, name: str) -> bool:
    """Whether a dotted name, from a room on, is a package, a module, or something that a module says."""
    place, *rest = root, *name.split(".")
    while rest and (place / rest[0]).is_dir():
        place, rest = place / rest[0], rest[1:]
    if not rest:
        return True
    file = place / f"{rest[0]}.py"
    if file.exists():
        rest = rest[1:]
    else:
        file = place / "__init__.py"
    text = file.read_text() if file.exists() else ""
    return file.exists() and all(re.search(rf"\b{part}\b", text) for part in rest)


def names_of_nothing(root: Path) -> Iterator[str]:
    for room in (*ALLOWED, "tests"):
        for file in sorted((root / room).rglob("*")):
            if file.suffix not in (".py", ".sv", ".cpp", ".v") or file.name in _PLANTING:
                continue
            text, path = file.read_text(), file.relative_to(root)
            names = [*_DOTTED.findall(text), *(_SUBJECT.findall(text) if room == "tests" else [])]
            yield from (f"{path}: {name}" for name in names if not is_there(root, name))
            yield from (f"{path}: {name}" for name in _PATH.findall(text) if not (root / name).exists())


def test_names_in_the_code_are_there() -> None:
    assert list(names_of_nothing(ROOT)) == []


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("rtl/a.py", '"""As of `rtl.emit`."""', "rtl.emit"),
        ("rtl/a.py", '"""As of `podweave.rtl.parts.sram.Bank`."""', "rtl.parts.sram.Bank"),
        ("golden/a.py", '"""As of `rtl.parts.sram.depth(4)`."""', "rtl.parts.sram.depth"),
        ("tests/rtl/test_a.py", '"""rtl.sram: in lockstep."""', "rtl.sram"),
        ("tb/sv/a.sv", "// tb/memory.cpp has the bytes", "tb/memory.cpp"),
    ],
)
def test_a_planted_name_of_nothing_is_found(tmp_path: Path, path: str, text: str, named: str) -> None:
    planted = {
        "rtl/parts/sram.py": '"""`rtl.parts.sram.Sram`, `rtl.parts` and rtl/parts/sram.py are there."""\nclass Sram: ...\n',
        "tests/rtl/parts/test_sram.py": '"""rtl.parts.sram: words."""\n',
        path: text,
    }
    for name, content in planted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert list(names_of_nothing(tmp_path)) == [f"{path}: {named}"]
