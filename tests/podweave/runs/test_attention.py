"""Norms and attention among the layers of ONNX files: from floating point to RTL, and beside onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_operations import Attention, LayerNorm
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.calibration import FloatFile
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import file_job, quantised_inputs
from podweave.runs.oracle import compare_file
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.podweave.runs.attention_file import Form, attention_file
from tests.podweave.runs.row_jobs import small_chip

EVEN = small_chip().replace(name="attending2x4", rounding="half_even", zero_points=True, scale_bits=24)
"""As files are computed; and one that rounds halves away from zero, has no zero points, and multiplies 31 bits."""
AWAY = small_chip()
FORMS = [
    Form(),
    Form(qkv="gather", scaled="divided", opset=17, whole_norms=True),
    Form(qkv="split", scaled="scores", opset=13),
    Form(qkv="apart", height=2, width=3),
    Form(heads=1, qkv="apart", width=5),
    Form(channels=12, heads=4, height=3, width=2),
]
ON_ROWS = ("LayerNormalization", "MatMul")


def quantised(folder: Path, form: Form, seed: int = 0) -> tuple[Network, Path, dict[str, Any]]:
    file, inputs = attention_file(folder, form, seed)
    made = folder / "made.onnx"
    report = quantise_file(str(file), made, inputs, None, FileRecipe(), accuracy=True, progress=lambda _: None)
    return read_network(made), made, report


def beside(network: Network, made: Path, constants: Any = None) -> list[dict[str, Any]]:
    """Each layer on what onnxruntime has in front of it, over a few images."""
    rng = np.random.default_rng(5)
    feeds = [
        network.with_caches({name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in network.given.items()})
        for _ in range(4)
    ]
    layers: list[dict[str, Any]] = compare_file(network, made, constants or network.constants, feeds, "half_even")["layers"]
    return layers


@pytest.mark.parametrize("form", FORMS)
def test_forms_beside_floating_point_and_onnxruntime(tmp_path: Path, form: Form) -> None:
    """Norms and attention are off by a step at most, and nothing else is off but for ties."""
    network, made, report = quantised(tmp_path, form)
    assert isinstance(network.graph, MixedGraph)
    assert [type(each) for each in network.graph.rows if isinstance(each, LayerNorm | Attention)] == [
        *(LayerNorm, Attention, LayerNorm, LayerNorm)
    ]
    assert report["accuracy"]["outputs"][0]["cosine"] > 0.997
    layers = beside(network, made)
    assert sum(row["operator"] in ON_ROWS for row in layers) == 4
    for row in layers:
        if row["operator"] in ON_ROWS:
            assert row["largest"] <= 1, row
            assert row["sqnr_db"] is None or row["sqnr_db"] > 38, row
        else:
            assert row["differing"] == row["ties"], row


def test_texts_beside_floating_point(tmp_path: Path) -> None:
    """Positions and texts that are told are those of the integers and of onnxruntime in floating point, counted by hand."""
    file, inputs = attention_file(tmp_path, Form(width=7))
    made = tmp_path / "made.onnx"
    report = quantise_file(str(file), made, inputs, None, FileRecipe(), accuracy=True, blank=0, progress=lambda _: None)
    network, plain = read_network(made), FloatFile(onnx.load(file), ())
    (name,) = network.outputs
    same = texts = 0
    for image in np.load(inputs)["x"]:
        (exact,) = plain({"x": image[None]}).values()
        batch = quantised_inputs(network, {"x": image[None]})
        chosen = evaluate(network.graph, network.constants, batch, "half_even")[name][0, 0].argmax(axis=1)
        wanted = exact[0, :, 0].argmax(axis=0)
        same += int((chosen == wanted).sum())
        texts += [key for key, _ in groupby(chosen.tolist()) if key] == [key for key, _ in groupby(wanted.tolist()) if key]
    (row,) = report["accuracy"]["outputs"]
    assert (row["images"], row["positions"], row["same_positions"], row["same_text"]) == (6, 42, same, texts)
    assert row["same_top"] <= texts
    assert same > 36


def other_scale(held: Parameters) -> Parameters:
    return replace(held, multiplier=held.multiplier * 2)


def other_bias(held: Parameters) -> Parameters:
    return replace(held, bias=held.bias + (held.bias.max() | 1))


Fault = Callable[[Parameters], Parameters]


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (".attention", other_scale),
        (".query", other_bias),
        (".norm", other_scale),
        (".norm", other_bias),
        ("MatMul", other_bias),
    ],
)
def test_faults_of_constants_are_more_than_a_step(tmp_path: Path, end: str, fault: Fault) -> None:
    """Scales of scores and gains, zero points of queries and of what attention gives, biases of norms."""
    network, made, _ = quantised(tmp_path, Form())
    last = next(name for name, operator in network.operators.items() if operator == "MatMul" and name in network.tensors)
    named = [name for name in network.constants if name.endswith(end)]
    name = last if end == "MatMul" else named[0]
    wrong = {**network.constants, name: fault(network.constants[name])}
    assert max(row["largest"] for row in beside(network, made, wrong) if row["operator"] in ON_ROWS) > 2


def run(network: Network, config: ChipConfig, seed: int) -> dict[str, Any]:
    job = file_job(network, config, seed)
    report, outputs, _ = run_jobs([job], AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert not outputs or len(np.unique(next(iter(outputs[0].values())))) > 5
    return report


@pytest.mark.parametrize(
    ("config", "form"),
    [
        (EVEN, Form()),
        *(pytest.param(EVEN, form, marks=pytest.mark.campaign) for form in FORMS[1:]),
        *(pytest.param(AWAY, form, marks=pytest.mark.campaign) for form in FORMS),
    ],
)
def test_from_a_file_to_rtl(tmp_path: Path, config: ChipConfig, form: Form) -> None:
    """Bit for bit, and in the predicted cycles."""
    network, _, _ = quantised(tmp_path, form)
    report = run(network, config, 1)
    assert report["verdict"] == "pass", report["networks"][0].get("first_mismatch")
    assert report["cycles"] == report["predicted_cycles"]
