"""Long: rings of 2, 3, 4 and 8 chips that start whenever they like, over links of all kinds."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podweave.predict.link_timing import LinkTiming
from podweave.runs.jobs import chip_jobs
from podweave.runs.system import SystemWay, run_on_system
from podweave.tb.benches.system_bench import SystemBench
from tests.podweave.runs.test_system import CONFIG, TIMING, assert_exact

WORKLOADS = {
    2: ("gated_16_24,rows=5", "attention_8_4_4,context=9,rows=2", "llama_16_4_2_24_2,rows=2,context=9"),
    3: ("gated_24_48,rows=2", "llama_24_6_3_48_2,context=7"),
    4: ("gated_16_24,rows=3", "llama_16_8_4_24,rows=3,context=6"),
    8: ("gated_16_24,rows=2", "llama_32_8_8_32,context=5"),
}


@functools.cache
def bench(chips: int) -> SystemBench:
    return SystemBench.of(CONFIG, chips, optimize="build", random_initial_state=True)


LINKS = st.builds(
    LinkTiming,
    latency=st.integers(1, 400),
    beat_sixteenths=st.integers(16, 80),
    jitter=st.sampled_from([0, 3, 100]),
    seed=st.integers(1, 2**32 - 1),
)


@pytest.mark.campaign
@pytest.mark.parametrize("chips", WORKLOADS)
def test_any_start_skew(chips: int) -> None:
    skews = st.lists(st.integers(0, 6000), min_size=chips, max_size=chips)

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(workload=st.sampled_from(WORKLOADS[chips]), delays=skews, link=LINKS, seed=st.integers(0, 99), beneath=st.booleans())
    def exact(workload: str, delays: list[int], link: LinkTiming, seed: int, beneath: bool) -> None:
        way = SystemWay(CONFIG, chips, timing=TIMING, link=link, delays=delays, beneath=beneath)
        jobs = chip_jobs(workload, seed, scale_bits=CONFIG.scale_bits)
        report, _, _ = run_on_system(jobs, way, bench=bench(chips), seed=seed, progress=_silent)
        if workload.startswith("attention"):
            assert report["verdict"] == "pass"
        else:
            assert_exact(report)

    exact()


def _silent(_: Any) -> None:
    """No progress."""
