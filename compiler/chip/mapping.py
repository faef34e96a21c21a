"""How an operation is spread over pods: patches of output positions, column tiles side by side, K split.

Pods are numbered so that an aligned block of ``split * side`` pods works on one patch: pod ``block + part * side + j`` does part
``part`` of the K steps of the j-th of ``side`` column tiles. All that such a *gang* reads and writes during its work lies in
banks of its own block, where a butterfly never conflicts with other blocks: blocks are scheduled independently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cost import Trial, cost
from .patches import Patches, Words, patch_sizes
from .strips import largest_strip
from .work import Mapping, Work


def choose(
    work: Work,
    *,
    pods: int,
    rows: int,
    limit: int,
    streamed: Words,
    arriving: Words,
    free: NDArray[np.int64],
    partition: int | None,
    latency: int,
    room: tuple[float, float],
    w_words: int,
) -> Mapping:
    """The mapping with which the operation ends first and takes the least of the pods' time, by a simulation of its gangs.

    ``room``: words left in an X and a W bank, on average. ``free``: when each pod is free. ``rows``: cycles that a weight load
    takes. ``latency``: cycles from the end of a gang's inputs to its start. ``w_words``: of a W bank.
    """
    best: tuple[float, Mapping] | None = None
    most_side = 1 if not work.shared else min(pods, 1 << (work.tiles - 1).bit_length())
    for size in patch_sizes(work.shape, limit, partition, streamed):
        patches = Patches.of(work.shape, size)
        words, area = streamed(*size), arriving(*size)
        ready = [time + latency for time in _patch_ready(work.ready, patches)]
        # Windows are over whole sums.
        most_split = 1 if work.windowed else min(max(1, work.shared), max(1, patches.positions))
        if not work.windowed and -(-work.shared // most_split) * rows > w_words:
            # Parts that sum up no segment of their own are better than a column tile that no W bank holds.
            most_split = max(1, work.shared)
        for side in _powers_of_two(most_side):
            for split in _powers_of_two(min(pods // side, most_split)):
                several, strips, loaded = work.tiles > side and pods > side * split, len(patches), area
                if work.strips:
                    strips, largest = largest_strip(patches, pods // (side * split))
                    loaded = arriving(*largest)
                for near in (work.strips, True) if several else (False,):
                    mapping = Mapping(side, split, patches, near)
                    found, excess = cost(Trial(work, mapping, pods, rows, words, area, strips, loaded), free, ready, room)
                    if best is None or found < best[0]:
                        best = (found, mapping)
                    if not excess:
                        # It fits as it is: no need to keep the gangs of a patch together.
                        break
    if best is None:
        raise ValueError("no patch of one output position fits")
    return best[1]


def _powers_of_two(most: int) -> list[int]:
    return [1 << i for i in range(most.bit_length())]


def _patch_ready(ready: NDArray[np.int64], patches: Patches) -> list[int]:
    result = []
    for row, height in patches.rows:
        for column, width in patches.columns:
            result.append(int(ready[row : row + height, column : column + width].max()))
    return [time for _ in patches.images for time in result]
