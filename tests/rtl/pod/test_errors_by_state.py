"""Errors of a pod that come while a job streams, and while none does; what random jobs seldom do."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import job_layouts
from podweave.golden.cycle.pod.pod import PodModel
from podweave.predict.chip import pod_geometry
from podweave.spec.errors import PodError
from podweave.tb.benches.block_bench import BlockRun
from podweave.tb.cases.pod_stimulus import PodStimulus, pod_bench
from tests.rtl.pod.test_pod import SMALL, bench_of, check, first_errors

pytestmark = pytest.mark.more

CYCLES = 320
RUN = 6
LOAD = {"start": 10, "rows": 4, "w_bank": 2, "w_plane": 1, "w_base": 3, "w_step": 1, "tiles": 1, "period": 0}
STREAM = {"start": 20, "swap": 1, "n0": 5, "n1": 4, "n2": 1, "accumulate": 0, "accumulator_base": 0, "emit": 1, "tiles": 1}
STREAM |= {"period": 0, "x_tile_step": 0, "x_turn": 0, "x_bank": 1, "x_plane": 0, "x_base": 5, "p_bank": 2, "p_plane": 1}
STREAM |= {"p_base": 40, **{f"{memory}_step{i}": 1 for memory in "xp" for i in range(3)}}


def stimulus(loads: list[dict[str, int]], streams: list[dict[str, int]]) -> PodStimulus:
    """Weights for a job that streams 20 words, requested in cycles 27 to 46; and more jobs, as different as they say.

    ``pushed``: the cycle of the push, else as early as may be."""
    rng = np.random.default_rng(9)
    lanes = rng.integers(-128, 128, (2, CYCLES, 4)).astype(np.int8)
    jobs, cycles = [], []
    for first, more in ((LOAD, loads), (STREAM, streams)):
        jobs.append([{**first, **{k: v for k, v in job.items() if k != "pushed"}} for job in ({}, *more)])
        cycles.append([job.get("pushed", i) for i, job in enumerate(({}, *more))])
    return PodStimulus(np.arange(CYCLES) >= RUN, jobs[0], cycles[0], jobs[1], cycles[1], lanes[0], lanes[1])


MANY = range(30, 44)
CASES = {
    "late_stream, nothing streams": ([], [{"pushed": 100, "swap": 0, "start": 60}]),
    "late_load, nothing streams": ([{"pushed": 100, "start": 60}], []),
    "late_load, a job streams": ([{"pushed": 30, "start": 12}], []),
    "load_overflow, a job streams": ([{"pushed": cycle, "start": 280} for cycle in MANY], []),
    "load_overflow, nothing streams": ([{"pushed": cycle + 100, "start": 280} for cycle in MANY], []),
    "stream_overflow, a job streams": ([], [{"pushed": cycle, "start": 280} for cycle in MANY]),
    "stream_overflow, nothing streams": ([], [{"pushed": cycle + 100, "start": 280} for cycle in MANY]),
    "w_address, nothing streams": ([{"start": 60, "w_base": 49}], []),
    "w_address, a job streams": ([{"start": 25, "w_base": 49}], []),
    "illegal_load, a job streams": ([{"start": 25, "rows": 0}], []),
    "illegal_stream, a job streams": ([], [{"start": 40, "swap": 0, "n0": 0}]),
    # In the cycle of the last word of the job before.
    "weights_not_loaded, a job streams": ([], [{"start": 40}]),
    "weights_not_loaded, nothing streams": ([], [{"start": 60}]),
    "weights_overwritten, a job streams": ([{"start": 25}, {"start": 30}], []),
}


@functools.cache
def observed() -> dict[str, dict[str, NDArray[np.int64]]]:
    """What the RTL does in each case, in one simulation."""
    layouts = job_layouts(SMALL)
    runs = bench_of("4x4").run_all([BlockRun(stimulus(*jobs).inputs(layouts)) for jobs in CASES.values()], seed=2)
    return dict(zip(CASES, runs, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_errors_whatever_streams(case: str) -> None:
    error, state = case.split(", ")
    given, layouts = stimulus(*CASES[case]), job_layouts(SMALL)
    load = given.pushes(layouts[0], given.loads, given.load_cycles)
    stream = given.pushes(layouts[1], given.streams, given.stream_cycles)
    pod = PodModel(pod_geometry(SMALL), given.run, load, stream)
    bench_of("4x4").check(pod.outputs(given.x_data, given.w_data), observed()[case])
    assert first_errors(pod) == {error}
    assert pod.first_error is not None
    assert bool(pod.requests()["x_request_valid"].value[pod.first_error]) == (state == "a job streams")
    assert pod.requests()["errors"].value[-1] == 1 << PodError[error.upper()]


def test_an_epoch_outlasts_its_time_while_a_job_streams() -> None:
    config = SMALL.replace(time_width=8)
    pod, _ = check(config, pod_bench(config), stimulus([], [{"start": 250, "swap": 0}]), seed=0)
    assert (first_errors(pod), pod.first_error) == ({"epoch_overflow"}, RUN + 255)
    assert pod.requests()["x_request_valid"].value[pod.first_error]


def test_tiles_of_few_rows_behind_each_other() -> None:
    """Two jobs of two tiles of three rows each: no cycle between them."""
    loads = [{"start": 40 + 6 * i, "rows": 3, "tiles": 2, "period": 3, "w_base": 9 * i} for i in range(2)]
    swaps = [{"pushed": 30 + i, "start": 43 + 3 * i, "n0": 3, "n1": 1} for i in range(4)]
    pod, _ = check(SMALL, bench_of("4x4"), stimulus(loads, swaps), seed=1)
    assert pod.first_error is None
    assert np.flatnonzero(pod.requests()["w_request_valid"].value).tolist()[4:] == list(range(47, 59))
    assert len(pod.streams.job) == 5
    assert pod_geometry(SMALL).rows == 4
