"""A program of rows as its checks look at it: jobs, the words they make and when, and whose content they may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from podweave.ir.row_graph import RowGraph
from podweave.spec.row_functions import Destination, Statistic

from ...chip.check.jobs import Bools, Ints, JobView, expand
from ...chip.tile_jobs import single_loads, single_streams
from ..program import RowProgram


@dataclass(frozen=True)
class RowView(JobView):
    """A program of rows as jobs."""

    program: RowProgram = field(kw_only=True)

    @classmethod
    def of(cls, program: RowProgram) -> RowView:
        """Jobs as stores hold them."""
        jobs = program.loads, program.streams, program.posts, program.streams["operation"]
        return cls(program.config, *jobs, program=program)

    @classmethod
    def tile_by_tile(cls, program: RowProgram) -> RowView:
        """A job for each tile of loads and streams."""
        loads, _ = single_loads(program.loads)
        streams, _ = single_streams(program.streams)
        stored = {"load": program.loads, "stream": program.streams}
        return cls(program.config, loads, streams, program.posts, streams["operation"], stored, program=program)

    @cached_property
    def period(self) -> Ints:
        return self.window + self.config.post_beats - 1 + self.program.turning + self.posts["gap"]

    @cached_property
    def own(self) -> Bools:
        """Which post jobs write into their own P bank."""
        return np.isin(self.posts["destination"], (Destination.STORE, Destination.ADD))

    @cached_property
    def into_x(self) -> Bools:
        """Which post jobs write into X banks."""
        return np.isin(self.posts["destination"], (Destination.X, Destination.PLANES))

    @cached_property
    def counts(self) -> Bools:
        """Which post jobs make statistics of rows."""
        return self.posts["statistic"] != Statistic.NONE

    def made(self, jobs: Ints) -> Made:
        """Every word that post jobs make."""
        job, word = expand(jobs, (self.posts["n2"] * self.posts["n3"])[jobs])
        read = self.posts["start"][job] + word * self.period[job] + self.window[job] - 1
        return Made(job, word, read, word % self.posts["n2"][job], word // self.posts["n2"][job])


@dataclass(frozen=True)
class Made:
    """Words that post jobs make: the job, which of its words, the cycle in which its last P word is read, and which word of
    which row it is."""

    job: Ints
    word: Ints
    read: Ints
    in_row: Ints
    row: Ints


@dataclass(frozen=True)
class Owners:
    """Tensors by number, operations on rows first, and which of them each of those may read: its own, and its sources.

    ``layers``: the number of the sums of each layer.
    """

    names: tuple[str, ...]
    may_read: Bools
    layers: Mapping[str, int]

    @classmethod
    def of(cls, graph: RowGraph, layers: Sequence[str] = ()) -> Owners:
        operations = graph.operations
        names = (*(operation.name for operation in operations), *graph.inputs, *layers)
        number = {name: i for i, name in enumerate(names[: len(names) - len(layers)])}
        may_read = np.eye(len(operations), len(names), dtype=bool)
        for index, operation in enumerate(operations):
            may_read[index, [number[name] for name in operation.sources]] = True
        return cls(names, may_read, {name: len(number) + i for i, name in enumerate(layers)})

    def number(self, name: str) -> int:
        return self.names.index(name)

    def layer(self, name: str) -> int:
        return self.layers[name]


def first_of(wrong: Bools, time: Ints) -> int:
    """Which of the wrong ones comes first."""
    found = np.flatnonzero(wrong)
    return int(found[np.argmin(time[found])])


def joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate(parts).astype(np.int64)
