"""podweave.runs.system: graphs of rows on rings of chips, bit-exact on every chip, all cycles and counters as predicted."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import in_channels
from podweave.compiler.compile_system import compile_system
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.language_models import DecoderSizes, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.partition_rows import partition_rows
from podweave.predict.accelerator import AcceleratorRun
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job, chip_jobs
from podweave.runs.road import COLD, Conditions, Simulation, run_jobs
from podweave.runs.system import SystemNetwork, SystemPrediction, SystemWay, run_on_system
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.links_config import LinksConfig
from podweave.tb.benches.system_bench import SystemBench
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.uneven_chips import uneven_job

CONFIG = dataclasses.replace(small_chip(), links=LinksConfig(flit_bits=32, buffer_words=8, jobs=64))
TIMING = HbmTiming(latency=40, row_miss=7, jitter=5, refresh_interval=700, refresh_cycles=60)
LINK = LinkTiming(latency=13, beat_sixteenths=20, jitter=6, seed=9)
# Heads that each number of chips can share.
DECODERS = {2: "llama_16_4_2_24,rows=2,context=9", 3: "llama_24_6_3_48,context=7", 4: "llama_16_8_4_24,rows=3,context=6"}


@functools.cache
def bench(chips: int) -> SystemBench:
    return SystemBench.of(CONFIG, chips, optimize="build", random_initial_state=True)


def run(workload: str, way: SystemWay, *, using: SystemBench | None = None, config: ChipConfig = CONFIG) -> dict[str, Any]:
    jobs = [*chip_jobs(workload, 3, scale_bits=config.scale_bits), *chip_jobs(workload, 4, scale_bits=config.scale_bits)]
    report, outputs, _ = run_on_system(jobs, way, bench=using or bench(way.chips), seed=5, progress=lambda _: None)
    assert report["failure"] is None
    assert len(outputs) == 2
    return report


def assert_exact(report: dict[str, Any]) -> None:
    for row in report["networks"]:
        assert row["verdict"] == "pass", (row.get("first_mismatch"), row["counters_differing"])
        assert row["cycles"] - row["predicted_cycles"] == 0
        for chip in row["chips"]:
            assert chip["counters"]["COLLECTIVE_CYCLES"] > 0
            assert chip["counters"]["LINK_SENT"] == chip["counters"]["LINK_RECEIVED"] > 0
    assert report["verdict"] == "pass"


DELAYS = {"together": None, "second late": [0, 2311, 170, 40], "first late": [901, 3, 0, 517]}
_SOME_DELAYS = {(2, "second late"), (3, "together"), (4, "first late")}


def some(cases: Iterable[tuple[Any, ...]], those: Container[tuple[Any, ...]]) -> list[Any]:
    """All of the cases, but only ``those`` outside of the campaign."""
    return [case if case in those else pytest.param(*case, marks=pytest.mark.campaign) for case in cases]


@pytest.mark.parametrize(("chips", "late"), some(itertools.product(DECODERS, DELAYS), _SOME_DELAYS))
def test_decoders_are_exact_on_chips_that_start_whenever_they_like(chips: int, late: str) -> None:
    delays = DELAYS[late]
    way = SystemWay(CONFIG, chips, timing=TIMING, link=LINK, delays=delays and delays[:chips])
    assert_exact(run(DECODERS[chips], way))


def test_chips_of_which_not_equally_many_parameter_sets_are_equal() -> None:
    """By itself, each would take other epochs for the same collectives."""
    way = SystemWay(CONFIG, 2, timing=TIMING, link=LINK)
    report, _, _ = run_on_system([uneven_job(2, 4, CONFIG.scale_bits)], way, bench=bench(2), seed=5, progress=lambda _: None)
    assert report["failure"] is None
    assert_exact(report)


LINKS = {"short": LinkTiming(latency=1), "long": LinkTiming(latency=300, beat_sixteenths=55, jitter=90)}
WAYS: dict[str, dict[str, Any]] = {
    "on": {},
    "apart": {"beneath": False},
    "off": {"prefetch": False},
    "capped": {"cap": 9},
}
_SOME_WAYS = {("short", "on"), ("long", "apart"), ("short", "off"), ("long", "capped")}


@pytest.mark.parametrize(("link", "way"), some(itertools.product(LINKS, WAYS), _SOME_WAYS))
def test_any_link_and_any_way_of_prefetching(link: str, way: str) -> None:
    assert_exact(run(DECODERS[2], SystemWay(CONFIG, 2, timing=TIMING, link=LINKS[link], **WAYS[way])))


def test_prefetching_beneath_collectives_is_an_option() -> None:
    """Without it only what has begun before goes on, and a run takes longer."""
    found = []
    for beneath in (True, False):
        report = run(DECODERS[2], SystemWay(CONFIG, 2, timing=TIMING, link=LinkTiming(latency=300), beneath=beneath))
        assert_exact(report)
        chips = [chip["counters"] for row in report["networks"] for chip in row["chips"]]
        found.append((sum(chip["BENEATH_BEATS"] for chip in chips), report["cycles"]))
    (most, fast), (least, slow) = found
    assert most > 1.5 * least
    assert fast < slow


def test_ratios_of_what_is_prefetched_are_exact() -> None:
    """Half of the tensors' words, but no keys, are loaded when their epoch is next; a prediction that knows no ratios is seen."""
    ratios = {"*": 0.5, "*keys": 0}

    class Wrong(SystemWay):
        def predict(self, network: SystemNetwork, bases: tuple[int, ...] = ()) -> SystemPrediction:
            plain = compile_system(network.partition, self.config)
            chips = tuple(in_channels(chip, network.chips[0].memory.channel_bytes) for chip in plain)
            return super().predict(SystemNetwork(network.partition, chips), bases)

    options: dict[str, Any] = {"timing": TIMING, "link": LINK, "delays": [0, 170], "prefetch_ratios": ratios}
    report = run(DECODERS[2], SystemWay(CONFIG, 2, **options))
    assert_exact(report)
    assert report["prefetch_ratios"] == ratios
    for chip in (chip for row in report["networks"] for chip in row["chips"]):
        assert chip["counters"]["PREFETCH_UNUSED"] == 0
    found = run(DECODERS[2], Wrong(CONFIG, 2, **options))
    assert found["verdict"] == "fail"
    for row, right in zip(found["networks"], report["networks"], strict=True):
        assert row["mismatches"] == 0
        assert row["cycles"] == right["cycles"] != row["predicted_cycles"]


