"""What a report prints, line by line."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console


def lines_of(printer: Callable[..., None], report: dict[str, Any], **more: Any) -> list[str]:
    """On a wide terminal; columns are one space apart, and empty lines are left out."""
    console = Console(file=io.StringIO(), width=400)
    printer(console, report, **more)
    assert isinstance(console.file, io.StringIO)
    lines = (" ".join(line.split()) for line in console.file.getvalue().splitlines())
    return [line for line in lines if line]
