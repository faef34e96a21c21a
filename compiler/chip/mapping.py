"""How a node is spread over pods: patches of output positions, column tiles side by side, K split.

Pods are numbered so that an aligned block of ``split * side`` pods works on one patch: pod ``block + part * side + j`` does part
``part`` of the K steps of the j-th of ``side`` column tiles. All that such a *gang* reads and writes during its work lies in
banks of its own block, where a butterfly never conflicts with other blocks: blocks are scheduled independently.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .patches import Patches, Words, patch_sizes

# Of the words that are left on average: banks do not fill evenly.
_FILL = 0.8
_SEND = 1
"""Cycles that sending one word of activations costs: post-processors and wires are never all busy."""
_EARLY = 0.5
"""Weight of when gangs end on average: what reads the first patches may start before the last are done."""


@dataclass(frozen=True)
class Mapping:
    """``side``: column tiles of a gang; ``split``: parts of K; both powers of two. ``patches``: of output positions.

    ``near``: all column tiles of a patch are the work of one block, one after the other, so that its inputs are there once.
    """

    side: int
    split: int
    patches: Patches
    near: bool = False

    @property
    def block(self) -> int:
        return self.side * self.split


@dataclass(frozen=True)
class Work:
    """What the choice of a mapping needs to know of a node.

    ``shape``: images, rows, columns of its output. ``tiles``: column tiles. ``shared``, ``own``: K steps of a column tile whose
    activations all tiles share, and that are its own. ``units``: units of activations that are sent to it; ``held``: that it
    keeps in X banks. ``ready``: per output row and column, when its inputs are there. ``windowed``: windows are reduced.
    ``reads``: words of P banks per word sent. ``fresh``: the share of its inputs that a mapping does not find where it needs them.
    ``job_cost``, ``tile_cost``, ``input_cost``: cycles in which the memory brings a stream with its load, a weight tile, and a word
    of activations; 0 for what does not come from there.
    """

    shape: tuple[int, int, int]
    tiles: int
    shared: int
    own: int
    units: int
    ready: NDArray[np.int64]
    held: int
    windowed: bool
    reads: int = 1
    fresh: Callable[[Mapping], float] = lambda _: 1.0
    job_cost: float = 0.0
    tile_cost: float = 0.0
    input_cost: float = 0.0


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
) -> Mapping:
    """The mapping with which the node ends first and takes the least of the pods' time, by a simulation of its gangs.

    ``room``: words left in an X and a W bank, on average. ``free``: when each pod is free. ``rows``: cycles that a weight load
    takes. ``latency``: cycles from the end of a gang's inputs to its start.
    """
    best: tuple[float, Mapping] | None = None
    steps = work.shared + work.own
    most_side = 1 if not work.shared else min(pods, 1 << (work.tiles - 1).bit_length())
    sides = [1 << i for i in range(most_side.bit_length())]
    for size in patch_sizes(work.shape, limit, partition, streamed):
        patches = Patches.of(work.shape, size)
        words, area = streamed(*size), arriving(*size)
        ready = [time + latency for time in _patch_ready(work.ready, patches)]
        for side in sides:
            split = 1
            while side * split <= pods and split <= max(1, work.shared) and split <= max(1, patches.positions):
                if split > 1 and work.windowed:
                    break
                slot = -(-patches.positions // split) if not work.windowed else words
                per_part = -(-steps // split)
                length = (per_part - 1) * max(words, rows) + max(words if work.windowed else slot * split, rows)
                rounds = -(-work.tiles // side)
                blocks = pods // (side * split)
                for near in (False, True) if rounds > 1 and blocks > 1 else (False,):
                    mapping = Mapping(side, split, patches, near)
                    incoming = -(-work.units // split) * area * work.reads * work.fresh(mapping)
                    span = max(length, int(incoming / side))
                    if near:
                        finish, mean = _simulate(free, side * split, ready, 1, span * rounds)
                    else:
                        finish, mean = _simulate(free, side * split, ready, rounds, span)
                    # Other gangs of a patch mostly go where its inputs are, unless there are blocks with nothing to do.
                    usual = 1 if near else min(rounds, max(1, blocks // len(patches)))
                    cost = finish + mean + _SEND * incoming * split * len(patches) * usual / pods
                    # What may not fit is only taken if nothing does: the excess decides then.
                    copies = 1 if near else min(rounds, blocks)
                    jobs = len(patches) * work.tiles * (steps + split * (split - 1))
                    holders = min(len(patches), blocks) if near or rounds == 1 else max(1, min(len(patches), blocks // rounds))
                    cost += work.job_cost * jobs + work.tile_cost * work.tiles * steps * holders
                    stored = -(-work.held // split) * area * split * len(patches) * copies / pods
                    cost += work.input_cost * stored * pods * work.fresh(mapping)
                    tiles = rounds if near else min(rounds, -(-len(patches) * rounds // blocks))
                    wanted = ((stored, room[0]), (per_part * rows * tiles, room[1]))
                    excess = sum(max(0.0, taken - _FILL * left) for taken, left in wanted)
                    cost += 1e6 * excess
                    if best is None or cost < best[0]:
                        best = (cost, mapping)
                    if not excess:
                        # It fits as it is: no need to keep the gangs of a patch together.
                        break
                split *= 2
    if best is None:
        raise ValueError("no patch of one output position fits")
    return best[1]


def _simulate(free: NDArray[np.int64], block: int, ready: list[int], rounds: int, length: int) -> tuple[int, float]:
    """When the last gang ends, and the mean of when blocks are free and when gangs end."""
    # What pods were idle before the first of it could start is nobody's loss.
    blocks = np.maximum(free.reshape(-1, block).max(axis=1), min(ready)).tolist()
    heapq.heapify(blocks)
    finish = total = 0
    for time in ready:
        for _ in range(rounds):
            start = max(blocks[0], time)
            heapq.heapreplace(blocks, start + length)
            finish = max(finish, start + length)
            total += start + length
    # What reads the first patches may start when they are done.
    return finish, sum(blocks) / len(blocks) + _EARLY * total / (len(ready) * rounds)


def _patch_ready(ready: NDArray[np.int64], patches: Patches) -> list[int]:
    result = []
    for row, height in patches.rows:
        for column, width in patches.columns:
            result.append(int(ready[row : row + height, column : column + width].max()))
    return [time for _ in patches.images for time in result]
