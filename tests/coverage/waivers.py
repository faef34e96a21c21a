"""What tests cannot reach, by name, and why. A waiver that fits more or fewer points than it says is an error of the session."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Waiver:
    """Parameters
    ----------
    block, kind : str
        Kind of block, and of point.
    names : str
        A regular expression for whole names of what is missed. Lines move when a block changes: so many of a kind may be named.
    points : int
        How many are missed of these, exactly.
    reason : str
        Why it cannot be reached.
    """

    block: str
    kind: str
    names: str
    points: int
    reason: str


def _no_other_value(block: str, points: int, choice: str, module: str = "") -> Waiver:
    """Default arms of cases that have an arm for each value: Yosys writes one behind every choice."""
    return Waiver(block, "line", rf"{module or block}\+\d+:case", points, f"the default arm of a case over {choice}")


WAIVERS: Sequence[Waiver] = (
    _no_other_value("descriptor_check", 1, "both rings"),
    _no_other_value("descriptor_reader", 1, "both rings"),
    _no_other_value("prefetch_count", 4, "all 16 places of tags, or of their words, as the newest or the oldest"),
    _no_other_value("row_registers", 1, "all highest bytes of normalised numbers, from 64 on", module=r"row_registers_\d+"),
    _no_other_value("run_control", 1, "all seven states"),
    Waiver(
        "realigner",
        "branch",
        r"realigner\+\d+:cond_then",
        2,
        "byte 0 of a window from the beat before: a piece that begins at byte 0 of a beat does not reach into the next one",
    ),
    Waiver("realigner", "branch", r"realigner\+\d+:if", 4, "byte 0 of a piece is outside of it: each piece has a byte"),
    _no_other_value("x_bank", 2, "all four parts, for the network and the host", module=r"x_bank_\w+"),
)


def waived(blocks: Mapping[str, Mapping[str, Any]], waivers: Sequence[Waiver] = WAIVERS) -> dict[str, dict[str, int]]:
    """Points that are waived, by block and kind. Raises `ValueError` for a waiver that is not about what is missed of its block."""
    found: dict[str, dict[str, int]] = {}
    for waiver in waivers:
        if waiver.block not in blocks:
            continue
        names = blocks[waiver.block][waiver.kind]["names"]
        count = sum(missed for name, missed in names.items() if re.fullmatch(waiver.names, name))
        if count != waiver.points:
            raise ValueError(
                f"a waiver is about {waiver.points} {waiver.kind} points of {waiver.block} named {waiver.names!r}, of which "
                f"{count} are missed: look at them again"
            )
        kinds = found.setdefault(waiver.block, {})
        kinds[waiver.kind] = kinds.get(waiver.kind, 0) + count
    return found
