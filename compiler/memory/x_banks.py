"""Loads and stores of X banks: in the gap before an epoch, or, of parts that an epoch does not use, beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.epoch_program import EpochProgram
from ..rows.program import ChipEpoch
from .rings import RingBuilder

_FEW_BYTES = 4096
"""Of words that are moved by one descriptor whatever their parts: another one would take longer."""
_STORED_BESIDE = 2
"""Epochs, at most, beside which outputs are stored: with one, that epoch would often be over before them."""

Rings = tuple[RingBuilder, RingBuilder]


Fields = Mapping[str, int]
Pending = dict[int, list[tuple[RingBuilder, tuple[int, int, int, int], int, Fields]]]
"""By tag, stores beside epochs: ring, (unit, base, words, address), after how many epochs, and fields."""


class XBanks:
    """What goes beside epochs is in the prefetch ring: a load with the tag of its epoch, and a store with that of the next epoch
    that uses its parts, or of one before, in front of what is loaded into its place.

    Epochs are those of a run, of one pass or several.

    Parameters
    ----------
    config : ChipConfig
        The chip.
    uses : array of bool, shape (epochs, banks, parts)
        Parts of X banks that each epoch of a pass uses (`x_uses`).
    passes : bool
        Whether another pass may come behind each.
    """

    def __init__(self, config: ChipConfig, uses: NDArray[np.bool_], *, passes: bool):
        self.config, self.depth, self.passes = config, config.memory.x_part_words, passes
        self.stride = memory_stride(config, HostSelect.X)
        self.uses = uses
        self.later: Pending = {}
        self._gaps = np.zeros(uses.shape, bool)
        """Parts from which is stored in the gap before an epoch of a pass."""
        self._tags = np.zeros(uses.shape[1:], np.int64)
        """Of each part, the last tag of stores beside epochs."""

    def load(self, epoch: int, rings: Rings, node: int, base: int, words: int, address: int, fields: Fields) -> None:
        """Words of a node that ``epoch`` reads. ``rings``: demand and prefetch ring of its manager, which are at its tag.
        ``fields``: of the descriptors, beside those that follow from all this."""
        demand, prefetch = rings
        # Of the epochs before it, of this pass and the one before.
        known = np.arange(max(0, epoch - len(self.uses)), epoch)
        # One that was still to be stored from beside the epoch before would be overtaken by what waits for another part.
        apart = bool((self._tags[node, self._parts(base, words)] >= epoch).any())
        for moved, used in self._pieces(node, base, words, address, apart=apart):
            taken = used | self._gaps[:, node, self._parts(moved[1], moved[2])].any(axis=1)
            before = known[taken[known % len(taken)]]
            after = int(before[-1]) + 1 if len(before) else 0
            if len(known) and not used[known[-1] % len(used)]:
                prefetch.add(HostSelect.X, *moved, after=after, beside=1)
                prefetch.descriptors[-1] |= fields
            else:
                demand.add(HostSelect.X, *moved, after=epoch)
                demand.descriptors[-1] |= fields

    def store(self, epoch: int, rings: Rings, node: int, base: int, words: int, address: int, fields: Fields) -> None:
        """Words of a node that ``epoch`` makes; ``rings`` are at the next tag."""
        demand, prefetch = rings
        following = np.arange(epoch + 1, epoch + 1 + _STORED_BESIDE)
        if not self.passes:
            following = following[following < len(self.uses)]
        for moved, used in self._pieces(node, base, words, address):
            after = used[following % len(used)]
            beside = int(after.argmax()) if after.any() else len(after)
            if beside:
                parts = self._parts(moved[1], moved[2])
                self._tags[node, parts] = np.maximum(self._tags[node, parts], epoch + 1 + beside)
                self.later.setdefault(epoch + 1 + beside, []).append((prefetch, moved, epoch + 1, fields))
            else:
                self.stored_in_gap(epoch, node, moved[1], moved[1] + moved[2] - 1)
                demand.add(HostSelect.X, *moved, after=epoch + 1, kind=DescriptorKind.STORE)
                demand.descriptors[-1] |= fields

    def stored_in_gap(self, epoch: int, node: int, first: int, last: int) -> None:
        """Words of ``epoch`` that are stored before the next one: until that is done, nothing is loaded where they are."""
        self._gaps[(epoch + 1) % len(self._gaps), node, self._parts(first, last - first + 1)] = True

    def _parts(self, base: int, words: int) -> slice:
        """Those with words of a bank."""
        return slice(base // self.depth, -(-(base + words) // self.depth))

    def begin_tag(self, tag: int) -> None:
        """All rings are at ``tag``, of which they have nothing yet."""
        self._add(self.later.pop(tag, ()))

    def pending(self) -> Pending:
        """Stores that have not been added yet."""
        return {tag: list(stores) for tag, stores in self.later.items()}

    def end(self) -> None:
        """No epoch comes any more."""
        for tag in sorted(self.later):
            self._add(self.later.pop(tag))

    def _add(self, stores: Sequence[tuple[RingBuilder, tuple[int, int, int, int], int, Fields]]) -> None:
        for ring, moved, after, fields in stores:
            ring.add(HostSelect.X, *moved, after=after, kind=DescriptorKind.STORE, beside=1)
            ring.descriptors[-1] |= fields

    def _pieces(
        self, node: int, base: int, words: int, address: int, *, apart: bool = False
    ) -> list[tuple[tuple[int, int, int, int], NDArray[np.bool_]]]:
        """(unit, base, words, address) of pieces of words, and which epochs use their parts: parts side by side that all use or
        leave alike are one piece, and few words are not taken apart, unless they must be ``apart``."""
        few, unit = not apart and words * self.stride < _FEW_BYTES, node % self.config.nodes_per_manager
        pieces: list[tuple[int, int, NDArray[np.bool_]]] = []
        for part in range(base // self.depth, -(-(base + words) // self.depth)):
            first, last = max(base, part * self.depth), min(base + words, (part + 1) * self.depth)
            used = self.uses[:, node, part]
            if pieces and (few or (used == pieces[-1][2]).all()):
                first, _, before = pieces.pop()
                used = used | before
            pieces.append((first, last, used))
        return [((unit, first, last - first, address + (first - base) * self.stride), used) for first, last, used in pieces]


def x_uses(program: ChipEpoch, config: ChipConfig) -> NDArray[np.bool_]:
    """(banks, parts): parts that pods read or post-processors write, of the inputs that an epoch keeps, and of what lies between
    words of a job. Of operations on rows, and of collectives, all."""
    memory = config.memory
    if memory.x_parts == 1 or not isinstance(program, EpochProgram):
        return np.ones((memory.banks, memory.x_parts), bool)
    # What pods read are inputs, and what post-processors sent.
    units, posts = (*program.external_units, *program.resident), program.posts
    begins, ends, banks = (
        np.array([(unit.place.base, unit.place.base + unit.region.words - 1, unit.place.bank) for unit in units], np.int64)
        .reshape(-1, 3)
        .T
    )
    inner = (posts["n2"] - 1) * posts["x_step2"]
    outer = (posts["n3"] - 1) * (inner + posts["x_step3"])
    low, high = (posts["x_base"] + pick(inner, 0) + pick(outer, 0) for pick in (np.minimum, np.maximum))
    first, last = (np.concatenate(ends_of) // memory.x_part_words for ends_of in ((begins, low), (ends, high)))
    bank = np.concatenate([banks, posts["x_bank"]])
    # +1 where a run of parts begins, -1 behind its end.
    edges = np.zeros((memory.banks, memory.x_parts + 1), np.int64)
    np.add.at(edges, (bank, first), 1)
    np.add.at(edges, (bank, last + 1), -1)
    return np.cumsum(edges, axis=1)[:, :-1] > 0
