"""Whole chips in RTL: hand-written programs with known results, exact cycles, counters, and errors that say where."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import numpy as np
import pytest

from podweave.compiler.jobs import with_single_tiles
from podweave.golden.layers.post import post_process
from podweave.rtl.chip.sequencer import Sequencer
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import FILL_CYCLES, PLANES, PrefetchConfig
from podweave.spec.jobs import Accumulate, Emit
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.chip_task import ChipRun, Readback, SimpleEpoch

CHIP2 = load_config("chip2x4")
CONFIGS: dict[str, ChipConfig] = {
    "2x4": CHIP2,
    "4x(4x8), 2 planes": CHIP2.replace(
        **dict.fromkeys(PLANES, 2), pods=4, banks=4, cols=8, group_cols=2, psum_width=27, queue_depth=3, load_jobs=100
    ),
    "4x(8x4), 2 planes of X and Y, crossbar": CHIP2.replace(
        pods=4, banks=4, x_planes=2, y_planes=2, rows=8, kind="crossbar", accumulator_rows=0
    ),
    # Networks of two layers, and two levels of registers for the host.
    "32x(1x1)": CHIP2.replace(pods=32, banks=32, rows=1, cols=1, group_rows=1, group_cols=1, pipeline=2, w_words=32),
    "4x(4x4), 2 managers": dataclasses.replace(CHIP2.replace(pods=4, banks=4), prefetch=PrefetchConfig(managers=2, data_width=64)),
    "2x4, 256 bits": dataclasses.replace(CHIP2, prefetch=PrefetchConfig(data_width=256)),
}
FAST = ("2x4", "4x(8x4), 2 planes of X and Y, crossbar")
"""All others are of the campaign."""
WORDS = 24


@functools.cache
def bench(name: str, plain: bool = False) -> ChipBench:
    return ChipBench.of(CONFIGS[name], plain=plain, checking=True, optimize="build", random_initial_state=True)


def jobs(key: str, units: np.ndarray, **fields: int | np.ndarray) -> dict[str, np.ndarray]:
    """A table of jobs, one per unit; numbers stand for all units."""
    return {key: units} | {name: np.broadcast_to(value, len(units)).astype(np.int64) for name, value in fields.items()}


class Exchange:
    """Pod i multiplies the words of X bank i ^ across by the weights of W bank i, into P bank i ^ across; the post-processor of
    bank b sends the outputs to X bank b ^ back."""

    across, back = 1, 1

    def __init__(self, config: ChipConfig):
        self.config = config
        array, count, memory = config.array, config.pods, config.memory
        rng = np.random.default_rng(count)
        pods = np.arange(count)
        self.x = rng.integers(-128, 128, (count, WORDS, array.rows)).astype(np.int8)
        self.w = rng.integers(-128, 128, (count, array.rows, array.cols)).astype(np.int8)
        self.bias = rng.integers(-5000, 5000, (count, array.cols)).astype(np.int32)
        self.multiplier = rng.integers(1 << 14, 1 << 16, (count, array.cols))
        self.shift = rng.integers(22, 25, (count, array.cols))
        self.table = rng.integers(-128, 128, 256).astype(np.int8)
        loads = jobs("pod", pods, start=0, rows=array.rows, w_bank=pods, w_plane=pods % memory.w_planes, w_base=3, w_step=1)
        loads = with_single_tiles(loads)
        streams = jobs(
            "pod",
            pods,
            **{"start": array.rows, "swap": 1, "n0": 4, "n1": WORDS // 4, "n2": 1},
            **{"x_bank": pods ^ self.across, "x_plane": memory.x_planes - 1, "x_base": 5, "x_step0": 1, "x_step1": 1, "x_step2": 0},
            **{"accumulate": Accumulate.BYPASS, "accumulator_base": 0, "emit": Emit.STORE},
            **{"p_bank": pods ^ self.across, "p_plane": 0, "p_base": 2, "p_step0": 1, "p_step1": 1, "p_step2": 0},
        )
        streams = with_single_tiles(streams)
        # The first word is in the SRAM two cycles after it is at the bank.
        self.post_start = array.rows + config.write_latency + config.network_latency + 2
        self.slices, self.slots = array.cols // config.post_lanes, array.rows // config.post_lanes
        self.slice, self.slot = self.slices - 1, self.slots - 1
        posts = jobs(
            "bank",
            pods,
            **{
                "start": self.post_start,
                "n0": 1,
                "n1": 1,
                "n2": WORDS,
                "n3": 1,
                "reduce": 0,
                "parameters": 1,
                "activate": 1,
                "table": 1,
            },
            **{"p_base": 2, "p_step0": 0, "p_step1": 0, "p_step2": 1, "p_step3": 0, "slice": self.slice, "slot": self.slot},
            **{"x_bank": pods ^ self.back, "x_plane": memory.y_planes - 1, "x_base": 100, "x_step2": 1, "x_step3": 0},
        )
        self.epoch = SimpleEpoch(
            loads,
            streams,
            posts,
            x_image=[(int(bank), 5, self.x[bank]) for bank in pods],
            w_image=[(int(bank), 3, self.w[bank]) for bank in pods],
            parameters=[(int(bank), 1, np.stack([self.bias[bank], self.multiplier[bank], self.shift[bank]])) for bank in pods],
            tables=[(1, self.table)],
        )
        self.readback = [Readback("P", int(bank), 2, WORDS) for bank in pods] + [
            Readback("X", int(bank), 100, WORDS) for bank in pods
        ]

    @property
    def cycles(self) -> int:
        last_output = self.post_start + (WORDS - 1) * self.config.post_beats + self.config.post_latency
        return last_output + self.config.epoch_overhead

    def check(self, run: ChipRun, epoch: int = 0) -> None:
        result, count, lanes = run.epochs[epoch], self.config.pods, self.config.post_lanes
        assert result.errors == []
        assert result.finished
        assert result.cycles == self.cycles
        for bank in range(count):
            pod = bank ^ self.across
            sums = (self.x[bank].astype(np.int64) @ self.w[pod].astype(np.int64)).astype(np.int32)
            np.testing.assert_array_equal(result.readback[bank], sums)
            outputs = post_process(sums, self.bias[bank], self.multiplier[bank], self.shift[bank], self.table)
            sent = outputs[:, self.slice * lanes : (self.slice + 1) * lanes]
            got = result.readback[count + (bank ^ self.back)]
            np.testing.assert_array_equal(got[:, self.slot * lanes : (self.slot + 1) * lanes], sent)
        rows = self.config.array.rows
        expected = {
            **dict.fromkeys(("x_words", "busy", "p_words", "x_reads", "x_writes", "p_stores", "post_words"), WORDS),
            **{"w_words": rows, "w_reads": rows, "p_accumulates": 0, "waiting": rows + 1},
        }
        assert {name: set(values.tolist()) for name, values in result.counters.items()} == {k: {v} for k, v in expected.items()}


@pytest.mark.parametrize("through", ["backdoor", "port"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.campaign] * (name not in FAST)) for name in CONFIGS])
def test_every_pod_and_every_network_at_once(name: str, through: str) -> None:
    exchange = Exchange(CONFIGS[name])
    run = bench(name).run([exchange.epoch] * 2, limits=[1000] * 2, readback=[exchange.readback] * 2, through=through, seed=3)
    assert len(run.epochs) == 2
    exchange.check(run, 0)
    exchange.check(run, 1)


def test_weights_are_read_back_through_the_port() -> None:
    exchange = Exchange(CHIP2)
    rows, banks = CHIP2.array.rows, range(CHIP2.pods)
    readback = [Readback(kind, bank, 3, rows) for bank in banks for kind in ("W", "X")]
    (result,) = bench("2x4").run([exchange.epoch], limits=[1000], readback=[readback], through="port").epochs
    assert result.errors == []
    for bank in banks:
        np.testing.assert_array_equal(result.readback[2 * bank], exchange.w[bank])
        # Of the X bank, two words that nobody wrote, and then the first ones.
        np.testing.assert_array_equal(result.readback[2 * bank + 1][2:], exchange.x[bank][: rows - 2])


def test_planes_keep_words_apart_that_would_meet() -> None:
    """Pods 0 and 1 read banks 0 and 2, and pods 2 and 3 banks 1 and 3, over one wire behind stage 0: each pair on two planes."""
    exchange = Exchange(CONFIGS["4x(4x8), 2 planes"])
    bank = np.array([0, 2, 1, 3])
    crossed = {"loads": {"w_bank": bank, "w_plane": bank // 2}, "streams": {"x_bank": bank, "x_plane": 1 - bank // 2}}
    tables: dict[str, Any] = {name: getattr(exchange.epoch, name) | fields for name, fields in crossed.items()}
    epoch = dataclasses.replace(exchange.epoch, posts={}, **tables)
    sums = [exchange.x[b].astype(np.int64) @ exchange.w[b].astype(np.int64) for b in bank]
    readback = [*exchange.readback, *(Readback("W", pod, 3, exchange.config.array.rows) for pod in range(4))]
    run = bench("4x(4x8), 2 planes").run([epoch], limits=[1000], readback=[readback], through="port")
    assert run.epochs[0].errors == []
    for pod in range(4):
        np.testing.assert_array_equal(run.epochs[0].readback[pod ^ exchange.across], sums[pod])
        np.testing.assert_array_equal(run.epochs[0].readback[len(exchange.readback) + pod], exchange.w[pod])
    together = dataclasses.replace(epoch, streams=epoch.streams | {"x_plane": np.zeros(4, np.int64)})
    run = bench("4x(4x8), 2 planes").run([together], limits=[1000])
    assert "network X, plane 0: two words met at stage 0, port 0" in run.epochs[0].errors


@pytest.mark.parametrize("name", ["2x4", pytest.param("4x(4x8), 2 planes", marks=pytest.mark.more)])
def test_plain_verilator_gives_the_same(name: str) -> None:
    exchange = Exchange(CONFIGS[name])
    for through in ("backdoor", "port"):
        exchange.check(bench(name, True).run([exchange.epoch], limits=[1000], readback=[exchange.readback], through=through))


def test_epoch_without_jobs_takes_what_the_network_needs_to_drain() -> None:
    config = CHIP2
    run = bench("2x4").run([SimpleEpoch()], limits=[1000])
    assert run.epochs[0].cycles == config.network_latency + 3
    assert not any(values.any() for values in run.epochs[0].counters.values())


def test_two_pods_accumulate_into_one_bank() -> None:
    config = CHIP2
    exchange = Exchange(config)
    epoch = dataclasses.replace(exchange.epoch, posts={})
    # Both read X bank 0 together, which the network merges; the second adds when the first has stored.
    streams = {name: values.copy() for name, values in epoch.streams.items()}
    streams["x_bank"][:] = streams["p_bank"][:] = 0
    streams["start"][1] += WORDS
    streams["emit"][1] = Emit.ACCUMULATE
    run = bench("2x4").run([dataclasses.replace(epoch, streams=streams)], limits=[1000], readback=[[Readback("P", 0, 2, WORDS)]])
    result = run.epochs[0]
    assert result.errors == []
    sums = exchange.x[0].astype(np.int64) @ exchange.w.astype(np.int64).sum(axis=0)
    np.testing.assert_array_equal(result.readback[0], sums)
    assert result.counters["p_stores"].tolist() == result.counters["p_accumulates"].tolist() == [WORDS, 0]
    # Time -1 belongs to the epoch; the second pod waits for the first.
    assert result.counters["waiting"].tolist() == [config.array.rows + 1, config.array.rows + 1 + WORDS]
    last_write = int(streams["start"][1]) + WORDS - 1 + config.write_latency
    assert result.cycles == last_write + config.epoch_overhead


def test_equal_requests_merge_and_count_once() -> None:
    exchange = Exchange(CHIP2)
    streams = exchange.epoch.streams | {"x_bank": np.zeros(2, np.int64)}
    run = bench("2x4").run([dataclasses.replace(exchange.epoch, streams=streams, posts={})], limits=[1000])
    assert run.epochs[0].errors == []
    assert run.epochs[0].counters["x_words"].tolist() == [WORDS, WORDS]
    assert run.epochs[0].counters["x_reads"].tolist() == [WORDS, 0]


def changed(exchange: Exchange, table: str, **fields: list[int]) -> SimpleEpoch:
    old = getattr(exchange.epoch, table)
    return dataclasses.replace(exchange.epoch, **{table: old | {name: np.array(values) for name, values in fields.items()}})


@pytest.mark.parametrize(
    ("name", "table", "fields", "words"),
    [
        ("2x4", "loads", {"start": [0, 3], "rows": [4, 4]}, "pod 1, time 4: weights_not_loaded"),
        ("2x4", "streams", {"p_base": [240, 2]}, "pod 0, time 21: p_address"),
        ("2x4", "streams", {"p_bank": [1, 1]}, "network P, plane 0: two words met at stage 0, port 1"),
        ("2x4", "streams", {"x_bank": [1, 1], "x_base": [5, 6]}, "network X, plane 0: two words met at stage 0, port 1"),
        ("2x4", "posts", {"start": [5, 5], "n2": [0, WORDS]}, "post-processor 0, time 5: illegal"),
        ("2x4", "posts", {"x_bank": [0, 0]}, "network Y, plane 0: two words met at stage 0, port 0"),
        ("2x4", "posts", {"x_base": [10, 100], "start": [3, 100], "n2": [4, 4]}, "bank 1: x_hazard"),
        ("4x(4x8), 2 planes", "streams", {"p_bank": [1, 1, 3, 2], "p_plane": [0, 1, 0, 0]}, "bank 1: p_conflict"),
    ],
)
def test_errors_say_what_and_where(name: str, table: str, fields: dict[str, list[int]], words: str) -> None:
    exchange = Exchange(CONFIGS[name])
    run = bench(name).run([changed(exchange, table, **fields), exchange.epoch], limits=[1000] * 2)
    assert len(run.epochs) == 1
    assert words in run.epochs[0].errors
    assert run.epochs[0].finished


def test_hardware_that_never_ends_is_given_up() -> None:
    exchange = Exchange(CHIP2)
    run = bench("2x4").run([changed(exchange, "streams", start=[4, 100000])], limits=[500])
    assert not run.epochs[0].finished
    (error,) = run.epochs[0].errors
    assert re.fullmatch(r"still busy after [45]\d\d cycles", error)


def test_jobs_out_of_order_and_too_many_are_refused() -> None:
    exchange = Exchange(CHIP2)
    swapped = {name: values[::-1] for name, values in exchange.epoch.loads.items()}
    with pytest.raises(Exception, match="load_job: jobs are not sorted by pod"):
        bench("2x4").run([dataclasses.replace(exchange.epoch, loads=swapped)], limits=[100])
    many = {name: np.repeat(values, 300) for name, values in exchange.epoch.loads.items()}
    with pytest.raises(Exception, match="load_job: 300 jobs of pod 0 are more than its store of 256"):
        bench("2x4").run([dataclasses.replace(exchange.epoch, loads=many)], limits=[100])
    with pytest.raises(ValueError, match="through must be backdoor or port, got 'door'"):
        bench("2x4").run([exchange.epoch], limits=[100], through="door")


DRAIN = 3


@functools.cache
def sequencer() -> BlockBench:
    return BlockBench.of(Sequencer(DRAIN), {}, random_initial_state=True)


def sequence(cycles: int, **inputs: dict[int, int]) -> dict[str, np.ndarray]:
    stimulus = {port.name: np.zeros(cycles, np.int64) for port in sequencer().inputs}
    for name, changes in inputs.items():
        for at, value in changes.items():
            stimulus[name][at:] = value
    return sequencer().run(stimulus)


def spans(level: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) cycle of each stretch of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level, [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def test_sequencer_runs_epochs_one_after_the_other() -> None:
    first_run = 3 + FILL_CYCLES
    first_end = 30 + DRAIN + 1
    second_run = first_end + 1 + FILL_CYCLES
    observed = sequence(
        120,
        start={2: 1, 3: 0, 40: 1, 41: 0},
        epochs={0: 2, 40: 7},
        node_busy={4: 1, 31: 0, 36: 1, second_run - 1: 0},
    )
    assert spans(observed["clear"]) == [(2, 2)]
    assert spans(observed["fill"]) == [(3, 3), (first_end + 1, first_end + 1)]
    second_end = second_run + DRAIN
    assert spans(observed["run"]) == [(first_run, first_end), (second_run, second_end)]
    assert spans(observed["busy"]) == [(3, second_end)]
    assert observed["cycles"][first_end + 1] == first_end - first_run + 1
    assert observed["cycles"][-1] == second_end - second_run + 1 == DRAIN + 1
    assert observed["total_cycles"][-1] == observed["cycles"][-1] + first_end - first_run + 1
    assert observed["done"][-1] == 2


def test_sequencer_stops_at_an_error_and_ignores_no_epochs() -> None:
    observed = sequence(80, start={2: 1, 3: 0, 60: 1, 61: 0}, epochs={0: 5, 50: 0}, node_busy={4: 1}, error={20: 1})
    assert spans(observed["run"]) == [(3 + FILL_CYCLES, 20 + DRAIN)]
    assert spans(observed["busy"]) == [(3, 20 + DRAIN)]
    assert spans(observed["clear"]) == [(2, 2)]


def test_sequencer_holds_the_next_epoch() -> None:
    released, second_released = 9, 60
    first_run = released + 1 + FILL_CYCLES
    first_end = 30 + DRAIN + 1
    observed = sequence(
        100,
        start={2: 1, 3: 0},
        epochs={0: 2},
        hold={0: 1, released: 0, first_run: 1, second_released: 0, second_released + 1: 1},
        node_busy={released + 2: 1, 31: 0},
    )
    second_end = second_released + 1 + FILL_CYCLES + DRAIN
    assert spans(observed["clear"]) == [(2, 2)]
    assert spans(observed["fill"]) == [(released + 1, released + 1), (second_released + 1, second_released + 1)]
    assert spans(observed["busy"]) == [(released + 1, first_end), (second_released + 1, second_end)]
    assert spans(observed["run"]) == [(first_run, first_end), (second_released + 1 + FILL_CYCLES, second_end)]
    assert observed["done"][first_end] == 0
    assert observed["done"][first_end + 1] == 1
    assert observed["done"][-1] == 2


def test_hold_that_falls_with_the_start_or_the_end_costs_no_cycle() -> None:
    first_end = 3 + FILL_CYCLES + DRAIN
    inputs = {"start": {2: 1, 3: 0}, "epochs": {0: 2}}
    held = sequence(60, hold={0: 1, 2: 0, 3: 1, first_end: 0}, **inputs)
    free = sequence(60, **inputs)
    assert spans(free["fill"]) == [(3, 3), (first_end + 1, first_end + 1)]
    for name, values in free.items():
        np.testing.assert_array_equal(held[name], values, err_msg=name)


def test_start_while_an_epoch_waits_replaces_it_and_an_error_drops_it() -> None:
    replaced = sequence(80, start={2: 1, 3: 0, 10: 1, 11: 0}, epochs={0: 5, 10: 1}, hold={0: 1, 20: 0})
    assert spans(replaced["clear"]) == [(2, 2), (10, 10)]
    assert spans(replaced["fill"]) == [(21, 21)]
    assert replaced["done"][-1] == 1
    dropped = sequence(80, start={2: 1, 3: 0}, epochs={0: 5}, hold={0: 1, 20: 0}, error={10: 1, 11: 0})
    assert not dropped["busy"].any()
