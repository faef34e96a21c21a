"""The bank of partial sums in lockstep with its cycle model: every output port, every cycle."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip import banks as model
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.node.p_bank import PBank
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import (
    ArrayConfig,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
)
from podweave.spec.layout import bits_for_index
from podweave.spec.links_config import LinksConfig
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of

CYCLES = 1500
Stimulus = dict[str, NDArray]


def chip(cols: int, psum_width: int, planes: int, words: int, links: LinksConfig | None = None) -> ChipConfig:
    return ChipConfig(
        name="banks",
        pods=4,
        pod=PodConfig(array=ArrayConfig(rows=4 * cols, cols=cols, psum_width=psum_width)),
        memory=MemoryConfig(banks=4, p_planes=planes, x_words=16, w_words=64, p_words=words),
        network=NetworkConfig(),
        post=PostConfig(),
        program=ProgramConfig(),
        prefetch=PrefetchConfig() if links else None,
        links=links,
    )


CONFIGS = {
    "4_lanes_planes1": chip(4, 32, 1, 11),
    "8_lanes_planes2_psum20": chip(8, 20, 2, 16),
    "4_lanes_planes4": chip(4, 32, 4, 2),
    "1_lane_planes1_psum17": chip(1, 17, 1, 5),
    "4_lanes_planes2_links": chip(4, 32, 2, 11, LinksConfig(flit_bits=64)),
}


@functools.cache
def bench_of(key: str) -> BlockBench:
    config = CONFIGS[key]
    psum, cols, planes = config.array.psum_width, config.array.cols, config.memory.p_planes
    shapes = {
        "write_valid": (1, planes, False),
        "write_accumulate": (1, planes, False),
        "write_address": (bits_for_index(config.memory.p_words), planes, False),
        "write_data": (psum, planes * cols, True),
        "read_data": (psum, cols, True),
        "host_data": (psum, cols, True),
    }
    return BlockBench.of(PBank(config), shapes, random_initial_state=True)


def random_stimulus(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    """Anything at all, from idle to all planes at once; often the same row several times in a row, written and read."""
    config = CONFIGS[key]
    psum, cols, planes, words = config.array.psum_width, config.array.cols, config.memory.p_planes, config.memory.p_words
    half = 1 << (psum - 1)
    rate = rng.choice([0.1, 0.4, 1.0], (3, cycles // 50 + 1)).repeat(50, axis=1)[:, :cycles]
    address = rng.integers(0, words, (cycles, planes))
    again = rng.random(cycles) < rng.choice([0.1, 0.8], cycles // 50 + 1).repeat(50)[:cycles]
    for cycle in range(1, cycles):
        if again[cycle]:
            address[cycle] = address[cycle - 1, rng.integers(planes)]
    read_address = np.where(rng.random(cycles) < 0.4, address[:, 0], rng.integers(0, words, cycles))
    links: Stimulus = {"host_accumulate": rng.random(cycles) < 0.6} if config.links else {}
    # With links the host is as busy as the network, and as often at the same row.
    host_rate = 0.7 if links else 0.1
    host_address = np.where(rng.random(cycles) < 0.5 * len(links), address[:, 0], rng.integers(0, words, cycles))
    return {
        **links,
        "write_valid": rng.random((cycles, planes)) < rate[0][:, None] * rng.choice([1, 1 / planes]),
        "write_accumulate": rng.random((cycles, planes)) < rng.choice([0.2, 0.6, 0.95]),
        "write_address": address,
        "write_data": rng.integers(-half, half, (cycles, planes * cols)),
        "read_enable": rng.random(cycles) < rate[1],
        "read_address": read_address,
        "host_write": rng.random(cycles) < host_rate * rate[2],
        "host_address": host_address,
        "host_data": rng.integers(-half, half, (cycles, cols)),
    }


def expected(key: str, stimulus: Stimulus) -> dict[str, PortTrace]:
    config = CONFIGS[key]
    return model.p_bank(words=config.memory.p_words, psum_width=config.array.psum_width, **stimulus)


@pytest.mark.parametrize("key", fast_of(CONFIGS, "4_lanes_planes2_links", "8_lanes_planes2_psum20", "1_lane_planes1_psum17"))
def test_lockstep(key: str) -> None:
    bench, seen, reads = bench_of(key), set(), 0
    for seed in range(4):
        stimulus = random_stimulus(np.random.default_rng([seed, len(key)]), key)
        traces = expected(key, stimulus)
        bench.check(traces, bench.run(stimulus, seed=seed))
        reads += int(traces["read_data"].known[:, 0].sum())
        seen |= {name for name, trace in traces.items() if trace.value.any()}
    assert reads > 500
    assert seen == set(OUTPUTS) - ({"conflict"} if CONFIGS[key].memory.p_planes == 1 else set())


def idle(key: str, cycles: int) -> Stimulus:
    return {name: np.zeros_like(values) for name, values in random_stimulus(np.random.default_rng(0), key, cycles).items()}


def read_at(stimulus: Stimulus, cycle: int, address: int) -> None:
    stimulus["read_enable"][cycle], stimulus["read_address"][cycle] = 1, address


def test_accumulates_the_same_row_in_successive_cycles() -> None:
    """The contract itself, without the model; sums wrap at 20 bits."""
    key = "8_lanes_planes2_psum20"
    stimulus = idle(key, 30)
    rows = np.random.default_rng(3).integers(-(1 << 19), 1 << 19, (8, 8))
    # Store, then add six rows without a gap, by planes in turn; another row in between the last two.
    for cycle in range(7):
        plane = cycle % 2
        stimulus["write_valid"][2 + cycle, plane], stimulus["write_accumulate"][2 + cycle, plane] = 1, cycle > 0
        stimulus["write_address"][2 + cycle, plane] = 9
        stimulus["write_data"][2 + cycle, 8 * plane : 8 * plane + 8] = rows[cycle]
    stimulus["host_write"][12], stimulus["host_address"][12], stimulus["host_data"][12] = 1, 4, rows[7]
    read_at(stimulus, 10, 9)
    read_at(stimulus, 14, 4)
    observed = bench_of(key).run(stimulus)
    total = (rows[:7].sum(axis=0) + (1 << 19)) % (1 << 20) - (1 << 19)
    assert observed["read_data"][11].tolist() == total.tolist()
    assert observed["read_data"][15].tolist() == rows[7].tolist()
    assert np.flatnonzero(observed["stores"]).tolist() == [2]
    assert np.flatnonzero(observed["accumulates"]).tolist() == [3, 4, 5, 6, 7, 8]
    assert not (observed["conflict"] | observed["busy_conflict"] | observed["hazard"]).any()


def test_the_host_adds_as_the_network_does() -> None:
    """Store, then sums without a gap from the host and the network in turn; where both come, the host gives way."""
    key = "4_lanes_planes2_links"
    stimulus = idle(key, 30)
    values = [100, 1, 20, 3000, 7]
    for cycle, value in enumerate(values):
        stimulus["host_write"][2 + cycle], stimulus["host_accumulate"][2 + cycle] = 1, cycle > 0
        stimulus["host_address"][2 + cycle], stimulus["host_data"][2 + cycle] = 9, value
    stimulus["write_valid"][[5, 7], 1] = stimulus["write_accumulate"][[5, 7], 1] = 1
    stimulus["write_address"][[5, 7], 1], stimulus["write_data"][[5, 7], 4:8] = 9, [[50000], [600000]]
    read_at(stimulus, 6, 9)
    read_at(stimulus, 8, 9)
    read_at(stimulus, 9, 9)
    observed = bench_of(key).run(stimulus)
    assert observed["read_data"][10].tolist() == [100 + 1 + 20 + 50000 + 7 + 600000] * 4
    assert np.flatnonzero(observed["accumulates"]).tolist() == [5, 7]
    assert np.flatnonzero(observed["busy_conflict"]).tolist() == [6]
    assert np.flatnonzero(observed["hazard"]).tolist() == [6, 8]
    assert not observed["stores"].any()


def test_what_a_read_meets() -> None:
    key = "4_lanes_planes4"
    stimulus = idle(key, 30)
    for cycle, value, accumulate in ((3, 100, 0), (6, 7, 1), (10, 50, 0), (11, 60, 0)):
        stimulus["write_valid"][cycle, 2], stimulus["write_accumulate"][cycle, 2] = 1, accumulate
        stimulus["write_data"][cycle, 8:12] = value
    stimulus["write_valid"][11, 3] = 1
    # Reads of the sum: with the word to be added, in the cycle of the SRAM's write, and after it; of the stored words likewise.
    for cycle in (6, 7, 8, 10, 11, 13):
        read_at(stimulus, cycle, 0)
    observed = bench_of(key).run(stimulus)
    assert observed["read_data"][[9, 11, 14], 0].tolist() == [107, 107, 60]
    assert np.flatnonzero(observed["busy_conflict"]).tolist() == [6]
    assert np.flatnonzero(observed["hazard"]).tolist() == [7, 11]
    assert np.flatnonzero(observed["conflict"]).tolist() == [11]


def test_reset_in_mid_run_changes_nothing() -> None:
    key = "8_lanes_planes2_psum20"
    stimulus = random_stimulus(np.random.default_rng(5), key)
    # Rows keep their content through a reset: words that are first added in the run must be unknown to the model as well.
    for seed, cycle in enumerate((1, 2, 333)):
        bench_of(key).check(expected(key, stimulus), bench_of(key).run(stimulus, seed=seed, reset_at=cycle))


OUTPUTS = ("read_data", "stores", "accumulates", "conflict", "busy_conflict", "hazard")


@functools.cache
def observed_run() -> tuple[dict, dict]:
    key = "8_lanes_planes2_psum20"
    stimulus = random_stimulus(np.random.default_rng(21), key)
    return bench_of(key).run(stimulus), expected(key, stimulus)


def test_every_output_is_checked() -> None:
    assert sorted(OUTPUTS) == sorted(port.name for port in bench_of("8_lanes_planes2_psum20").outputs)


@pytest.mark.parametrize("port", OUTPUTS)
def test_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    observed, traces = observed_run()
    values, known = observed[port].copy(), traces[port].known
    cycle = int(np.flatnonzero(known.reshape(CYCLES, -1).all(axis=1) & (np.arange(CYCLES) > 1000))[0])
    at = (cycle, values.shape[1] - 1) if values.ndim == 2 else (cycle,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"at cycle {cycle}, port {port}{lane}: expected"):
        bench_of("8_lanes_planes2_psum20").check(traces, {**observed, port: values})
