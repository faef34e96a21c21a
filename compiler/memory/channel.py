"""The memory of one manager, as it is filled."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import DESCRIPTOR_BYTES

from .rings import RingBuilder
from .shared import ALIGNMENT, SharedMemory


@dataclass
class Channel:
    """Memory of one manager: pieces one behind the other; addresses count from its beginning."""

    memory: SharedMemory
    number: int
    pieces: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    of_pass: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    frame_bytes: int = 0
    """Of what each pass has to itself; ``of_pass``: of that, pieces that are the same in all passes but for inputs among them."""
    _once: dict[bytes, tuple[int, NDArray[np.uint8]]] = field(default_factory=dict)
    """By digest, bytes that were appended once, and where."""

    def reserve(self, count: int) -> int:
        return self.memory.reserve(self.number, count)

    def reserve_rings(self, pair: tuple[RingBuilder, RingBuilder]) -> list[int]:
        """Where rings are."""
        return [self.reserve(DESCRIPTOR_BYTES * len(ring)) for ring in pair]

    def reserve_of_pass(self, count: int) -> int:
        """The first of so many bytes of what each pass has to itself, counted from its beginning."""
        # Byte 0 would be the number of what lies nowhere.
        address = max(ALIGNMENT, self.frame_bytes)
        self.frame_bytes = address + -(-count // ALIGNMENT) * ALIGNMENT
        return address

    def frames(self, passes: int, frame_bytes: int) -> int:
        """Where what the first pass has to itself begins; what the others have follows."""
        base = self.reserve(passes * frame_bytes)
        self.pieces += [(base + n * frame_bytes + at, piece) for n in range(passes) for at, piece in self.of_pass]
        return base

    def append(self, content: NDArray[np.uint8]) -> int:
        """The address of bytes, which are added."""
        address = self.reserve(content.size)
        self.pieces.append((address, content.reshape(-1)))
        return address

    def append_once(self, content: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
        """The address of bytes that nobody writes, and those bytes: they are added if equal ones were not, of whatever words."""
        digest = blake2b(content.tobytes(), digest_size=16).digest()
        if digest not in self._once:
            self._once[digest] = self.append(content), content
        address, held = self._once[digest]
        return address, held.reshape(content.shape)
