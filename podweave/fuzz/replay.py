"""A failing case of a file, run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import FailingCase, version
from .kinds import run_case


def replay_file(file: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """The report of one run of it. ``verdict``: that of the case, "none" if it is refused; ``same``: it fails as it did."""
    case, now = FailingCase.read(file), version()
    progress(f"running {file}")
    choices, outcome = run_case(case.kind, case.seed, case.index, case.made)
    return {
        "file": str(file),
        "kind": case.kind,
        "seed": case.seed,
        "index": case.index,
        "decisions": len(choices.made),
        "verdict": "none" if outcome.verdict == "refused" else outcome.verdict,
        "sentence": outcome.sentence,
        "before": case.sentence,
        "same": outcome.verdict == "fail" and outcome.why == case.why,
        "same_sources": case.version == now,
        "text": outcome.text.splitlines(),
        "counts": outcome.counts,
    }