def test_encoders_are_exact() -> None:
    assert_exact(run("encoder_24_2_48,rows=4", SystemWay(CONFIG, 2, timing=TIMING, link=LINK)))


@pytest.mark.campaign
def test_any_number_of_chips_gives_the_bits_of_one() -> None:
    workload = "llama_24_12_12_24,context=6"
    jobs = chip_jobs(workload, 3, scale_bits=CONFIG.scale_bits)
    report, (alone,), _ = run_jobs(jobs, AcceleratorWay(CONFIG, timing=TIMING), Simulation(bench=bench(1)), lambda _: None)
    assert report["verdict"] == "pass"
    for chips in (2, 3, 4):
        way = SystemWay(CONFIG, chips, timing=TIMING, link=LINK, delays=[17 * rank for rank in range(chips)])
        report, (found,), _ = run_on_system(jobs, way, bench=bench(chips), progress=lambda _: None)
        assert_exact(report)
        assert found.keys() == alone.keys()
        for name, tensor in alone.items():
            np.testing.assert_array_equal(found[name], tensor, err_msg=f"{chips} chips: {name}")


@pytest.mark.campaign
def test_threads_change_nothing() -> None:
    spread = SystemBench.of(CONFIG, 2, optimize="build", threads=2, least_s=0.0)
    way = SystemWay(CONFIG, 2, timing=TIMING, link=LINK, delays=[0, 100])
    assert_exact(run(DECODERS[2], way, using=spread))


def test_what_chips_do_not_share_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"rows2x4 has no table \[links\]: its chips cannot be joined"):
        SystemWay(small_chip(), 2)
    with pytest.raises(ValueError, match="there are 3 chips, got 2 delays"):
        SystemWay(CONFIG, 3, delays=[0, 1])


