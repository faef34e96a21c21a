"""Which runs of a device a text takes: rows at which positions, over how many keys."""

from __future__ import annotations

from dataclasses import dataclass

from podweave.ir.row_graph import RowGraph

from ..language.integer_model import IntegerModel


@dataclass(frozen=True)
class RunShape:
    """What one program computes.

    Members
    -------
    rows : int
        Tokens at a time.
    position : int
        Of the first of them.
    context : int
        Positions for which there are keys and values.
    span : int
        If it is not 0, they may be anywhere among so many positions.
    head : bool
        Whether there are logits.
    """

    rows: int
    position: int
    context: int
    span: int
    head: bool

    def graph(self, model: IntegerModel) -> RowGraph:
        """What a program is compiled of."""
        return model.graph(self.rows, self.context, self.head, position=self.position, span=self.span)


@dataclass(frozen=True)
class Run:
    """A program, and where it is used: for ``count`` tokens from ``position`` on; its other rows compute what nobody needs."""

    shape: RunShape
    position: int
    count: int

    @property
    def offset(self) -> int:
        return self.position - self.shape.position


def decoding(position: int, lanes: int) -> Run:
    """A token by itself. One program serves all positions in a tile of ``lanes`` keys."""
    first = position - position % lanes
    return Run(RunShape(1, first, first + lanes, lanes, True), position, 1)


def prefilling(position: int, count: int, lanes: int, chunk: int) -> list[Run]:
    """Runs that put ``count`` tokens into the caches, ``chunk`` of them at a time or fewer, and give no logits.

    They end at multiples of ``lanes`` (with chunks that are smaller, some of them do), so that texts of all lengths take the same
    programs: behind the last token rows are padding, over which later tokens are written.

    >>> [(run.position, run.shape.rows, run.count, run.shape.context) for run in prefilling(1, 40, 16, 32)]
    [(1, 15, 15, 16), (16, 16, 16, 32), (32, 16, 9, 48)]
    >>> [(run.position, run.shape.rows) for run in prefilling(1, 9, 16, 6)]
    [(1, 6), (7, 6)]
    """
    runs, end = [], position + count
    while position < end:
        # Whole tiles of keys, as many as fit, once the first one is full.
        whole = (end - position) // lanes * lanes
        if position % lanes or chunk < lanes:
            rows = min(lanes - position % lanes, chunk)
        else:
            rows = max(lanes, min(chunk // lanes * lanes, whole))
        last = min(end, position + rows)
        shape = RunShape(rows, position, position + rows, 0, False)
        runs.append(Run(shape, position, last - position))
        position = last
    return runs
