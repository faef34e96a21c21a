"""What the command line said and how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


def assert_refused(outcome: Outcome, sentence: str) -> None:
    """One sentence on the error output, and exit code 2."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert sentence in outcome.err
    if sentence.startswith("podweave: "):
        # Behind what was told of the progress.
        *_, last = outcome.err.splitlines()
        assert last.startswith(sentence)
