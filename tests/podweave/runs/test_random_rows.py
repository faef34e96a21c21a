"""Random graphs of rows: bit-exact, with exactly the predicted cycles and counters, by programs that break no rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from podweave.fuzz.random_rows import random_rows, two_at_once
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.podweave.runs.row_jobs import small_chip


def run(jobs: Sequence[Job], config: ChipConfig) -> None:
    report, _, _ = run_jobs(jobs, AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    wrong = [(job.graph.name, row.get("first_mismatch")) for job, row in zip(jobs, report["networks"], strict=True)]
    assert report["verdict"] == "pass", (report["failure"], [each for each in wrong if each[1]])
    assert report["cycles"] == report["predicted_cycles"]


def test_random_graphs() -> None:
    run([random_rows(seed) for seed in range(20)], small_chip())


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_two_random_graphs_at_once(first: int) -> None:
    run([two_at_once(seed) for seed in range(first, first + 20)], small_chip().replace(row_registers=64))


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(20, 220, 25))
def test_many_random_graphs(first: int) -> None:
    run([random_rows(seed) for seed in range(first, first + 25)], small_chip())


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 80, 20))
def test_random_graphs_on_a_chip_with_little_of_everything(first: int) -> None:
    """Four nodes; sums in pieces, many epochs, half a word requantised per cycle."""
    few = {"time_width": 11, "w_words": 128, "post_jobs": 32, "parameter_sets": 24, "accumulator_rows": 7, "tile_width": 2}
    jobs = [random_rows(seed) for seed in range(first, first + 20)]
    run(jobs, small_chip().replace(pods=4, banks=4, managers=2, y_planes=2, lanes=2, **few))
