"""Chips of a ring that run jobs of senders and receivers word by word, in any order of time: written from the contract of jobs.

Each chip has two processes and a queue of words from the chip before. A sender stops at a word that follows one that has not come,
and where the next chip has no room; a receiver takes what has come at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Jobs = Mapping[str, NDArray[np.int64]]


class RingError(Exception):
    """What a collective engine would report, or a ring in which nothing goes on."""


def places(jobs: Jobs, job: int) -> Iterator[tuple[int, int]]:
    """(unit, address) of the words of a job, as increments of loops give them."""

    def of(name: str) -> int:
        return int(jobs[name][job])

    unit, address = of("unit"), of("address")
    total = of("n0") * of("n1") * of("n2")
    for word in range(1, total + 1):
        yield unit, address
        if word % of("n0"):
            address += of("step0")
        elif word % (of("n0") * of("n1")):
            unit, address = unit + of("unit1"), address + of("step1")
        else:
            unit, address = unit + of("unit2"), address + of("step2")


def expanded(jobs: Jobs) -> list[tuple[int, int, int, int]]:
    """(unit, address, job, number of the word in its job) of all words of a collective."""
    if jobs["words"][0] == 0:
        if len(jobs["n0"]) != 1:
            raise RingError("a collective without words has one job")
        return []
    found = [(unit, at, job, j) for job in range(len(jobs["n0"])) for j, (unit, at) in enumerate(places(jobs, job))]
    if {int(words) for words in jobs["words"]} != {len(found)}:
        raise RingError(f"jobs have {len(found)} words, and say {jobs['words'].tolist()}")
    if jobs["last"].tolist() != [0] * (len(jobs["last"]) - 1) + [1]:
        raise RingError("the last job, and no other, is marked")
    return found


@dataclass
class Chip:
    """``banks`` (units, words, lanes)."""

    sends: Jobs
    receives: Jobs
    banks: NDArray[np.int64]
    queue: deque[NDArray[np.int64]] = field(default_factory=deque)
    sent: int = 0
    received: int = 0

    def __post_init__(self) -> None:
        self.out, self.into = expanded(self.sends), expanded(self.receives)


def run_ring(chips: list[Chip], rng: np.random.Generator, room: int = 4, width: int = 32, held: Collection[int] = ()) -> None:
    """All chips until every word is sent and received; who goes on next is drawn, some more often than others. Raises `RingError`
    if nobody can. ``held``: chips that do not begin."""
    for chip, after in zip(chips, chips[1:] + chips[:1], strict=True):
        if len(chip.out) != len(after.into):
            raise RingError(f"{len(chip.out)} words are sent, {len(after.into)} expected")
        for name in ("id", "kind"):
            if len({int(v) for jobs in (chip.sends, chip.receives, after.receives) for v in jobs[name]}) > 1:
                raise RingError(f"chips differ in {name}")
    half = 1 << width - 1
    pace = {(number, what): rng.random() ** 6 + 1e-6 for number in range(len(chips)) for what in ("send", "receive")}
    while any(chip.sent < len(chip.out) or chip.received < len(chip.into) for chip in chips):
        able = []
        for number, chip in enumerate(chips):
            if number in held:
                continue
            following = chips[(number + 1) % len(chips)]
            if chip.queue:
                able.append((number, "receive"))
            if chip.sent < len(chip.out) and len(following.queue) < room:
                _, _, job, j = chip.out[chip.sent]
                if not chip.sends["follows"][job] or chip.received > chip.sends["needs"][job] + j:
                    able.append((number, "send"))
        if not able:
            raise RingError("nobody can go on")
        weights = np.array([pace[each] for each in able])
        number, what = able[rng.choice(len(able), p=weights / weights.sum())]
        chip = chips[number]
        if what == "send":
            unit, at, _, _ = chip.out[chip.sent]
            chips[(number + 1) % len(chips)].queue.append(chip.banks[unit, at].copy())
            chip.sent += 1
            continue
        unit, at, job, _ = chip.into[chip.received]
        word = chip.queue.popleft()
        adds = "add" in chip.receives and chip.receives["add"][job]
        chip.banks[unit, at] = (word + (chip.banks[unit, at] if adds else 0) + half & (1 << width) - 1) - half
        chip.received += 1
