"""tb.benches.chip_bench: compiled graphs through whole chips in RTL, bit-exact, with predicted cycles and counters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from podweave.compiler.compile_network import compile_network
from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.runs.chip import run_networks
from podweave.runs.jobs import Job
from podweave.spec.config import ChipConfig
from tests.compiler.chip.chip_graphs import graphs
from tests.fast import fast_of
from tests.tb.benches.chip_networks import (
    CONFIGS,
    FAST,
    MORE,
    TINY,
    assert_exact,
    bench_of,
    gemm_chain,
    job_of,
    run,
    small_network,
    windows,
)


@functools.cache
def drawn(count: int) -> tuple[Graph, ...]:
    """Random graphs, the same in every run, each under a name of its own."""
    found: list[Graph] = []

    @settings(
        derandomize=True,
        deadline=None,
        max_examples=count,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(graphs())
    def collect(graph: Graph) -> None:
        found.append(dataclasses.replace(graph, name=f"random{len(found)}"))

    collect()
    return tuple(found)


def fitting(config: ChipConfig, candidates: Iterable[Graph]) -> list[Job]:
    """Those graphs that fit the banks and stores of a configuration, with data."""
    jobs = []
    for seed, graph in enumerate(candidates):
        job = job_of(graph, seed)
        try:
            compile_network(graph, config, job.constants)
        except WorkloadError:
            continue
        jobs.append(job)
    return jobs


def kinds(graph: Graph) -> Iterator[str]:
    """What there is in a graph."""
    for node in graph.operations:
        layers = [operand.layer for operand in node.operands]
        yield from (["residual"] if len(layers) > 1 else [])
        for operand in node.operands:
            yield from (["concatenation"] if len(operand.sources) > 1 else [])
            yield from (["slice"] if operand.channels else [])
        for layer in layers:
            yield from (["stride"] if layer.stride != (1, 1) else [])
            yield from (["dilation"] if layer.dilation != (1, 1) else [])
            yield from (["padding"] if layer.padding != ((0, 0), (0, 0)) else [])
            yield from (["images"] if layer.batch > 1 else [])
            if not node.identity and layer.groups > 1:
                yield "depthwise" if layer.groups == layer.channels else "groups"
        if node.window:
            padded = layers[0].padding != ((0, 0), (0, 0))
            yield ("pool " if node.identity else "fused ") + node.window.reduce + (" padded" if node.identity and padded else "")


FAST_GRAPHS, CAMPAIGN_GRAPHS = 30, 300
KINDS = {
    *("residual", "concatenation", "slice", "stride", "dilation", "padding", "images", "depthwise", "groups"),
    *("pool max padded", "pool sum", "pool sum padded", "fused max", "fused sum"),
}


def random_jobs(key: str, count: int) -> list[Job]:
    jobs = fitting(CONFIGS[key], [small_network(), windows(), gemm_chain(), *drawn(count)])
    # What does not fit must not be all that the test is about.
    assert len(jobs) > count // 3
    assert {kind for job in jobs for kind in kinds(job.graph)} >= KINDS
    return jobs


@pytest.mark.parametrize("key", fast_of(FAST | MORE, *FAST))
def test_random_graphs(key: str) -> None:
    jobs = random_jobs(key, FAST_GRAPHS)
    assert_exact(run(key, jobs, seed=1), jobs)


@pytest.mark.campaign
@pytest.mark.parametrize("key", CONFIGS)
def test_random_graphs_campaign(key: str) -> None:
    jobs = random_jobs(key, CAMPAIGN_GRAPHS)
    assert_exact(run(key, jobs, seed=2), jobs)


@pytest.mark.parametrize("key", ["2x(2x1)", "8x(2x2), 2 planes of Y"])
@pytest.mark.parametrize("partition", [0, 8])
def test_partitions(key: str, partition: int) -> None:
    jobs = [job_of(small_network()), job_of(gemm_chain())]
    assert_exact(run(key, jobs, partition=partition), jobs)


def test_host_port_gives_the_same_as_the_backdoor() -> None:
    jobs = fitting(TINY, [small_network(), *drawn(FAST_GRAPHS)[:12]])
    report = run("2x(2x1)", jobs, through="port")
    assert_exact(report, jobs)
    backdoor = run("2x(2x1)", jobs)
    assert_exact(backdoor, jobs)
    names = ("network", "mismatches", "compared", "cycles", "counters")
    first, second = ([{name: row[name] for name in names} for row in each["networks"]] for each in (report, backdoor))
    assert first == second


def test_second_run_with_other_inputs_needs_no_reset() -> None:
    """What an epoch leaves in banks, accumulators and weights is no part of the next one."""
    first, other = job_of(small_network()), job_of(gemm_chain(), 1)
    second = dataclasses.replace(first, inputs={name: np.roll(value, 7) ^ 85 for name, value in first.inputs.items()})
    jobs = [first, second, other, first, second]
    report, found, _ = run_networks(
        jobs, CONFIGS["8x(2x2), 2 planes of Y"], bench=bench_of("8x(2x2), 2 planes of Y"), progress=lambda _: None
    )
    assert_exact(report, jobs)
    assert len({row["cycles"] for row, job in zip(report["networks"], jobs, strict=True) if job is not other}) == 1
    np.testing.assert_array_equal(found[0]["classes"], found[3]["classes"])
    np.testing.assert_array_equal(found[1]["classes"], found[4]["classes"])
    assert (found[0]["classes"] != found[1]["classes"]).any()


def test_one_graph_with_other_tables_is_another_network() -> None:
    """Two jobs of one graph, whose activation tables and weights differ: each runs with its own."""
    first = job_of(small_network())
    held = {
        name: dataclasses.replace(values, bias=values.bias + 3, table=None if values.table is None else values.table[::-1].copy())
        for name, values in first.constants.items()
    }
    second = dataclasses.replace(first, constants=Constants(held))
    report, found, networks = run_networks(
        [first, second, first], CONFIGS["2x(2x1)"], bench=bench_of("2x(2x1)"), progress=lambda _: None
    )
    assert_exact(report, [first, second, first])
    assert networks[0] is networks[2] is not networks[1]
    assert (found[0]["classes"] != found[1]["classes"]).any()


def test_initial_state_changes_nothing() -> None:
    """Registers and memories begin with other random bits for each seed."""
    jobs = [job_of(small_network()), job_of(gemm_chain())]
    for seed in (1, 2, 3):
        assert_exact(run("2x(2x1)", jobs, seed=seed), jobs)
