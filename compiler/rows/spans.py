"""When nodes work on which operation in an epoch, as figures and pictures need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.row_operations import Attention

from ..chip.epoch_program import EpochProgram
from ..chip.tile_jobs import single_loads, single_streams
from ..jobs import words_of_tile
from .program import RowProgram

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Cycles [``begin``, ``end``) of an epoch in which a node works on an operation."""

    node: Ints
    begin: Ints
    end: Ints
    operation: Ints

    def __getitem__(self, which: NDArray[np.bool_]) -> Spans:
        return Spans(self.node[which], self.begin[which], self.end[which], self.operation[which])

    def __add__(self, other: Spans) -> Spans:
        pairs = ((getattr(each, name) for each in (self, other)) for name in ("node", "begin", "end", "operation"))
        return Spans(*(np.concatenate(list(pair)) for pair in pairs))

    @property
    def union(self) -> tuple[Ints, Ints]:
        """First cycles, and cycles behind the last ones, of the stretches in which any node works, in order; none is empty."""
        order = np.argsort(self.begin, kind="stable")
        end = np.maximum.accumulate(self.end[order])
        begin = np.maximum(self.begin[order], np.concatenate([self.begin[order][:1], end])[: len(end)])
        return begin[end > begin], end[end > begin]

    @property
    def covered(self) -> int:
        """Cycles in which any node works."""
        begin, end = self.union
        return int((end - begin).sum())


def pod_spans(program: EpochProgram | RowProgram) -> Spans:
    """When pods load tiles, and when they ask for words to stream through them.

    Tile n of a pod's loads is that of its streams that swap: a job may load tiles of several operations.
    """
    loads, _ = single_loads(program.loads)
    streams, job = single_streams(program.streams)
    operation = (program.streams["operation"] if isinstance(program, RowProgram) else program.operation_of_stream)[job]
    loading = Spans(loads["pod"], loads["start"], loads["start"] + loads["rows"], operation[streams["swap"] == 1])
    return loading + Spans(streams["pod"], streams["start"], streams["start"] + words_of_tile(streams), operation)


def post_spans(program: EpochProgram | RowProgram) -> Spans:
    """When post-processors read words, pauses between them included."""
    posts = program.posts
    each = posts["n0"] * posts["n1"] + program.config.post_beats - 1
    if isinstance(program, RowProgram):
        operation, each = posts["operation"], each + program.turning + posts["gap"]
    else:
        operation = program.operation_of_post
    return Spans(posts["bank"], posts["start"], posts["start"] + posts["n2"] * posts["n3"] * each, operation)


def nested_spans(program: EpochProgram | RowProgram) -> tuple[Spans, Spans, Spans]:
    """Those of pods with tiles of weights; of pods, with tiles of keys and values too; and of pods and post-processors."""
    pods = pod_spans(program)
    attends = np.array([isinstance(operation, Attention) for operation in program.graph.operations])[pods.operation]
    return pods[~attends], pods, pods + post_spans(program)
