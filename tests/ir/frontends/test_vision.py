"""ir.frontends.vision: vision transformers by name."""

from __future__ import annotations

import re

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.frontends import load_graph, load_layers
from podweave.ir.frontends.random_mixed import random_mixed_inputs, random_mixed_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph, verify_mixed
from podweave.ir.row_operations import Attention, Format, RmsNorm, Rope, SiluProduct


def test_graph() -> None:
    """16 patches of 4x4 pixels; two encoders of 12 channels."""
    graph = load_graph("vit_16_4_12_3_20_2")
    assert isinstance(graph, MixedGraph)
    verify_mixed(graph)
    assert [each.name for each in graph.layers] == ["patches", "mean", "classes"]
    assert {name: shape for name, shape in graph.inputs.items() if "layer" not in name} == {
        "image": (1, 16, 16, 3),
        "positions": (1, 1, 16, 12),
        "lengths": (1, 1, 1, 16),
    }
    assert [graph.shape(name) for name in ("patches", "embedded", "features", "mean", "classes")] == [
        (1, 4, 4, 12),
        (1, 1, 16, 12),
        (1, 1, 16, 12),
        (1, 1, 1, 12),
        (1, 1, 1, 1000),
    ]
    assert graph.outputs == ("classes",)
    assert graph.format("features") is Format.INT8
    kinds = [type(each) for each in graph.rows]
    assert (kinds.count(Attention), kinds.count(SiluProduct), kinds.count(RmsNorm), kinds.count(Rope)) == (2, 2, 5, 0)
    # Every encoder: 4 products of 12 by 12, 3 of 12 by 20; attention of all patches; patches, features, classes.
    encoder = 16 * (4 * 12 * 12 + 3 * 12 * 20) + 2 * 16 * 16 * 12
    assert graph.macs == 2 * encoder + 16 * (48 * 12 + 2 * 12 * 12) + 12 * 1000


def test_rows_are_patches() -> None:
    """What changes in the image changes the rows of its patches."""
    graph = load_graph("vit_8_4_8_2_12")
    assert isinstance(graph, MixedGraph)
    parameters, inputs = random_mixed_parameters(graph, 1), random_mixed_inputs(graph, 1)
    before = evaluate(graph, parameters, inputs)
    image = inputs["image"].copy()
    image[0, 4:, :4] ^= 127
    after = evaluate(graph, parameters, {**inputs, "image": image})
    differs = (before["embedded"] != after["embedded"])[0, 0].any(axis=1)
    assert differs.tolist() == [False, False, True, False]
    assert (before["classes"] != after["classes"]).any()
    assert before["classes"].dtype == np.int8


REFUSED = {
    "vit_16_5_12_3_20": "vit_16_5_12_3_20: patch (5) must divide image (16)",
    "vit_16_4_12_5_20": "vit_16_4_12_5_20: heads (5) must divide hidden (12)",
    "vit_16_4_12_3_0": "vit_16_4_12_3_0: intermediate must be at least 1, got 0",
    "vit_16_4_12_3_20_0": "vit_16_4_12_3_20_0: layers must be at least 1, got 0",
    "vit_16_4_12_3_20/patches": "vit_16_4_12_3_20 has operations on rows, which read what others leave",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(REFUSED[name])}"):
        load_graph(name)


def test_rows_are_no_layers_alone() -> None:
    with pytest.raises(WorkloadError, match=r"^vit_16_4_12_3_20 has operations on rows, which read what others leave"):
        load_layers("vit_16_4_12_3_20")
