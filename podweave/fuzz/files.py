"""Folders of campaigns: what was run, and failing cases, each a file that can be run again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import podweave
from podweave import compiler, golden, ir, predict, rtl, spec, tb
from podweave.ir.layers import WorkloadError
from podweave.tb.build.sources import sources_hash

from .choices import MOST
from .kinds import KINDS

_ROOMS = (spec, ir, rtl, golden, compiler, predict, tb, podweave)
MOST_BYTES = 16 << 20
"""Of a file of a case."""


def version() -> str:
    """Of all sources: what a seed makes depends on them."""
    return sources_hash(Path(str(room.__file__)).parent for room in _ROOMS)[:16]


@dataclass(frozen=True)
class FailingCase:
    """A case that failed, as a file has it.

    Members
    -------
    kind, seed, index
        Of the campaign, and where in it.
    made : list of float
        What was decided (`Choices`); made small, it is not what the seed decides.
    why, sentence, text : str
        As of an `Outcome`.
    tried : int
        Cases that were run to make it small.
    version : str
        Of the sources that failed.
    """

    kind: str
    seed: int
    index: int
    made: list[float]
    why: str
    sentence: str
    text: str
    tried: int = 0
    version: str = ""

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {**dataclasses.asdict(self), "text": self.text.splitlines()}
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> FailingCase:
        """Raises `WorkloadError` for a file that is none."""
        if file.stat().st_size > MOST_BYTES:
            raise WorkloadError(f"{file} has {file.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise WorkloadError(f"{file} is no case of podweave fuzz: {error}") from error
        names = {each.name for each in dataclasses.fields(cls)}
        if not isinstance(found, dict) or found.keys() != names:
            raise WorkloadError(f"{file} is no case of podweave fuzz: it must have {', '.join(sorted(names))}")
        if found["kind"] not in KINDS:
            raise WorkloadError(f"{file}: kind {found['kind']!r} is not one of {', '.join(KINDS)}")
        for name in ("seed", "index", "tried"):
            if type(found[name]) is not int or not 0 <= found[name] < 1 << 63:
                raise WorkloadError(f"{file}: {name} must be an integer of at least 0, got {found[name]!r}")
        made = found["made"]
        if not isinstance(made, list) or len(made) > MOST or not all(type(each) in (int, float) for each in made):
            raise WorkloadError(f"{file}: made must be a list of at most {MOST:,} numbers")
        if not all(abs(each) < 1 << 63 for each in made):
            raise WorkloadError(f"{file}: numbers of made must be finite, and less than 2^63")
        text = found["text"] if isinstance(found["text"], list) else []
        return cls(**{**found, "text": "\n".join(map(str, text))})


class Folder:
    """What a campaign left of itself so far, case by case.

    Raises `WorkloadError` for a folder of another campaign: another seed, or other sources.
    """

    def __init__(self, path: Path, seed: int, now: str):
        self.path = path
        about = path / "campaign.json"
        this = {"seed": seed, "version": now}
        if about.is_file():
            try:
                before = json.loads(about.read_text(encoding="utf-8"))
            except ValueError as error:
                raise WorkloadError(f"{about} cannot be read: {error}") from error
            if before != this:
                what = "another seed" if before.get("version") == now else "another version of podweave"
                raise WorkloadError(f"{path} has a campaign of {what}: give another folder, or remove it")
        elif path.is_dir() and any(path.iterdir()):
            raise WorkloadError(f"{path} has files, and no campaign: give another folder")
        path.mkdir(parents=True, exist_ok=True)
        about.write_text(json.dumps(this) + "\n", encoding="utf-8")

    @property
    def results(self) -> Path:
        return self.path / "results.jsonl"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of all cases; the last line may be cut short."""
        if self.results.is_file():
            for line in self.results.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def add(self, row: dict[str, Any]) -> None:
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def case_file(self, kind: str, index: int) -> Path:
        return self.path / f"failing-{kind}-{index}.json"
