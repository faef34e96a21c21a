"""Banks of activations and weights in lockstep with their cycle models: every output port, every cycle."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip import banks as model
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.node.read_bank import ReadBank
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
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of

CYCLES = 1500
Stimulus = dict[str, NDArray]


def chip(rows: int, cols: int, words: int, parts: int = 1, **planes: int) -> ChipConfig:
    return ChipConfig(
        name="banks",
        pods=4,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols)),
        memory=MemoryConfig(banks=4, x_words=words, x_parts=parts, w_words=max(words, rows), p_words=words, **planes),
        network=NetworkConfig(),
        post=PostConfig(),
        program=ProgramConfig(),
        prefetch=PrefetchConfig(),
    )


CONFIGS = {
    "x_4x4_planes1_1": ("x", chip(4, 4, 13, w_planes=2)),
    "x_8x4_planes2_2": ("x", chip(8, 4, 16, x_planes=2, y_planes=2)),
    "x_4x8_planes4_2": ("x", chip(4, 8, 13, x_planes=4, y_planes=2)),
    "x_3x1_planes1_4": ("x", chip(3, 1, 2, y_planes=4)),
    "x_8x4_planes2_2_parts4": ("x", chip(8, 4, 16, 4, x_planes=2, y_planes=2)),
    "x_4x4_planes1_1_parts2": ("x", chip(4, 4, 4, 2)),
    "w_4x8_planes1": ("w", chip(4, 8, 10, x_planes=2, y_planes=2)),
    "w_4x4_planes4": ("w", chip(4, 4, 10, w_planes=4)),
}

FAST = ("x_3x1_planes1_4", "x_8x4_planes2_2_parts4", "w_4x8_planes1")
"""One wide, of several planes and parts, only read."""


CAMPAIGN = {
    "x_4x8_planes4_2_parts8": ("x", chip(4, 8, 64, 8, x_planes=4, y_planes=2)),
    "x_8x4_planes1_1_parts4": ("x", chip(8, 4, 8, 4)),
    "x_8x2_planes1_2_parts2": ("x", chip(8, 2, 128, 2, y_planes=2)),
}


def sizes(key: str) -> tuple[int, int, int, int, int]:
    """Words, lanes of a word, slots, and planes that read and that write."""
    kind, config = (CONFIGS | CAMPAIGN)[key]
    memory, array = config.memory, config.array
    if kind == "w":
        return memory.w_words, array.cols, 1, memory.w_planes, 0
    return memory.x_words, array.rows, array.rows // config.post_lanes, memory.x_planes, memory.y_planes


def parts_of(key: str) -> int:
    kind, config = (CONFIGS | CAMPAIGN)[key]
    return config.memory.x_parts if kind == "x" else 1


@functools.cache
def bench_of(key: str, alter: Callable[[str], str] = str) -> BlockBench:
    kind, config = (CONFIGS | CAMPAIGN)[key]
    words, lanes, slots, planes, writers = sizes(key)
    shapes = {
        "read_valid": (1, planes, False),
        "read_address": (bits_for_index(words), planes, False),
        "data": (8, lanes, True),
        "host_data": (8, lanes, True),
    }
    if parts_of(key) > 1:
        shapes["host_word"] = (8, lanes, True)
    if kind == "x":
        shapes |= {
            "write_valid": (1, writers, False),
            "write_slot": (bits_for_index(slots), writers, False),
            "write_address": (bits_for_index(words), writers, False),
            "write_data": (8, writers * (lanes // slots), True),
        }
    return BlockBench.of(ReadBank(config, kind), shapes, random_initial_state=True, alter=alter)


def random_stimulus(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    """Anything at all, from idle to all planes at once; addresses are few, so that they often meet."""
    words, lanes, slots, planes, writers = sizes(key)
    rate = rng.choice([0.1, 0.4, 0.9], (2, cycles // 100 + 1)).repeat(100, axis=1)[:, :cycles, None]
    few = rng.choice([2, words], (cycles, 1))
    stimulus: Stimulus = {
        "read_valid": rng.random((cycles, planes)) < rate[0],
        "read_address": rng.integers(0, few, (cycles, planes)),
        "host_read": rng.random(cycles) < 0.1,
        "host_write": rng.random(cycles) < 0.2,
        "host_address": rng.integers(0, words, cycles),
        "host_data": rng.integers(-128, 128, (cycles, lanes)),
    }
    # In half of the cycles all planes that ask want the same word.
    same = rng.random(cycles) < 0.5
    stimulus["read_address"][same] = stimulus["read_address"][same, :1]
    if (CONFIGS | CAMPAIGN)[key][0] == "x":
        stimulus |= {
            "write_valid": rng.random((cycles, writers)) < rate[1],
            "write_slot": rng.integers(0, 1 << bits_for_index(slots), (cycles, writers))
            if slots > 1
            else np.zeros((cycles, writers), int),
            "write_address": rng.integers(0, few, (cycles, writers)),
            "write_data": rng.integers(-128, 128, (cycles, writers * (lanes // slots))),
        }
    return stimulus


def expected(key: str, stimulus: Stimulus) -> dict[str, PortTrace]:
    words, _, slots, _, _ = sizes(key)
    if (CONFIGS | CAMPAIGN)[key][0] == "w":
        return model.read_bank(words=words, **stimulus)
    return model.written_bank(words=words, slots=slots, parts=parts_of(key), **stimulus)


@pytest.mark.parametrize("key", [*fast_of(CONFIGS, *FAST), *(pytest.param(key, marks=pytest.mark.campaign) for key in CAMPAIGN)])
def test_lockstep(key: str) -> None:
    bench, seen = bench_of(key), set()
    for seed in range(2):
        stimulus = random_stimulus(np.random.default_rng([seed, len(key)]), key)
        traces = expected(key, stimulus)
        compared = bench.check(traces, bench.run(stimulus, seed=seed))
        assert compared > CYCLES * sizes(key)[1] // 2
        seen |= {name for name, trace in traces.items() if name not in ("data", "host_word") and trace.value.any()}
    possible = {"reads", "conflict", *(("writes", "hazard") if key[0] == "x" else ())}
    alone = max(sizes(key)[3:]) == 1 and parts_of(key) == 1
    assert seen == possible - ({"conflict"} if alone else set())


def idle(key: str, cycles: int) -> Stimulus:
    return {name: np.zeros_like(values) for name, values in random_stimulus(np.random.default_rng(0), key, cycles).items()}


def test_slots_are_written_separately_and_read_one_cycle_later() -> None:
    """The contract itself, without the model: 8 lanes in 2 slots, written by two planes, read by the other two."""
    key = "x_8x4_planes2_2"
    stimulus = idle(key, 20)
    stimulus["host_write"][1], stimulus["host_address"][1], stimulus["host_data"][1] = 1, 5, range(10, 18)
    for cycle, plane, slot, first in ((3, 0, 1, 20), (4, 1, 0, 30)):
        stimulus["write_valid"][cycle, plane] = 1
        stimulus["write_slot"][cycle, plane] = slot
        stimulus["write_address"][cycle, plane] = 5
        stimulus["write_data"][cycle, 4 * plane : 4 * plane + 4] = range(first, first + 4)
    for cycle in (2, 4, 5):
        stimulus["read_valid"][cycle, cycle % 2] = 1
        stimulus["read_address"][cycle] = 5
    stimulus["host_read"][9], stimulus["host_address"][9] = 1, 5
    observed = bench_of(key).run(stimulus)
    assert observed["data"][3].tolist() == [10, 11, 12, 13, 14, 15, 16, 17]
    assert observed["data"][5, 4:].tolist() == [20, 21, 22, 23]
    for cycle in (6, 9, 10, 19):
        assert observed["data"][cycle].tolist() == [30, 31, 32, 33, 20, 21, 22, 23]
    assert np.flatnonzero(observed["reads"]).tolist() == [2, 4, 5]
    assert np.flatnonzero(observed["writes"]).tolist() == [3, 4]
    assert np.flatnonzero(observed["hazard"]).tolist() == [4]
    assert not observed["conflict"].any()


def test_conflicts() -> None:
    """Planes may read the same word together; another word, or a second write, is a conflict, and the lowest plane is served."""
    key = "x_4x8_planes4_2"
    stimulus = idle(key, 20)
    for cycle in range(4):
        stimulus["host_write"][cycle], stimulus["host_address"][cycle], stimulus["host_data"][cycle] = 1, cycle, cycle
    stimulus["read_valid"][6:9] = [[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]]
    stimulus["read_address"][6:9] = [[0, 2, 3, 2], [0, 1, 3, 2], [3, 2, 1, 0]]
    stimulus["write_valid"][10:12] = [[1, 1], [0, 1]]
    stimulus["write_data"][10] = [50, 50, 50, 50, 60, 60, 60, 60]
    stimulus["read_valid"][12, 2] = 1
    stimulus["write_address"][11] = 1
    observed = bench_of(key).run(stimulus)
    assert observed["data"][[7, 8, 9, 13], 0].tolist() == [2, 1, 3, 50]
    assert np.flatnonzero(observed["conflict"]).tolist() == [7, 10]
    assert not observed["hazard"].any()


def test_network_and_host_in_different_parts() -> None:
    """The contract itself: the network reads and writes in parts 0 and 1 of 4 words while the host does in parts 2 and 3, and both
    get what they asked for; in one part they are in conflict, if in the same way."""
    key = "x_8x4_planes2_2_parts4"
    stimulus = idle(key, 24)
    for cycle, word in enumerate((1, 5, 9, 13)):
        stimulus["host_write"][cycle], stimulus["host_address"][cycle], stimulus["host_data"][cycle] = 1, word, word
    # Together, of different parts: both read, both write.
    for cycle in (6, 12, 14):
        stimulus["read_valid"][cycle, 0], stimulus["read_address"][cycle, 0] = 1, 1
    for cycle in (8, 13, 16):
        stimulus["write_valid"][cycle, 1], stimulus["write_address"][cycle, 1] = 1, 5
        stimulus["write_data"][cycle, 4:] = 50 + cycle
    for cycle, word in ((6, 9), (8, 13), (12, 5), (13, 4), (14, 2), (16, 6), (18, 14)):
        stimulus["host_read" if cycle in (6, 12, 14, 18) else "host_write"][cycle] = 1
        stimulus["host_address"][cycle], stimulus["host_data"][cycle] = word, 100 + cycle
    stimulus["host_write"][17], stimulus["host_address"][17], stimulus["host_data"][17] = 1, 14, 77
    stimulus["read_valid"][20, 0], stimulus["read_address"][20, 0] = 1, 13
    observed = bench_of(key).run(stimulus)
    assert (observed["data"][7, 0], observed["host_word"][7, 0]) == (1, 9)
    assert (observed["data"][13, 0], observed["host_word"][13, 0]) == (1, 58)
    assert observed["data"][21].tolist() == [108] * 8
    assert observed["host_word"][19].tolist() == [77] * 8
    assert np.flatnonzero(observed["conflict"]).tolist() == [13, 14, 16]


PLANTED = {
    "what the host reads comes from the part of the network": (r"if \(host_read\) (host_word_part)", r"if (read_valid) \1"),
    "what the network reads comes from the part of the host": (r"if \(read_valid\) (data_part)", r"if (host_read) \1"),
    "conflicts of writes are forgotten": (r"(assign part_conflict = \w+) \| \w+;", r"\1;"),
    "the host gives way in other parts": (r"(part_1_served\[3\] = host_write) &", r"\1 & ~write_valid &"),
}


@pytest.mark.campaign
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen(fault: str) -> None:
    key = "x_4x4_planes1_1_parts2"

    def plant(verilog: str) -> str:
        changed, count = re.subn(*PLANTED[fault], verilog)
        assert count == 1
        return changed

    stimulus = random_stimulus(np.random.default_rng(3), key)
    faulty = bench_of(key, plant)
    with pytest.raises(LockstepError):
        faulty.check(expected(key, stimulus), faulty.run(stimulus))


def test_reset_in_mid_run_changes_nothing() -> None:
    key = "x_8x4_planes2_2"
    stimulus = random_stimulus(np.random.default_rng(5), key)
    for seed, cycle in enumerate((1, 333)):
        bench_of(key).check(expected(key, stimulus), bench_of(key).run(stimulus, seed=seed, reset_at=cycle))


OUTPUTS = {
    "x_8x4_planes2_2": ("data", "reads", "writes", "conflict", "hazard"),
    "x_8x4_planes2_2_parts4": ("data", "reads", "writes", "conflict", "hazard", "host_word"),
    "w_4x4_planes4": ("data", "reads", "conflict"),
}


@functools.cache
def run_of(key: str) -> tuple[dict, dict]:
    stimulus = random_stimulus(np.random.default_rng(21), key)
    return bench_of(key).run(stimulus), expected(key, stimulus)


@pytest.mark.parametrize("key", OUTPUTS)
def test_every_output_is_checked(key: str) -> None:
    assert sorted(OUTPUTS[key]) == sorted(port.name for port in bench_of(key).outputs)


@pytest.mark.parametrize(("key", "port"), [(key, port) for key, ports in OUTPUTS.items() for port in ports])
def test_checker_sees_one_flipped_bit_of_every_port(key: str, port: str) -> None:
    observed, traces = run_of(key)
    values, known = observed[port].copy(), traces[port].known
    cycle = int(np.flatnonzero(known.reshape(CYCLES, -1).all(axis=1) & (np.arange(CYCLES) > 1000))[0])
    at = (cycle, values.shape[1] - 1) if values.ndim == 2 else (cycle,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"at cycle {cycle}, port {port}{lane}: expected"):
        bench_of(key).check(traces, {**observed, port: values})
