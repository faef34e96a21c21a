"""What mappings of an operation cost: cycles until it is done, of sending and of the memory, and words without room.

All that may be chosen are weighed at once: a hundred to a few thousand for an operation.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .work import Work

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Of the words that are left on average: banks do not fill evenly.
_FILL = 0.8
_SEND = 1
"""Cycles that sending one word of activations costs: post-processors and wires are never all busy."""
_ALONE = 4
"""Patches per block from which on one block mostly does all gangs of a patch: the fewest with which the digits lose nothing."""
_EARLY = 0.5
"""Weight of when gangs end on average: what reads the first patches may start before the last are done."""
_EXCESS = 1e6
"""Cycles per word for which there is no room: what may not fit is only taken if nothing does, and the excess decides then."""
_ROUNDING = 1e-9
"""Of a cost, more than what sums of floating point numbers in another order differ by."""


@dataclass(frozen=True)
class Trials:
    """Mappings of an operation that may be chosen, on a chip with ``pods`` pods: arrays with an element for each.

    ``rows``: cycles that a weight load takes. ``side``, ``split``, ``abreast``, ``near``: those of the mappings. ``size``: the
    number of the size of their patches. ``fresh``: the share of its inputs that each does not find where it needs them. ``strips``,
    ``loaded``: pieces in which inputs are loaded, and words of the largest: those of the patches, unless they are loaded several at
    a time.

    By size, ``patches_of``: how many patches there are; ``positions_of``: positions of the largest; ``words_of``: that a pod
    streams for a step of it; ``area_of``: words of activations that it needs of each unit; ``sent_of``: jobs that
    send what all patches read, each once; ``ready``: per patch, when a gang may start.
    """

    work: Work
    pods: int
    rows: int
    side: Ints
    split: Ints
    abreast: Ints
    near: Bools
    size: Ints
    fresh: Floats
    strips: Ints
    loaded: Ints
    patches_of: Ints
    positions_of: Ints
    words_of: Ints
    area_of: Ints
    sent_of: Ints
    ready: Sequence[Ints]

    @cached_property
    def patches(self) -> Ints:
        return self.patches_of[self.size]

    @cached_property
    def words(self) -> Ints:
        return self.words_of[self.size]

    @cached_property
    def area(self) -> Ints:
        return self.area_of[self.size]

    @cached_property
    def block(self) -> Ints:
        return self.side * self.split * self.abreast

    @cached_property
    def blocks(self) -> Ints:
        """Gangs that the chip has room for at a time."""
        return self.pods // self.block

    @cached_property
    def groups(self) -> Ints:
        """Groups of patches that are the work of one gang."""
        return -(-self.patches // self.abreast)

    @cached_property
    def rounds(self) -> Ints:
        """Gangs that a group of patches takes for all its column tiles."""
        return -(-self.work.tiles // self.side)

    @property
    def steps(self) -> int:
        """K steps of a column tile."""
        return self.work.shared + self.work.own

    @cached_property
    def steps_per_part(self) -> Ints:
        return -(-self.steps // self.split)

    @cached_property
    def incoming(self) -> Floats:
        """Words of activations that are sent to a part of K for a patch."""
        return -(-self.work.units // self.split) * self.area * self.work.reads * self.fresh

    @cached_property
    def stored(self) -> Floats:
        """Words of activations that an X bank keeps, on average."""
        # Other gangs of a patch have copies of their own, unless they are the work of the same block.
        copies = np.where(self.near, 1, np.minimum(self.rounds, self.blocks))
        words = -(-(self.work.held - self.sent) // self.split) * self.loaded * self.strips
        # What is sent goes to each patch by itself.
        words = words + -(-self.sent // self.split) * self.area * self.patches
        return words * self.split * copies / self.pods

    @property
    def sent(self) -> int:
        """Units that X banks keep for each patch by itself, though others are loaded for several."""
        return self.work.units if self.work.strips else 0

    @cached_property
    def gang_cycles(self) -> Ints:
        """Cycles that a gang keeps its pods busy: of its steps, of which the last is emitted in parts, or of what is sent to it."""
        last = self.words if self.work.windowed else -(-self.positions_of[self.size] // self.split) * self.split
        length = (self.steps_per_part - 1) * np.maximum(self.words, self.rows) + np.maximum(last, self.rows)
        return np.maximum(length, (self.incoming / self.side).astype(np.int64))

    @cached_property
    def together(self) -> Ints:
        """Patches whose inputs are loaded together."""
        return -(-self.patches // self.strips)

    @cached_property
    def starts(self) -> dict[tuple[int, int, int], Ints]:
        """By size and patches that are together or abreast, when what may be the work of any block may start."""
        found = {}
        for size, together, abreast in set(self._of_starts):
            ready = self.ready[size][::together]
            found[size, together, abreast] = np.maximum.reduceat(ready, np.arange(0, len(ready), abreast))
        return found

    @cached_property
    def _of_starts(self) -> list[tuple[int, int, int]]:
        return list(zip(self.size.tolist(), self.together.tolist(), self.abreast.tolist(), strict=True))

    @cached_property
    def gangs(self) -> tuple[Ints, Ints]:
        """Gangs that may be the work of any block, of all patches that are together, and cycles of each."""
        alone = self.near | self.work.strips
        cycles = np.where(alone, self.gang_cycles * self.rounds * self.together, self.gang_cycles)
        return np.where(alone, 1, self.rounds), cycles

    @cached_property
    def copies(self) -> Ints:
        """Blocks to which the inputs of a patch are sent, usually."""
        # Other gangs of a patch go to blocks where its inputs are not, unless all blocks have several patches to do.
        spread = np.minimum(self.blocks, _ALONE * self.blocks // self.groups)
        found: Ints = np.where(self.near, 1, np.minimum(self.rounds, np.maximum(1, spread)))
        return found

    @cached_property
    def sending_cycles(self) -> Floats:
        """Cycles that sending activations to gangs costs each pod."""
        return _SEND * self.incoming * self.split * self.patches * self.copies / self.pods

    @cached_property
    def post_cycles(self) -> Floats:
        """Cycles in which the memory brings jobs that send activations: to gangs, and what they give to at least one reader."""
        pieces = self.patches * (1 if self.work.windowed else self.split) * self.work.tiles * self.work.left
        return self.work.post_cost * (self.sent_of[self.size] * self.fresh * self.copies * self.sent_to + pieces)

    @cached_property
    def sent_to(self) -> Floats:
        """Parts of K to which a unit is sent, on average: those between which its steps are cut have it both."""
        shared, units = self.work.shared, max(1, self.work.units)
        each = max(1, shared // units)
        cuts = {n: sum(shared * k // n % each > 0 for k in range(1, n)) for n in np.unique(self.split).tolist()}
        return 1 + np.array([cuts[n] for n in self.split.tolist()]) / units

    @cached_property
    def weight_cycles(self) -> Floats:
        """Cycles in which the memory brings jobs, weight tiles and parameters."""
        work, split = self.work, self.split
        jobs = self.patches * work.tiles * (self.steps + split * (split - 1))
        # Of a pod, one over all steps but the last, and one for each turn of that.
        joined = self.patches * work.tiles * split * (np.where(self.steps > split, 1, 0) + split)
        together = self.near | (self.rounds == 1)
        holders = np.minimum(self.groups, np.where(together, self.blocks, np.maximum(1, self.blocks // self.rounds)))
        # Parts of K have sums of all tiles of their gang.
        sets = work.tiles * split * np.minimum(self.patches, holders * self.abreast)
        brought = work.job_cost * jobs + work.joined_cost * joined + work.load_cost * self.patches * work.tiles * split
        return brought + work.tile_cost * work.tiles * self.steps * holders + work.set_cost * sets

    @cached_property
    def input_cycles(self) -> Floats:
        """Cycles in which the memory brings activations."""
        return self.work.input_cost * self.stored * self.pods * self.fresh

    def excess_words(self, room: tuple[float, float]) -> Floats:
        """Words more than an X and a W bank have room for, on average; ``room``: words left in each."""
        tiles = np.where(self.near, self.rounds, np.minimum(self.rounds, -(-self.groups * self.rounds // self.blocks)))
        wanted = ((self.stored, room[0]), (self.steps_per_part * self.rows * tiles / self.abreast, room[1]))
        excess = np.zeros(len(self.side))
        for taken, left in wanted:
            excess = excess + np.maximum(0.0, taken - _FILL * left)
        return excess

    def best(self, free: Ints, room: tuple[float, float]) -> int:
        """The number of the mapping that costs least, the first of several.

        What counts against a mapping is, in cycles, when its last gang ends, the mean of `simulate`, sending, what the memory
        brings, and the excess. ``free``: when each pod is free. Only those that no bound rules out are simulated.
        """
        excess = self.excess_words(room)
        # What fits as it is need not keep the gangs of a patch together: `near` follows the same mapping without it.
        needless = self.near & np.concatenate([[False], excess[:-1] == 0]) & (not self.work.strips)
        other = self.sending_cycles + self.weight_cycles + self.post_cycles + self.input_cycles + _EXCESS * excess
        least = (self._bounds(free) + other) * (1 - _ROUNDING)
        blocks = {block: free.reshape(-1, block).max(axis=1) for block in np.unique(self.block).tolist()}
        rounds, lengths = self.gangs
        cost, found = np.inf, -1
        for trial in np.lexsort((np.arange(len(least)), least)).tolist():
            if least[trial] > cost:
                break
            if needless[trial]:
                continue
            starts = self.starts[self._of_starts[trial]]
            of = blocks[int(self.block[trial])], starts.tolist()
            finish, mean = simulate(*of, int(rounds[trial]), int(lengths[trial]))
            total = finish + mean + float(self.sending_cycles[trial])
            total += float(self.weight_cycles[trial])
            total += float(self.post_cycles[trial])
            total += float(self.input_cycles[trial])
            total += float(_EXCESS * excess[trial])
            if total < cost or (total == cost and trial < found):
                cost, found = total, trial
        return found

    def _bounds(self, free: Ints) -> Floats:
        """Cycles below which neither when the last gang ends nor the mean, as `simulate` has them, can be in sum."""
        of_starts = {key: (len(ready), ready.min(), ready.max(), ready.mean()) for key, ready in self.starts.items()}
        pieces, first, last, middle = np.array([of_starts[key] for key in self._of_starts]).T
        rounds, length = self.gangs
        count = pieces.astype(np.int64) * rounds
        bounds = np.zeros(len(count))
        for block in np.unique(self.block).tolist():
            which = np.flatnonzero(self.block == block)
            n, cycles, blocks = count[which], length[which], self.pods // block
            begins = np.maximum(np.sort(free.reshape(-1, block).max(axis=1)), first[which, None])
            taken = np.cumsum(begins, axis=1)
            # As if gangs were poured over the blocks: some number of the first ones take all of them.
            poured = ((n * cycles)[:, None] + taken) / np.arange(1, blocks + 1)
            full, more = np.divmod(n, blocks)
            in_turn = (blocks * full * (full + 1) // 2 + more * (full + 1)) / n
            ends = np.maximum(middle[which] + cycles, begins[:, 0] + cycles * in_turn)
            finish = np.maximum(last[which] + cycles, np.maximum(poured.min(axis=1), begins[:, 0] + -(-n // blocks) * cycles))
            bounds[which] = finish + poured[:, -1] + _EARLY * ends
        return bounds


def simulate(free: Ints, ready: list[int], rounds: int, length: int) -> tuple[int, float]:
    """When the last gang ends, and the mean of when blocks are free and when gangs end, in cycles.

    ``free``: when each block of pods is free. ``ready``: per patch, when its inputs are there. ``rounds``: gangs per patch.
    ``length``: cycles of a gang.
    """
    # What pods were idle before the first of it could start is nobody's loss.
    blocks = np.maximum(free, min(ready)).tolist()
    heapq.heapify(blocks)
    finish = total = 0
    for time in ready:
        for _ in range(rounds):
            # A million times for a large network: comparisons, not calls.
            first = blocks[0]
            end = (first if first > time else time) + length
            heapq.heapreplace(blocks, end)
            if end > finish:
                finish = end
            total += end
    # What reads the first patches may start when they are done.
    return finish, sum(blocks) / len(blocks) + _EARLY * total / (len(ready) * rounds)
