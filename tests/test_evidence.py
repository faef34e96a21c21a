"""docs/evidence.json: its page is made of it, its commands exist, and its figures are those of the pages they come from."""

from __future__ import annotations

import datetime
import re
import shlex
from pathlib import Path

import pytest

from tests.evidence_page import DOCS, KINDS, claims, page
from tests.test_architecture import ROOT
from tests.test_docs import wrong_command

CLAIMS = claims()
FIELDS = ["claim", "kind", "figure", "command", "date", "page", "says", "limits"]
_SESSION = re.compile(r"^def (\w+)\(session: nox\.Session\)", re.MULTILINE)


def wrong(row: dict[str, str]) -> list[str]:
    """What is wrong with a claim."""
    found = [f"{name} must be a text" for name in FIELDS if not isinstance(row.get(name), str) or not row[name].strip()]
    if found or list(row) != FIELDS:
        return [*found, f"keys are {', '.join(FIELDS)}, in this order"]
    found += [f"{name} has a bar or a line" for name, text in row.items() if "|" in text or "\n" in text]
    if row["kind"] not in KINDS:
        found.append(f"kind {row['kind']!r} is not one of {', '.join(KINDS)}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"]) or datetime.date.fromisoformat(row["date"]).year < 2026:
        found.append(f"{row['date']} is no date")
    text = (ROOT / row["page"]).read_text(encoding="utf-8") if (ROOT / row["page"]).is_file() else ""
    if row["says"] not in text:
        found.append(f"{row['page']} does not say {row['says']!r}")
    # Figures that a reader would look for are the same in both.
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/figures.md", row["page"]) if text)
    found += [f"{number} is in no page" for number in re.findall(r"\d[\d,]*\d(?:\.\d+)?", row["figure"]) if number not in pages]
    return [*found, *wrong_line(row["command"])]


def wrong_line(command: str) -> list[str]:
    program, *rest = shlex.split(command)
    if program == "podweave":
        said = wrong_command(command)
        return [said] if said else []
    if program == "nox":
        sessions = _SESSION.findall((ROOT / "noxfile.py").read_text(encoding="utf-8"))
        return [] if rest[:1] == ["-s"] and rest[1] in sessions else [f"there is no session {' '.join(rest)}"]
    if program == "pytest":
        paths = [word for word in rest if "/" in word]
        return [f"there is no {path}" for path in paths if not (ROOT / path).exists()] or ([] if paths else ["no path"])
    return [f"{program} is no command of this project"]


@pytest.mark.parametrize("row", CLAIMS, ids=[row["claim"][:40] for row in CLAIMS])
def test_claim(row: dict[str, str]) -> None:
    assert wrong(row) == []


def test_what_is_wrong_is_seen() -> None:
    row = CLAIMS[1]
    assert wrong(row | {"kind": "hope"}) == [f"kind 'hope' is not one of {', '.join(KINDS)}"]
    assert wrong(row | {"figure": "341,601 cycles"}) == ["341,601 is in no page"]
    assert wrong(row | {"command": "podweave run resnet50 --confid chip16x32"}) == ["run has no option --confid"]
    assert wrong(row | {"command": "nox -s nothing"}) == ["there is no session -s nothing"]
    assert wrong(row | {"command": "pytest tests/nothing"}) == ["there is no tests/nothing"]
    assert wrong(row | {"date": "yesterday"}) == ["yesterday is no date"]
    assert wrong(row | {"says": "no such figure"}) == ["docs/figures.md does not say 'no such figure'"]
    assert wrong(row | {"limits": ""})[0] == "limits must be a text"


def test_the_page_is_made_of_it() -> None:
    written = (DOCS / "evidence.md").read_text(encoding="utf-8")
    assert written == page(CLAIMS)
    assert all(row["claim"] in written for row in CLAIMS)
    assert page([{**CLAIMS[0], "figure": "another"}, *CLAIMS[1:]]) != written


def test_it_is_linked() -> None:
    assert "(docs/evidence.md)" in Path(ROOT / "README.md").read_text(encoding="utf-8")


def test_every_claim_is_there_once() -> None:
    assert len({row["claim"] for row in CLAIMS}) == len(CLAIMS) >= 20
    assert {row["kind"] for row in CLAIMS} >= {"RTL simulation", "comparison with onnxruntime", "synthesis", "model", "analytical"}
