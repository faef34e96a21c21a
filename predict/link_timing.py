"""Links of a simulated ring: their parameters, and the table in which `tb/sv/link.sv` reads them.

A link does not depend on its parameters: the same simulator runs with any of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.link.ring import LinkRate

SETTINGS = 8
"""Words of 32 bits of the table of a link."""
NEVER = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class LinkTiming:
    """What is said of a link, in cycles of the chips, and what goes wrong on it.

    Parameters
    ----------
    latency : int
        Cycles from a flit that is accepted to the receiver, and from a credit that is given to the transmitter.
    beat_sixteenths : int
        Sixteenths of a cycle from flit to flit.
    jitter : int
        Most cycles that a flit takes longer, as ``seed`` decides; flits stay in order.
    seed : int
        Not 0.
    down, beyond : int
        The link is down in cycles [``down``, ``beyond``) after the start of the chip that transmits; by default never.
    corrupt : int
        Number, since that start, of the flit that arrives with one bit inverted; by default none.
    corrupt_bit : int
        The bit: of its payload, the user bits above, and the CRC above these.
    """

    latency: int = 20
    beat_sixteenths: int = 16
    jitter: int = 0
    seed: int = 1
    down: int = NEVER
    beyond: int = NEVER
    corrupt: int = NEVER
    corrupt_bit: int = 0

    def __post_init__(self) -> None:
        limits = {
            "latency": (1, 2048),
            "beat_sixteenths": (16, 1 << 12),
            "jitter": (0, 2047),
            "seed": (1, (1 << 32) - 1),
            "down": (0, NEVER),
            "beyond": (0, NEVER),
            "corrupt": (0, NEVER),
            "corrupt_bit": (0, 1023),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} must be an integer, got {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")

    def of_link(self, link: int) -> LinkTiming:
        """The same with a seed of its own."""
        return dataclasses.replace(self, seed=(self.seed + 0x9E3779B9 * link) % (1 << 32) or 1)

    @property
    def rate(self) -> LinkRate:
        """For the exact model of collectives: without what goes wrong."""
        return LinkRate(latency=self.latency, beat_sixteenths=self.beat_sixteenths, jitter=self.jitter, seed=self.seed)

    def table(self) -> NDArray[np.uint32]:
        """The words that a link reads: (`SETTINGS`,)."""
        rate = self.latency, self.beat_sixteenths, self.jitter, self.seed
        return np.array([*rate, self.down, self.beyond, self.corrupt, self.corrupt_bit], np.uint32)
