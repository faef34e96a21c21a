"""Loads and stores of X banks: in the gap before an epoch, or, of parts that an epoch does not use, beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.epoch_program import EpochProgram
from ..rows.program import ChipEpoch

_FEW_BYTES = 4096
"""Of words that are moved by one descriptor whatever their parts: another one would take longer."""
_STORED_BESIDE = 2
"""Epochs, at most, beside which outputs are stored: with one, that epoch would often be over before them."""


@dataclass(frozen=True)
class XPiece:
    """Words ``begin`` to before ``end`` of an X bank, that are moved by one descriptor. ``used``: which epochs use its parts."""

    begin: int
    end: int
    used: NDArray[np.bool_]


class XBanks:
    """What goes beside epochs is in the prefetch ring: a load with the tag of its epoch, and a store with that of the next epoch
    that uses its parts, or of one before, in front of what is loaded into its place.

    Numbers of epochs go on from pass to pass, of which all use the same.

    ``programs``: of the epochs of a pass.
    """

    def __init__(self, programs: Sequence[ChipEpoch], config: ChipConfig):
        self.config, self.depth = config, config.memory.x_part_words
        self.stride = memory_stride(config, HostSelect.X)
        self.uses = x_uses(programs, config)
        """(epochs, banks, parts)."""
        # What others than layers load comes in the gap before them, by the other ring: stores are over one epoch earlier.
        layers = np.array([isinstance(program, EpochProgram) for program in programs])
        self.uses[~np.roll(layers, -1)] = True

    def free_after(self, piece: XPiece, epoch: int) -> int:
        """How many epochs must be done before words may be loaded that ``epoch`` reads; if that is all before it, in the gap."""
        for before in range(epoch - 1, max(0, epoch - len(piece.used)) - 1, -1):
            if piece.used[before % len(piece.used)]:
                return before + 1
        return max(0, epoch - len(piece.used))

    def stored_beside(self, piece: XPiece, epoch: int, *, more: bool) -> int:
        """Beside how many epochs what ``epoch`` makes may be stored; 0: in the gap behind it. ``more``: there are more passes."""
        count = len(piece.used)
        later = range(epoch + 1, epoch + 1 + _STORED_BESIDE)
        after = [bool(piece.used[number % count]) for number in later if more or number < count]
        return after.index(True) if True in after else len(after)

    def hold(self, epoch: int, node: int, begin: int, end: int) -> None:
        """Words are stored in the gap before an epoch: what is loaded into their place does not come beside it."""
        parts = slice(begin // self.depth, -(-end // self.depth))
        self.uses[epoch % len(self.uses), node, parts] = True

    def around(self, node: int, places: NDArray[np.int64]) -> XPiece:
        """Words of a bank, and those between them, whose parts all must be free to move them."""
        used: NDArray[np.bool_] = np.logical_or.reduce(self.uses[:, node, np.unique(places // self.depth)], axis=1)
        return XPiece(int(places.min()), int(places.max()) + 1, used)

    def pieces(self, node: int, base: int, words: int) -> list[XPiece]:
        """Words in pieces: parts side by side that all use or leave alike are one, and few words are not taken apart."""
        few, found = words * self.stride < _FEW_BYTES, list[XPiece]()
        for part in range(base // self.depth, -(-(base + words) // self.depth)):
            one = XPiece(max(base, part * self.depth), min(base + words, (part + 1) * self.depth), self.uses[:, node, part])
            if found and (few or (one.used == found[-1].used).all()):
                before = found.pop()
                one = XPiece(before.begin, one.end, before.used | one.used)
            found.append(one)
        return found


def x_uses(programs: Sequence[ChipEpoch], config: ChipConfig) -> NDArray[np.bool_]:
    """(epochs, banks, parts): parts that epochs use, and those with tensors that the epoch before has left to be loaded again: such
    words are stored in the gap between both, whoever uses their parts next."""
    spilled = np.zeros((len(programs), config.memory.banks, config.memory.x_parts), bool)
    for epoch, program in enumerate(programs):
        for item in program.spilled if isinstance(program, EpochProgram) else ():
            last = item.place.base + int(np.prod([end - begin for begin, end in item.box])) - 1
            depth = config.memory.x_part_words
            spilled[epoch, item.place.bank, item.place.base // depth : last // depth + 1] = True
    # The last epoch of a pass has the first one of the next behind it.
    return np.stack([_uses(program, config) for program in programs]) | np.roll(spilled, 1, axis=0)


def _uses(program: ChipEpoch, config: ChipConfig) -> NDArray[np.bool_]:
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
