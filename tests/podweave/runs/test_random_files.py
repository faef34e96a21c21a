"""Random ONNX files over all operators that are taken, quantised by onnxruntime: beside onnxruntime, layer by layer, and in RTL."""

from __future__ import annotations

from pathlib import Path

import pytest

from podweave.ir.frontends.onnx.files import read_file
from podweave.ir.frontends.onnx.read import operator_rows
from tests.podweave.runs.file_cases import TOGETHER, Found, chip_of, compared, exact_in_rtl, random_network

CAMPAIGN = 300
HELD_TOGETHER = 50
_BESIDE = "of attention among layers, which has random files of its own: test_random_attention.py"
NEVER = {"Upsample": "of opset 9, in which nothing quantises", "LayerNormalization": _BESIDE, "Softmax": _BESIDE}
"""Operators of the table that no random file has, and why: every other one must be in each `HELD_TOGETHER` of them."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "first",
    [0, *(pytest.param(first, marks=pytest.mark.campaign) for first in range(HELD_TOGETHER, CAMPAIGN, HELD_TOGETHER))],
)
def test_random_networks_are_those_of_onnxruntime(tmp_path: Path, first: int) -> None:
    found = Found()
    for seed in range(first, first + HELD_TOGETHER):
        network, file = random_network(tmp_path, seed)
        found.nodes.update(node.operator for node in read_file(file).nodes)
        found.hold(network, compared(network, file, seed))
    print(f"{HELD_TOGETHER} networks: {found.told()}")
    operators = {name for name, _ in operator_rows()}
    assert operators - found.nodes.keys() == NEVER.keys()
    assert found.nodes.keys() <= operators
    # Scales of convolutions are as good as random: hardly a sum of theirs is near a half. A mean of six often is one.
    exact = ("Conv", "ConvTranspose", "Relu", "Clip", "Gemm", "MatMul", "MaxPool", "Mul", "QLinearConv", "com.microsoft.QLinearMul")
    assert sum(found.ties[name] for name in exact) <= sum(found.values[name] for name in exact) / 5_000
    assert found.ties["AveragePool"] < found.values["AveragePool"] // 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "seeds",
    [
        range(4),
        *(pytest.param(range(first, first + TOGETHER), marks=pytest.mark.campaign) for first in range(0, CAMPAIGN, TOGETHER)),
    ],
)
def test_random_networks_in_rtl(tmp_path: Path, seeds: range) -> None:
    """Bit for bit, and in the predicted cycles, from memory; the small chip has banks of 256 words."""
    config, _ = chip_of(seeds[0])
    networks = [random_network(tmp_path, seed)[0] for seed in seeds]
    exact_in_rtl(networks, config, seeds)
