"""Chips of one pod: random networks over AXI, many larger than the banks, exact."""

from __future__ import annotations

from typing import Any

import pytest

from podweave.compiler.compile_network import compile_network
from podweave.fuzz.random_layers import random_job
from podweave.ir.layers import WorkloadError
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import run_on_device
from podweave.runs.jobs import Job
from tests.podweave.runs.small_accelerator import FROM_MEMORY
from tests.rtl.accelerator.accelerator_runs import CONFIGS, bench

ONE = "1 pod"
TIMINGS = [
    HbmTiming(latency=9, refresh_interval=0),
    HbmTiming(latency=70, beat_sixteenths=40, row_miss=20, refresh_interval=500, refresh_cycles=80, jitter=20, seed=3),
]


def fits(job: Job) -> bool:
    try:
        compile_network(job.graph, CONFIGS[ONE], job.constants, FROM_MEMORY)
    except WorkloadError:
        return False
    return True


def exact(seeds: range, **options: Any) -> None:
    jobs = [job for job in map(random_job, seeds) if fits(job)]
    # One W bank of 256 words is too small for a column tile now and then.
    assert len(jobs) > 0.8 * len(seeds)
    for timing in TIMINGS:
        report, *_ = run_on_device(jobs, CONFIGS[ONE], timing=timing, bench=bench(ONE), progress=lambda _: None, **options)
        assert report["failure"] is None
        assert report["verdict"] == "pass"
        assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.more
def test_random_networks() -> None:
    exact(range(6), cap=40)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_networks_campaign(first: int) -> None:
    exact(range(first, first + 20), check="always")
