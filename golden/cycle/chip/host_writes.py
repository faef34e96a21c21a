"""What a memory holds that is written through one port, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HostWrites:
    """One write port of a memory: ``valid`` (cycles,), ``address`` (cycles,), ``data`` (cycles,) or (cycles, lanes)."""

    valid: NDArray[np.bool_]
    address: NDArray[np.int64]
    data: NDArray[np.int64]

    def read(self, cycle: NDArray[np.int64], address: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """What reads of ``address`` in ``cycle`` find, and whether that is known: written before, and not in that very cycle."""
        span = len(self.valid) + 1
        when = np.flatnonzero(self.valid)
        key = self.address[when].astype(np.int64) * span + when
        order = np.argsort(key)
        key, when = key[order], when[order]
        wanted = address.astype(np.int64) * span + cycle
        latest = np.searchsorted(key, wanted, side="left") - 1
        if not len(key):
            return np.zeros((*wanted.shape, *self.data.shape[1:]), np.int64), np.zeros(wanted.shape, bool)
        known = (latest >= 0) & (key[np.maximum(latest, 0)] // span == address)
        return self.data[when[np.maximum(latest, 0)]].astype(np.int64), known & ~np.isin(wanted, key)
