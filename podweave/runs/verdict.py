"""The verdict of a run: what it gave, held against the golden model and the prediction, wherever it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AXES = ("image", "row", "column", "channel")


@dataclass
class Comparison:
    """A run is exact if every value, every counter and the number of cycles are as expected, and nothing else was reported.

    Members
    -------
    cycles, predicted_cycles : int
        Measured, and predicted before.
    compared, mismatches : int
        Values held against the golden model, and those that differ.
    first_mismatch : str or None
        The first of them: where it is, what was expected, what came.
    counters_differing : list of str
        Names of counters that are not as predicted.
    errors : list of str
        What the hardware reported.
    finished : bool
        Whether the run ended by itself.
    """

    cycles: int
    predicted_cycles: int
    compared: int = 0
    mismatches: int = 0
    first_mismatch: str | None = None
    counters_differing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    finished: bool = True

    def values(self, what: str, expected: NDArray[Any], got: NDArray[Any], where: NDArray[np.bool_] | None = None) -> int:
        """Compare arrays of equal shape (B, H, W, C), or of them the positions ``where`` (B, H, W); returns how many differ."""
        wrong = expected != got
        if where is not None:
            wrong &= where[..., None]
        self.compared += wrong.size if where is None else int(where.sum()) * wrong.shape[3]
        count = int(wrong.sum())
        self.mismatches += count
        if count and self.first_mismatch is None:
            at = tuple(np.argwhere(wrong)[0].tolist())
            place = ", ".join(f"{axis} {i}" for axis, i in zip(_AXES, at, strict=True))
            self.first_mismatch = f"{what}, {place}: expected {expected[at]}, got {got[at]}"
        return count

    def counters(self, expected: Mapping[str, Any], got: Mapping[str, Any], whose: str = "") -> None:
        """Compare counters by name: single ones, or arrays of one per node. ``whose``: what names begin with in what is found."""
        for name, value in expected.items():
            wrong = np.asarray(value) != np.asarray(got[name])
            if wrong.ndim and wrong.any():
                self.counters_differing.append(f"{whose}{name} of {int(wrong.sum())} nodes")
            elif not wrong.ndim and wrong:
                self.counters_differing.append(f"{whose}{name}")

    @property
    def is_exact(self) -> bool:
        return (
            not self.mismatches
            and not self.counters_differing
            and not self.errors
            and self.finished
            and self.cycles == self.predicted_cycles
        )

    def row(self) -> dict[str, Any]:
        """For a report."""
        found: dict[str, Any] = {
            "verdict": "pass" if self.is_exact else "fail",
            "mismatches": self.mismatches,
            "compared": self.compared,
            "cycles": self.cycles,
            "predicted_cycles": self.predicted_cycles,
            "counters_differing": self.counters_differing,
            "errors": self.errors,
            "finished": self.finished,
        }
        return found | ({"first_mismatch": self.first_mismatch} if self.first_mismatch else {})
