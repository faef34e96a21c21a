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


WAIVERS: Sequence[Waiver] = ()


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
                f"a waiver is about {waiver.points} {waiver.kind} points of {waiver.block} named {waiver.names!r}, of which {count} "
                "are missed: look at them again"
            )
        kinds = found.setdefault(waiver.block, {})
        kinds[waiver.kind] = kinds.get(waiver.kind, 0) + count
    return found
