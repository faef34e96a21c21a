"""One start for a stream of inputs: every output is the golden one, cycles and counters are as predicted."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.driver.device import Device, DeviceError, Start
from podweave.fuzz.random_layers import random_job
from podweave.golden.cycle.memory.hbm import SLVERR, ErrorRange
from podweave.golden.graph import evaluate
from podweave.ir.layers import WorkloadError
from podweave.predict.accelerator import bytes_by_kind, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import model_on_device, run_on_device
from podweave.runs.jobs import Job
from tests.podweave.runs.small_accelerator import CONFIG, small_bench

TIMING = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)


def stream(seed: int, passes: int) -> Job:
    job, rng = random_job(seed), np.random.default_rng(seed)
    feeds = [
        {name: rng.integers(-128, 128, tensor.shape, dtype=np.int8) for name, tensor in job.inputs.items()} for _ in range(passes)
    ]
    return dataclasses.replace(job, inputs=feeds[0], stream=tuple(feeds[1:]))


def compiled(job: Job) -> CompiledNetwork:
    return compile_network(job.graph, CONFIG, job.constants, CompileOptions(from_memory=True, passes=job.passes))


def run(*jobs: Job, **options: Any) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    report, outputs, _ = run_on_device(jobs, CONFIG, bench=small_bench(), progress=lambda _: None, timing=TIMING, **options)
    return report, outputs


@pytest.mark.parametrize(
    ("seed", "passes", "options"),
    [
        (16, 3, {}),
        pytest.param(21, 4, {}, marks=pytest.mark.campaign),
        pytest.param(9, 3, {"prefetch": False}, marks=pytest.mark.campaign),
        pytest.param(16, 2, {"cap": 15}, marks=pytest.mark.campaign),
        *(pytest.param(seed, 2 + seed % 4, {"cap": seed % 3 * 40}, marks=pytest.mark.campaign) for seed in range(50, 70)),
    ],
)
def test_a_stream_is_exact(seed: int, passes: int, options: dict[str, Any]) -> None:
    job = stream(seed, passes)
    report, (outputs, again) = run(job, job, seed=seed, **options)
    assert report["failure"] is None
    assert report["verdict"] == "pass"
    assert [row["warm"] for row in report["networks"]] == [False, True]
    for found in (outputs, again):
        for name in job.graph.outputs:
            right = np.concatenate([evaluate(job.graph, job.constants, inputs)[name] for inputs in job.feeds])
            np.testing.assert_array_equal(found[name], right, err_msg=name)
    for row in report["networks"]:
        assert row["cycles"] == row["predicted_cycles"]
        assert (row["passes"], len(row["timeline"])) == (passes, passes * row["epochs"])
        assert row["macs"] == passes * job.graph.macs


def test_passes_are_shorter_than_runs() -> None:
    """Words for the next pass come while one computes, and what stays is not loaded."""
    network = compiled(stream(21, 5))
    cycles = [predict_accelerator(network, TIMING, passes=passes).cycles for passes in (1, 2, 5)]
    warm = predict_accelerator(network, TIMING, passes=1, warm=True).cycles
    assert cycles[2] < cycles[0] + 4 * warm
    assert cycles[1] - cycles[0] < warm < cycles[0]


class Scene:
    """A device with a stream in memory, whose outputs are wiped before each run."""

    def __init__(self, bus: Any, job: Job, network: CompiledNetwork):
        self.bus, self.job, self.network, self.device = bus, job, network, Device(bus, CONFIG)
        self.load()

    def load(self) -> None:
        self.device.load(self.network.memory)
        for number, inputs in enumerate(self.job.feeds):
            for name, tensor in inputs.items():
                self.device.write_input(name, tensor, number)

    def wipe(self) -> None:
        for number in range(self.job.passes):
            for where in self.network.memory.outputs.values():
                self.bus.memory[where.addresses + number * self.network.memory.pass_bytes] = 0x55

    def right(self) -> list[bool]:
        """Of each pass, whether its outputs are in memory."""
        image, found = self.network.memory, []
        for number, inputs in enumerate(self.job.feeds):
            outputs = self.network.split.join({name: self.device.read_output(name, number) for name in image.outputs})
            expected = evaluate(self.job.graph, self.job.constants, inputs)
            found.append(all((outputs[name] == expected[name]).all() for name in self.job.graph.outputs))
        return found


def test_fewer_passes_and_faults() -> None:
    job = stream(9, 3)
    network = compiled(job)
    with small_bench().session(timing=TIMING, seed=3, channel_bytes=network.memory.channel_bytes) as bus:
        scene = Scene(bus, job, network)
        device = scene.device
        for passes, warm in ((2, False), (1, True), (3, True)):
            scene.wipe()
            predicted = predict_accelerator(network, TIMING, passes=passes, warm=warm)
            assert device.run(Start(passes=passes), max_cycles=2 * predicted.cycles) is warm
            assert scene.right() == [number < passes for number in range(3)]
            counters = device.counters()
            assert {name: counters.device[name] for name in predicted.counters} == predicted.counters
            assert device.read("EPOCHS_DONE") == passes * network.memory.epochs
        # A stride that is another: later passes read and write elsewhere, over inputs and constants too.
        scene.wipe()
        device.write("PASS_STRIDE", VALUE=network.memory.pass_bytes - 64)
        device.run()
        assert scene.right() == [True, False, False]
        scene.load()
        scene.wipe()
        device.run()
        assert scene.right() == [True, True, True]
        for name, passes in (("0 to 2", 3), ("0 to 2", -1)):
            with pytest.raises(DeviceError, match=rf"^the program has memory for passes {name}, got pass {passes}$"):
                device.read_output(next(iter(network.memory.outputs)), passes)
        for passes in (0, 4):
            with pytest.raises(DeviceError, match=rf"^the program has memory for 1 to 3 passes, got {passes}$"):
                device.run(Start(passes=passes))
        # Registers are not written again where they hold what they must.
        device.write("EPOCHS", VALUE=2200)
        for value in (0, 31):
            device.write("PASSES", VALUE=value)
            with pytest.raises(DeviceError, match=r"^the device refused to start: passes$"):
                device.start(Start(warm=False))


def test_an_error_in_a_later_pass_ends_the_run() -> None:
    job = stream(9, 3)
    network = compiled(job)
    with small_bench().session(timing=TIMING, channel_bytes=network.memory.channel_bytes) as bus:
        scene = Scene(bus, job, network)
        device, image = scene.device, network.memory
        # What the last pass stores is refused by the memory.
        where = next(iter(image.outputs.values())).addresses.min() + 2 * image.pass_bytes
        bus.inject([ErrorRange(int(where), int(where) + 1, SLVERR)])
        with pytest.raises(DeviceError, match=r"^prefetch engine \d: write slverr \(tag (\d+) of the demand ring") as caught:
            device.run()
        tag = int(re.search(r"tag (\d+)", str(caught.value))[1])  # type: ignore[index]
        assert 2 * image.epochs < tag <= 3 * image.epochs
        assert device.read("EPOCHS_DONE") <= tag
        assert not device.is_warm
        bus.inject([])
        scene.wipe()
        assert device.run() is False
        assert scene.right() == [True] * 3


def test_what_there_cannot_be() -> None:
    with pytest.raises(WorkloadError, match=r"^32 passes asked for, a run on \w+ has at most 31 \(pass_bits of \[prefetch\]\)$"):
        compiled(stream(9, 32))


def test_model_of_a_stream() -> None:
    graph = random_job(9).graph
    report, (network,) = model_on_device([graph], CONFIG, timing=TIMING, images=4)
    (row,) = report["networks"]
    assert network.memory.passes == row["passes"] == 4 // max(shape[0] for shape in graph.inputs.values())
    assert row["cycles"] == predict_accelerator(network, TIMING).cycles
    assert row["image_cycles"] == row["cycles"] / row["images"]


@pytest.mark.parametrize("warm", [False, True])
def test_bytes_by_kind_are_all_that_are_moved(warm: bool) -> None:
    network = compiled(stream(9, 3))
    counters = predict_accelerator(network, TIMING, warm=warm).counters
    found, beat = bytes_by_kind(network.memory, warm=warm), CONFIG.host_bits // 8
    # Counted by the model of the machine, beat after beat.
    beats = {name: counters[f"{name}_BEATS"] * beat for name in ("DESCRIPTOR", "DEMAND", "PREFETCH", "WRITE")}
    assert found["descriptors"] == beats["DESCRIPTOR"]
    assert found["activations_stored"] == beats["WRITE"] > 0
    loaded = {name: count for name, count in found.items() if name not in ("descriptors", "activations_stored")}
    assert sum(loaded.values()) == beats["DEMAND"] + beats["PREFETCH"]
    assert loaded["activations_loaded"] >= 3 * sum(tensor.size for tensor in stream(9, 1).inputs.values())
    # What stays on the chip is not loaded by runs that find it.
    assert (loaded["weights"] >= network.graph.weights) == (loaded["jobs"] > 0) == (not warm)
