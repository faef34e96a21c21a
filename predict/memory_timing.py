"""Channels of simulated HBM: their parameters, and the table in which `tb/sv/hbm_channel.sv` reads them.

A channel does not depend on its parameters: the same simulator runs with any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import DECERR, SLVERR, ErrorRange

SETTINGS = 36
"""Words of 32 bits of the table of a channel."""
MAX_RANGES = 4
PAGE = 4096


@dataclass(frozen=True, kw_only=True)
class HbmTiming:
    """What `golden.cycle.memory.hbm.Timing` says, in cycles of the chip; by default near one pseudo channel of HBM2E at 1 GHz."""

    latency: int = 100
    beat_sixteenths: int = 16
    row_bytes: int = 1024
    banks: int = 16
    row_miss: int = 30
    refresh_interval: int = 3900
    refresh_cycles: int = 260
    queue: int = 128
    jitter: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        limits = {
            "latency": (2, 1 << 20),
            "beat_sixteenths": (16, 1 << 12),
            "row_bytes": (256, 1 << 20),
            "banks": (1, 256),
            "row_miss": (0, 1 << 16),
            "refresh_interval": (0, 1 << 30),
            "refresh_cycles": (0, 1 << 20),
            "queue": (1, 255),
            "jitter": (0, 1 << 16),
            "seed": (1, (1 << 32) - 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} must be an integer, got {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")
        for name in ("row_bytes", "banks"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, got {value}")
        if self.refresh_interval and self.refresh_interval <= self.refresh_cycles:
            raise ValueError(
                f"refresh_interval ({self.refresh_interval}) must be 0 or more than refresh_cycles ({self.refresh_cycles})"
            )

    @property
    def available(self) -> float:
        """Beats per cycle that a channel can send over a long time: its rate, outside of refreshes."""
        refreshing = self.refresh_cycles / self.refresh_interval if self.refresh_interval else 0.0
        return (1 - refreshing) * 16 / self.beat_sixteenths

    def of_channel(self, channel: int) -> HbmTiming:
        """The same with a seed of its own."""
        return dataclasses.replace(self, seed=(self.seed + 0x9E3779B9 * channel) % (1 << 32) or 1)

    def table(self, *, base: int, end: int, errors: Sequence[ErrorRange] = (), place: int = 0) -> NDArray[np.uint32]:
        """The words that a channel reads: (`SETTINGS`,). It serves bytes [``base``, ``end``), with ``errors`` among them.

        ``place``: where address 0 is in the file that holds the memory.
        """
        if len(errors) > MAX_RANGES:
            raise ValueError(f"a channel knows up to {MAX_RANGES} ranges of errors, got {len(errors)}")
        for name, value in (("base", base), ("end", end), ("place", place)):
            if value % PAGE:
                raise ValueError(f"{name} of a channel must be a multiple of {PAGE} bytes, got {value}")
        words = np.zeros(SETTINGS, np.uint32)
        words[:10] = (
            *(self.latency, self.beat_sixteenths, self.row_bytes.bit_length() - 1, self.banks, self.row_miss),
            *(self.refresh_interval, self.refresh_cycles, self.queue, self.jitter, self.seed),
        )
        words[10:14] = np.array([base, end], np.uint64).view(np.uint32)
        words[14:16] = len(errors), place // PAGE
        for i, (begin, beyond, response) in enumerate(errors):
            if response not in (SLVERR, DECERR):
                raise ValueError(f"the response of a range of errors must be SLVERR (2) or DECERR (3), got {response}")
            at = 16 + 5 * i
            words[at : at + 4] = np.array([begin, beyond], np.uint64).view(np.uint32)
            words[at + 4] = response
        return words
