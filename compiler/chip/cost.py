"""What a mapping of an operation costs: cycles until it is done, of sending and of the memory, and words without room."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .work import Mapping, Work

# Of the words that are left on average: banks do not fill evenly.
_FILL = 0.8
_SEND = 1
"""Cycles that sending one word of activations costs: post-processors and wires are never all busy."""
_EARLY = 0.5
"""Weight of when gangs end on average: what reads the first patches may start before the last are done."""
_EXCESS = 1e6
"""Cycles per word for which there is no room: what may not fit is only taken if nothing does, and the excess decides then."""


@dataclass(frozen=True)
class Trial:
    """A mapping of an operation that may be chosen, on a chip with ``pods`` pods.

    ``rows``: cycles that a weight load takes. ``words``: that a pod streams for a step of the largest patch. ``area``: words of
    activations that the largest patch needs of each unit. ``strips``, ``loaded``: pieces in which inputs are loaded, and words of
    the largest: those of the patches, unless they are loaded several at a time.
    """

    work: Work
    mapping: Mapping
    pods: int
    rows: int
    words: int
    area: int
    strips: int
    loaded: int

    @property
    def patches(self) -> int:
        return len(self.mapping.patches)

    @property
    def blocks(self) -> int:
        """Gangs that the chip has room for at a time."""
        return self.pods // self.mapping.block

    @property
    def rounds(self) -> int:
        """Gangs that a patch takes for all its column tiles."""
        return -(-self.work.tiles // self.mapping.side)

    @property
    def steps(self) -> int:
        """K steps of a column tile."""
        return self.work.shared + self.work.own

    @property
    def steps_per_part(self) -> int:
        return -(-self.steps // self.mapping.split)

    @cached_property
    def fresh(self) -> float:
        """The share of its inputs that the mapping does not find where it needs them."""
        return self.work.fresh(self.mapping)

    @property
    def incoming(self) -> float:
        """Words of activations that are sent to a part of K for a patch."""
        return -(-self.work.units // self.mapping.split) * self.area * self.work.reads * self.fresh

    @property
    def stored(self) -> float:
        """Words of activations that an X bank keeps, on average."""
        split = self.mapping.split
        # Other gangs of a patch have copies of their own, unless they are the work of the same block.
        copies = 1 if self.mapping.near else min(self.rounds, self.blocks)
        return -(-self.work.held // split) * self.loaded * split * self.strips * copies / self.pods


def gang_cycles(trial: Trial) -> int:
    """Cycles that a gang keeps its pods busy: of its steps, of which the last is emitted in parts, or of what is sent to it."""
    split, words, rows = trial.mapping.split, trial.words, trial.rows
    slot = words if trial.work.windowed else -(-trial.mapping.patches.positions // split)
    last = words if trial.work.windowed else slot * split
    length = (trial.steps_per_part - 1) * max(words, rows) + max(last, rows)
    return max(length, int(trial.incoming / trial.mapping.side))


def finish_cycles(trial: Trial, free: NDArray[np.int64], ready: list[int]) -> tuple[int, float]:
    """Cycles until the last gang ends, and the mean of those until blocks are free and gangs end.

    ``free``: when each pod is free. ``ready``: per patch, when a gang may start.
    """
    cycles, block = gang_cycles(trial), trial.mapping.block
    if trial.work.strips:
        together = -(-trial.patches // trial.strips)
        return simulate(free, block, ready[::together], 1, cycles * trial.rounds * together)
    if trial.mapping.near:
        return simulate(free, block, ready, 1, cycles * trial.rounds)
    return simulate(free, block, ready, trial.rounds, cycles)


def sending_cycles(trial: Trial) -> float:
    """Cycles that sending activations to gangs costs each pod."""
    # Other gangs of a patch mostly go where its inputs are, unless there are blocks with nothing to do.
    usual = 1 if trial.mapping.near else min(trial.rounds, max(1, trial.blocks // trial.patches))
    return _SEND * trial.incoming * trial.mapping.split * trial.patches * usual / trial.pods


def weight_cycles(trial: Trial) -> float:
    """Cycles in which the memory brings jobs and weight tiles."""
    work, split = trial.work, trial.mapping.split
    jobs = trial.patches * work.tiles * (trial.steps + split * (split - 1))
    if trial.mapping.near or trial.rounds == 1:
        holders = min(trial.patches, trial.blocks)
    else:
        holders = max(1, min(trial.patches, trial.blocks // trial.rounds))
    return work.job_cost * jobs + work.tile_cost * work.tiles * trial.steps * holders


def input_cycles(trial: Trial) -> float:
    """Cycles in which the memory brings activations."""
    return trial.work.input_cost * trial.stored * trial.pods * trial.fresh


def excess_words(trial: Trial, room: tuple[float, float]) -> float:
    """Words more than an X and a W bank have room for, on average; ``room``: words left in each."""
    rounds, blocks = trial.rounds, trial.blocks
    tiles = rounds if trial.mapping.near else min(rounds, -(-trial.patches * rounds // blocks))
    wanted = ((trial.stored, room[0]), (trial.steps_per_part * trial.rows * tiles, room[1]))
    return sum(max(0.0, taken - _FILL * left) for taken, left in wanted)


def cost(trial: Trial, free: NDArray[np.int64], ready: list[int], room: tuple[float, float]) -> tuple[float, float]:
    """What counts against a mapping, in cycles, and its excess, in words; for the rest see `finish_cycles`, `excess_words`."""
    excess = excess_words(trial, room)
    finish, mean = finish_cycles(trial, free, ready)
    total = finish + mean + sending_cycles(trial)
    total += weight_cycles(trial)
    total += input_cycles(trial)
    return total + _EXCESS * excess, excess


def simulate(free: NDArray[np.int64], block: int, ready: list[int], rounds: int, length: int) -> tuple[int, float]:
    """When the last gang ends, and the mean of when blocks are free and when gangs end, in cycles.

    ``free``: when each pod is free. ``block``: pods of a gang. ``ready``: per patch, when its inputs are there. ``rounds``: gangs
    per patch. ``length``: cycles of a gang.
    """
    # What pods were idle before the first of it could start is nobody's loss.
    blocks = np.maximum(free.reshape(-1, block).max(axis=1), min(ready)).tolist()
    heapq.heapify(blocks)
    finish = total = 0
    for time in ready:
        for _ in range(rounds):
            # A hundred million times for a large network: comparisons, not calls.
            first = blocks[0]
            end = (first if first > time else time) + length
            heapq.heapreplace(blocks, end)
            if end > finish:
                finish = end
            total += end
    # What reads the first patches may start when they are done.
    return finish, sum(blocks) / len(blocks) + _EARLY * total / (len(ready) * rounds)
