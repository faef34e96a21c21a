"""Random ONNX files with norms and attention among their layers, quantised by onnxruntime: beside onnxruntime, and in RTL."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network
from podweave.ir.frontends.onnx.files import read_file
from podweave.ir.frontends.onnx.read import operator_rows
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_operations import Attention, LayerNorm
from podweave.runs.model_files import random_inputs
from podweave.runs.oracle import compare_layers, file_tensors
from podweave.spec.config import ChipConfig
from tests.podweave.runs.file_cases import TOGETHER, Found, attending_network, compared, exact_in_rtl
from tests.podweave.runs.test_attention import AWAY, EVEN, Fault
from tests.podweave.runs.test_random_files import NEVER

CAMPAIGN = 300
FAST = 25
HELD_TOGETHER = 50
ROWS = ("LayerNormalization", "MatMul")
"""Operators of the file whose results are computed on rows; products with constants are not."""


OTHER = AWAY.replace(name="away2x4", zero_points=True)
"""Rounds halves away from zero; means that leave pads out may have zero points."""


def rows_of(network: Network) -> Counter[type]:
    assert isinstance(network.graph, MixedGraph)
    return Counter(type(each) for each in network.graph.rows if isinstance(each, LayerNorm | Attention))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, FAST),
        *(pytest.param(first, HELD_TOGETHER, marks=pytest.mark.campaign) for first in range(0, CAMPAIGN, HELD_TOGETHER)),
    ],
)
def test_norms_and_attention_are_within_their_bounds(tmp_path: Path, first: int, count: int) -> None:
    """Nothing else differs but by ties."""
    found, rows = Found(), Counter[type]()
    for seed in range(first, first + count):
        network, file = attending_network(tmp_path, seed)
        found.nodes.update(node.operator for node in read_file(file).nodes)
        rows += rows_of(network)
        found.hold(network, compared(network, file, seed))
    told = f"{rows[LayerNorm]} norms, {rows[Attention]} attentions"
    print(f"{count} networks, {told}: {found.told()}")
    assert {"LayerNormalization", "Softmax", "Reshape", "Transpose", "Split", "Slice", "Gather", "Squeeze"} <= found.nodes.keys()
    assert found.nodes.keys() <= {name for name, _ in operator_rows()}
    assert min(rows[LayerNorm], rows[Attention]) >= count
    # A root is off by 0.4%, and a weight of a softmax by 3%: hardly a result by more than a step.
    assert 0 < found.within.total() < sum(found.values[name] for name in ROWS) / 5
    assert max(found.largest[name] for name in ROWS) <= 4
    assert found.within.keys() >= {name for name in ROWS if found.largest[name]}


def test_every_operator_is_in_random_files() -> None:
    """Those that files of `test_random_files` never have are here; but for one."""
    assert NEVER.keys() - {"LayerNormalization", "Softmax"} == {"Upsample"}


def scales(held: Parameters) -> Parameters:
    return replace(held, multiplier=held.multiplier * 2)


def biases(held: Parameters) -> Parameters:
    return replace(held, bias=held.bias + (held.bias.max() | 1))


def moved(held: Parameters) -> Parameters:
    return replace(held, bias=held.bias + 16)


def exponentials(held: Parameters) -> Parameters:
    assert held.wide_table is not None
    return replace(held, wide_table=np.sqrt(held.wide_table.astype(np.float64) * 4095).astype(np.int16))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Network, dict[str, Any]]]:
    """Networks, and all tensors as onnxruntime has them."""
    folder, found = tmp_path_factory.mktemp("attending"), []
    for seed in range(8):
        network, file = attending_network(folder, seed)
        found.append((network, file_tensors(network, file, random_inputs(network, seed))[0]))
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "fault"), [("norm", scales), ("norm", biases), ("attention", scales), ("attention", exponentials), ("value", moved)]
)
def test_faults_of_constants_are_beyond_bounds(some: list[tuple[Network, dict[str, Any]]], kind: str, fault: Fault) -> None:
    """In most networks: scores of some are so near to each other that other weights make no difference."""
    seen = 0
    for network, right in some:
        (name, *_) = (each for each in network.constants if each.endswith(f".{kind}"))
        wrong = {**network.constants, name: fault(network.constants[name])}
        rows = compare_layers(network, wrong, right, "half_even")
        seen += any(row["differing"] > row["ties"] + row["within"] for row in rows)
    assert seen >= 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "seeds"),
    [
        (EVEN, range(4)),
        *(
            pytest.param((EVEN, OTHER)[first // TOGETHER % 2], range(first, first + TOGETHER), marks=pytest.mark.campaign)
            for first in range(0, CAMPAIGN, TOGETHER)
        ),
    ],
)
def test_random_attention_in_rtl(tmp_path: Path, config: ChipConfig, seeds: range) -> None:
    """Bit for bit, and in the predicted cycles, from memory."""
    networks = [attending_network(tmp_path, seed)[0] for seed in seeds]
    exact_in_rtl(networks, config, seeds)
