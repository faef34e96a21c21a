"""Layers of ResNet-50 through a 32x32 pod in RTL."""

from __future__ import annotations

import pytest

from podweave.ir.frontends import load_workload
from podweave.runs.pod import run_workload
from podweave.spec.presets import load_config

# The largest (by MACs, and by cycles), the longest K, a short K, the fewest positions.
CHOSEN = ("conv1_conv", "conv2_block1_2_conv", "conv5_block1_2_conv", "conv2_block1_1_conv", "predictions")


def run(names: list[str]) -> None:
    layers = [layer for layer in load_workload("resnet50_224") if layer.name in names]
    report, _ = run_workload(layers, load_config("pod32"), check="result", seed=1, progress=lambda text: None)
    assert report["verdict"] == "pass", report
    assert report["mismatches"] == 0
    assert report["cycles"] == report["predicted_cycles"]
    assert len(report["layers"]) == len(names)


def test_five_layers() -> None:
    layers = load_workload("resnet50_224")
    largest = max(layers, key=lambda layer: layer.macs)
    assert largest.macs == next(layer.macs for layer in layers if layer.name == CHOSEN[0])
    run(list(CHOSEN))


@pytest.mark.campaign
def test_all_layers() -> None:
    run([layer.name for layer in load_workload("resnet50_224")])
