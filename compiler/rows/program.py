"""Programs of row operations: jobs of an epoch, what is loaded before it, and where results lie after."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import RowOperation
from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import Combine

from ..chip.epoch_program import EpochProgram
from ..collective.program import CollectiveProgram
from ..jobs import EpochJobs, Jobs


@dataclass(frozen=True)
class CachePlace:
    """Where a tile of a cache lies in memory: it is number ``index`` of ``count`` that lie side by side, as they are loaded.

    ``region``: which of those of its tensor and node they are. Places are the same in all programs with the same room for caches.
    """

    region: int
    index: int
    count: int


@dataclass(frozen=True, eq=False)
class Words:
    """Words of a node that are loaded: constants, or bytes of an input.

    ``content``: uint8 (words, bytes). ``tensor``: the input whose bytes they are, if any; then ``numbers`` (words, bytes) says
    which byte of it each is (`formats.byte_numbers`), -1 where it stays as in ``content``. ``late``:
    the epoch before writes some of them (`CacheWords`). ``place``: of words of a cache, which are a tile of weights. ``operation``:
    of weights, whose they are.
    """

    select: HostSelect
    node: int
    base: int
    content: NDArray
    tensor: str | None = None
    numbers: NDArray | None = None
    late: bool = False
    place: CachePlace | None = None
    operation: str | None = None


@dataclass(frozen=True)
class CacheWords:
    """X words of a node that go into a cache in memory: into tile ``place`` of input ``tensor``, from a column or row of it on.

    ``column``: words are columns of what will be loaded as weights, their bytes as far apart as its rows; else rows of it.
    ``first``: that of the first word. ``offset``: the input that says by how many further they go.
    """

    node: int
    base: int
    words: int
    tensor: str
    place: CachePlace
    first: int
    column: bool
    offset: str | None = None


@dataclass(frozen=True, eq=False)
class OutputWords:
    """Words of a node that are stored: ``numbers`` (words, bytes) says which byte of ``tensor`` each is, -1 for none."""

    select: HostSelect
    node: int
    base: int
    tensor: str
    numbers: NDArray


@dataclass(frozen=True)
class RowProgram(EpochJobs):
    """One epoch of a `RowGraph` on a chip.

    ``loads``, ``streams``, ``posts``: as of an `EpochProgram`. ``words``: what engines load for it; ``outputs``: what they store
    after it. ``operations``: indices of those that end in it. ``begins``: how many steps of operations, each of which is in one
    epoch, come before it.
    """

    config: ChipConfig
    graph: RowGraph
    loads: Jobs
    streams: Jobs
    posts: Jobs
    words: tuple[Words, ...]
    outputs: tuple[OutputWords, ...]
    appended: tuple[CacheWords, ...]
    operations: tuple[int, ...]
    begins: int

    @cached_property
    def turning(self) -> NDArray[np.int64]:
        """Cycles that words of each post job take longer than `ChipConfig.post_beats`: as many again where they are rotated."""
        return self.config.post_beats * (self.posts["combine"] == Combine.ROTATE)

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of operations that have jobs in it."""
        found = np.concatenate([jobs["operation"] for jobs in (self.streams, self.posts)])
        return tuple(np.unique(found).tolist())

    def operation(self, index: int) -> RowOperation:
        return self.graph.operations[index]


ChipEpoch = EpochProgram | RowProgram | CollectiveProgram
"""What an epoch of a chip may be."""
