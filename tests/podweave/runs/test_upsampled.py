"""Networks that see tensors enlarged, or average what is no padding, in RTL and over AXI: whole, and cut so that tensors lie in
memory; all exact."""

from __future__ import annotations

import pytest

from podweave.fuzz.random_layers import upsampled_graph, upsampled_job
from podweave.ir.layers import WorkloadError

from .test_cut import run, spills, workload


def test_random_networks() -> None:
    run(*(upsampled_job(seed) for seed in (1, 4)), check="always")


@pytest.mark.parametrize(("up", "cut"), [("transposed", 1), ("nearest", 0)])
def test_a_small_unet_that_is_cut(up: str, cut: int) -> None:
    _, (network,) = run(workload(f"unet_16,width=4,depth=1,up={up}"), check="always", cut=cut)
    assert spills(network)
    # What is in memory is read as it is: by copies, or it lies there as it is seen.
    copied = any("/" in operation.name and operation.identity for operation in network.split.graph.operations)
    as_seen = any(item.seen.interleaved for program in network.programs for item in program.spilled)
    assert (copied, as_seen) == ((False, True) if up == "transposed" else (True, False))


def test_random_networks_have_all_kinds() -> None:
    views = [
        seen
        for seed in range(10)
        for node in upsampled_graph(seed).operations
        for operand in node.operands
        for seen in operand.upsampled
    ]
    assert any(node.border_counts for seed in range(10) for node in upsampled_graph(seed).operations)
    assert {(seen.rows, seen.interleaved) for seen in views} == {(1, False), (2, False), (3, False), (2, True), (3, True)}


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 40, 4))
def test_random_networks_campaign(first: int) -> None:
    run(*(upsampled_job(seed) for seed in range(first, first + 4)), check="always")


# 9 column tiles of 108 words fill 972 of 1,024 W words; they fit with sums in 9 places of a bank, which has 8 parameter sets.
REFUSED = pytest.mark.xfail(
    raises=WorkloadError, strict=True, reason="fits only with its outputs cut, which parts of a sum are not"
)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[REFUSED] * (seed == 13)) for seed in range(20)])
def test_random_networks_that_are_cut_campaign(seed: int) -> None:
    run(upsampled_job(seed, size=8), check="always", cut=1 + seed % 3)


@pytest.mark.campaign
@pytest.mark.parametrize(
    "text", ["unet_32,width=4,depth=3", "unet_32,width=8,depth=3,up=nearest", "unet_24,width=4,depth=2,batch=2"]
)
def test_unets_campaign(text: str) -> None:
    run(workload(text), check="always")
