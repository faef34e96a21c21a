"""Reductions whose weights no W banks hold, in RTL: over several epochs, which add to the same sums, and all exact."""

from __future__ import annotations

import pytest

from podweave.compiler.compile_network import CompiledNetwork
from podweave.predict.memory_timing import HbmTiming

from .random_sums import sums_job
from .test_cut import SHAKEN, run, workload


def parts(network: CompiledNetwork) -> int:
    """Operations that add to the sums of others."""
    return sum(bool(each.adds_to) for each in network.split.graph.operations)


def test_sums_over_epochs() -> None:
    """More channels than W banks hold, and more taps."""
    networks = run(workload("gemm:5x1500x20"), workload("conv:5x5x130x9,kernel=3x3,padding=1"), check="always", timing=SHAKEN)[1]
    assert all(parts(network) > 1 for network in networks)


def test_a_few_random_networks() -> None:
    """With concatenations, windows, a residual and groups, and one of them in bands."""
    networks = run(*map(sums_job, (6, 11, 23)), check="always")[1]
    assert all(parts(network) > 1 for network in networks)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 40, 4))
def test_random_networks(first: int) -> None:
    timing = (HbmTiming(), SHAKEN)[first // 4 % 2]
    _, networks = run(*map(sums_job, range(first, first + 4)), check="always", timing=timing, cut=first // 4 % 3)
    assert any(map(parts, networks))
