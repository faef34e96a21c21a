"""Patches: boxes of output positions that a gang works on at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..lower.boxes import pieces

# Candidate sizes of a patch per axis, and of mappings that are simulated for one operation.
_MOST_PATCHES = 40
Words = Callable[[int, int, int], int]
"""Words for a patch of so many images, rows and columns."""


@dataclass(frozen=True)
class Patches:
    """A grid of boxes over the output positions of an operation: (origin, length) per axis (images, rows, columns)."""

    images: tuple[tuple[int, int], ...]
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, shape: tuple[int, int, int], sizes: tuple[int, int, int]) -> Patches:
        images, rows, columns = (tuple(pieces(total, size)) for total, size in zip(shape, sizes, strict=True))
        return cls(images, rows, columns)

    def __len__(self) -> int:
        return len(self.images) * len(self.rows) * len(self.columns)

    @property
    def positions(self) -> int:
        """Positions of the largest patch."""
        return int(np.prod([max(length for _, length in axis) for axis in (self.images, self.rows, self.columns)]))


def patch_sizes(shape: tuple[int, int, int], limit: int, partition: int | None, streamed: Words) -> Iterator[tuple[int, int, int]]:
    """Sizes of patches worth trying: whole images, bands of rows, pieces of rows, all within ``limit`` streamed words.

    ``partition``: words to aim at instead of trying sizes; 0: as many as the limit allows.
    """
    images, rows, columns = shape
    sizes: set[tuple[int, int, int]] = set()
    size: tuple[int, int, int]
    widths = sorted({-(-columns // n) for n in range(1, min(columns, 24) + 1)})
    heights = sorted({-(-rows // n) for n in range(1, min(rows, 48) + 1)})
    for width in widths:
        for height in heights:
            if streamed(1, height, width) <= limit:
                sizes.add((1, height, width))
    if images > 1 and streamed(1, rows, columns) <= limit:
        for n in range(1, min(images, _MOST_PATCHES) + 1):
            together = -(-images // n)
            if streamed(together, rows, columns) <= limit:
                sizes.add((together, rows, columns))
    if not sizes:
        # Very wide or high: pieces of one row.
        width = columns
        while width > 1 and streamed(1, 1, width) > limit:
            width = -(-width // 2)
        if streamed(1, 1, width) <= limit:
            sizes.add((1, 1, width))
    ordered = sorted(sizes, key=lambda size: (_waste(shape, size), -int(np.prod(size))))
    if partition is not None:
        target = partition or limit
        fitting = [size for size in ordered if streamed(*size) <= target] or ordered
        most = max(streamed(*size) for size in fitting)
        large = [size for size in fitting if streamed(*size) > 0.8 * most]
        yield min(large, key=lambda size: (_waste(shape, size), -streamed(*size)))
        return
    # One of each count of patches, the best shaped.
    seen: dict[int, tuple[int, int, int]] = {}
    for size in ordered:
        count = len(Patches.of(shape, size))
        best = seen.get(count)
        if best is None or _edge(size) < _edge(best):
            seen[count] = size
    yield from list(seen.values())[:_MOST_PATCHES]


def _waste(shape: tuple[int, int, int], size: tuple[int, int, int]) -> float:
    """Positions that uneven patches are short of the largest, relative to all."""
    patches = Patches.of(shape, size)
    return round(len(patches) * patches.positions / int(np.prod(shape)), 2)


def _edge(size: tuple[int, int, int]) -> float:
    """Words around a patch that a 3 x 3 kernel would read, relative to those inside."""
    return (size[1] + 2) * (size[2] + 2) / (size[1] * size[2])
