"""What tests cannot reach, by name, and why. A waiver that no point needs any more is an error of the session."""

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
        A regular expression for whole names of what is missed.
    reason : str
        Why it cannot be reached.
    """

    block: str
    kind: str
    names: str
    reason: str


WAIVERS: Sequence[Waiver] = ()


def waived(blocks: Mapping[str, Mapping[str, Any]], waivers: Sequence[Waiver] = WAIVERS) -> dict[str, dict[str, int]]:
    """Points that are waived, by block and kind. Raises `ValueError` for a waiver that matches nothing of its block."""
    found: dict[str, dict[str, int]] = {}
    for waiver in waivers:
        if waiver.block not in blocks:
            continue
        names = blocks[waiver.block][waiver.kind]["names"]
        count = sum(missed for name, missed in names.items() if re.fullmatch(waiver.names, name))
        if not count:
            raise ValueError(f"no {waiver.kind} of {waiver.block} is missed that the waiver {waiver.names!r} is about: drop it")
        kinds = found.setdefault(waiver.block, {})
        kinds[waiver.kind] = kinds.get(waiver.kind, 0) + count
    return found
