"""rtl.parts.job_queue with the jobs of a pod: any bits, in order, none lost but what is pushed into a full queue."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import job_layouts
from podweave.rtl.parts.job_queue import JobQueue
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.pod.test_pod import SMALL

CYCLES = 1500


@pytest.mark.parametrize(("kind", "depth"), [(0, SMALL.pod.load_queue_depth), (1, SMALL.pod.stream_queue_depth), (0, 3)])
def test_any_jobs_in_order(kind: int, depth: int) -> None:
    layout = job_layouts(SMALL)[kind]
    rng = np.random.default_rng([kind, depth])
    jobs = rng.integers(0, 2, (CYCLES, layout.width))
    pushes = rng.random(CYCLES) < np.repeat(rng.choice([0.2, 0.5, 0.9], CYCLES // 50), 50)
    wishes = rng.random(CYCLES) < np.repeat(rng.choice([0.2, 0.5, 0.9], CYCLES // 50), 50)
    waiting: deque[NDArray[np.int64]] = deque()
    ports = {name: np.zeros(CYCLES, np.int64) for name in ("ready", "overflow", "head_valid", "pop")}
    heads = np.zeros((CYCLES, layout.width), np.int64)
    for cycle in range(CYCLES):
        full = len(waiting) == depth
        ports["ready"][cycle], ports["overflow"][cycle] = not full, full and pushes[cycle]
        ports["head_valid"][cycle] = len(waiting) > 0
        if waiting:
            heads[cycle] = waiting[0]
            if wishes[cycle]:
                ports["pop"][cycle] = 1
                waiting.popleft()
        if pushes[cycle] and not full:
            waiting.append(jobs[cycle])
    bench = BlockBench.of(JobQueue(layout, depth), dict.fromkeys(("push_job", "head"), (1, layout.width, False)))
    observed = bench.run({"push_valid": pushes, "push_job": jobs, "pop": ports.pop("pop")}, seed=depth)
    for name, values in ports.items():
        np.testing.assert_array_equal(observed[name], values, err_msg=name)
    there = ports["head_valid"] == 1
    np.testing.assert_array_equal(observed["head"][there], heads[there])
    assert ports["overflow"].sum() > 50
    assert (~there).sum() > 50