def test_chips_with_rows_of_their_own_have_nothing_to_say_to_each_other() -> None:
    report = run("gated_16_24,rows=4", SystemWay(CONFIG, 2, timing=TIMING, link=LINK, delays=[0, 77], divide=partition_rows))
    assert report["verdict"] == "pass"
    assert report["cycles"] == report["predicted_cycles"]
    assert all(chip["counters"]["COLLECTIVE_CYCLES"] == 0 for row in report["networks"] for chip in row["chips"])


def test_texts_on_chips_of_their_own_move_each_by_its_own_offset() -> None:
    """Programs of the chips are the same; base registers are not."""
    texts = [TextRows(1, 8, 4, 4), TextRows(1, 8, 4, 4, slot=1)]
    graph = decoder(DecoderSizes(16, 2, 1, 24), texts, "two texts")
    constants = with_scale_bits(random_row_parameters(graph, 3), CONFIG.scale_bits)
    jobs = []
    for seed, offsets in enumerate(((3, 1), (0, 2))):
        inputs = random_row_inputs(graph, seed)
        for name, offset in zip(("offset", "offset.1"), offsets, strict=True):
            inputs[name] = np.full_like(inputs[name], offset)
        jobs.append(Job(graph, constants, inputs))
    way = SystemWay(CONFIG, 2, timing=TIMING, link=LINK, delays=[0, 9], divide=partition_rows)
    report, _, (network, _) = run_on_system(jobs, way, bench=bench(2), seed=5, progress=lambda _: None)
    assert (report["failure"], report["verdict"], report["cycles"] - report["predicted_cycles"]) == (None, "pass", 0)
    first, second = network.bases(jobs[0].inputs)
    assert first != second
    assert network.bases(jobs[1].inputs)[0] == (0, 0)
    runs = [AcceleratorRun(network.chips[0], TIMING, bases=bases) for bases in (first, second, first)]
    assert runs[0].identity() == runs[2].identity() != runs[1].identity()


# Faults that are planted.


def test_sums_that_are_not_added_are_seen() -> None:
    """Chip 1 stores all words that come."""

    def without_adding(text: str) -> str:
        lines = text.splitlines()
        units = [line.split()[2] for line in lines if line.startswith("unit ")]
        nodes = [units.index(f"accelerator_harness.system.c1.chip.node_{i}") for i in range(CONFIG.pods)]
        kept = [line for line in lines if not any(line.startswith(f"wire {node} link_add ") for node in nodes)]
        assert len(kept) == len(lines) - CONFIG.pods
        return "\n".join(kept) + "\n"

    faulty = SystemBench.of(CONFIG, 2, optimize="build", random_initial_state=True, rewire=without_adding)
    way = SystemWay(CONFIG, 2, timing=TIMING, link=LINK)
    jobs = chip_jobs(DECODERS[2], 3, scale_bits=CONFIG.scale_bits)
    report, _, _ = run_on_system(jobs, way, bench=faulty, progress=lambda _: None)
    assert report["verdict"] == "fail"
    (row,) = report["networks"]
    assert row["mismatches"] > 0
    assert row["first_mismatch"].startswith("chip ")
    assert row["cycles"] == row["predicted_cycles"]


def test_a_link_that_is_a_cycle_longer_than_predicted_is_seen() -> None:
    class Wrong(SystemWay):
        def predict(self, network: SystemNetwork, conditions: Conditions = COLD) -> SystemPrediction:
            longer = dataclasses.replace(self.link, latency=self.link.latency - 1)
            chips = predict_system(network.chips, self.timing, longer, starts=self.delays)
            return SystemPrediction(chips, self.delays)

    report = run(DECODERS[2], Wrong(CONFIG, 2, timing=TIMING, link=LINK))
    assert report["verdict"] == "fail"
    for row in report["networks"]:
        assert row["mismatches"] == 0
        assert {"chip 0: CYCLES", "chip 1: COLLECTIVE_CYCLES"} <= set(row["counters_differing"])
