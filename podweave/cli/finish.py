"""How a command ends: its report for people, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

_PIPED_WIDTH = 200


def finish(report: dict[str, Any], target: Path | None, show: Callable[[Console, dict[str, Any]], None]) -> None:
    """Show a report, and write it as JSON to ``target`` as well; to standard output ("-") instead."""
    if target == Path("-"):
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    # Where nobody's screen ends, no column is folded.
    show(Console(markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH), report)
    if target:
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
