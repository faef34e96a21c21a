"""The collective engine's port of a chip in lockstep with its cycle model: every output port, every cycle."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip import link_accesses as model
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.chip.chip import Chip
from podweave.rtl.parts.link_access import link_members
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links import CollectiveKind
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.build.emission import emitted_design
from podweave.tb.lockstep.ports import LockstepError

CHIP2 = load_config("chip2x4")
LINKS = LinksConfig(flit_bits=32, buffer_words=4, jobs=16)
CONFIGS: dict[str, ChipConfig] = {
    "2x4": dataclasses.replace(CHIP2.replace(x_parts=4), links=LINKS),
    # X words wider than P words, which are no whole bytes; a load port for each half.
    "4x(16x4), 2 managers": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4, p_planes=2, rows=16, psum_width=27), prefetch=PrefetchConfig(managers=2), links=LINKS
    ),
    # Two levels of registers.
    "32x(2x2)": dataclasses.replace(
        CHIP2.replace(pods=32, banks=32, rows=2, cols=2, group_rows=1, group_cols=1, w_words=32, pipeline=2), links=LINKS
    ),
}
CYCLES = 3000
Stimulus = dict[str, NDArray]


@functools.cache
def bench_of(key: str) -> BlockBench:
    config = CONFIGS[key]
    lanes = dict.fromkeys(("link_data", "link_read_data"), (1, config.link_bits, False))
    lanes |= dict.fromkeys(("host_data", "host_read_data"), (32, config.managers * config.host_bits // 32, False))
    return BlockBench.of(Chip(config), lanes, random_initial_state=True)


def random_stimulus(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    """Accesses of a few words of each bank, many to the same one in a row, and meanwhile loads of everything but X and P banks."""
    config, bench = CONFIGS[key], bench_of(key)
    stimulus = {port.name: np.zeros((cycles, port.lanes) if port.lanes else cycles, np.int64) for port in bench.inputs}
    rate = rng.choice([0.2, 0.9, 1.0], cycles // 100 + 1).repeat(100)[:cycles]
    again = rng.random(cycles) < rng.choice([0.2, 0.8], cycles // 100 + 1).repeat(100)[:cycles]
    where = np.stack([rng.integers(0, 2, cycles), rng.integers(0, min(4, config.pods), cycles), rng.integers(0, 3, cycles)])
    where[1] *= config.pods // min(4, config.pods)
    latest = np.maximum.accumulate(np.where(again, 0, np.arange(cycles)))
    # The word again of a few cycles before: of the cycle before, or of two before where reads become legal.
    where = where[:, np.maximum(latest - rng.integers(0, 2, cycles) * again, 0)]
    kind, unit, word = where
    last = np.where(kind == CollectiveKind.P, config.memory.p_words, config.memory.x_words) - 1
    writes = rng.random(cycles) < rng.choice([0.3, 0.7], cycles // 50 + 1).repeat(50)[:cycles]
    stimulus |= {
        "link_valid": rng.random(cycles) < rate,
        "link_write": writes,
        "link_add": rng.random(cycles) < 0.7,
        "link_kind": kind,
        "link_unit": unit,
        "link_address": np.where(word == 2, last, word),
        "link_data": rng.integers(0, 2, (cycles, config.link_bits)),
    }
    others = [select for select in HostSelect if select <= HostSelect.TABLE and select not in (HostSelect.X, HostSelect.P)]
    for name, port in {port.name: port for port in bench.inputs if port.name.startswith("host_")}.items():
        stimulus[name] = rng.integers(0, 1 << min(port.width, 62), stimulus[name].shape)
    width = next(port.bits for port in bench.inputs if port.name == "host_select") // config.managers
    stimulus["host_select"] = sum(rng.choice(others, cycles) << (width * i) for i in range(config.managers))
    stimulus["host_write"] = np.full(cycles, (1 << config.managers) - 1)
    return stimulus


KEYS = [pytest.param(key, marks=[pytest.mark.campaign] * key.startswith(("32x", "4x(16x4)"))) for key in CONFIGS]


def expected(key: str, stimulus: Stimulus) -> dict[str, PortTrace]:
    config = CONFIGS[key]
    names = ("valid", "write", "add", "kind", "unit", "address", "data")
    read = model.link_read_data(
        latency=config.link_read_latency,
        psum_width=config.array.psum_width,
        cols=config.array.cols,
        rows=config.array.rows,
        **{name: stimulus[f"link_{name}"] for name in names},
    )
    cycles = len(stimulus["link_valid"])
    still = {port.name: (cycles, port.lanes) if port.lanes else cycles for port in bench_of(key).outputs}
    quiet = {name: PortTrace(np.zeros(shape, np.int64), np.ones(shape, bool)) for name, shape in still.items()}
    return quiet | {"link_read_data": read}


@pytest.mark.parametrize("key", KEYS)
def test_lockstep(key: str) -> None:
    for seed in range(3):
        stimulus = random_stimulus(np.random.default_rng([seed, len(key)]), key)
        traces = expected(key, stimulus)
        bench_of(key).check(traces, bench_of(key).run(stimulus, seed=seed))
        bits = CONFIGS[key].link_bits
        assert (traces["link_read_data"].value != 0).any(axis=1).sum() > 300
        assert traces["link_read_data"].known.sum() > CYCLES * bits * 0.8


# An access of a load port takes effect a cycle later than one of the collective engine.
COLLISIONS = [
    ("2x4", HostSelect.X, 1, True),
    ("2x4", HostSelect.X, 0, False),
    ("2x4", HostSelect.X, 2, False),
    ("2x4", HostSelect.W, 1, False),
]


def test_model_has_the_same_codes() -> None:
    assert (model.P, model.X) == (CollectiveKind.P, CollectiveKind.X)


def accesses(key: str, table: list[tuple[int, str, int, int, int]], cycles: int = 40) -> Stimulus:
    """(cycle, what, unit, word, number): ``what`` is store, add or read, in capitals of an X bank; all lanes hold the number."""
    config, bench = CONFIGS[key], bench_of(key)
    stimulus = {port.name: np.zeros((cycles, port.lanes) if port.lanes else cycles, np.int64) for port in bench.inputs}
    for cycle, what, unit, word, number in table:
        kind = CollectiveKind.X if what.isupper() else CollectiveKind.P
        lanes, width = (config.array.rows, 8) if what.isupper() else (config.array.cols, config.array.psum_width)
        values = {"valid": 1, "write": what.lower() != "read", "add": what == "add", "kind": kind, "unit": unit, "address": word}
        for name, value in values.items():
            stimulus[f"link_{name}"][cycle] = value
        stimulus["link_data"][cycle, : lanes * width] = np.tile(number >> np.arange(width) & 1, lanes)
    return stimulus


@pytest.mark.parametrize("key", KEYS)
def test_by_hand_at_the_shortest_distances(key: str) -> None:
    """Without the model: a P word is read 2 cycles after it was added to, an X word 1 cycle after it was written."""
    config, last = CONFIGS[key], CONFIGS[key].pods - 1
    width, rows, cols = config.array.psum_width, config.array.rows, config.array.cols
    top = 1 << width - 1
    table = [
        (2, "store", last, 1, 100),
        (3, "add", last, 1, top - 1),
        (4, "add", last, 1, top - 1),
        (5, "store", 0, 1, 77),
        (6, "read", last, 1, 0),
        (7, "read", 0, 1, 0),
        (8, "STORE", last, 3, 0x5A),
        (9, "READ", last, 3, 0),
    ]
    observed = bench_of(key).run(accesses(key, table))["link_read_data"]
    at = config.link_read_latency
    expected_words = {
        6 + at: (98, cols, width),
        7 + at: (77, cols, width),
        9 + at: (0x5A, rows, 8),
    }
    for cycle, (number, lanes, bits) in expected_words.items():
        whole = np.zeros(config.link_bits, np.int64)
        whole[: lanes * bits] = np.tile(number >> np.arange(bits) & 1, lanes)
        np.testing.assert_array_equal(observed[cycle], whole)
    assert set(np.flatnonzero(observed.any(axis=1))) == set(expected_words)


def test_checker_sees_one_flipped_bit() -> None:
    key = "2x4"
    stimulus = random_stimulus(np.random.default_rng(21), key)
    observed, traces = bench_of(key).run(stimulus), expected(key, stimulus)
    words = traces["link_read_data"]
    cycle = int(np.flatnonzero(words.value.any(axis=1) & words.known.all(axis=1))[100])
    flipped = observed["link_read_data"].copy()
    flipped[cycle, 127] ^= 1
    with pytest.raises(LockstepError, match=f"at cycle {cycle}, port link_read_data lane 127"):
        bench_of(key).check(traces, observed | {"link_read_data": flipped})


def test_a_chip_without_links_has_nothing_of_them() -> None:
    text = emitted_design(CHIP2, top="chip").verilog
    assert "link" not in text
    assert "host_accumulate" not in text
    linked = bench_of("2x4")
    assert {port.name for port in (*linked.inputs, *linked.outputs)} >= set(link_members(CONFIGS["2x4"]))


@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize(("key", "select", "apart", "wrong"), COLLISIONS)
def test_an_access_that_takes_away_one_of_a_load_port(key: str, select: HostSelect, apart: int, wrong: bool, write: int) -> None:
    """An X bank with parts is loaded and stored at any time; a collective that has an access then is an error."""
    stimulus = accesses(key, [(10, "read", 0, 3, 0)])
    stimulus["host_valid"][10 - apart], stimulus["host_write"][10 - apart] = 1, write
    stimulus["host_select"][10 - apart], stimulus["host_commit"][10 - apart] = select, 1
    observed = bench_of(key).run(stimulus)
    assert bool(observed["error"][-1]) == wrong
