"""Mutants that change nothing of what a program says, with the reason: judged by hand."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
"""By `Mutant.name`."""
