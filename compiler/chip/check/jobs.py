"""A chip program as its checks look at it: jobs, their lengths, their names in messages, and the addresses they walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Emit

from ...jobs import Jobs, ProgramError, words_of_tile
from ..epoch_program import EpochProgram

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
# Words that are looked at together: a few arrays of this size are in memory at a time.
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Walk:
    """The addresses of jobs, loop 0 innermost: one value per job in each array."""

    base: Ints
    counts: tuple[Ints, ...]
    strides: tuple[Ints, ...]

    @classmethod
    def of(cls, jobs: Jobs, memory: str, loops: Sequence[int]) -> Walk:
        counts = tuple(jobs[f"n{i}"] for i in loops)
        strides: list[Ints] = []
        back = np.zeros_like(jobs[f"{memory}_base"])
        for i, count in zip(loops, counts, strict=True):
            # A loop of one trip never advances.
            stride = np.where(count > 1, jobs[f"{memory}_step{i}"] + back, 0)
            strides.append(stride)
            back = back + (count - 1) * stride
        return cls(jobs[f"{memory}_base"], counts, tuple(strides))

    def extremes(self) -> tuple[Ints, Ints]:
        low, high = self.base, self.base
        for count, stride in zip(self.counts, self.strides, strict=True):
            reach = (count - 1) * stride
            low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
        return low, high

    def at(self, job: Ints, word: Ints) -> Ints:
        """Addresses of the ``word``-th words of jobs."""
        address, left = self.base[job], word
        for count, stride in zip(self.counts, self.strides, strict=True):
            address = address + left % count[job] * stride[job]
            left = left // count[job]
        return address


@dataclass(frozen=True)
class JobView:
    """Jobs of an epoch, read only; arrays have one value per job of their kind, in the order of the program.

    ``stored``: what stores hold, if loads and streams are those tile by tile; then messages name its jobs.
    """

    config: ChipConfig
    loads: Jobs
    streams: Jobs
    posts: Jobs
    operation_of_stream: Ints
    stored: dict[str, Jobs] | None = None

    def jobs(self, kind: str) -> Jobs:
        """``kind``: load, stream or post."""
        return {"load": self.loads, "stream": self.streams, "post": self.posts}[kind]

    @cached_property
    def streamed(self) -> Ints:
        """Words of activations that each stream reads."""
        return words_of_tile(self.streams) * self.streams["tiles"]

    @cached_property
    def read(self) -> Ints:
        """Words that each post job reads of a P bank."""
        return self.window * self.posts["n2"] * self.posts["n3"]

    @cached_property
    def window(self) -> Ints:
        """Words that each post job reads per word that it sends."""
        return self.posts["n0"] * self.posts["n1"]

    @cached_property
    def period(self) -> Ints:
        """Cycles that each post job takes per word that it sends."""
        return self.window + self.config.post_beats - 1

    @cached_property
    def post_cycles(self) -> Ints:
        """Cycles that each post job takes."""
        return self.posts["n2"] * self.posts["n3"] * self.period

    @cached_property
    def emits(self) -> Bools:
        """Which streams send sums to a P bank."""
        return self.streams["emit"] != Emit.NONE

    @cached_property
    def w_walk(self) -> Walk:
        """What loads read."""
        return Walk(self.loads["w_base"], (self.loads["rows"],), (self.loads["w_step"],))

    @cached_property
    def x_walk(self) -> Walk:
        """What streams read."""
        return Walk.of(self.streams, "x", range(3))

    @cached_property
    def p_walk(self) -> Walk:
        """What streams write, if they emit."""
        return Walk.of(self.streams, "p", range(3))

    @cached_property
    def read_walk(self) -> Walk:
        """What post jobs read."""
        return Walk.of(self.posts, "p", range(4))

    @cached_property
    def sent_walk(self) -> Walk:
        """What post jobs write."""
        return Walk.of(self.posts, "x", (2, 3))

    def name(self, kind: str, index: int) -> str:
        """A job as messages name it; ``kind``: load, stream or post."""
        jobs, unit = self.jobs(kind), "bank" if kind == "post" else "pod"
        number = str(index)
        if self.stored and kind != "post":
            tiles = self.stored[kind]["tiles"]
            ends = np.cumsum(tiles)
            job = int(np.searchsorted(ends, index, side="right"))
            number = str(job) if tiles[job] == 1 else f"{job} tile {index - ends[job] + tiles[job]}"
        return f"{kind} job {number} ({unit} {jobs[unit][index]}, start {jobs['start'][index]})"

    def refuse(self, wrong: Bools, kind: str, what: Callable[[int], str]) -> None:
        """Raises `ProgramError` if any job is wrong; ``what(job)``: the rest of the message for the first one."""
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ProgramError(f"{self.name(kind, index)}: {what(index)}")


@dataclass(frozen=True)
class ProgramView(JobView):
    """A chip program as jobs."""

    program: EpochProgram = field(kw_only=True)

    @classmethod
    def of(cls, program: EpochProgram) -> ProgramView:
        """Jobs as stores hold them."""
        jobs = program.loads, program.streams, program.posts, program.operation_of_stream
        return cls(program.config, *jobs, program=program)

    @classmethod
    def tile_by_tile(cls, program: EpochProgram) -> ProgramView:
        """A job for each tile of loads and streams."""
        single = program.tile_by_tile()
        stored = {"load": program.loads, "stream": program.streams}
        return cls(program.config, single.loads, single.streams, single.posts, single.operation_of_stream, stored, program=single)


def expand(jobs: Ints, words: Ints) -> tuple[Ints, Ints]:
    """(job, word) of every word of jobs that have ``words`` words each, one job after the other."""
    first = np.cumsum(words) - words
    return np.repeat(jobs, words), np.arange(int(words.sum())) - np.repeat(first, words)


def chunks(jobs: Ints, words: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The words of ``jobs`` by `expand`, in parts that fit into memory. ``words``: of all jobs there are."""
    if not len(jobs):
        return
    part = np.cumsum(words[jobs]) // _CHUNK
    for piece in np.split(jobs, np.flatnonzero(np.diff(part)) + 1):
        yield expand(piece, words[piece])
