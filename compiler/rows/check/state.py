"""What epochs leave to later ones: whose content is in banks, what is loaded, and what may not be loaded over any more."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Attention, Format
from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import ELEMENT_WIDTH

from ...chip.check.jobs import Bools, Ints
from ...jobs import ProgramError
from ..program import RowProgram, Words
from .history import NOBODY
from .view import Owners

NAMES = {
    HostSelect.X: "X address",
    HostSelect.P: "P address",
    HostSelect.W: "W address",
    HostSelect.PARAMETERS: "parameter set",
    HostSelect.LENGTHS: "length",
}
NOT_YET = -1


@dataclass
class State:
    """By node and word of each kind: ``owner``: the tensor, by number; ``loaded``, ``used``: the last epoch that did so."""

    config: ChipConfig
    owners: Owners
    owner: dict[HostSelect, Ints] = field(default_factory=dict)
    loaded: dict[HostSelect, Ints] = field(default_factory=dict)
    used: dict[HostSelect, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config, post = self.config, self.config.post
        memory = config.memory
        depths = {HostSelect.W: memory.w_words, HostSelect.PARAMETERS: post.parameter_sets, HostSelect.LENGTHS: post.row_registers}
        for select, depth in depths.items():
            self.loaded[select] = np.full((config.pods, depth), NOT_YET)
            self.used[select] = np.full((config.pods, depth), NOT_YET)
        for select, depth in {HostSelect.X: memory.x_words, HostSelect.P: memory.p_words}.items():
            self.owner[select] = np.full(config.pods * depth, NOBODY)
        self.most = np.full((config.pods, post.row_registers), 1 << ELEMENT_WIDTH)
        """By node and length: how large it may be."""
        self.vanishes = np.zeros((config.pods, post.parameter_sets), bool)
        """By node and set: whether it makes the same of any sum."""
        self.tile = np.full((config.pods, memory.w_words), NOT_YET)
        """By node and word of weights, the number of the tile that it is of, and which of its rows it is."""
        self.row_of_tile = np.zeros((config.pods, memory.w_words), np.int64)
        self.tiles = 0
        self.ready = np.zeros((config.pods, post.row_registers), bool)
        self.register_owner = np.full((config.pods, post.row_registers), NOBODY)
        self.scaled = np.zeros((config.pods, post.row_registers), np.int64)
        """Row registers: whether they are ready, whose they are, and whether a scale was made for them."""

    def load(self, epoch: int, program: RowProgram) -> None:
        """What is loaded for an epoch. Raises `ProgramError` for words outside, or that are loaded where others are needed."""
        fresh = {select: np.zeros(self._shape(select), bool) for select in (*self.owner, *self.loaded)}
        for words in program.words:
            select, node, base, count = words.select, words.node, words.base, len(words.content)
            what = f"{NAMES[select]}es" if select in (HostSelect.X, HostSelect.P, HostSelect.W) else f"{NAMES[select]}s"
            pods, depth = self._shape(select)
            depth -= select is HostSelect.P
            if not (0 <= node < pods and 0 <= base <= depth - count):
                raise ProgramError(f"{what} {base} to {base + count - 1} of node {node}, which are loaded, are not there")
            place = node, slice(base, base + count)
            if fresh[select][place].any():
                raise ProgramError(f"{what} {base} to {base + count - 1} of node {node}: some are loaded twice")
            fresh[select][place] = True
            if select in self.owner:
                begin = node * self._shape(select)[1] + base
                assert words.tensor is not None
                self.owner[select][begin : begin + count] = self.owners.number(words.tensor)
                continue
            # Words are loaded as soon as the last epoch that loaded something there is over; late ones just before theirs.
            late = (self.used[select][place] > self.loaded[select][place]) & (not words.late)
            if late.any():
                at = int(np.argmax(late))
                loaded, used = self.loaded[select][place][at], self.used[select][place][at]
                word = f"{NAMES[select]} {base + at} of node {node}"
                raise ProgramError(f"{word} may be loaded when epoch {loaded} is over, but epoch {used} needs what is there")
            self.loaded[select][place] = epoch
            if select is HostSelect.W:
                rows = self.config.array.rows
                self.tile[place], self.row_of_tile[place] = self.tiles + np.arange(count) // rows, np.arange(count) % rows
                self.tiles += -(-count // rows)
            if select is HostSelect.PARAMETERS:
                self.vanishes[place] = (words.content[:, 1] == 0).all(axis=1)
            if select is HostSelect.LENGTHS:
                self.most[place] = _most(words, program.graph)

    def _shape(self, select: HostSelect) -> tuple[int, int]:
        if select in self.owner:
            return self.config.pods, len(self.owner[select]) // self.config.pods
        pods, depth = self.loaded[select].shape
        return pods, depth

    def use(self, select: HostSelect, epoch: int, node: Ints, word: Ints) -> Bools:
        """An epoch uses words; which of them are not there?"""
        self.used[select][node, word] = epoch
        return self.loaded[select][node, word] == NOT_YET


def _most(words: Words, graph: RowGraph) -> Ints:
    """Lengths that are loaded; of an input, how many keys there are for each row, at the most."""
    if words.tensor is None:
        return (words.content.astype(np.int64) << np.arange(0, 8 * words.content.shape[1], 8)).sum(axis=1)
    assert words.numbers is not None
    rows = words.numbers[:, 0] // Format.LENGTHS.dtype.itemsize
    readers = [each for each in graph.operations if isinstance(each, Attention) and each.lengths == words.tensor]
    return np.max([np.array(each.contexts)[rows] for each in readers], axis=0)
