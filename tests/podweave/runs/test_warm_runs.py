"""Runs of one network after the other: what is still on the chip is not loaded again, and cycles and counters are as predicted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, compile_network
from podweave.compiler.memory.resident import ChipContents
from podweave.driver.device import Device, DeviceError, Start
from podweave.fuzz.random_layers import random_job
from podweave.golden.graph import evaluate
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import run_on_device
from podweave.runs.jobs import Job
from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY, small_bench

TIMING = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)


def run(*jobs: Job, **options: Any) -> dict[str, Any]:
    report, *_ = run_on_device(jobs, CONFIG, bench=small_bench(), progress=lambda _: None, timing=TIMING, **options)
    return report


def other_inputs(job: Job, seed: int) -> Job:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, tensor.shape, dtype=np.int8) for name, tensor in job.inputs.items()}
    return dataclasses.replace(job, inputs=inputs)


FIELDS = ("select", "unit", "base", "n0", "address", "broadcast")
FEW = 12 * CONFIG.host_bits // 8
"""Bytes that cost less to load again than a descriptor more does."""


def useless(network: CompiledNetwork) -> int:
    """Words that a warm run loads though their place has them, beside those of inputs and a few between others that are loaded: by
    going through all descriptors."""
    image, held, found = network.memory, {}, 0
    for warm in (False, True):
        for rings in image.rings(warm=warm):
            for m, ring in enumerate(rings):
                for i in np.flatnonzero(ring.fields["kind"] == DescriptorKind.LOAD).tolist():
                    select, unit, base, n0, address, to_all = (int(ring.fields[f][i]) for f in FIELDS)
                    there = []
                    for word in range(n0):
                        keys = [(m, select, node, base + word) for node in (range(CONFIG.nodes_per_manager) if to_all else [unit])]
                        there.append(all(held.get(key) == (address, word) for key in keys))
                        held |= dict.fromkeys(keys, (address, word))
                    if warm and select > 2:
                        found += too_many(there, max(1, FEW // memory_stride(CONFIG, HostSelect(select))))
    return found


def too_many(there: list[bool], few: int) -> int:
    """Words that are there already, but those of up to a few between two that are not.

    >>> too_many([True, False, True, True, False, True, True, True, False, True, True], 2)
    6
    """
    needed = np.flatnonzero(~np.array(there))
    if not len(needed):
        return len(there)
    gaps = np.diff(needed) - 1
    return int(needed[0] + len(there) - 1 - needed[-1] + gaps[gaps > few].sum())


@pytest.mark.parametrize("seed", [9, pytest.param(21, marks=pytest.mark.campaign)])
def test_warm_runs_are_exact_and_load_what_is_not_there(seed: int) -> None:
    job = random_job(seed)
    report = run(*(other_inputs(job, number) for number in range(3)))
    assert report["verdict"] == "pass"
    cold, *warm = report["networks"]
    assert [row["warm"] for row in report["networks"]] == [False, True, True]
    network = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    assert cold["cycles"] == predict_accelerator(network, TIMING).cycles
    expected = predict_accelerator(network, TIMING, warm=True)
    for row in warm:
        assert row["cycles"] == row["predicted_cycles"] == expected.cycles
        assert (row["mismatches"], row["counters_differing"]) == (0, [])
        assert row["bytes_loaded"] == network.memory.loaded_bytes(warm=True) < cold["bytes_loaded"]
    assert useless(network) == 0


def test_what_is_loaded_again_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    job = random_job(9)
    assert useless(compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)) == 0
    monkeypatch.setattr(ChipContents, "load", lambda self, select, nodes, base, words: [(0, len(words))])
    assert useless(compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)) > 0


def test_another_network_in_between_makes_a_run_cold() -> None:
    first, second = random_job(21), random_job(9)
    report = run(first, first, second, first, first)
    assert report["verdict"] == "pass"
    assert [row["warm"] for row in report["networks"]] == [False, True, False, False, True]


def test_what_makes_a_run_cold() -> None:
    job = random_job(9)
    network = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    image, expected = network.memory, evaluate(job.graph, job.constants, job.inputs)
    with small_bench().session(timing=TIMING, channel_bytes=image.channel_bytes) as bus:
        device = Device(bus, CONFIG)

        def load() -> None:
            device.load(image)
            for name, tensor in job.inputs.items():
                device.write_input(name, tensor)

        def outputs_are_right() -> bool:
            found = network.split.join({name: device.read_output(name) for name in image.outputs})
            return all((found[name] == expected[name]).all() for name in job.graph.outputs)

        load()
        with pytest.raises(
            DeviceError, match="no warm run can be started: the last run was not one of this program that ended well"
        ):
            device.start(Start(warm=True))
        assert [device.run() for _ in range(2)] == [False, True]
        assert device.run(Start(warm=False)) is False
        assert outputs_are_right()
        device.reset()
        assert device.run() is False
        # A reset by somebody else.
        device.write("CONTROL", SOFT_RESET=1)
        bus.advance(10)
        assert device.run() is False
        load()
        assert device.run() is False
        device.start()
        device.abort()
        with pytest.raises(DeviceError, match="aborted"):
            device.wait()
        assert device.run() is False
        assert outputs_are_right()
        # An error: the ring leaves the memory.
        device.write("MEMORY_BYTES", VALUE=image.prefetch[0].base)
        with pytest.raises(DeviceError, match="beyond memory"):
            device.run()
        device.write("MEMORY_BYTES", VALUE=image.memory_bytes)
        assert [device.run() for _ in range(2)] == [False, True]
        assert outputs_are_right()


def test_weights_that_are_overwritten_in_between_are_seen() -> None:
    """Behind the back of the device, another network runs: what a warm run computes with then is not what it should be."""
    job, other = random_job(9), random_job(21)
    options = dataclasses.replace(FROM_MEMORY, channel_bytes=1 << 17)
    network, intruder = (compile_network(each.graph, CONFIG, each.constants, options) for each in (job, other))
    expected = evaluate(job.graph, job.constants, job.inputs)
    with small_bench().session(timing=TIMING, channel_bytes=network.memory.channel_bytes) as bus:
        device = Device(bus, CONFIG)
        for faulty in (False, True):
            if faulty:
                behind = Device(bus, CONFIG)
                behind.load(intruder.memory)
                behind.run()
                for address, content in network.memory.content:
                    bus.write_memory(address, content)
                device._told = None
                device.write("EPOCHS", VALUE=network.memory.epochs)
                device.write("MEMORY_BYTES", VALUE=network.memory.memory_bytes)
            else:
                device.load(network.memory)
            for name, tensor in job.inputs.items():
                device.write_input(name, tensor)
            if not faulty:
                device.run()
            try:
                assert device.run(Start(warm=True))
                found = network.split.join({name: device.read_output(name) for name in network.memory.outputs})
                right = all((found[name] == expected[name]).all() for name in job.graph.outputs)
            except DeviceError:
                right = False
            assert right is not faulty
