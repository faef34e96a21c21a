"""What of the Python fast tests cannot reach, by function, and why. A waiver of nothing that is missed is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = {"lines": "missing_lines", "branches": "missing_branches"}
"""As coverage.py calls what is missed, in the summary of a function."""


@dataclass(frozen=True)
class Waiver:
    """Parameters
    ----------
    file : str
        As podweave's root sees it.
    functions : tuple of str
        Names as coverage.py has them: ``Class.method``, ``function``, ``function.inner``; "" is what a module does when it is
        imported. What is defined within a function goes with it. All lines and branches of them that are missed are waived.
    reason : str
        Why no fast test can reach them.
    reached_by : str
        The test that does, as pytest calls it: one of the campaign, or one that is skipped where an extra is not installed.
    """

    file: str
    functions: tuple[str, ...]
    reason: str
    reached_by: str


WAIVERS: Sequence[Waiver] = (
    Waiver(
        "podweave/language/nano/learning.py",
        (
            "",
            "Network.__init__",
            "Network.logits",
            "Network._norm",
            "Network._attention",
            "Network._rotated",
            "initial",
            "sequences",
            "train",
            "held_out_loss",
        ),
        "imports PyTorch, of the extra `train`, which is not among the packages of the tests",
        "tests/podweave/language/nano/test_learning.py::test_training_learns_and_repeats",
    ),
)


def waived(files: Mapping[str, Any], waivers: Sequence[Waiver] = WAIVERS) -> dict[str, dict[str, int]]:
    """Lines and branches that are waived, by file.

    Parameters
    ----------
    files : mapping
        Of coverage.py's report in JSON: what is missed, by file and function.
    waivers : sequence of Waiver

    Raises
    ------
    ValueError
        For a waiver of a file or a function that is not there, of one of which nothing is missed, or of what another one is about.
    """
    found: dict[str, dict[str, int]] = {}
    taken: set[tuple[str, str]] = set()
    for waiver in waivers:
        if waiver.file not in files:
            raise ValueError(f"there is no file {waiver.file}, which a waiver is about: drop it")
        regions = files[waiver.file]["functions"]
        counts = found.setdefault(waiver.file, dict.fromkeys(MISSING, 0))
        for name in waiver.functions:
            if name not in regions:
                raise ValueError(f"there is no {_called(name)} in {waiver.file}, which a waiver is about: drop it")
            inner = [region for region in regions if region == name or (name and region.startswith(f"{name}."))]
            if twice := [region for region in inner if (waiver.file, region) in taken]:
                raise ValueError(f"{_called(twice[0])} of {waiver.file} is waived twice: drop one")
            taken |= {(waiver.file, region) for region in inner}
            missed = {part: sum(regions[region]["summary"][key] for region in inner) for part, key in MISSING.items()}
            if not any(missed.values()):
                raise ValueError(f"nothing of {_called(name)} of {waiver.file} is missed, which a waiver is about: drop it")
            for part, count in missed.items():
                counts[part] += count
    return found


def _called(name: str) -> str:
    return f"function {name}" if name else "code outside of functions"
