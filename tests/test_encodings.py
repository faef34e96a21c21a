"""Text files are UTF-8 whatever the locale: whoever opens one says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("processes", "spec", "ir", "rtl", "golden", "compiler", "predict", "synth", "formal", "tb", "podweave")
# Of a text file, or of the output of a process; in brackets, which argument is the mode, and the mode without it.
_TEXT = {"read_text", "write_text"}
_OPENS = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0}


def unsaid(source: str) -> Iterator[int]:
    """Lines of calls that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if "encoding" in keywords:
            continue
        text = keywords.get("text", keywords.get("universal_newlines"))
        if name in _TEXT or (isinstance(text, ast.Constant) and text.value):
            yield node.lineno
        if name in _OPENS:
            at = 0 if isinstance(node.func, ast.Attribute) and name == "open" else _OPENS[name]
            mode = node.args[at] if len(node.args) > at else keywords.get("mode")
            default = "w+b" if name == "NamedTemporaryFile" else "r"
            if "b" not in (mode.value if isinstance(mode, ast.Constant) else default):
                yield node.lineno


def test_every_text_file_is_utf_8() -> None:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in unsaid(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "path.open()",
        "path.open('a')",
        "open(path)",
        "open(path, mode='w')",
        "os.fdopen(handle, 'w')",
        "NamedTemporaryFile('w')",
        "subprocess.run(command, text=True)",
    ],
)
def test_a_planted_call_is_found(call: str) -> None:
    assert list(unsaid(f"import os\n{call}")) == [2]


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text(encoding='utf-8', errors='replace')",
        "path.open('rb')",
        "open(path, 'wb')",
        "NamedTemporaryFile(dir=folder)",
        "subprocess.run(command)",
    ],
)
def test_what_says_so_is_not(call: str) -> None:
    assert list(unsaid(call)) == []
