"""Chips of a ring that really send to each other: what is in their banks, and every cycle, against the exact model."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest

from podweave.golden.cycle.link.ring import ChipWalk, CollectiveFigures, LinkRate, RingModel, collective_times
from podweave.golden.cycle.link.words import P, X
from podweave.spec.links import LinkError
from tests.fast import fast_of

from .link_cases import CONFIGS, Program, Region, beats_of, collective, expected, geometry_of
from .ring_bench import DEPTH, RingBench, content

RINGS = {
    # Configuration, chips.
    "2_of_4_1": ("4_1", 2),
    "3_of_2_1": ("2_1", 3),
    "4_of_4_1": ("4_1", 4),
    "2_of_8_2": ("8_2", 2),
    "3_of_5_1": ("5_1", 3),
    "2_of_2_4": ("2_4", 2),
}
_ALWAYS = ("2_of_4_1", "3_of_2_1", "4_of_4_1")
SOME = fast_of(_ALWAYS, "2_of_4_1", "3_of_2_1") + fast_of(
    [name for name in RINGS if name not in _ALWAYS], mark=pytest.mark.campaign
)
"""All of them, but most in the campaign only."""
FIRST = 3
"""Epoch of the first collective; others follow, with epochs between."""


@functools.cache
def ring_of(name: str) -> RingBench:
    config, chips = RINGS[name]
    return RingBench.of(CONFIGS[config].replace(jobs=256), chips)


def whole_bank(config, chips: int, kind: int) -> np.ndarray:
    """(chips, units, words, lanes) at the begin."""
    words, lanes, width = (
        (config.memory.p_words, config.array.cols, config.array.psum_width)
        if kind == P
        else (config.memory.x_words, config.array.rows, 8)
    )
    chip, unit, address, lane = np.ix_(*(np.arange(n) for n in (chips, config.pods, words, lanes)))
    value = content(config, chip, unit, address, lane) & ((1 << width) - 1)
    return np.where(value >> (width - 1) & (kind == P), value - (1 << width), value)


def random_regions(rng: np.random.Generator, config, chips: int, count: int) -> list[tuple[str, Region]]:
    found = []
    for _ in range(count):
        kind = P if rng.random() < 0.7 else X
        what = (
            rng.choice(["all_reduce", "reduce_scatter", "all_gather", "broadcast"])
            if kind == P
            else rng.choice(["all_gather", "broadcast"])
        )
        bank = config.memory.p_words if kind == P else config.memory.x_words
        per_unit = int(rng.integers(1, bank + 1))
        unit = int(rng.integers(config.pods))
        words = int(rng.integers(1, per_unit * (config.pods - unit) + 1))
        words = min(words, int(rng.choice([2, 10, 60])))
        found.append((str(what), Region(kind, words, per_unit, unit, int(rng.integers(0, bank - per_unit + 1)))))
    return found


class Run:
    """A run of a ring from cycle ``at`` on: jobs are loaded, chips start, and begin one collective after the other, at random."""

    def __init__(
        self,
        ring: RingBench,
        stimulus: dict,
        programs: list[tuple[str, Region]],
        rates: list[LinkRate],
        rng: np.random.Generator,
        at: int,
    ):
        self.ring, self.rng, chips = ring, rng, ring.chips
        self.ids = [FIRST + 2 * i for i in range(len(programs))]
        self.jobs: list[list[Program]] = [
            [collective(what, region, chips, rank, id, id + 2 if id != self.ids[-1] else 0xFFFF) for rank in range(chips)]
            for (what, region), id in zip(programs, self.ids, strict=True)
        ]
        for rank in range(chips):
            sends, receives = ([job for program in self.jobs for job in program[rank][i]] for i in range(2))
            for select, address, beat, commit, data in beats_of(ring.config, sends, receives):
                stimulus["host_valid"][at, rank] = 1
                for name, value in (("select", select), ("address", address), ("beat", beat), ("commit", commit)):
                    stimulus[f"host_{name}"][at] = value
                stimulus["host_data"][at] = [data >> 32 * i & 0xFFFFFFFF for i in range(ring.config.host_bits // 32)]
                at += 1
        self.stimulus, self.loaded, self.rates = stimulus, at, rates

    def start(self, number: int, skew: int) -> None:
        self.starts = (self.loaded + self.rng.integers(0, skew + 1, self.ring.chips)).tolist()
        self.stimulus["run"][self.loaded - 1 :], self.stimulus["first"][self.loaded - 1 :] = number, self.ids[0]
        self.stimulus["start"][self.starts, np.arange(self.ring.chips)] = 1

    def begin(self, skew: int, busy: np.ndarray, epochs: np.ndarray) -> list[CollectiveFigures]:
        """All collectives, as the model says; what ``busy`` and ``epochs`` must show is written there."""
        ring, figures, over = self.ring, [], self.starts
        model = RingModel(geometry_of(ring.config), self.rates, self.starts)
        for i, id in enumerate(self.ids):
            begins = [time + 1 + int(late) for time, late in zip(over, self.rng.integers(0, skew + 1, ring.chips), strict=True)]
            found = model.collective([ChipWalk.of(*program) for program in self.jobs[i]], begins)
            for rank in range(ring.chips):
                self.stimulus["begins"][begins[rank], rank] = 1
                busy[begins[rank] + 1 : found[rank].over, rank] = 1
                epochs[over[rank] + (i == 0) :, rank] = id
                epochs[found[rank].over :, rank] = 0xFFFF
            over = [each.over for each in found]
            figures += found
        return figures


def run(
    ring: RingBench, programs: list[tuple[str, Region]], rate: LinkRate, rng: np.random.Generator, skew: int = 40
) -> list[CollectiveFigures]:
    """One run; all that comes of it is held against the model."""
    config, chips = ring.config, ring.chips
    stimulus = ring.idle(DEPTH)
    busy, epochs = np.zeros((DEPTH, chips), np.int64), np.full((DEPTH, chips), 0xFFFF)
    rates = [dataclasses.replace(rate, seed=int(seed)) for seed in rng.integers(1, 1 << 32, chips)]
    made = Run(ring, stimulus, programs, rates, rng, 0)
    made.start(int(rng.integers(1, 16)), skew)
    figures = made.begin(skew, busy, epochs)
    most = max(config.memory.p_words, config.memory.x_words)
    places = [(unit, address) for unit in range(config.pods) for address in range(most)]
    done = max(each.over for each in figures) + 4
    cycles = done + len(places)
    assert cycles < DEPTH
    stimulus["peek_unit"][done:cycles], stimulus["peek_address"][done:cycles] = np.array(places).T
    observed = ring.run({name: values[:cycles] for name, values in stimulus.items()}, rates, int(rng.integers(1 << 30)))

    np.testing.assert_array_equal(observed["error"], 0)
    np.testing.assert_array_equal(observed["busy"], busy[:cycles])
    np.testing.assert_array_equal(observed["epoch"], epochs[:cycles])
    for name, port in (("sent", "flit_sent"), ("received", "flit_received"), ("waits", "waits")):
        wanted = np.array([getattr(each, name) for each in figures]).reshape(-1, chips)
        np.testing.assert_array_equal(observed[port].sum(axis=0), wanted.sum(axis=0), err_msg=name)
    _check_banks(ring, programs, observed, places, done)
    return figures


def _check_banks(
    ring: RingBench, programs: list[tuple[str, Region]], observed: dict, places: list[tuple[int, int]], done: int
) -> None:
    config, chips = ring.config, ring.chips
    units, addresses = np.array(places).T
    for kind, name, words, width in (
        (P, "peek_p", config.memory.p_words, config.array.psum_width),
        (X, "peek_x", config.memory.x_words, 8),
    ):
        bank = whole_bank(config, chips, kind)
        for what, region in programs:
            if region.kind == kind:
                unit, address = region.places()
                bank[:, unit, address] = expected(what, bank[:, unit, address], width)
        inside = addresses < words
        seen = observed[name][done:][inside].reshape(int(inside.sum()), chips, -1).transpose(1, 0, 2)
        np.testing.assert_array_equal(seen, bank[:, units[inside], addresses[inside]])


@pytest.mark.parametrize("name", SOME)
def test_all_reduce(name: str) -> None:
    ring = ring_of(name)
    rng = np.random.default_rng(1)
    region = Region(P, 24, 8, 1, 2)
    (first, *_) = run(ring, [("all_reduce", region)], LinkRate(latency=9), rng)
    assert first.sent > 24


@pytest.mark.parametrize("name", SOME)
def test_random_collectives(name: str) -> None:
    """Any collectives in a row, on links of any latency, rate and jitter, begun by each chip when it likes."""
    for seed in range(3):
        random_run(ring_of(name), np.random.default_rng([seed, *name.encode()]))


@pytest.mark.campaign
@pytest.mark.parametrize("name", RINGS)
def test_campaign(name: str) -> None:
    for seed in range(1000, 1030):
        random_run(ring_of(name), np.random.default_rng([seed, *name.encode()]))


def random_run(ring: RingBench, rng: np.random.Generator) -> None:
    rate = LinkRate(
        latency=int(rng.choice([1, 2, 9, 40, 150])),
        beat_sixteenths=int(rng.choice([16, 16, 17, 24, 50])),
        jitter=int(rng.choice([0, 0, 3, 30])),
    )
    figures = run(ring, random_regions(rng, ring.config, ring.chips, 5), rate, rng, skew=int(rng.choice([0, 10, 200])))
    assert sum(each.sent for each in figures) > 20


PLANTED = {
    # What is searched for in the Verilog of the ring, and what takes its place.
    "sums are stored": (r"access_add <= _\d+_;", "access_add <= 1'h0;"),
    "reads do not give way": (r"\.blocked\(writes\)", ".blocked(1'h0)"),
    "words are sent before they are received": (r"= received_words > send_jobs__needs;", "= 1'h1;"),
    "credits do not come back": (r"= credits_due \+ give_back;", "= credits_due;"),
    "only two words are read ahead": (r"= level != \w+'h\w+;", "= level < 2'h2;"),
}


@pytest.mark.campaign
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_seen(what: str) -> None:
    def plant(verilog: str) -> str:
        changed, count = re.subn(*PLANTED[what], verilog)
        assert count
        return changed

    ring, rng = RingBench.of(CONFIGS["4_1"].replace(jobs=256), 2, alter=plant), np.random.default_rng(4)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        # Of few words, each is waited for.
        run(ring, [("all_reduce", Region(P, words, 14, 0, 1)) for words in (50, 2)], LinkRate(latency=2), rng)


@pytest.mark.parametrize("name", SOME)
def test_a_sum_of_one_word_is_a_barrier(name: str) -> None:
    """No chip is through before the last one has begun."""
    ring, rng = ring_of(name), np.random.default_rng(7)
    rate, begins = LinkRate(latency=3), [int(begin) for begin in rng.integers(200, 900, ring.chips)]
    programs = [collective("all_reduce", Region(P, 1, 1), ring.chips, rank, FIRST) for rank in range(ring.chips)]
    figures = collective_times(geometry_of(ring.config), [ChipWalk.of(*program) for program in programs], begins, rate)
    assert min(each.over for each in figures) > max(begins)
    run(ring, [("all_reduce", Region(P, 1, 1))], rate, rng, skew=300)


FAULTS = {
    # Port, values from some cycle on or for one cycle, and what the chips report: that one, and the others.
    "aborted": ("stop", LinkError.NONE, {LinkError.NEIGHBOUR}),
    "link down": ("up", LinkError.LINK_DOWN, {LinkError.LINK_DOWN, LinkError.NEIGHBOUR}),
    "never begins": ("begins", LinkError.NEIGHBOUR, {LinkError.TIMEOUT, LinkError.NEIGHBOUR}),
}


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("name", ["2_of_4_1", "4_of_4_1"])
def test_a_run_that_fails_and_a_clean_one_behind_it(name: str, what: str) -> None:
    """One chip is the cause. All end, each with an error of its own; the next run is exact, whatever is still on its way."""
    ring, port, rng = ring_of(name), FAULTS[what][0], np.random.default_rng([9, *name.encode()])
    chips, rates, programs = ring.chips, [LinkRate(latency=60)] * ring.chips, [("all_reduce", Region(P, 40, 12, 0, 2))]
    stimulus = ring.idle(DEPTH)
    stimulus["timeout"][:] = 500
    busy, epochs = np.zeros((DEPTH, chips), np.int64), np.full((DEPTH, chips), 0xFFFF)
    first = Run(ring, stimulus, programs, rates, rng, 0)
    first.start(5, 20)
    first.begin(20, busy, epochs)
    culprit = int(rng.integers(chips))
    begun = int(np.flatnonzero(stimulus["begins"][:, culprit])[0])
    at = begun if what == "never begins" else begun + 150
    # As from run control of the chip: a level, up to the next start.
    again = begun + 1500
    stimulus[port][at : again if what == "aborted" else at + 1, culprit] ^= 1
    second = Run(ring, stimulus, programs, rates, rng, again)
    second.start(6, 20)
    stimulus["stop"][second.loaded - 1 :] = 0
    busy[second.loaded :], epochs[second.loaded :] = 0, FIRST
    figures = second.begin(20, busy, epochs)
    cycles = max(each.over for each in figures) + 20
    observed = ring.run({name: values[:cycles] for name, values in stimulus.items()}, rates)
    ended = observed["error"][second.loaded - 1]
    assert not observed["busy"][second.loaded - 1].any()
    assert ended[culprit] == FAULTS[what][1] or chips == 2
    assert set(ended.tolist()) - {ended[culprit]} <= FAULTS[what][2]
    assert np.count_nonzero(ended) >= chips - (what == "aborted")
    behind = max(second.starts) + 1
    np.testing.assert_array_equal(observed["error"][behind:], 0)
    np.testing.assert_array_equal(observed["busy"][behind:], busy[behind:cycles])
