"""The pod in lockstep with its cycle model where random jobs seldom get: every bit of a count, rows that follow themselves."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.predict.chip import pod_geometry
from podweave.spec.jobs import Accumulate, Emit
from podweave.tb.cases.pod_stimulus import Jobs, PodStimulus, random_lanes
from tests.rtl.pod.test_pod import SMALL, bench_of, check

pytestmark = pytest.mark.more

LOAD = {"start": 0, "rows": 4, "w_bank": 1, "w_plane": 0, "w_base": 3, "w_step": 1, "tiles": 1, "period": 0}
STREAM = {"start": 0, "swap": 0, "n0": 1, "n1": 1, "n2": 1, "accumulate": 0, "accumulator_base": 0, "emit": int(Emit.STORE)}
STREAM |= {"tiles": 1, "period": 0, "x_tile_step": 0, "x_turn": 0, "x_bank": 1, "x_plane": 1, "x_base": 5}
STREAM |= {"p_bank": 2, "p_plane": 1, "p_base": 9, **{f"{memory}_step{i}": 0 for memory in "xp" for i in range(3)}}
COUNTS = [(1 << bit) + 2 for bit in range(1, SMALL.pod.count_width)]


def stimulus_of(seed: int, loads: Jobs, streams: Jobs, cycles: int) -> PodStimulus:
    """One epoch, of which jobs are pushed as soon as there is room."""
    rng, depths = np.random.default_rng(seed), (SMALL.pod.load_queue_depth, SMALL.pod.stream_queue_depth)
    pushes: list[list[int]] = []
    for jobs, depth in zip((loads, streams), depths, strict=True):
        begins = [6 + job["start"] for job in jobs]
        pushes.append([i if i < depth else begins[i - depth] + 1 for i in range(len(jobs))])
    lanes = [random_lanes(rng, (cycles, width)) for width in (SMALL.array.rows, SMALL.array.cols)]
    return PodStimulus(np.arange(cycles) >= 6, loads, pushes[0], streams, pushes[1], *lanes)


@pytest.mark.parametrize("loop", range(3))
def test_each_bit_of_a_trip_count(loop: int) -> None:
    """One less, a count that lost its highest bit would be 1. Loops 0 and 1 are walked twice; steps show words of short ones."""
    streams, start = [], 20
    for count in COUNTS:
        job = STREAM | {"start": start, f"n{loop}": count, "swap": int(not streams)}
        if loop < 2:
            job[f"n{loop + 1}"] = 2
        if loop == 0 and count < 70:
            job |= {"x_step0": 1, "x_step1": 1 - count}
        streams.append(job)
        start += (2 if loop < 2 else 1) * count + 1
    load = LOAD | {"start": 10}
    pod, _ = check(SMALL, bench_of("4x4"), stimulus_of(loop, [load], streams, start + 40), seed=loop)
    assert pod.first_error is None, pod.events
    assert pod.requests()["p_valid"].value.sum() == (2 if loop < 2 else 1) * sum(COUNTS)


def test_each_bit_of_a_period() -> None:
    """The second tile begins so many cycles after the first, of loads and of streams."""
    loads, streams, start = [], [], 10
    for count in (period + 5 for period in COUNTS):
        loads.append(LOAD | {"start": start, "tiles": 2, "period": count})
        streams.append(STREAM | {"start": start + 5, "tiles": 2, "period": count, "swap": 1, "accumulate": 1})
        start += 2 * count
    pod, _ = check(SMALL, bench_of("4x4"), stimulus_of(3, loads, streams, start + 40), seed=3)
    assert pod.first_error is None, pod.events
    ports = pod.requests()
    assert ports["w_request_valid"].value.sum() == 2 * 4 * len(COUNTS)
    assert ports["x_request_valid"].value.sum() == 2 * len(COUNTS)


def test_a_row_of_an_accumulator_follows_itself() -> None:
    """Jobs of one word, one in each cycle, into one of two rows: what the cycle before has left is in the row, or is not."""
    rng = np.random.default_rng(6)
    codes = [Accumulate.INIT, Accumulate.ADD, Accumulate.ADD, Accumulate.ADD, Accumulate.BYPASS]
    jobs = [STREAM | {"start": 20, "swap": 1, "accumulate": int(Accumulate.INIT), "n0": 16}]
    for number in range(400):
        row = int(rng.choice([3, 3, 3, 7, 11]))
        jobs.append(STREAM | {"start": 36 + number, "accumulate": int(rng.choice(codes)), "accumulator_base": row})
    pod, _ = check(SMALL, bench_of("4x4"), stimulus_of(6, [LOAD | {"start": 10}], jobs, 500), seed=6)
    assert pod.first_error is None, pod.events
    assert pod_geometry(SMALL).accumulator_rows == 16
    assert pod.requests()["p_valid"].value.sum() == 416
