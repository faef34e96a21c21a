"""Memory of one manager while it is filled: pieces one behind the other, and two rings of descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

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
    _known: dict[bytes, int] = field(default_factory=dict)
    """By digest, where words are that were appended to be used again."""

    @property
    def rings(self) -> tuple[RingBuilder, RingBuilder]:
        return self.demand, self.prefetch

    def reserve(self, count: int) -> int:
        return self.memory.reserve(self.number, count)

    def append(self, content: NDArray[np.uint8], *, again: bool = False) -> int:
        """The address of bytes, which are added. ``again``: unless equal ones were, and nobody writes them."""
        digest = blake2b(content.tobytes(), digest_size=16).digest() if again else b""
        if again and digest in self._known:
            return self._known[digest]
        address = self.reserve(content.size)
        self.pieces.append((address, content.reshape(-1)))
        if again:
            self._known[digest] = address
        return address
