"""The memory of one manager, as it is filled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .rings import RingBuilder
from .shared import SharedMemory


@dataclass
class Channel:
    """Memory of one manager: pieces one behind the other; addresses count from its beginning."""

    memory: SharedMemory
    number: int
    pieces: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    demand: RingBuilder = field(default_factory=RingBuilder)
    prefetch: RingBuilder = field(default_factory=RingBuilder)

    @property
    def rings(self) -> tuple[RingBuilder, RingBuilder]:
        return self.demand, self.prefetch

    def reserve(self, count: int) -> int:
        return self.memory.reserve(self.number, count)

    def append(self, content: NDArray[np.uint8]) -> int:
        address = self.reserve(content.size)
        self.pieces.append((address, content.reshape(-1)))
        return address
