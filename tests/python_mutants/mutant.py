"""A small fault in a module of Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARES = {"compiler": 0.5, "golden": 0.35, "predict": 0.15}
"""Of the mutants, by room: small ones get more than their lines."""


@dataclass(frozen=True)
class Mutant:
    """A change of one module.

    Members
    -------
    path : str
        Of the module, from the root of the repository.
    operator : str
        What Cosmic Ray calls it.
    source : str
        The whole text of the module, changed.
    change : str
        The lines that are not as they were, before and after; with the path, its name in tables.
    """

    path: str
    operator: str
    source: str
    change: str

    @property
    def room(self) -> str:
        return self.path.split("/", 1)[0]

    @property
    def name(self) -> str:
        return f"{self.path}: {self.change}"

    @property
    def module(self) -> str:
        """As it is imported."""
        parts = ["podweave", *Path(self.path).with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
