"""Networks on the smallest accelerator, over AXI: outputs, cycles and counters are as predicted, whatever the memory does."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.compile_network import CompiledNetwork, compile_network
from podweave.fuzz.random_layers import random_graph, random_job
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.predict import accelerator as accelerator_model
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.chip import predict
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import model_on_device, run_on_device
from podweave.runs.jobs import Job
from podweave.spec.load_port import Counter
from podweave.spec.register_map import counters
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY, small_bench

PLAIN = HbmTiming(latency=2, row_miss=0, refresh_interval=0)
USUAL = HbmTiming()
SHAKEN = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)
SLOW = HbmTiming(latency=300, beat_sixteenths=100, row_miss=40, banks=2, queue=1)
BEATS = ("DESCRIPTOR_BEATS", "DEMAND_BEATS", "PREFETCH_BEATS", "WRITE_BEATS")


def quiet(_: str) -> None:
    pass


def run(*jobs: Job, **options: Any) -> tuple[dict[str, Any], list[dict[str, NDArray[np.int8]]], list[CompiledNetwork]]:
    return run_on_device(jobs, CONFIG, bench=small_bench(), progress=quiet, **options)


def assert_exact(job: Job, row: dict[str, Any], outputs: dict[str, NDArray[np.int8]], **options: Any) -> Prediction:
    """What a run reported is right, by the models alone."""
    compiled = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    prediction = predict_accelerator(compiled, **options)
    expected = evaluate(job.graph, job.constants, job.inputs)
    assert set(outputs) == set(job.graph.outputs)
    for name, tensor in outputs.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert (row["verdict"], row["mismatches"], row["counters_differing"]) == ("pass", 0, [])
    assert row["compared"] == sum(tensor.size for tensor in outputs.values())
    assert row["cycles"] == row["predicted_cycles"] == row["counters"]["CYCLES"] == prediction.cycles
    assert row["epochs"] == len(compiled.programs)
    # All counters are compared but that of busy cycles: a descriptor may be read while words are written.
    assert {name for name, *_ in counters(CONFIG)} - set(prediction.counters) == {"HBM_BUSY"}
    beats = {name: row["counters"][name] for name in BEATS}
    assert row["counters"] == prediction.counters | {"HBM_BUSY": row["counters"]["HBM_BUSY"]}
    overlap = sum(beats.values()) - row["counters"]["HBM_BUSY"]
    assert 0 <= overlap <= min(beats["DESCRIPTOR_BEATS"], beats["WRITE_BEATS"])
    assert set(prediction.nodes) == {counter.name.lower() for counter in Counter}
    return prediction


@pytest.mark.parametrize(
    ("seed", "timing", "prefetch", "cap"),
    [
        # Two images; a node that is split, a residual, poolings, outputs that others come after.
        (21, PLAIN, True, 0),
        (21, SLOW, False, 0),
        (21, SHAKEN, True, 60),
        # Many epochs, several nodes split.
        (48, SHAKEN, True, 0),
        # Four inputs, which come in epochs of their own; three poolings and four outputs.
        (9, SHAKEN, False, 0),
        (16, USUAL, True, 1),
        # Parts of a split node leave the chip.
        (39, SLOW, True, 15),
    ],
)
def test_run_is_exact(seed: int, timing: HbmTiming, prefetch: bool, cap: int) -> None:
    job = random_job(seed)
    report, (outputs,), (compiled,) = run(job, timing=timing, prefetch=prefetch, cap=cap, seed=seed)
    assert report["failure"] is None
    assert report["verdict"] == "pass"
    (row,) = report["networks"]
    prediction = assert_exact(job, row, outputs, timing=timing, prefetch=prefetch, cap=cap)
    assert report["cycles"] == report["predicted_cycles"] == prediction.cycles
    assert report["utilization"] == pytest.approx(job.graph.macs / (prediction.cycles * 4 * 16))
    assert (report["prefetch"], report["cap"], report["memory"]) == (prefetch, cap, dataclasses.asdict(timing))
    assert len(compiled.programs) >= 3
    if not prefetch:
        assert row["prefetch_hits"] == 0
    if cap:
        assert row["counters"]["STALL_CAP"] > 0


def test_networks_are_what_the_cases_are_for() -> None:
    graph, split = random_graph(21), compile_network(random_graph(21), CONFIG, random_job(21).constants, FROM_MEMORY).split
    assert split.parts
    assert any(node.window for node in graph.operations)
    assert any(len(node.operands) == 2 and node.operands[1].is_diagonal for node in graph.operations)
    job = random_job(48)
    assert len(compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY).split.parts) > 1
    assert graph.inputs["image"][0] == 2
    job = random_job(39)
    compiled = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    assert any(part in compiled.image.outputs for parts in compiled.split.parts.values() for part, *_ in parts)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 120, 10))
def test_campaign(first: int) -> None:
    refused = 0
    for seed in range(first, first + 10):
        rng = np.random.default_rng([seed, 1])
        timing = HbmTiming(
            latency=int(rng.integers(2, 120)),
            beat_sixteenths=int(rng.choice([16, 16, 24, 100])),
            row_miss=int(rng.integers(0, 40)),
            banks=int(rng.choice([1, 4, 16])),
            refresh_interval=int(rng.choice([0, 400, 700])),
            refresh_cycles=60,
            queue=int(rng.choice([1, 4, 32])),
            jitter=int(rng.choice([0, 3, 30])),
            seed=seed + 1,
        )
        options: dict[str, Any] = {"timing": timing, "prefetch": bool(rng.integers(3)), "cap": int(rng.choice([0, 0, 1, 64, 300]))}
        job = random_job(seed)
        try:
            report, found, _ = run(job, seed=seed, **options)
        except WorkloadError:
            refused += 1
            continue
        assert report["verdict"] == "pass", (seed, options, report)
        assert_exact(job, report["networks"][0], found[0], **options)
    assert refused < 5


def test_prefetch_is_worth_something_and_less_with_a_cap() -> None:
    job = random_job(21)
    compiled = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    ways = ((True, 0), (True, 60), (False, 0))
    on, capped, off = (predict_accelerator(compiled, PLAIN, prefetch=way, cap=cap) for way, cap in ways)
    assert on.cycles < capped.cycles < off.cycles
    assert on.counters["PREFETCH_HITS"] > off.counters["PREFETCH_HITS"] == 0
    for prediction in (on, capped, off):
        # The same beats in another order.
        assert [prediction.counters[name] for name in BEATS] == [on.counters[name] for name in BEATS]
        assert prediction.counters["PREFETCH_HITS"] + prediction.counters["PREFETCH_LATE"] == len(compiled.programs)


def test_timeline_adds_up() -> None:
    job = random_job(21)
    compiled = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    prediction = predict_accelerator(compiled, SHAKEN)
    timeline = prediction.timeline
    assert [name for epoch in timeline for name in epoch["operations"]] == [
        program.operation(index).name for program in compiled.programs for index in program.operations
    ]
    for before, epoch in zip([None, *timeline], timeline, strict=False):
        assert epoch["loaded"] < epoch["begins"] < epoch["ends"]
        assert epoch["load_begins"] == (before["loaded"] if before else 0)
        assert epoch["begins"] == (before["ends"] if before else 0) + 1 + epoch["waits"]
        assert epoch["ends"] - epoch["begins"] >= epoch["cycles"]
    assert timeline[-1]["ends"] < prediction.cycles
    assert sum(epoch["cycles"] for epoch in timeline) == prediction.compute_cycles
    # The rest are the descriptors of what is stored after the last epoch.
    last = sum(
        int((ring.fields["tag"] == compiled.image.epochs).sum()) for ring in (*compiled.image.demand, *compiled.image.prefetch)
    )
    assert sum(epoch["bytes"] for epoch in timeline) == compiled.image.loaded_bytes() - 64 * last
    without = predict_accelerator(compiled, SHAKEN, prefetch=False).timeline
    assert all(epoch["load_begins"] == before["ends"] for before, epoch in itertools.pairwise(without))


def test_networks_run_one_after_the_other_in_one_memory() -> None:
    # The first needs more of a channel than the second, which needs other addresses than it would alone.
    jobs = [random_job(48), random_job(1)]
    alone = [compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY).image.channel_bytes for job in jobs]
    assert alone[0] > alone[1]
    # Other inputs of the same network, and other parameters.
    rng = np.random.default_rng(5)
    other_inputs = {name: rng.integers(-128, 128, tensor.shape, dtype=np.int8) for name, tensor in jobs[0].inputs.items()}
    jobs.insert(1, dataclasses.replace(jobs[0], inputs=other_inputs))
    jobs.append(dataclasses.replace(jobs[0], constants=Constants(random_parameters(jobs[0].graph, 99))))
    report, found, compiled = run(*jobs, timing=PLAIN)
    assert report["failure"] is None
    assert [row["verdict"] for row in report["networks"]] == ["pass"] * 4
    assert compiled[0] is compiled[1]
    assert compiled[0] is not compiled[3]
    assert {each.image.channel_bytes for each in compiled} == {alone[0]}
    assert report["cycles"] == sum(row["cycles"] for row in report["networks"])
    for job, outputs in zip(jobs, found, strict=True):
        expected = evaluate(job.graph, job.constants, job.inputs)
        for name, tensor in outputs.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_model_says_what_the_run_takes() -> None:
    jobs = [random_job(21), random_job(4)]
    modelled, compiled = model_on_device([job.graph for job in jobs], CONFIG, timing=SHAKEN, cap=100)
    report, *_ = run(*jobs, timing=SHAKEN, cap=100)
    assert report["verdict"] == "pass"
    assert modelled["cycles"] == report["cycles"]
    assert modelled["memory"] == report["memory"]
    for row, measured in zip(modelled["networks"], report["networks"], strict=True):
        assert row["cycles"] == measured["cycles"]
        assert row["counters"] == {name: measured["counters"][name] for name in row["counters"]}
        assert row["timeline"] == measured["timeline"]
        assert {key: measured[key] for key in row if key not in ("counters", "timeline")} == {
            key: value for key, value in row.items() if key not in ("counters", "timeline")
        }
    for each, row in zip(compiled, modelled["networks"], strict=True):
        bound = max(sum(predict(program).cycles for program in each.programs), row["hbm_cycles"])
        assert row["overlap"] == pytest.approx(row["cycles"] / bound)
        assert row["overlap"] >= 1
        # At one beat per cycle, in all but 90 of 400 cycles, on both managers.
        sendable = row["cycles"] * 2 * CONFIG.host_bits // 8 * (1 - 90 / 400)
        assert row["memory_useful"] == pytest.approx(each.graph.weights / sendable)
        assert 0 < row["memory_useful"] < row["hbm_used_available"]


def test_beats_of_the_managers_are_those_that_are_counted() -> None:
    job = random_job(21)
    compiled = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    prediction = predict_accelerator(compiled, PLAIN)
    slow = predict_accelerator(compiled, dataclasses.replace(PLAIN, beat_sixteenths=40))
    counted = sum(prediction.counters[name] for name in BEATS)
    assert sum(accelerator_model._beats(compiled.image, compiled.image.rings(), 1, manager) for manager in (0, 1)) == counted
    # Of two managers, the busier one has at least half of them.
    assert counted / 2 <= prediction.hbm_cycles < counted
    assert slow.hbm_cycles == prediction.hbm_cycles * 40 // 16
