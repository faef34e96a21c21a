"""A process that runs cases of a campaign, one after the other, and makes failing ones small."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from .case import Outcome
from .choices import Choices
from .files import FailingCase
from .kinds import run_case
from .shrink import shrink

Tell = Callable[[dict[str, Any]], None]


def serve(pipe: Connection, version: str, shrink_seconds: float) -> None:
    """Take (kind, seed, index) until None comes; tell what came of each.

    Messages are ``{"case": {...}}`` whenever a failing case has become smaller, and at last ``{"row": {...}}``.
    """
    # Simulators and compilers are of this group: they end with it.
    os.setpgrp()
    while (task := pipe.recv()) is not None:
        kind, seed, index = task
        pipe.send({"row": run_and_shrink(kind, seed, index, version, shrink_seconds, pipe.send)})


def run_and_shrink(
    kind: str, seed: int, index: int, version: str, seconds: float, tell: Tell, *, tries: int = 100_000
) -> dict[str, Any]:
    """The row of a case; ``tell``: of a failing one, whenever it has become smaller."""
    began = time.monotonic()
    choices, outcome = run_case(kind, seed, index)
    row = {"kind": kind, "index": index, "seconds": time.monotonic() - began, "decisions": len(choices.made)}
    row |= {name: getattr(outcome, name) for name in ("verdict", "why", "sentence", "counts")}
    if outcome.verdict == "fail":
        case = FailingCase(kind, seed, index, choices.made, outcome.why, outcome.sentence, outcome.text, 0, version)
        tell({"case": case})
        row["decisions_left"] = len(make_small(case, choices, seconds, tries, tell).made)
    return row


def make_small(case: FailingCase, choices: Choices, seconds: float, tries: int, tell: Tell) -> FailingCase:
    """The smallest case that was found and fails in the same way."""
    outcomes: dict[tuple[float, ...], Outcome] = {}

    def fails(made: Sequence[float]) -> Choices | None:
        taken, outcome = run_case(case.kind, case.seed, case.index, made)
        if outcome.verdict != "fail" or outcome.why != case.why:
            return None
        outcomes[tuple(taken.made)] = outcome
        return taken

    def of(taken: Choices, tried: int) -> FailingCase:
        found = outcomes.get(tuple(taken.made))
        if found is None:
            return replace(case, tried=tried)
        return replace(case, made=taken.made, sentence=found.sentence, text=found.text, tried=tried)

    def smaller(taken: Choices, tried: int) -> None:
        tell({"case": of(taken, tried)})

    best, tried = shrink(choices, fails, seconds=seconds, tries=tries, progress=smaller)
    small = of(best, tried)
    tell({"case": small})
    return small
