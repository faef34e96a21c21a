"""The engines of a pod alone: jobs of any fields at any times, tiles that come too early, and what goes on behind an error."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.rtl.pod.load_engine import LoadEngine
from podweave.rtl.pod.stream_engine import StreamEngine, word_layout
from podweave.spec.jobs import Accumulate, Emit, load_job_layout, stream_job_layout
from podweave.spec.layout import Layout
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.block_tables import Values, bits_of, compare, of_part, tables
from tests.rtl.pod.test_pod import SMALL
from tests.rtl.side_by_side import SideBySide

pytestmark = pytest.mark.more

CYCLES = 16000
MEMORY, POD, ROWS = SMALL.memory, SMALL.pod, SMALL.array.rows
WORD = dict(word_layout(SMALL))
Job = dict[str, int]


def wrapped(value: int, base_bits: int) -> int:
    """An address as its register has it: with a bit for the sign and one for overflow."""
    size = 1 << base_bits + 2
    return (value + size // 2) % size - size // 2


@dataclass(frozen=True)
class Word:
    """One request. ``plain``: all that is known of what goes with it."""

    fits: bool
    address: int
    bank: int
    plane: int
    errors: tuple[bool, ...]
    plain: tuple[tuple[str, int], ...] = ()


@dataclass
class Jobs(ABC):
    """What is of both: times, tiles, and what is late."""

    layout: Layout
    job: Job | None = None
    tiles_left: int = 0
    until: int = 0
    words: Iterator[Word] = field(default_factory=lambda: iter(()))
    word: Word | None = None
    after: Word | None = None

    def legal(self, job: Job) -> bool:
        return job["tiles"] > 0 and (job["tiles"] == 1 or job["period"] > 0)

    def cycle(self, now: dict[str, int], head: Job) -> dict[str, int]:
        """What happens in a cycle."""
        free = self.word is None or self.after is None
        more = self.tiles_left > 0
        tile_due = more and self.until == 1 and not now["halted"]
        waiting = now["head_valid"] and now["run"] and not now["halted"]
        due = waiting and head["start"] == now["next_time"] and free and not more
        legal = self.legal(head)
        return {
            "begin": int(due and legal),
            "again": int(tile_due and free),
            "illegal": int(due and not legal),
            "late": int((waiting and head["start"] < now["next_time"]) or (tile_due and not free)),
            "pop": int(due and legal),
            "busy": int(self.word is not None or more),
        }

    def go_on(self, does: dict[str, int], head: Job) -> None:
        """To the next cycle."""
        if does["begin"] or does["again"]:
            if does["begin"]:
                self.begin(head)
            else:
                self.tiles_left -= 1
                self.turn()
            assert self.job
            self.until = self.job["period"]
            self.words = self.tile()
            self.word, self.after = next(self.words), next(self.words, None)
        else:
            self.word, self.after = self.after, next(self.words, None)
            if self.tiles_left and self.until > 1:
                self.until -= 1

    def begin(self, head: Job) -> None:
        self.job, self.tiles_left = dict(head), head["tiles"] - 1

    @abstractmethod
    def turn(self) -> None:
        """From a tile to the next."""

    @abstractmethod
    def tile(self) -> Iterator[Word]:
        """The words of the next one."""


class Loads(Jobs):
    """``at``: the row that is next."""

    at = 0

    def legal(self, job: Job) -> bool:
        return super().legal(job) and 0 < job["rows"] <= ROWS

    def begin(self, head: Job) -> None:
        super().begin(head)
        self.at = head["w_base"]

    def turn(self) -> None:
        """Rows go on where those of the last tile ended."""

    def tile(self) -> Iterator[Word]:
        assert self.job
        for _ in range(self.job["rows"]):
            fits = 0 <= self.at < MEMORY.w_words
            yield Word(fits, self.at, self.job["w_bank"], self.job["w_plane"], (not fits,))
            self.at = wrapped(self.at + self.job["w_step"], 6)


class Streams(Jobs):
    """``first``: the X address at which the tile begins; the X bank and the codes are those of the job, and change in it."""

    first = 0

    def legal(self, job: Job) -> bool:
        codes = job["accumulate"] <= Accumulate.ADD and job["emit"] <= Emit.ACCUMULATE
        loops = job["n0"] * job["n1"] * job["n2"] > 0
        turns = job["x_bank"] | (1 << job["x_turn"]) - 1
        return super().legal(job) and codes and loops and turns < MEMORY.banks and (job["tiles"] == 1 or job["swap"] > 0)

    def begin(self, head: Job) -> None:
        super().begin(head)
        self.first = head["x_base"]

    def turn(self) -> None:
        job = self.job
        assert job
        block = 1 << job["x_turn"]
        job["x_bank"] = job["x_bank"] // block * block + (job["x_bank"] + 1) % block
        if job["x_bank"] % block == 0:
            self.first = wrapped(self.first + job["x_tile_step"], 7)
        if job["accumulate"] == Accumulate.INIT:
            job["accumulate"] = int(Accumulate.ADD)
        if job["accumulate"] == Accumulate.BYPASS and job["emit"] == Emit.STORE:
            job["emit"] = int(Emit.ACCUMULATE)

    def tile(self) -> Iterator[Word]:
        job = self.job
        assert job
        x, p, row = self.first, job["p_base"], job["accumulator_base"]
        accumulates = job["accumulate"] != Accumulate.BYPASS
        emits = job["emit"] != Emit.NONE and not (accumulates and self.tiles_left)
        for k in range(job["n2"]):
            for j in range(job["n1"]):
                for i in range(job["n0"]):
                    x_fits, p_fits = 0 <= x < MEMORY.x_words, not emits or 0 <= p < MEMORY.p_words
                    row_fits = not accumulates or row < POD.accumulator_rows
                    plain = {"accumulate": job["accumulate"], "emit": job["emit"] if emits else int(Emit.NONE)}
                    if accumulates:
                        plain["accumulator"] = row
                    if emits:
                        plain |= {"p_bank": job["p_bank"], "p_plane": job["p_plane"], "p_address": p}
                    fits = x_fits and p_fits and row_fits
                    errors = not x_fits, not p_fits, not row_fits
                    yield Word(fits, x, job["x_bank"], job["x_plane"], errors, tuple(plain.items()))
                    wraps = 0 if i < job["n0"] - 1 else 1 if j < job["n1"] - 1 else 2
                    if i < job["n0"] - 1 or j < job["n1"] - 1 or k < job["n2"] - 1:
                        x = wrapped(x + job[f"x_step{wraps}"], 7)
                        p = wrapped(p + job[f"p_step{wraps}"], 7)
                        # Once outside, it stays there.
                        row = min(row + 1, POD.accumulator_rows)


def random_job(rng: np.random.Generator, layout: Layout, time: int) -> Job:
    """Any fields; most are small, so that words are in range and the job ends."""
    job = {}
    wild = rng.random() < 0.3
    for each in layout.fields:
        value = int(rng.integers(1 << each.width))
        if each.signed:
            value -= (1 << each.width) // 2
            value = value if wild else int(rng.integers(-2, 3))
        job[each.name] = value
    job["start"] = time + int(rng.choice([0, 1, 2, 9, -1], p=[0.4, 0.25, 0.2, 0.1, 0.05]))
    job["period"] = int(rng.choice([job["period"], rng.integers(8), rng.integers(1, 30)]))
    job["tiles"] = int(rng.choice([1, 1, 2, job["tiles"]]))
    if "rows" not in job:
        counts = [int(rng.integers(1, 4)) if rng.random() < 0.98 else 0 for _ in range(3)]
        if rng.random() < 0.15:
            # One that would be short if it lost a bit.
            counts = [1, 1, 1]
            counts[int(rng.integers(3))] = (1 << int(rng.integers(2, POD.count_width))) + 2
        job |= {f"n{i}": count for i, count in enumerate(counts)}
        job |= {"swap": 1 if rng.random() < 0.7 else job["swap"], "x_turn": int(rng.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.25, 0.05]))}
        for code in ("accumulate", "emit"):
            job[code] = int(rng.integers(3)) if rng.random() < 0.95 else 3
    elif rng.random() < 0.95:
        job["rows"] = int(rng.integers(1, ROWS + 1))
    if rng.random() < 0.5:
        job["tiles"] = 1
    job["start"] &= (1 << POD.time_width) - 1
    return job


def drive(
    kind: type[Jobs], layout: Layout, rng: np.random.Generator, clears: NDArray[np.bool_], given: Values, seen: Values
) -> dict[str, int]:
    """Jobs one behind the other; after an error, none, or those that follow. Returns how often each thing happened."""
    happened = dict.fromkeys(("begin", "again", "illegal", "late", "halted"), 0)
    memory = "w" if kind is Loads else "x"
    jobs, time, halted, registered, ready = kind(layout), 0, 0, 0, 0
    last: Word | None = None
    head = random_job(rng, layout, 3)
    for cycle in range(CYCLES):
        now = {"head_valid": int(rng.random() < 0.9), "run": int(rng.random() < 0.95), "next_time": time, "halted": halted}
        does = jobs.cycle(now, head)
        outside = int(rng.random() < 0.4)
        given["head"][cycle] = bits_of(layout, head)
        for name, value in now.items():
            given[name][cycle] = value
        given["swapping" if kind is Loads else "weights_ready"][cycle] = outside
        word = jobs.word
        begins = does["begin"] or does["again"]
        ports = {name: does[name] for name in ("illegal", "late", "pop", "busy")} | {"request_valid": int(bool(word and word.fits))}
        if kind is Loads:
            complete = int(ready or (word is not None and jobs.after is None))
            ports |= {
                "request_first": registered,
                "weights_ready": complete,
                "overwrites": int(begins and complete and not outside),
            }
            ports["out_of_range"] = int(word is not None and word.errors[0])
            ready, registered = int(complete and not outside), int(begins)
        else:
            swaps = int((does["begin"] and head["swap"]) or does["again"])
            ports |= {"request_swap": registered, "swapping": swaps, "unloaded": int(swaps and not outside)}
            for i, name in enumerate(("x", "p", "accumulator")):
                ports[f"{name}_out_of_range"] = int(word is not None and word.errors[i])
            if cycle and word and word.fits:
                for name, value in word.plain:
                    at, width = WORD[name].offset, WORD[name].width
                    seen["word"][cycle, at : at + width] = [value >> bit & 1 for bit in range(width)]
            registered = swaps
        last = word or last
        if last and (last.fits or word is None):
            low = (1 << (6 if memory == "w" else 7)) - 1
            ports |= {"request_address": last.address & low, "request_bank": last.bank, "request_plane": last.plane}
        if cycle:
            for name, value in ports.items():
                seen[name][cycle] = value
            for name in happened:
                happened[name] += does.get(name, 0)
            happened["halted"] += halted
        jobs.go_on(does, head)
        error = does["illegal"] or does["late"] or (word is not None and any(word.errors))
        halted = int(rng.random() < (0.9 if halted else 0.05 if error else 0.005))
        time = (time + now["run"]) % (1 << POD.time_width)
        if does["pop"]:
            length = head["rows"] if "rows" in head else head["n0"] * head["n1"] * head["n2"]
            length += (head["tiles"] - 1) * max(length, head["period"])
            head = random_job(rng, layout, time + (length - 1 if rng.random() < 0.9 else 0))
        elif does["late"] or does["illegal"]:
            head = random_job(rng, layout, time + int(rng.integers(20)))
        if clears[cycle]:
            jobs, halted, registered, ready, last = kind(layout), 0, 0, 0, None
            time = int(rng.choice([0, rng.integers((1 << POD.time_width) - 300)]))
            head = random_job(rng, layout, time + 3)
    return happened


@functools.cache
def case() -> tuple[BlockBench, Values, Values]:
    layouts = {"load": load_job_layout(SMALL), "stream": stream_job_layout(SMALL)}
    parts = {"load": LoadEngine(SMALL), "stream": StreamEngine(SMALL)}
    lanes = {f"{name}_head": (1, layout.width, False) for name, layout in layouts.items()}
    lanes["stream_word"] = 1, word_layout(SMALL).size, False
    bench = BlockBench.of(SideBySide(parts), lanes, random_initial_state=True, depth=CYCLES)
    rng = np.random.default_rng(4)
    given, seen = tables(bench, rng, CYCLES)
    given["clear"][:] = rng.random(CYCLES) < 0.008
    given["clear"][0] = 1
    for name, kind in (("load", Loads), ("stream", Streams)):
        happened = drive(kind, layouts[name], rng, given["clear"] == 1, of_part(name, given), of_part(name, seen))
        assert min(happened.values()) > 30, happened
    return bench, given, seen


def test_any_jobs() -> None:
    bench, given, seen = case()
    compare(seen, bench.run(given))
