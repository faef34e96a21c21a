"""Random graphs of rows: bit-exact, with exactly the predicted cycles and counters, by programs that break no rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from podweave.fuzz.random_rows import random_rows, two_at_once
from podweave.fuzz.random_sequences import random_sequences
from podweave.golden.layers.fixed_point import Rounding
from podweave.golden.rows import evaluate_row_operation
from podweave.ir.row_operations import Attention, Gelu, LayerNorm, Product, RmsNorm, Rope, RowLinear, SiluProduct
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.podweave.runs.row_jobs import small_chip

HALVES: dict[type, int] = {
    RowLinear: 12,
    RmsNorm: 26,
    LayerNorm: 1,
    Rope: 20,
    SiluProduct: 12,
    Product: 4,
    Gelu: 10,
    Attention: 426,
}
"""A graph in which one kind of operation has a half to round that is seen at an output."""


def run(jobs: Sequence[Job], config: ChipConfig) -> None:
    report, _, _ = run_jobs(jobs, AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    wrong = [(job.graph.name, row.get("first_mismatch")) for job, row in zip(jobs, report["networks"], strict=True)]
    assert report["verdict"] == "pass", (report["failure"], [each for each in wrong if each[1]])
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.parametrize("rounding", ["half_even", pytest.param("half_away", marks=pytest.mark.campaign)])
def test_random_graphs(rounding: str) -> None:
    seeds = {*range(14), *HALVES.values()}
    run([random_rows(seed) for seed in sorted(seeds)], small_chip().replace(rounding=rounding))


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.campaign) for first in range(100, 300, 20))])
def test_random_graphs_of_several_sequences(first: int) -> None:
    """Caches of their own, to which some append where an input says, and some share their first keys."""
    jobs = [random_sequences(seed) for seed in range(first, first + (20 if first else 10))]
    attentions = [each for job in jobs for each in job.graph.operations if isinstance(each, Attention)]
    assert {len(each.sequences) > 1 for each in attentions} == {each.shared is not None for each in attentions} == {False, True}
    run(jobs, small_chip().replace(rounding="half_even"))


def outputs_with(job: Job, kind: type | None) -> list[list[int]]:
    """Of halves to even neighbours; those of one ``kind`` of operations away from zero."""
    tensors = {name: values[0, 0] for name, values in job.inputs.items()}
    for operation in job.graph.operations:
        rounding: Rounding = "half_away" if type(operation) is kind else "half_even"
        tensors[operation.name] = evaluate_row_operation(operation, job.constants, tensors, rounding=rounding)
    return [tensors[name].tolist() for name in job.graph.outputs]


@pytest.mark.parametrize("kind", HALVES)
def test_a_half_of_each_operation_is_seen(kind: type) -> None:
    """A row function that rounded otherwise would be found by `test_random_graphs`."""
    job = random_rows(HALVES[kind])
    assert outputs_with(job, None) != outputs_with(job, kind)


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
