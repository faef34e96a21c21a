"""How an operation is spread over pods: patches of output positions, column tiles side by side, K split.

Pods are numbered so that an aligned block of ``split * side`` pods works on one patch: pod ``block + part * side + j`` does part
``part`` of the K steps of the j-th of ``side`` column tiles. All that such a *gang* reads and writes during its work lies in
banks of its own block, where a butterfly never conflicts with other blocks: blocks are scheduled independently.

Weights that several patches need are there once if a gang works on ``abreast`` patches, side by side in a block as many times as
large: pods of the same part and tile ask for the same words in the same cycle, and the W interconnect merges that. They lie in
the bank of one of these pods, so numbers of pods and bank differ in the bits above ``split * side`` alone, and what other pods of
the gang ask for is on other wires.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cost import Trials
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
    least_side: int = 1,
    known: Mapping | None = None,
) -> Mapping:
    """The mapping with which the operation ends first and takes the least of the pods' time, by a simulation of its gangs.

    ``room``: words left in an X and a W bank, on average. ``free``: when each pod is free. ``rows``: cycles that a weight load
    takes. ``latency``: cycles from the end of a gang's inputs to its start. ``least_side``: column tiles of a gang at least, if
    there are as many. ``known``: of the same operation over other positions: only that with other patches, if it can be, so that
    its weights are in the same places.
    """
    most_side = 1 if not work.shared else min(pods, 1 << (work.tiles - 1).bit_length())
    sizes = list(patch_sizes(work.shape, limit, partition, streamed))
    if not sizes:
        raise ValueError("no patch of one output position fits")
    grids = [Patches.of(work.shape, size) for size in sizes]
    ways: list[tuple[int, int, int, int, bool]] = []
    # Windows are over whole sums. Parts may sum up no segment of their own.
    most_split = 1 if work.windowed else max(1, work.shared)
    for number in range(len(grids)):
        for side in _powers_of_two(most_side)[min(least_side, most_side).bit_length() - 1 :]:
            for split in _powers_of_two(min(pods // side, most_split)):
                most_abreast = min(pods // (side * split), 1 << (len(grids[number]) - 1).bit_length()) if work.abreast else 1
                for abreast in _powers_of_two(most_abreast):
                    several = work.tiles > side and pods > side * split * abreast
                    if not (several and work.strips):
                        ways.append((number, side, split, abreast, False))
                    if several:
                        ways.append((number, side, split, abreast, True))
    if known:
        same = [way for way in ways if way[1:] == (known.side, known.split, known.abreast, known.near)]
        ways = same or ways
    size, side_of, split_of, abreast_of, near = (np.array(column) for column in zip(*ways, strict=True))
    area_of = np.array([arriving(*one) for one in sizes])
    strips, loaded = np.array([len(patches) for patches in grids])[size], area_of[size]
    if work.strips:
        strips, loaded = _strips(grids, pods, arriving, size, side_of * split_of, in_rows=work.in_rows)
    fresh = np.ones(len(ways))
    for mapping, share in work.fresh.items():
        # All column tiles of a strip are the work of one block, however many those are.
        same = (side_of == mapping.side) & (split_of == mapping.split) & (work.strips | (near == mapping.near))
        same &= abreast_of == mapping.abreast
        fresh[same & np.array([patches == mapping.patches for patches in grids])[size]] = share
    trials = Trials(
        work,
        pods,
        rows,
        side_of,
        split_of,
        abreast_of,
        near,
        size,
        fresh,
        strips,
        loaded,
        patches_of=np.array([len(patches) for patches in grids]),
        positions_of=np.array([patches.positions for patches in grids]),
        words_of=np.array([streamed(*one) for one in sizes]),
        area_of=area_of,
        sent_of=np.array([work.sent(patches) if work.sent else 0 for patches in grids]),
        ready=[_patch_ready(work.ready, patches) + latency for patches in grids],
    )
    number, side, split, abreast, keep_near = ways[trials.best(free, room)]
    return Mapping(side, split, grids[number], keep_near, abreast)


def _strips(
    grids: list[Patches], pods: int, arriving: Words, size: NDArray[np.int64], block: NDArray[np.int64], *, in_rows: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each mapping, in how many pieces inputs are loaded, and words of the largest. ``size``, ``block``: number of the size of
    its patches, and pods of a gang."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    ways = list(zip(size.tolist(), block.tolist(), strict=True))
    for number, pods_of_gang in dict.fromkeys(ways):
        count, largest = largest_strip(grids[number], pods // pods_of_gang, in_rows=in_rows)
        found[number, pods_of_gang] = count, arriving(*largest)
    strips, loaded = np.array([found[way] for way in ways]).T
    return strips, loaded


def _powers_of_two(most: int) -> list[int]:
    return [1 << i for i in range(most.bit_length())]


def _patch_ready(ready: NDArray[np.int64], patches: Patches) -> NDArray[np.int64]:
    rows, columns = ([origin for origin, _ in axis] for axis in (patches.rows, patches.columns))
    latest = np.maximum.reduceat(np.maximum.reduceat(ready, rows, axis=0), columns, axis=1)
    return np.tile(latest.reshape(-1), len(patches.images))
