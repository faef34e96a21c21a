"""The collective engine in lockstep with its cycle model: every output port, every cycle, whatever it is told."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.link.engine import RECEIVE, SEND, EngineModel, JobLoad
from podweave.golden.cycle.link.words import HEAD, HEAD_ID, HEAD_KIND, NO_COLLECTIVE, WORD, Job, P, X
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.link.collective_engine import CollectiveEngine
from podweave.spec.config import ChipConfig
from podweave.spec.links import LinkError
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of

from .link_cases import CONFIGS, beats_of, block_bench, geometry_of

CYCLES = 8000
Stimulus = dict[str, NDArray]


def bench_with(name: str, alter: Callable[[str], str] | None = None) -> BlockBench:
    return block_bench(CollectiveEngine(CONFIGS[name]), alter)


bench_of = functools.cache(bench_with)


@dataclasses.dataclass
class Case:
    """``loads``: jobs as the load port of ``stimulus`` writes them."""

    config: ChipConfig
    stimulus: Stimulus
    loads: list[JobLoad]

    def model(self, *, checks: bool = True) -> EngineModel:
        assert self.config.links is not None
        inputs = {
            name: values
            for name, values in self.stimulus.items()
            if not name.startswith("host_") and (checks or name not in ("received_kind", "received_data"))
        }
        memory = self.config.memory
        depths = (memory.p_words, memory.x_words)
        return EngineModel(
            geometry_of(self.config), inputs, self.loads, units=self.config.pods, depths=depths, jobs=self.config.links.jobs
        )


def random_jobs(
    rng: np.random.Generator, config: ChipConfig, id: int, kind: int, count: int, *, send: bool, next: int
) -> list[Job]:
    """``count`` legal jobs, the last of which is the last of its collective; of a sender, they may wait for any words."""
    depth = config.memory.p_words if kind == P else config.memory.x_words
    found: list[Job] = []
    while len(found) < count:
        n = [int(rng.choice([1, 1, 2, 3, 5])) for _ in range(3)]
        steps = [int(step) for step in rng.integers(-3, 4, 3)]
        units = [int(step) for step in rng.integers(-1, 2, 2)]
        job = Job(
            unit=int(rng.integers(config.pods)),
            address=int(rng.integers(depth)),
            **{f"n{i}": n[i] for i in range(3)},
            **{f"step{i}": steps[i] for i in range(3)},
            unit1=units[0],
            unit2=units[1],
            id=id,
            kind=kind,
            next=next,
            add=int(not send and kind == P and rng.random() < 0.5),
        )
        unit, address = job.places(job.count)
        if unit.min() >= 0 and unit.max() < config.pods and address.min() >= 0 and address.max() < depth:
            found.append(job)
    total, sent = sum(job.count for job in found), 0
    for i, job in enumerate(found):
        # Mostly what a ring does: wait for a word received long before.
        follows = send and rng.random() < 0.5
        needs = max(0, sent - int(rng.integers(0, 20))) if follows else 0
        found[i] = dataclasses.replace(job, words=total, last=int(i == count - 1), follows=int(follows), needs=needs)
        sent += job.count
    return found


def spoilt(rng: np.random.Generator, config: ChipConfig, jobs: list[Job]) -> list[Job]:
    """One thing is wrong with one of them."""
    i = int(rng.integers(len(jobs)))
    job, depth = jobs[i], config.memory.p_words if jobs[i].kind == P else config.memory.x_words
    changes = [
        {"n0": 0},
        {"n1": 0},
        {"n2": 0},
        {"id": job.id ^ int(rng.integers(1, 1 << 16))},
        {"kind": 1 - job.kind},
        {"address": depth - 1, "step0": 1, "n0": 2},
        {"address": 0, "step0": -1, "n0": 2},
        {"unit": 0, "unit1": -1, "n1": 2},
        {"unit": config.pods - 1, "unit2": 1, "n2": 2},
        {"last": 1 - job.last},
        {"n0": job.n0 + 1},
        # Of a sender there is nothing to add.
        {"kind": X, "add": 1} if job.add else {"n1": job.n1 + 1},
    ]
    changed = dataclasses.replace(job, **changes[rng.integers(len(changes))])
    if rng.random() < 0.15:
        changed = dataclasses.replace(job, words=max(0, job.words + int(rng.choice([-1, 1]))))
    return [*jobs[:i], changed, *jobs[i + 1 :]]


class Cases:
    """Makes a case run by run: each collective begins behind the one before, as the model says when that is over."""

    def __init__(self, rng: np.random.Generator, name: str, *, faults: bool):
        self.rng, self.config, self.faults = rng, CONFIGS[name], faults
        assert self.config.links is not None
        self.size = self.config.links.jobs
        self.stimulus = {
            p.name: rng.integers(0, 1 << p.width, (CYCLES, p.lanes) if p.lanes else CYCLES) for p in bench_of(name).inputs
        }
        idle = ("start", "begins", "stop", "host_valid", "misdirected", "crc_error", "overflow", "neighbour_failed", "timeout")
        self.stimulus |= {port: np.zeros(CYCLES, np.int64) for port in idle}
        self.stimulus["link_up"][:] = 1
        rates = rng.choice([[0.1, 0.6, 1.0], [1.0, 1.0, 1.0], [0.3, 0.9, 0.9]], axis=0)
        for port in ("send_ready", "received_valid"):
            rate = rng.choice(rates, CYCLES // 100 + 1).repeat(100)[:CYCLES]
            self.stimulus[port] = (rng.random(CYCLES) < rate).astype(np.int64)
        self.loads: list[JobLoad] = []
        self.at = 1
        self.load([self.any_job() for _ in range(self.size)], [self.any_job() for _ in range(self.size)], (0, 0))

    def any_job(self) -> Job:
        return Job(id=int(self.rng.integers(1 << 16)), words=int(self.rng.integers(9)), kind=int(self.rng.integers(2)))

    def load(self, sends: list[Job], receives: list[Job], first: tuple[int, int]) -> None:
        """From cycle ``at`` on; other accesses between do nothing."""
        jobs = [
            *((SEND, first[0] + i, job) for i, job in enumerate(sends)),
            *((RECEIVE, first[1] + i, job) for i, job in enumerate(receives)),
        ]
        for select, address, beat, commit, data in beats_of(self.config, sends, receives, first):
            if beat == 0 and self.rng.random() < 0.3:
                self.host(0, select, address, beat, 1, data)
            self.host(1, select, address, beat, commit, data)
            if commit:
                store, index, job = jobs.pop(0)
                self.loads.append(JobLoad(self.at - 1, store, index % self.size, job))

    def host(self, write: int, select: int, address: int, beat: int, commit: int, data: int) -> None:
        values = {"valid": 1, "write": write, "commit": commit, "select": select, "address": address, "beat": beat}
        for port, value in values.items():
            self.stimulus[f"host_{port}"][self.at] = value
        size = self.config.host_bits // 8
        self.stimulus["host_data"][self.at] = np.frombuffer(data.to_bytes(size, "little"), np.uint8)
        self.at += 1

    def case(self) -> Case:
        return Case(self.config, self.stimulus, self.loads)

    def run(self) -> None:
        """A run of up to 3 collectives, in which perhaps something goes wrong."""
        rng, count = self.rng, int(self.rng.integers(1, 4))
        ids = [int(id) for id in rng.integers(0, NO_COLLECTIVE, count)] + [NO_COLLECTIVE]
        start = self.at + int(rng.integers(0, 5))
        self.at = start + 1
        self.stimulus["start"][start], self.stimulus["first"][start] = 1, ids[0]
        self.stimulus["timeout"][start:] = rng.choice([0, 0, 1000, 200, 25])
        pointers = [0, 0]
        for id, following in itertools.pairwise(ids):
            kind = int(rng.integers(2))
            jobs = []
            for send in (True, False):
                made = random_jobs(rng, self.config, id, kind, int(rng.integers(1, 5)), send=send, next=following)
                if rng.random() < 0.15:
                    made = [dataclasses.replace(made[0], words=0, last=1)]
                jobs.append(spoilt(rng, self.config, made) if self.faults and rng.random() < 0.12 else made)
            self.load(jobs[0], jobs[1], (pointers[0], pointers[1]))
            pointers = [pointer + len(each) for pointer, each in zip(pointers, jobs, strict=True)]
            begin = self.at + 1 + int(rng.integers(0, 20))
            self.stimulus["begins"][begin] = 1
            if self.faults and rng.random() < 0.4:
                self.disturb(begin)
            model = self.case().model(checks=False)
            begun = [made for made, *_ in model.collectives if made.begin == begin]
            self.at = begin + 5
            if begun:
                # Now and then the run is over in the middle of it.
                over = begun[0].last_busy + 1 if rng.random() < 0.9 else begin + int(rng.integers(1, 60))
                self.at = max(self.at, min(over, begin + 700)) + int(rng.integers(0, 3))
            busy = np.flatnonzero(model.busy[begin + 1 : self.at]) + begin + 1
            self.stimulus["begins"][busy[rng.random(len(busy)) < 0.05]] = 1
            if not begun or begun[0].last_busy > self.at or self.at > CYCLES - 400:
                break

    def disturb(self, begin: int) -> None:
        port = self.rng.choice(["stop", "misdirected", "crc_error", "overflow", "neighbour_failed", "link_up"])
        at = begin + int(self.rng.integers(-10, 80))
        self.stimulus[port][at : at + int(self.rng.integers(1, 4))] ^= 1

    def finish(self) -> Case:
        """What comes from the port is what is expected, or almost."""
        case, rng = self.case(), self.rng
        kinds, data = self.stimulus["received_kind"], self.stimulus["received_data"]
        for made, *_ in case.model(checks=False).collectives:
            kinds[made.takes] = WORD
            if len(made.takes):
                kinds[made.takes[0]] = HEAD
                head = [made.id % (1 << HEAD_ID), made.receive.kind, made.receive.words]
                if self.faults and rng.random() < 0.2:
                    head[rng.integers(3)] ^= 1
                payload = head[0] | head[1] << HEAD_ID | head[2] << (HEAD_ID + HEAD_KIND)
                data[made.takes[0], :4] = [payload >> 8 * i & 255 for i in range(4)]
            if self.faults and rng.random() < 0.1 and len(made.takes):
                kinds[rng.choice(made.takes)] = rng.integers(4)
        return case


def random_case(rng: np.random.Generator, name: str, *, faults: bool) -> Case:
    cases = Cases(rng, name, faults=faults)
    while cases.at < CYCLES - 400:
        cases.run()
    return cases.finish()


def check(name: str, case: Case, seed: int) -> tuple[EngineModel, dict[str, PortTrace]]:
    bench, model = bench_of(name), case.model()
    traces = model.ports()
    bench.check(traces, bench.run(case.stimulus, seed=seed))
    return model, traces


@pytest.mark.parametrize("name", fast_of(CONFIGS, "4_1", "2_4", "4_1_row"))
def test_lockstep(name: str) -> None:
    words, seen, whole = 0, set(), 0
    for seed in range(2):
        case = random_case(np.random.default_rng([seed, *name.encode()]), name, faults=False)
        model, traces = check(name, case, seed)
        words += int(traces["access_valid"].value.sum())
        whole += sum(made.last_busy < end for made, end, _ in model.collectives)
        seen |= {port for port, trace in traces.items() if trace.value.any()}
    assert words > 500
    assert whole > 8
    assert seen >= {port.name for port in bench_of(name).outputs} - {"fault", "error", "error_id"}


@pytest.mark.parametrize("name", fast_of(CONFIGS, "4_1", "2_4", "4_1_row"))
def test_lockstep_with_faults(name: str) -> None:
    seen: set[int] = set()
    for seed in range(3):
        case = random_case(np.random.default_rng([seed, 1, *name.encode()]), name, faults=True)
        _, traces = check(name, case, seed)
        seen |= set(np.unique(traces["error"].value).tolist())
    assert len(seen) > 5, seen


@pytest.mark.campaign
@pytest.mark.parametrize("name", CONFIGS)
def test_campaign(name: str) -> None:
    for seed in range(1000, 1015):
        check(name, random_case(np.random.default_rng([seed, *name.encode()]), name, faults=seed % 4 > 0), seed)


def test_every_error_is_seen() -> None:
    """By name, over the random runs of one configuration."""
    seen: set[int] = set()
    for seed in range(15):
        case = random_case(np.random.default_rng([seed, 2]), "4_1", faults=True)
        _, traces = check("4_1", case, seed)
        seen |= set(np.unique(traces["error"].value).tolist())
        if seen == set(LinkError):
            return
    raise AssertionError(f"{set(LinkError) - seen} were not seen")


PLANTED = {
    # What is searched for in the Verilog of "4_1", and what takes its place.
    "reads do not give way": (r"\.blocked\(writes\)", ".blocked(1'h0)"),
    "a word is sent before it was received": (r"= received_words > send_jobs__needs;", "= received_words >= send_jobs__needs;"),
    "one word less is read ahead": (r"= level != (\w+'h\w+);", r"= level + 1'h1 != \1;"),
    "sums are stored": (r"access_add <= _\d+_;", "access_add <= 1'h0;"),
    "numbers of words are not looked at": (r"= received_data\[31:8\] == receive_jobs__words;", "= 1'h1;"),
    "ids of heads are not looked at": (r"= received_data\[6:0\] != epoch\[6:0\];", "= 1'h0;"),
    "ids of jobs are not looked at": (r"mine = job\[82:67\] == epoch;", "mine = 1'h1;"),
    "a time-out comes a cycle late": (r"= (_\d+_) == timeout;", r"= \1 == timeout + 32'd1;"),
    "words are counted a cycle too early": (r"= access_valid & access_write;", "= writes;"),
}


@functools.cache
def telling_cases() -> list[Case]:
    return [random_case(np.random.default_rng([seed, 3]), "4_1", faults=seed > 0) for seed in range(8)]


@pytest.mark.campaign
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_seen(what: str) -> None:
    pattern, instead = PLANTED[what]

    def plant(verilog: str) -> str:
        changed, count = re.subn(pattern, instead, verilog)
        assert count
        return changed

    bench, found = bench_with("4_1", plant), False
    for case in telling_cases():
        try:
            bench.check(case.model().ports(), bench.run(case.stimulus))
        except LockstepError:
            found = True
    assert found


WRONG = {
    "latency": {"read_latency": 6},
    "flits": {"flits": (5, 1)},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_model_of_another_engine_is_refused(what: str) -> None:
    case = telling_cases()[0]
    model = case.model()
    observed = bench_of("4_1").run(case.stimulus)
    other = EngineModel(
        dataclasses.replace(model.geometry, **WRONG[what]),
        model.inputs,
        case.loads,
        units=model.units,
        depths=model.depths,
        jobs=model.jobs,
    )
    with pytest.raises(LockstepError):
        bench_of("4_1").check(other.ports(), observed)


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    case, bench = telling_cases()[0], bench_of("4_1")
    traces, observed = case.model().ports(), bench.run(case.stimulus)
    assert sorted(traces) == sorted(port.name for port in bench.outputs)
    for port, trace in traces.items():
        known = np.flatnonzero(trace.known.reshape(len(trace.known), -1).all(axis=1))
        values, cycle = observed[port].copy(), int(known[-1])
        values[(cycle, -1) if values.ndim == 2 else cycle] ^= 1
        with pytest.raises(LockstepError, match=f"at cycle {cycle}, port {port}"):
            bench.check(traces, {**observed, port: values})
