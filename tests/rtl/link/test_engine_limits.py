"""The collective engine where random runs seldom come: every bit of a job, of a time-out, and errors that come together."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.link.words import HEAD, HEAD_ID, HEAD_KIND, NO_COLLECTIVE, WORD, Job, P
from podweave.rtl.link.collective_engine import TIMEOUT_WIDTH, CollectiveEngine
from podweave.spec.layout import Layout
from podweave.spec.links import COUNT_WIDTH, ID_WIDTH, LinkError, receive_job_layout, send_job_layout
from podweave.tb.benches.block_bench import BlockBench

from .link_cases import CONFIGS
from .test_collective_engine import CYCLES, Cases, bench_of, check

pytestmark = pytest.mark.more

NAME, LONG = "4_1", 1 << 17
# A collective in which nothing is sent, or received.
NOTHING = Job(words=0, last=1)


class Trials(Cases):
    """One collective after the other, each in a run of its own."""

    def trial(self, sends: list[Job], receives: list[Job], id: int, cycles: int) -> int:
        """Begin it; returns the cycle in which it does, ``cycles`` before the next run."""
        self.stimulus["start"][self.at], self.stimulus["first"][self.at] = 1, id
        self.at += 1
        self.load(sends, receives, (0, 0))
        begin = self.at + 2
        self.stimulus["begins"][begin] = 1
        self.at = begin + cycles
        assert self.at < CYCLES
        return begin

    def head(self, cycle: int, id: int, kind: int, words: int) -> None:
        """A head is offered in that cycle."""
        payload = id % (1 << HEAD_ID) | kind << HEAD_ID | words << (HEAD_ID + HEAD_KIND)
        self.stimulus["received_valid"][cycle], self.stimulus["received_kind"][cycle] = 1, HEAD
        self.stimulus["received_data"][cycle, :4] = [payload >> 8 * i & 255 for i in range(4)]


def trials(seed: int) -> Trials:
    made = Trials(np.random.default_rng(seed), NAME, faults=False)
    made.stimulus["received_valid"][:], made.stimulus["send_ready"][:] = 0, 1
    return made


def fields_of(layout: Layout) -> set[str]:
    return {field.name for field in layout.fields}


def test_every_bit_of_a_job() -> None:
    """One bit of a count, or of what a word waits for: alone it decides whether there is a word, or what is sent."""
    made = trials(1)
    many = {"words": 1 << 22, "last": 1, "id": 5}
    changes = [{name: 1 << bit} for name, width in (("n0", 16), ("n1", 12), ("n2", 12)) for bit in range(width)]
    for change in changes:
        job = Job(unit=1, address=2, **{**many, **change})
        begin = made.trial([job], [job], 5, 12)
        made.head(begin + 3, 5, P, 1 << 22)
    for bit in range(COUNT_WIDTH):
        job = Job(n0=2, n1=3, id=5, last=1, words=6)
        waits = dataclasses.replace(job, follows=1, needs=1 << bit)
        begin = made.trial([waits], [dataclasses.replace(NOTHING, id=5)], 5, 12)
        job = dataclasses.replace(job, words=1 << bit)
        begin = made.trial([job], [job], 5, 12)
        made.head(begin + 3, 5, P, 1 << bit)
    for bit in range(ID_WIDTH):
        nothing = dataclasses.replace(NOTHING, id=1 << bit, next=NO_COLLECTIVE ^ 1 << bit)
        made.trial([nothing], [nothing], 1 << bit, 10)
    case = made.case()
    # What is behind a head are words.
    case.stimulus["received_kind"][case.stimulus["received_valid"] == 0] = WORD
    model, _ = check(NAME, case, 1)
    assert len(model.collectives) == len(changes) + 2 * COUNT_WIDTH + ID_WIDTH


def test_of_errors_that_come_together_the_smallest_counts() -> None:
    """In the cycle of a head, good or bad, or of a word that may not be: any others."""
    others = ("crc_error", "overflow", "neighbour_failed", "misdirected", "link_up")
    found: set[int] = set()
    heads = [(5, P, 6), (6, P, 6), (5, 1 - P, 6), (5, P, 7), None]
    cases = [
        (subset, head) for count in range(len(others) + 1) for subset in itertools.combinations(others, count) for head in heads
    ]
    for seed, some in enumerate((cases[::2], cases[1::2])):
        made = trials(seed)
        for number, (subset, head) in enumerate(some):
            job = Job(n0=2, n1=3, id=5, last=1, words=6)
            # Now and then, in the same cycle, a word outside of the chip is there, and the time is over.
            sends = dataclasses.replace(job, step1=-9) if number % 3 == 1 else job
            begin = made.trial([dataclasses.replace(sends, address=3, n0=1 + number % 2)], [job], 5, 14)
            made.stimulus["timeout"][begin : begin + 15] = 3 if number % 4 == 3 else 0
            if head:
                made.head(begin + 3, *head)
            for name in subset:
                made.stimulus[name][begin + 3] ^= 1
        model, traces = check(NAME, made.case(), seed)
        assert len(model.collectives) == len(some)
        found |= set(np.unique(traces["error"].value).tolist())
    assert found >= set(LinkError) - {LinkError.ILLEGAL_JOB}, found


@pytest.mark.parametrize("error", ["CRC", "LINK_DOWN", "NEIGHBOUR", "OVERFLOW", "WRONG_MANAGER"])
def test_an_error_in_a_later_collective_has_its_id(error: str) -> None:
    """The first one of the run moves nothing and is over; the second waits for a head when it comes."""
    ports = {"CRC": "crc_error", "LINK_DOWN": "link_up", "NEIGHBOUR": "neighbour_failed", "OVERFLOW": "overflow"}
    made, at = trials(4), 40
    first = dataclasses.replace(NOTHING, id=5, next=6)
    later = Job(n0=2, n1=3, id=6, last=1, words=6)
    begin = made.trial([first, later], [first, later], 5, 0)
    made.stimulus["begins"][begin + 12] = 1
    made.stimulus[ports.get(error, "misdirected")][begin + at] ^= 1
    model, traces = check(NAME, made.case(), 4)
    assert [(each.id, each.begin) for each, *_ in model.collectives] == [(5, begin), (6, begin + 12)]
    assert np.flatnonzero(traces["error"].value)[0] == begin + at + 1
    assert (traces["error"].value[-1], traces["error_id"].value[-1]) == (LinkError[error], 6)


@functools.cache
def long_bench() -> BlockBench:
    block = CollectiveEngine(CONFIGS[NAME])
    lanes = {name: (8, member.shape // 8, False) for name, member in block.signature.members.items() if name.endswith("_data")}
    return BlockBench.of(block, lanes, random_initial_state=True, depth=LONG + 4096)


def test_every_bit_of_a_time_out() -> None:
    """A collective of which no flit comes: its error is there when as many cycles are over, whichever bits the number has."""
    stimulus: dict[str, NDArray[np.int64]] = {
        port.name: np.zeros((LONG + 4000, port.lanes) if port.lanes else LONG + 4000, np.int64) for port in long_bench().inputs
    }
    made = trials(3)
    made.trial([dataclasses.replace(NOTHING, id=5)], [Job(n0=2, id=5, last=1, words=2)], 5, 0)
    loads = {name: values[: made.at] for name, values in made.stimulus.items() if name.startswith("host_")}
    for name, values in loads.items():
        stimulus[name][: made.at] = values
    stimulus["link_up"][:] = 1
    at, expected, rest = made.at + 3, [], 8
    # First those that are never over here, then powers of two, and last as many ones as there is time for.
    never = [(1 << bit) + 20 for bit in range(17, TIMEOUT_WIDTH)]
    timeouts = [*never, *(1 << bit for bit in range(2, 16)), LONG // 2 - 1 - 256]
    for timeout in timeouts:
        stimulus["start"][at], stimulus["first"][at], stimulus["begins"][at + 2] = 1, 5, 1
        cycles = 60 if timeout in never else timeout + rest
        stimulus["timeout"][at : at + 2 + cycles] = timeout
        if timeout not in never:
            expected += range(at + 2 + timeout + 1, at + 2 + cycles + 1)
        at += 2 + cycles
    stimulus["start"][at] = 1
    assert at < LONG + 4000
    observed = long_bench().run(stimulus)
    assert set(np.unique(observed["error"])) == {LinkError.NONE, LinkError.TIMEOUT}
    np.testing.assert_array_equal(np.flatnonzero(observed["error"]), expected)


def test_bench_is_of_the_same_engine() -> None:
    """Fields of jobs are what these tests have bits of."""
    assert {"n0", "n1", "n2", "needs", "next"} <= fields_of(send_job_layout(CONFIGS[NAME]))
    assert {"n0", "n1", "n2", "words", "id"} <= fields_of(receive_job_layout(CONFIGS[NAME]))
    assert {port.name for port in bench_of(NAME).inputs} == {port.name for port in long_bench().inputs}
