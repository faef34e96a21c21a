"""What an accelerator bench and its simulator tell each other. Free of Amaranth: the simulator imports it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ACCESSES = 1024
"""Register accesses that the harness plays back in one go."""
CHANNEL = "PODWEAVE_CHANNEL"
"""Environment variable of the simulator: the file descriptor of its end of the connection."""


@dataclass(frozen=True)
class Reply:
    """What came of a command; ``failure``: the command ended the simulation, and why; ``found``: because the hardware is wrong."""

    value: Any
    failure: str | None = None
    found: bool = False
