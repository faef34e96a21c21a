"""Operations whose weights no W banks hold, in RTL: in parts, by outputs and by reduction, which others read; and all exact."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork
from podweave.fuzz.random_sums import sums_job
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.jobs import Job

from .test_cut import SHAKEN, run, with_feeds, workload


def parts(network: CompiledNetwork) -> int:
    """Operations that add to the sums of others."""
    return sum(bool(each.adds_to) for each in network.split.graph.operations)


def layer(name: str, size: int, channels: int, outputs: int, kernel: int = 1, *, groups: int = 1, padding: int = 0) -> Layer:
    pad = (padding, padding)
    return Layer(
        name=name,
        height=size,
        width=size,
        channels=channels,
        outputs=outputs,
        kernel=(kernel, kernel),
        groups=groups,
        padding=(pad, pad),
    )


def job(graph: Graph, seed: int) -> Job:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)


def images() -> Job:
    """As VGG is: a convolution, a pooling, and dense layers, the first of which reads all positions: 1,152 numbers."""
    ones = layer("pool", 5, 72, 72, groups=72)
    return job(
        Graph(
            "images",
            {"in": (1, 8, 8, 3)},
            (
                Linear("conv", (Operand(("in",), layer("conv", 8, 3, 72, 4)),)),
                Linear("pool", (Operand(("conv",), ones, -128),), Window("max", (2, 2), (1, 1)), identity=True),
                Linear("fc1", (Operand(("pool",), layer("fc1", 4, 72, 24, 4)),)),
                Linear("fc2", (Operand(("fc1",), layer("fc2", 1, 24, 10)),)),
            ),
        ),
        5,
    )


def readers() -> Job:
    """Of a node in two parts: one of channels of both, a residual, one of channels of two tensors, and groups that are split."""
    wide = Linear("wide", (Operand(("in",), layer("wide", 3, 24, 60, 3, padding=1)),))
    some = Linear("some", (Operand(("wide",), layer("some", 3, 40, 20), channels=(9, 40)),))
    both = Operand(("some", "wide"), layer("both", 3, 60, 60, groups=60), channels=(11, 60), residual=True)
    added = Linear("added", (Operand(("in",), layer("added", 3, 24, 60, 3, padding=1)), both))
    grouped = Linear("grouped", (Operand(("added", "some"), layer("grouped", 3, 60, 72, 3, groups=4), channels=(7, 60)),))
    return job(Graph("readers", {"in": (1, 3, 3, 24)}, (wide, some, added, grouped)), 6)


def test_a_network_whose_dense_layer_no_w_banks_hold() -> None:
    _, (network,) = run(images(), check="always", timing=SHAKEN)
    assert parts(network) > 2
    assert all(each.adds_to == "" or each.name.startswith("fc1") for each in network.split.graph.operations)


def test_parts_are_read_by_channels_added_and_grouped() -> None:
    _, (network,) = run(readers(), check="always")
    assert {"wide", "added", "grouped"} <= network.split.parts.keys()
    assert any(
        len(operand.sources) > 1 and operand.channels for each in network.split.graph.operations for operand in each.operands
    )


def test_a_few_random_networks() -> None:
    """With concatenations, windows, residuals and groups."""
    networks = run(*map(sums_job, (6, 11, 23)), check="always")[1]
    assert all(parts(network) > 1 for network in networks)


@pytest.mark.campaign
def test_activations_and_weights_once() -> None:
    """More of both than banks hold, where all sums fit: in bands, weights would be loaded for each."""
    _, (network,) = run(workload("gemm:40x600x40"), check="always")
    assert parts(network) > 2
    assert not any(program.corners for program in network.programs)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [2, 11, 25])
def test_streams_warm_runs_and_prefetch_ratios(seed: int) -> None:
    """Passes find no sums of those before; parts of a tensor have its prefetch ratio."""
    stream = with_feeds(sums_job(seed), 3)
    report, networks = run(stream, stream, check="always", timing=SHAKEN)
    assert [row["warm"] for row in report["networks"]] == [False, True]
    assert all(map(parts, networks))
    run(sums_job(seed), check="always", prefetch_ratios={"*": 0.5})


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 40, 4))
def test_random_networks(first: int) -> None:
    timing = (HbmTiming(), SHAKEN)[first // 4 % 2]
    _, networks = run(*map(sums_job, range(first, first + 4)), check="always", timing=timing, cut=first // 4 % 3)
    assert any(map(parts, networks))
