"""Chips beside each other in one simulator, each with a network, inputs, memory and start of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from podweave.compiler.compile_network import CompiledNetwork, compile_network, in_channels
from podweave.driver.device import RunCounters
from podweave.driver.system import System
from podweave.fuzz.random_layers import random_job
from podweave.golden.graph import evaluate
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.jobs import Job
from podweave.spec.register_map import counters
from podweave.tb.benches.simulated_system import SimulatedSystem
from podweave.tb.benches.system_bench import SystemBench
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY

# All that are predicted but HBM_BUSY.
EXACT = [name for name, *_ in counters(CONFIG) if name != "HBM_BUSY"]


@functools.cache
def bench(chips: int) -> SystemBench:
    return SystemBench.of(CONFIG, chips, optimize="build", random_initial_state=True, checking=True)


def timing(chip: int) -> HbmTiming:
    return HbmTiming(latency=30 + 11 * chip, row_miss=7, jitter=3 + chip, refresh_interval=700, refresh_cycles=60, seed=5 + chip)


@functools.cache
def networks(chips: int) -> tuple[list[Job], list[CompiledNetwork], list[Prediction]]:
    """Of each chip."""
    jobs = [random_job(21 + chip) for chip in range(chips)]
    compiled = [compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY) for job in jobs]
    most = max(network.memory.channel_bytes for network in compiled)
    compiled = [in_channels(network, most) for network in compiled]
    return jobs, compiled, [predict_accelerator(network, timing(chip)) for chip, network in enumerate(compiled)]


@contextmanager
def running(chips: int, using: SystemBench | None = None) -> Iterator[tuple[SimulatedSystem, System]]:
    """A system with a network and its inputs on each chip."""
    jobs, compiled, _ = networks(chips)
    timings = [timing(chip) for chip in range(chips)]
    using = using or bench(chips)
    with using.system(timings=timings, seed=3, channel_bytes=compiled[0].memory.channel_bytes) as bus:
        system = System(bus, CONFIG)
        system.load([network.memory for network in compiled])
        for chip, job in enumerate(jobs):
            for name, tensor in job.inputs.items():
                system.write_input(chip, name, tensor)
        yield bus, system


def assert_exact(system: System, chips: int, which: Sequence[int] | None = None) -> None:
    """The last run of each chip was right, in the cycles and with the counters that were predicted."""
    jobs, compiled, predictions = networks(chips)
    found: list[RunCounters] = system.counters()
    for chip in range(chips) if which is None else which:
        outputs = {name: system.read_output(chip, name) for name in compiled[chip].memory.outputs}
        expected = evaluate(jobs[chip].graph, jobs[chip].constants, jobs[chip].inputs)
        for name, tensor in compiled[chip].split.join(outputs).items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=f"chip {chip}: {name}")
        device, predicted = found[chip].device, predictions[chip]
        assert device["CYCLES"] - predicted.cycles == 0
        assert {name: device[name] for name in EXACT} == {name: predicted.counters[name] for name in EXACT}
        for name, values in predicted.nodes.items():
            np.testing.assert_array_equal(found[chip].nodes[name], values, err_msg=f"chip {chip}: {name}")
