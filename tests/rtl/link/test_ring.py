"""Chips of a ring that really send to each other: what is in their banks, and every cycle, against the exact model."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from podweave.golden.cycle.link.ring import ChipWalk, CollectiveFigures, LinkRate, RingModel
from podweave.golden.cycle.link.words import P, X

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


def run(
    ring: RingBench, programs: list[tuple[str, Region]], rate: LinkRate, rng: np.random.Generator, skew: int = 40
) -> list[CollectiveFigures]:
    """One run: collectives one after the other, begun at random; all that comes of it is held against the model."""
    config, chips = ring.config, ring.chips
    ids = [FIRST + 2 * i for i in range(len(programs))]
    jobs: list[list[Program]] = [
        [collective(what, region, chips, rank, id, id + 2 if id != ids[-1] else 0xFFFF) for rank in range(chips)]
        for (what, region), id in zip(programs, ids, strict=True)
    ]
    seeds = rng.integers(1, 1 << 32, chips).tolist()
    rates = [LinkRate(latency=rate.latency, beat_sixteenths=rate.beat_sixteenths, jitter=rate.jitter, seed=seed) for seed in seeds]
    stimulus = ring.idle(DEPTH, rate, seeds)
    at = 0
    for rank in range(chips):
        sends, receives = ([job for program in jobs for job in program[rank][i]] for i in range(2))
        for select, address, beat, commit, data in beats_of(config, sends, receives):
            stimulus["host_valid"][at, rank] = 1
            for name, value in (("select", select), ("address", address), ("beat", beat), ("commit", commit)):
                stimulus[f"host_{name}"][at] = value
            stimulus["host_data"][at] = [data >> 32 * i & 0xFFFFFFFF for i in range(config.host_bits // 32)]
            at += 1
    starts = (at + rng.integers(0, skew + 1, chips)).tolist()
    stimulus["run"][:], stimulus["first"][:] = int(rng.integers(1, 16)), ids[0]
    stimulus["start"][starts, np.arange(chips)] = 1
    model = RingModel(geometry_of(config), rates, starts)
    over = starts
    busy, figures = np.zeros((DEPTH, chips), np.int64), []
    epochs = np.full((DEPTH, chips), 0xFFFF)
    for i, id in enumerate(ids):
        begins = [time + 1 + int(late) for time, late in zip(over, rng.integers(0, skew + 1, chips), strict=True)]
        found = model.collective([ChipWalk.of(*program) for program in jobs[i]], begins)
        for rank in range(chips):
            stimulus["begins"][begins[rank], rank] = 1
            busy[begins[rank] + 1 : found[rank].over, rank] = 1
            epochs[over[rank] + (i == 0) : found[rank].over, rank] = id
        over = [each.over for each in found]
        figures += found
    places = [
        (unit, address) for unit in range(config.pods) for address in range(max(config.memory.p_words, config.memory.x_words))
    ]
    done = max(over) + 4
    cycles = done + len(places)
    assert cycles < DEPTH
    stimulus["peek_unit"][done:cycles], stimulus["peek_address"][done:cycles] = np.array(places).T
    observed = ring.bench.run({name: values[:cycles] for name, values in stimulus.items()}, seed=int(rng.integers(1 << 30)))

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


@pytest.mark.parametrize("name", RINGS)
def test_all_reduce(name: str) -> None:
    ring = ring_of(name)
    rng = np.random.default_rng(1)
    region = Region(P, 24, 8, 1, 2)
    (first, *_) = run(ring, [("all_reduce", region)], LinkRate(latency=9), rng)
    assert first.sent > 24


@pytest.mark.parametrize("name", RINGS)
def test_random_collectives(name: str) -> None:
    """Any collectives in a row, on links of any latency, rate and jitter, begun by each chip when it likes."""
    ring = ring_of(name)
    for seed in range(4):
        rng = np.random.default_rng([seed, *name.encode()])
        rate = LinkRate(
            latency=int(rng.choice([1, 2, 9, 40, 150])),
            beat_sixteenths=int(rng.choice([16, 16, 17, 24, 50])),
            jitter=int(rng.choice([0, 0, 3, 30])),
        )
        figures = run(ring, random_regions(rng, ring.config, ring.chips, 5), rate, rng, skew=int(rng.choice([0, 10, 200])))
        assert sum(each.sent for each in figures) > 20
