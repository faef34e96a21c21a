"""Networks larger than the banks, in RTL: cut into segments and bands, with tensors in memory between them, and all exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork
from podweave.fuzz.random_large import cut_job
from podweave.fuzz.random_layers import parts_graph, parts_job, random_job
from podweave.fuzz.random_views import views_job
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.builder import Builder
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.rewrites import with_batch
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import run_on_device
from podweave.runs.jobs import Job
from tests.compiler.memory.test_spilled import AROUND, crops
from tests.podweave.runs.small_accelerator import CONFIG, small_bench, with_residual

SHAKEN = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)


def run(*jobs: Job, **options: Any) -> tuple[dict[str, Any], list[CompiledNetwork]]:
    """The report of a run that is right: outputs, cycles and counters are as they should be."""
    report, _, networks = run_on_device(jobs, CONFIG, bench=small_bench(), progress=lambda _: None, **options)
    assert (report["verdict"], report["failure"], report["mismatches"]) == ("pass", None, 0)
    for row in report["networks"]:
        assert (row["cycles"], row["counters_differing"]) == (row["predicted_cycles"], [])
    return report, networks


def workload(text: str) -> Job:
    graph, rng = load_graph(text), np.random.default_rng(1)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, 1)), inputs)


def spills(network: CompiledNetwork) -> bool:
    """Whether epochs load what others have stored."""
    return any(program.unit(item).is_stored for program in network.programs for item in program.external_units)


@pytest.mark.parametrize(
    "text",
    [
        # More activations than X banks hold; more sums than P banks do, in one row; rows with halo.
        "gemm:400x16x4",
        "gemm:2000x8x8",
        # Weights of more epochs than one, which every second band takes the other way round.
        "gemm:60x64x160",
        # Bands of which later ones find their jobs.
        pytest.param("conv:120x120x4x4,kernel=3x3,padding=1", marks=pytest.mark.campaign),
        "conv:20x20x8x8,kernel=3x3,padding=1",
        "conv:21x30x3x12,kernel=5x3,stride=2,padding=2,batch=2",
    ],
)
def test_one_layer_that_does_not_fit(text: str) -> None:
    _, (network,) = run(workload(text), check="always")
    assert len(network.programs) > 1
    assert all(program.corners for program in network.programs)
    assert network.checked


def test_an_average_over_more_positions_than_a_window_may_have() -> None:
    """256 positions, where P banks hold 255 sums."""
    layer = Layer(name="mean", height=16, width=16, channels=4, outputs=4, groups=4)
    mean = Linear("mean", (Operand(("in",), layer),), Window("sum", (16, 16), (1, 1)), identity=True)
    graph = Graph("average", {"in": (1, 16, 16, 4)}, (mean,))
    inputs = {"in": np.random.default_rng(2).integers(-128, 128, (1, 16, 16, 4), dtype=np.int8)}
    _, (network,) = run(Job(graph, Constants(random_parameters(graph, 2)), inputs), check="always")
    assert network.split.graph.operations[0].operands[0].layer.kernel != (1, 1)


def test_words_that_are_loaded_once_for_several() -> None:
    """A residual is read where a convolution has it with a halo; in bands, patches abreast read one copy of their weights."""
    jobs = []
    for side in (12, 16):
        graph = with_residual(side, 16)
        inputs = {"in": np.random.default_rng(side).integers(-128, 128, (1, side, side, 16), dtype=np.int8)}
        jobs.append(Job(graph, Constants(random_parameters(graph, side)), inputs))
    _, (residual, abreast) = run(*jobs, cut=2, check="always")
    assert spills(residual)
    readers = [program.operation(item.operation).name for program in residual.programs for item in program.external_units]
    assert set(readers) == {"first", "around"}
    # Pods that take a weight tile from one word of one bank, in the same cycle.
    loads = [np.stack([program.loads[name] for name in ("start", "w_bank", "w_base")]) for program in abreast.programs]
    assert max(int(np.unique(each, axis=1, return_counts=True)[1].max()) for each in loads) == 4


@pytest.mark.more
def test_random_networks_of_which_everything_spills() -> None:
    report, networks = run(*(random_job(seed) for seed in range(200, 225)), cut=1, check="always")
    assert len(report["networks"]) == 25
    assert all(map(spills, networks))


def test_random_networks_that_do_not_fit() -> None:
    _, networks = run(*map(cut_job, (0, 3, 6, 10, 12)), check="always", timing=SHAKEN)
    assert sum(map(spills, networks)) > 1


def test_parts_that_are_padded_where_their_tensor_goes_on() -> None:
    jobs = []
    for seed, readers in enumerate(([(2, 4, AROUND, 5), (3, 5, ((2, 0), (0, 1)), -3)], [(0, 6, AROUND, 7), (2, 6, AROUND, 7)])):
        graph = crops(*readers, width=6)
        inputs = {"in": np.random.default_rng(seed).integers(-128, 128, (1, 8, 8, 3), dtype=np.int8)}
        jobs.append(Job(graph, Constants(random_parameters(graph, seed)), inputs))
    _, networks = run(*jobs, cut=1, check="always", timing=SHAKEN)
    assert all(map(spills, networks))


def test_random_networks_that_see_parts() -> None:
    _, networks = run(*map(parts_job, range(12)), cut=1, check="always")
    assert all(map(spills, networks))
    operands = [operand for seed in range(12) for node in parts_graph(seed).operations for operand in node.operands]
    assert {any(map(any, operand.layer.padding)) for operand in operands if operand.corners} == {False, True}


def test_random_networks_of_many_views() -> None:
    _, networks = run(*map(views_job, range(6)), cut=1, check="always")
    # Those whose nodes read more than inputs of the network.
    assert sum(map(spills, networks)) == 5


def with_feeds(job: Job, passes: int) -> Job:
    """The same on a stream of inputs."""
    rng = np.random.default_rng(passes)
    more = [{name: rng.integers(-128, 128, one.shape, dtype=np.int8) for name, one in job.inputs.items()} for _ in range(1, passes)]
    return dataclasses.replace(job, stream=tuple(more))


@pytest.mark.parametrize(
    "seed",
    [0, pytest.param(6, marks=pytest.mark.more), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(400, 420))],
)
def test_streams_and_warm_runs_of_networks_that_spill(seed: int) -> None:
    """Passes have what lies between segments in the same places, and outputs of their own."""
    job = with_feeds(cut_job(seed), 2 + seed % 3)
    report, networks = run(job, job, cut=1 + seed % 2, check="always", timing=SHAKEN)
    assert [row["warm"] for row in report["networks"]] == [False, True]
    assert all(map(spills, networks))
    assert networks[0].memory.pass_bytes > 0


def test_batches_of_a_stream() -> None:
    """Early layers go over images one by one, and late ones over a batch, whose weights are loaded once."""
    net = Builder("pictures", {"input": (1, 12, 12, 3)})
    x = net.conv("down", net.conv("stem", ("input",), 8, kernel=3, padding="same"), 12, kernel=3, stride=2, padding="same")
    x = net.conv("outer", net.conv("inner", x, 12, kernel=3, padding="same"), 12, residual=x)
    net.conv("later", net.conv("late", x, 24, kernel=3, stride=2, padding="same"), 40, kernel=3)
    alone = net.graph()
    constants = Constants(random_parameters(alone, 3))
    images = np.random.default_rng(3).integers(-128, 128, (2, 4, 12, 12, 3), dtype=np.int8)
    feeds = tuple({"input": batch} for batch in images)
    job = Job(with_batch(alone, 4), constants, feeds[0], feeds[1:], alone)
    report, (network,) = run(job, cut=4, check="always", timing=SHAKEN)
    bands: dict[int, set[tuple[int, int, int]]] = {}
    for program in network.programs:
        bands.setdefault(program.segment, set()).update(program.corners.values())
    counts = [len({image for image, *_ in found}) for found in bands.values()]
    assert counts == [4, 1]
    (row,) = report["networks"]
    assert (row["images"], row["batch"], row["passes"]) == (8, 4, 2)
    assert row["image_cycles"] == row["cycles"] / 8
    # A batch is as many images alone.
    for batch in images:
        whole = evaluate(job.graph, constants, {"input": batch})["later"]
        each = [evaluate(alone, constants, {"input": image[None]})["later"] for image in batch]
        np.testing.assert_array_equal(whole, np.concatenate(each), strict=True)


def test_weights_of_bands_that_may_not_all_be_ahead() -> None:
    run(*map(cut_job, (3, 10)), check="always", timing=SHAKEN, prefetch_ratios={"*": 0.5})


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(100, 180, 8))
def test_campaign_of_parts(first: int) -> None:
    jobs = (parts_job(seed, size=first % 3 * 4) for seed in range(first, first + 8))
    run(*jobs, cut=first // 8 % 4, check="always", timing=SHAKEN)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(100, 180, 8))
def test_campaign_of_views(first: int) -> None:
    run(*map(views_job, range(first, first + 8)), cut=first // 8 % 4, check="always", timing=SHAKEN)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(100, 400, 10))
def test_campaign(first: int) -> None:
    timing = (HbmTiming(), SHAKEN)[first // 10 % 2]
    ways: dict[str, Any] = {"check": "always", "timing": timing, "prefetch": first % 30 > 0, "seed": first}
    run(*(cut_job(seed) for seed in range(first, first + 10)), cut=first // 10 % 4, **ways)
