"""A collective as a chip runs it: jobs of its sender and of its receiver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout
from podweave.spec.links import CollectiveKind, receive_job_layout, send_job_layout

from ..jobs import Jobs
from .walks import BankWords, Walk, walks

Kind = TypeVar("Kind")


@dataclass(frozen=True, eq=False)
class Sent:
    """Words that go to the next chip. ``after``: of the words that the collective receives, so many are there before the first of
    these goes, and one more before each further one; None: they wait for nothing."""

    words: BankWords
    after: int | None = None


@dataclass(frozen=True, eq=False)
class Received:
    """Where words from the chip before go. ``adds``: to what is there."""

    words: BankWords
    adds: bool = False


@dataclass(frozen=True, eq=False)
class CollectiveProgram:
    """An epoch in which a chip sends and receives words.

    Parameters
    ----------
    id : int
        That all chips of a ring give the collective, from 0 on; in memory it is the number of its epoch.
    kind : CollectiveKind
        Of banks.
    sends, receives : dict
        A value per job for each field of `send_job_layout` and `receive_job_layout`; ``next`` of the last job is known when all
        epochs of a run are, and 0 here.
    operation : str
        Whose sums are added, if it is of a graph.
    even : bool
        All chips of the ring send and receive as many words in each step, in as many jobs: only where words are tells them apart.
    """

    config: ChipConfig
    id: int
    kind: CollectiveKind
    sends: Jobs
    receives: Jobs
    operation: str = ""
    even: bool = False

    @property
    def words_sent(self) -> int:
        return int(self.sends["words"][0])

    @property
    def words_received(self) -> int:
        return int(self.receives["words"][0])


def collective(
    config: ChipConfig,
    number: int,
    kind: CollectiveKind,
    sent: Sequence[Sent],
    received: Sequence[Received],
    operation: str = "",
    *,
    jobs: tuple[int, int] = (0, 0),
) -> CollectiveProgram:
    """Jobs of what is sent and received, each in its order; of nothing, the job that says so.

    ``jobs``: that there are of sends and of receives at the least, where there are as many words.
    """
    out = _in_jobs([(walk, piece.after) for piece in sent for walk in walks(piece.words)], jobs[0])
    into = _in_jobs([(walk, int(part.adds)) for part in received for walk in walks(part.words)], jobs[1])
    sends = [walk.fields | ({} if after is None else {"follows": 1, "needs": after + walk.first}) for walk, after in out]
    receives = [walk.fields | {"add": adds} for walk, adds in into]
    common = {"id": number, "kind": int(kind)}
    return CollectiveProgram(
        config,
        number,
        kind,
        _table(send_job_layout(config), sends, common | {"words": sum(len(piece.words) for piece in sent)}),
        _table(receive_job_layout(config), receives, common | {"words": sum(len(part.words) for part in received)}),
        operation,
    )


def _in_jobs(parts: list[tuple[Walk, Kind]], least: int) -> list[tuple[Walk, Kind]]:
    """The same words in more walks, the longest of which are cut."""
    while len(parts) < least:
        longest = max(range(len(parts)), key=lambda number: parts[number][0].words)
        walk, kind = parts[longest]
        if walk.words < 2:
            break
        parts = [*parts[:longest], *((half, kind) for half in walk.halves()), *parts[longest + 1 :]]
    return parts


def _table(layout: Layout, jobs: list[dict[str, int]], common: dict[str, int]) -> Jobs:
    jobs = jobs or [{"n0": 1, "n1": 1, "n2": 1}]
    found = {field.name: np.array([(job | common).get(field.name, 0) for job in jobs], np.int64) for field in layout.fields}
    found["last"][-1] = 1
    return found
