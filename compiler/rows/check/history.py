"""Words of banks over an epoch: by whom each was written when it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...chip.check.jobs import Bools, Ints
from ...jobs import ProgramError
from .view import Owners, RowView, first_of, joined

NOBODY = -1


@dataclass(frozen=True)
class Access:
    """Words that jobs write or read, one entry each.

    ``job``: its number, streams first, then jobs of post-processors. ``at``: bank times depth plus address. ``time``: when the
    word is at the bank. ``operation``: that its job is of.
    """

    job: Ints
    at: Ints
    time: Ints
    operation: Ints

    @classmethod
    def of_streams(cls, view: RowView, job: Ints, at: Ints, time: Ints) -> Access:
        return cls(job, at, time, view.streams["operation"][job])

    @classmethod
    def of_posts(cls, view: RowView, job: Ints, at: Ints, time: Ints) -> Access:
        return cls(job + len(view.streams["start"]), at, time, view.posts["operation"][job])

    @classmethod
    def joined(cls, *parts: Access) -> Access:
        return cls(*(joined([getattr(part, name) for part in parts]) for name in ("job", "at", "time", "operation")))

    def __getitem__(self, chosen: Bools) -> Access:
        return Access(self.job[chosen], self.at[chosen], self.time[chosen], self.operation[chosen])


@dataclass(frozen=True)
class Bank:
    """Banks of a kind in one epoch.

    ``adds``: which ``writes`` add to what is there, and so read it. ``void``: which are of nothing, so that nobody needs to read
    them. ``needless``: which ``reads`` make nothing of what is there. ``lag``: cycles from a write to the first read. ``owner``: by
    word, whose content is in it when the epoch begins, or `NOBODY`'s.
    """

    kind: str
    view: RowView
    owners: Owners
    depth: int
    writes: Access
    adds: Bools
    void: Bools
    reads: Access
    needless: Bools
    lag: int
    owner: Ints

    def name(self, job: int) -> str:
        streams = len(self.view.streams["start"])
        return self.view.name("stream", job) if job < streams else self.view.name("post", job - streams)

    def where(self, at: int) -> str:
        return f"{self.kind} bank {at // self.depth} address {at % self.depth}"

    def require_one_at_a_time(self, access: Access, what: str) -> None:
        """A port takes one word per cycle."""
        line = access.at // self.depth
        order = np.lexsort((access.time, line))
        clash = (np.diff(line[order]) == 0) & (np.diff(access.time[order]) == 0)
        if clash.any():
            i = first_of(clash, access.time[order][:-1])
            one, two = sorted(int(access.job[order[i + k]]) for k in (0, 1))
            raise ProgramError(
                f"{self.kind} bank {line[order[i]]}: {self.name(one)} and {self.name(two)} {what} in cycle {access.time[order[i]]}"
            )


def check_history(bank: Bank) -> Ints:
    """Whose content is in each word when the epoch is over.

    Raises `ProgramError` for a word that is read, or added to, before it is written or while it is, or with what an operation left
    there that the reader does not read; for one that is written over before anybody has read what was there; and for a job that
    reads some words as another left them, and others as they are after they were written over.
    """
    added = bank.writes[bank.adds]
    reads = Access.joined(bank.reads, added)
    needless = np.concatenate([bank.needless, np.zeros(len(added.job), bool)])
    # A word that is added follows another at once; of others, one that comes in the same cycle is too late.
    before = np.arange(len(reads.job)) >= len(bank.reads.job)
    lag = np.where(before, 1, bank.lag)
    events = _Events(bank.writes, reads)
    last = events.last(reads, reads.time - before)
    same = last >= 0

    def refuse(wrong: Bools, what: Callable[[int], str]) -> None:
        if wrong.any():
            i = first_of(wrong, reads.time)
            verb = "adds to" if before[i] else "reads"
            place, cycle = bank.where(int(reads.at[i])), reads.time[i]
            raise ProgramError(f"{bank.name(int(reads.job[i]))}: {verb} {place} in cycle {cycle}, {what(i)}")

    written = np.where(same, events.time[last], np.iinfo(np.int64).min // 2)
    refuse(
        (reads.time < written + lag) & ~needless,
        lambda i: f"but a word of {bank.name(int(events.job[last[i]]))} arrives there in cycle {written[i]}",
    )
    content = np.where(same, events.operation[last], bank.owner[reads.at])
    refuse((content == NOBODY) & ~needless, lambda _: "where nothing is yet")
    strange = ~bank.owners.may_read[reads.operation, content] & (content != NOBODY) & ~needless
    refuse(strange, lambda i: f"where {bank.owners.names[content[i]]} is, which is nothing that it reads")
    previous = events.previous[last]
    counts = same & ~needless
    torn = _torn(reads.job, np.where(counts, events.job[last], -1), np.where(counts, previous, -1))
    refuse(torn, lambda i: f"over which {bank.name(int(events.job[last[i]]))} has written, and other words of its place before")
    _require_read(bank, events, last[same])
    final = bank.owner.copy()
    final[events.at[:-1]] = events.operation[:-1]
    return final


class _Events:
    """Writes by place and time, and one at the end that is none."""

    def __init__(self, writes: Access, reads: Access):
        times = joined([writes.time, reads.time])
        self._begin = int(times.min(initial=0)) - 2
        self._span = int(times.max(initial=0)) - self._begin + 2
        self.order = np.lexsort((writes.time, writes.at))
        columns = (writes.at, writes.time, writes.job, writes.operation)
        self.at, self.time, self.job, self.operation = (np.append(column[self.order], -1) for column in columns)
        self._keys = self._key(self.at[:-1], self.time[:-1])
        follows = np.concatenate([[False], np.diff(self.at) == 0])[: len(self.at)]
        self.previous = np.where(follows, np.concatenate([[-1], self.job[:-1]])[: len(self.at)], -1)
        """The job that wrote there before, or -1."""
        self.overwritten = np.append(np.diff(self.at[:-1]) == 0, [False, False])[: len(self.at)]

    def _key(self, at: Ints, time: Ints) -> Ints:
        return at * self._span + time - self._begin

    def last(self, reads: Access, time: Ints) -> Ints:
        """The last event at the place of each read up to a time, or -1."""
        found = np.searchsorted(self._keys, self._key(reads.at, time), side="right") - 1
        return np.where((found >= 0) & (self.at[found] == reads.at), found, -1)


def _torn(reader: Ints, writer: Ints, before: Ints) -> Bools:
    """Reads of words over which a job has written what another one wrote, of which the reader reads other words."""
    most = int(max(reader.max(initial=0), writer.max(initial=0), before.max(initial=0))) + 2
    left = np.unique((reader * most + writer)[writer >= 0])
    return np.isin(reader * most + before, left) & (before >= 0) & (before != writer)


def _require_read(bank: Bank, events: _Events, read: Ints) -> None:
    """Words that hold something are read before others are written there."""
    lost = events.overwritten.copy()
    lost[read] = False
    lost[:-1] &= ~bank.void[events.order]
    if lost.any():
        i = first_of(lost, events.time)
        one, two = bank.name(int(events.job[i])), bank.name(int(events.job[i + 1]))
        place, cycle = bank.where(int(events.at[i])), events.time[i + 1]
        raise ProgramError(f"{two}: writes {place} in cycle {cycle}, before anybody has read what {one} left there")
