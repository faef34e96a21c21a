"""Layers of ResNet-50 on one 32x32 pod in RTL."""

from __future__ import annotations

import pytest

from podweave.runs.chip import run_networks
from podweave.runs.jobs import chip_jobs
from podweave.spec.presets import load_config

POD32 = load_config("pod32")
# The largest (by MACs, and by cycles), the longest K, a short K, the fewest positions.
CHOSEN = ("conv1_conv", "conv2_block1_2_conv", "conv5_block1_2_conv", "conv2_block1_1_conv", "predictions")


def run(*names: str) -> None:
    jobs = [job for job in chip_jobs("resnet50_224", 1, alone=True, scale_bits=POD32.scale_bits) if job.graph.name in names]
    assert len(jobs) == len(names)
    report, *_ = run_networks(jobs, POD32, seed=1, progress=lambda _: None)
    assert report["verdict"] == "pass", report
    assert report["mismatches"] == 0
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.campaign
def test_five_layers() -> None:
    run(*CHOSEN)


@pytest.mark.campaign
def test_a_layer() -> None:
    run("conv2_block1_1_conv")


@pytest.mark.campaign
def test_all_layers() -> None:
    run(*(job.graph.name for job in chip_jobs("resnet50_224", 1, alone=True)))
