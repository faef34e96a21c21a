"""Which runs of a device a text takes: rows at which positions, over how many keys."""

from __future__ import annotations

from dataclasses import dataclass

from podweave.ir.frontends.language_models import TextRows
from podweave.ir.row_graph import RowGraph

from ..language.integer_model import IntegerModel


@dataclass(frozen=True)
class RunShape:
    """What one program computes: ``head``: with logits or without."""

    texts: tuple[TextRows, ...]
    head: bool

    def graph(self, model: IntegerModel) -> RowGraph:
        """What a program is compiled of."""
        return model.graph_of_texts(self.texts, self.head)


@dataclass(frozen=True)
class TextRun:
    """Rows of a text in a program, and where they are used: for ``count`` tokens from ``position`` on; the other ones compute what
    nobody needs."""

    text: TextRows
    position: int
    count: int

    @property
    def offset(self) -> int:
        return self.position - self.text.first


def decoding(position: int, lanes: int, slot: int = 0, shared: int = 0) -> TextRun:
    """A token by itself. One program serves all positions in a tile of ``lanes`` keys. ``slot``, ``shared``: as of `TextRows`."""
    first = position - position % lanes
    return TextRun(TextRows(1, first + lanes, first, lanes, slot, shared), position, 1)


def prefilling(position: int, count: int, lanes: int, chunk: int, slot: int = 0, shared: int = 0) -> list[TextRun]:
    """Runs that put ``count`` tokens into the caches, ``chunk`` of them at a time or fewer, and give no logits.

    They end at multiples of ``lanes`` (with chunks that are smaller, some of them do), so that texts of all lengths take the same
    programs: behind the last token rows are padding, over which later tokens are written. ``slot``, ``shared``: as of `TextRows`.

    >>> [(run.position, run.text.rows, run.count, run.text.context) for run in prefilling(1, 40, 16, 32)]
    [(1, 15, 15, 16), (16, 16, 16, 32), (32, 16, 9, 48)]
    >>> [(run.position, run.text.rows) for run in prefilling(1, 9, 16, 6)]
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
        runs.append(TextRun(TextRows(rows, position + rows, position, slot=slot, shared=shared), position, last - position))
        position = last
    return runs
