"""The walkers of a collective's jobs alone: every loop to its end, every bit of a count, every rule, word by word."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.golden.cycle.link.walk import walk_of
from podweave.golden.cycle.link.words import Job, P, X
from podweave.rtl.link.job_walker import JobWalker
from podweave.spec.layout import Layout
from podweave.spec.links import COUNT_WIDTH, ID_WIDTH, receive_job_layout, send_job_layout
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.side_by_side import SideBySide

from .link_cases import CONFIGS

pytestmark = pytest.mark.more

CONFIG = CONFIGS["4_1"]
DEPTHS = (CONFIG.memory.p_words, CONFIG.memory.x_words)
LAYOUTS: dict[str, Layout] = {"send": send_job_layout(CONFIG), "receive": receive_job_layout(CONFIG)}
DEPTH, STORE = 1 << 17, 16
Values = dict[str, NDArray[np.int64]]


@functools.cache
def bench() -> BlockBench:
    lanes = {f"{which}_{port}": (1, layout.width, False) for which, layout in LAYOUTS.items() for port in ("host_data", "job")}
    walkers = SideBySide({which: JobWalker(CONFIG, layout) for which, layout in LAYOUTS.items()})
    return BlockBench.of(walkers, lanes, random_initial_state=True, depth=DEPTH)


def bits_of(layout: Layout, jobs: list[Job]) -> NDArray[np.int64]:
    fields = {field.name: np.array([getattr(job, field.name) for job in jobs]) for field in layout.fields}
    return np.unpackbits(pack_jobs(layout, fields), axis=1, bitorder="little")[:, : layout.width].astype(np.int64)


@dataclass(frozen=True)
class Trial:
    """Jobs of one collective ``id``; ``busy``: of this share of cycles, a word is taken if there is one."""

    jobs: list[Job]
    id: int
    busy: float = 1.0

    @property
    def cycles(self) -> int:
        """From the clearing on: jobs are written, and the words that its jobs have, or say, are taken."""
        words = min(sum(job.count for job in self.jobs), max(1, self.jobs[0].words))
        return len(self.jobs) + 16 + int((words + 4) / self.busy * 1.3)


def whole(jobs: list[Job], **changes: int) -> list[Job]:
    """Jobs of one collective: all words that they have, the last one last."""
    words = sum(job.count for job in jobs)
    made = [dataclasses.replace(job, words=words, last=int(i == len(jobs) - 1)) for i, job in enumerate(jobs)]
    return [dataclasses.replace(job, **changes) for job in made] if changes else made


def inside(job: Job) -> bool:
    unit, address = job.places(job.count)
    return bool(unit.min() >= 0 and unit.max() < CONFIG.pods and address.min() >= 0 and address.max() < DEPTHS[job.kind])


def loops(rng: np.random.Generator, counts: list[int], still: int | None = None) -> Job:
    """A legal job with these loops; nothing moves with loop ``still``."""
    while True:
        steps, units = ([int(step) for step in rng.integers(-2, 3, 3)] for _ in range(2))
        if still is not None:
            steps[still] = units[still] = 0
        where = {"unit": int(rng.integers(CONFIG.pods)), "address": int(rng.integers(DEPTHS[P]))}
        moves = {f"step{i}": steps[i] for i in range(3)} | {"unit1": units[1], "unit2": units[2]}
        job = Job(**where, **moves, **{f"n{i}": counts[i] for i in range(3)}, id=7)
        if inside(job):
            return job


def long_loops(rng: np.random.Generator) -> list[Trial]:
    """Each loop as often as each bit of its count says, and a little more; the others once or twice."""
    trials = []
    for loop, width in ((0, 16), (1, 12), (2, 12)):
        for bit in range(width):
            counts = [int(count) for count in rng.integers(1, 3, 3)] if bit < 11 else [1, 1, 1]
            counts[loop] = (1 << bit) + int(rng.integers(0, 1 << min(bit, 3)))
            trials.append(Trial(whole([loops(rng, counts, loop)]), 7))
    return trials


def wrong_counts(rng: np.random.Generator) -> list[Trial]:
    """The first job says more words than there are, by one bit of the number; or there is a loop of no words."""
    trials = []
    for bit in range(COUNT_WIDTH):
        n0, n1 = (int(count) for count in rng.integers(2, 4, 2))
        job = Job(unit=1, address=3, n0=n0, n1=n1, id=9, last=1)
        trials += [Trial([dataclasses.replace(job, words=(1 << bit) + words)], 9) for words in (0, n0 * n1)]
    for loop in range(3):
        for words in (1, 5):
            trials.append(Trial([dataclasses.replace(Job(id=9, words=words, last=words % 2), **{f"n{loop}": 0})], 9))
    return trials


def wrong_jobs(rng: np.random.Generator) -> list[Trial]:
    """A bit of an id, a kind, sums of X words, in the first job or the second; collectives of no words, and what is none."""
    trials = []
    good = Job(unit=1, address=3, n0=2, id=0x5AC3)
    for bit in range(ID_WIDTH):
        other = dataclasses.replace(good, id=good.id ^ 1 << bit)
        trials += [Trial(whole([good, other]), good.id), Trial(whole([other]), good.id)]
        trials.append(Trial([dataclasses.replace(other, words=0, last=1)], good.id))
    for kind in (P, X):
        one, two = (dataclasses.replace(good, kind=each) for each in (kind, 1 - kind))
        trials += [Trial(whole([one, two]), good.id), Trial(whole([one, one], add=1), good.id)]
        trials += [Trial([dataclasses.replace(one, words=0, last=last)], good.id) for last in (0, 1)]
    return trials


def edges() -> list[Trial]:
    """From every place in each direction, until a word is outside, or not quite."""
    trials = []
    for kind in (P, X):
        for unit in range(CONFIG.pods):
            for address in (0, 1, DEPTHS[kind] // 2, DEPTHS[kind] - 2, DEPTHS[kind] - 1):
                for step, away in ((1, DEPTHS[kind] - address), (-1, address + 1), (5, 0), (-7, 0)):
                    count = away or 2
                    job = Job(unit=unit, address=address, n0=count, step0=step, id=3, kind=kind)
                    trials.append(Trial(whole([job]), 3))
                    trials.append(Trial(whole([dataclasses.replace(job, n0=count + 1)]), 3))
            for step in (-4, -1, 1, 2):
                ways = ({"n1": 3, "unit1": step}, {"n2": 3, "unit2": step})
                trials += [Trial(whole([Job(unit=unit, address=2, id=3, kind=kind, **way)]), 3) for way in ways]
    top = max(DEPTHS)
    # Steps as large as there are, to and fro.
    for step in range(-top, top):
        ways = ({"n0": 2, "step0": step}, {"n1": 2, "step1": step}, {"n2": 2, "step2": step})
        trials += [Trial(whole([Job(unit=0, address=-step if step < 0 else 0, id=3, **way)]), 3) for way in ways if -step < top]
    return trials


def random_walks(rng: np.random.Generator, count: int) -> list[Trial]:
    """Jobs of a few words, legal or not, one behind the other, with pauses."""
    trials = []
    for _ in range(count):
        id, jobs, legal = int(rng.integers(1 << ID_WIDTH)), [], rng.random() < 0.6
        while (len(jobs) < 4 and rng.random() < 0.7) or not jobs:
            waits = {
                "follows": int(rng.integers(2)),
                "needs": int(rng.integers(1 << COUNT_WIDTH)),
                "next": int(rng.integers(1 << 16)),
            }
            job = loops(rng, [int(n) for n in rng.choice([1, 1, 2, 3, 5], 3)])
            if not legal:
                job = dataclasses.replace(job, address=int(rng.integers(max(DEPTHS))), unit=int(rng.integers(CONFIG.pods)))
            jobs.append(dataclasses.replace(job, id=id, add=int(rng.integers(2)), **waits))
        if rng.random() < 0.5:
            jobs = [dataclasses.replace(job, kind=X, add=0, address=min(job.address, DEPTHS[X] - 1)) for job in jobs]
        trials.append(Trial(whole(jobs), id, float(rng.choice([0.3, 0.8, 1.0]))))
    return trials


class Table:
    """What goes in, and what must be seen: -1 where nothing is said."""

    def __init__(self, trials: list[Trial], rng: np.random.Generator):
        cycles = sum(trial.cycles for trial in trials)
        self.given = {p.name: np.zeros((cycles, p.lanes) if p.lanes else cycles, np.int64) for p in bench().inputs}
        self.seen = {p.name: np.full((cycles, p.lanes) if p.lanes else cycles, -1) for p in bench().outputs}
        self.words = self.illegal = 0
        # Of each walker, the word of its store that is next; after what is illegal there is none.
        self.next: dict[str, int | None] = dict.fromkeys(LAYOUTS)
        at = 0
        for trial in trials:
            if None in self.next.values() or rng.random() < 0.2:
                self.given["clear"][at] = 1
                self.next = dict.fromkeys(LAYOUTS, 0)
            for which, layout in LAYOUTS.items():
                self._add(trial, at, which, layout, rng)
            at += trial.cycles

    def _add(self, trial: Trial, at: int, which: str, layout: Layout, rng: np.random.Generator) -> None:
        seen = {name.removeprefix(f"{which}_"): values for name, values in self.seen.items() if name.startswith(which)}
        jobs, bits, end = trial.jobs, bits_of(layout, trial.jobs), at + trial.cycles
        if which == "send":
            # Nothing is added there.
            jobs = [dataclasses.replace(job, add=0) for job in jobs]
        else:
            jobs = [dataclasses.replace(job, needs=0, follows=1) for job in jobs]
        pointer = self.next[which] or 0
        places = (pointer + np.arange(len(jobs))) % STORE
        written = slice(at + 1, at + 1 + len(jobs))
        self.given[f"{which}_host_write"][written] = 1
        self.given[f"{which}_host_address"][written] = places
        self.given[f"{which}_host_data"][written] = bits
        begin = written.stop + 1
        self.given[f"{which}_begins"][begin] = 1
        self.given[f"{which}_epoch"][at:end] = trial.id
        take = (rng.random(trial.cycles) < trial.busy).astype(np.int64)
        self.given[f"{which}_take"][at:end] = take
        store = dict(zip(places.tolist(), jobs, strict=True))
        walk = walk_of(store, STORE, pointer, trial.id, CONFIG.pods, DEPTHS, 1 << 20)
        self.next[which] = None if walk.illegal else (pointer + walk.used) % STORE
        open, many = begin + 3, len(walk.unit)
        # Word j is there from behind the cycle on in which word j - 1 was taken.
        takes = np.flatnonzero(self.given[f"{which}_take"][open:end])[:many] + open
        assert len(takes) == many or not walk.words, trial
        number = np.searchsorted(takes, np.arange(open, end), side="left")
        there = number < many
        rows = np.arange(open, end)[there]
        seen["valid"][open:end] = there
        seen["illegal"][open:end] = ~there & walk.illegal
        last = end if walk.illegal else int(takes[-1]) + 1 if many else begin + 4
        seen["active"][begin + 1 : end] = np.arange(begin + 1, end) < last
        seen["first"][at + 2 : end] = np.arange(at + 2, end) == open
        seen["bank"][open:last], seen["words"][open:last] = walk.kind, walk.words
        for name, values in (("unit", walk.unit), ("address", walk.address)):
            seen[name][rows] = values[number[there]]
        of_job = np.repeat(np.arange(len(jobs)), [job.count for job in jobs])[: max(1, many)]
        if many:
            seen["job"][rows] = bits[of_job[number[there]]]
        if which == "send" and many:
            first = np.cumsum([0, *(job.count for job in jobs)])[of_job]
            needs = np.array([job.needs for job in jobs])[of_job] + np.arange(len(of_job)) - first
            seen["needs"][rows] = needs[number[there]] % (1 << COUNT_WIDTH)
        if which == "receive":
            seen["needs"][open:last] = 0
        self.words += many
        self.illegal += walk.illegal

    def check(self, observed: Values) -> None:
        for name, expected in self.seen.items():
            wrong = np.argwhere((expected >= 0) & (observed[name] != expected))
            assert not len(wrong), f"{name} in cycle {wrong[0][0]}: {observed[name][*wrong[0]]}, not {expected[*wrong[0]]}"


def test_every_loop_to_its_end() -> None:
    rng = np.random.default_rng(1)
    table = Table(long_loops(rng), rng)
    table.check(bench().run(table.given))
    assert table.words > 1 << 16
    assert not table.illegal


def test_every_rule() -> None:
    rng = np.random.default_rng(2)
    trials = [*wrong_counts(rng), *wrong_jobs(rng), *edges()]
    table = Table(trials, rng)
    table.check(bench().run(table.given, seed=2))
    assert len(trials) < table.illegal < 2 * len(trials) - 100


def test_random_walks() -> None:
    rng = np.random.default_rng(3)
    table = Table(random_walks(rng, 400), rng)
    table.check(bench().run(table.given, seed=3))
    assert table.words > 2000
    assert 100 < table.illegal < 500
