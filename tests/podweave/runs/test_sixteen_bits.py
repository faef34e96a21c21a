"""Layers of ONNX files that read 16 bits: from onnxruntime's quantiser, and from ours, to RTL, and beside onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.graph import Graph
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.model_files import file_inputs, file_job
from podweave.runs.oracle import compare_file
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.podweave.runs.sixteen_bit_files import KINDS, Drawn, by_onnxruntime, classes, features, pixels
from tests.podweave.runs.test_attention import AWAY, EVEN

COUNT = 3
"""Inputs of a run."""
STEP = 2
"""Of 65,536, by which what is given of int8 may be off: biases of few bits hold zero points of 16."""


def inputs_of(folder: Path, drawn: Drawn, count: int = COUNT) -> Path:
    # Those of the calibration, and smaller: nothing is beyond two planes.
    np.savez(folder / "in.npz", x=drawn.given(count) * 0.6)
    return folder / "in.npz"


def beside(network: Network, made: Path, feeds: list[Any], constants: Any = None) -> dict[str, dict[str, Any]]:
    found = compare_file(network, made, constants or network.constants, feeds, "half_even")
    return {row["operation"]: row for row in found["layers"]}


def held_by(network: Network, name: str, row: dict[str, Any]) -> bool:
    """Whether a layer is as onnxruntime has it: norms but for 16 bits of a root, all others but for ties."""
    tensor = network.tensors[name]
    if row["operator"] == "LayerNormalization":
        return bool(row["sqnr_db"] is None or row["sqnr_db"] > 45)
    if tensor.form is Format.INT16 and network.bounds.get(name, 1.0) > 0.25:
        return bool(row["largest"] <= STEP)
    return bool(row["differing"] == row["ties"] and row["largest"] <= 1)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_onnxruntime(tmp_path: Path, kind: str, signed: bool) -> None:
    """Each layer on what onnxruntime has in front of it; of int16, functions must not limit in the midst of what it holds."""
    make, tensors = KINDS[kind]
    drawn = make(3)
    if signed:
        drawn.nodes = [node for node in drawn.nodes if node.op_type != "Relu"]
        for node in drawn.nodes:
            node.input[:] = [name.removesuffix(".relu") for name in node.input]
        tensors = tuple(name.removesuffix(".relu") for name in tensors)
    made = by_onnxruntime(tmp_path, drawn, tensors, signed=signed)
    network = read_network(made)
    graph = {"features": RowGraph, "classes": Graph, "pixels": MixedGraph, "tokens": MixedGraph}[kind]
    assert type(network.graph) is graph
    wide = {name for name, tensor in network.tensors.items() if tensor.form is Format.INT16}
    # Nothing computes a mean of 16 bits by itself.
    assert len(wide) == len(tensors) - (kind == "classes")
    layers = beside(network, made, file_inputs(network, inputs_of(tmp_path, drawn)))
    for name, row in layers.items():
        assert held_by(network, name, row), row


def constants_of(made: Path) -> dict[str, NDArray]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(made).graph.initializer}


def test_integers_are_those_of_the_file(tmp_path: Path) -> None:
    """Computed again, in float64, of what is in the file: every layer of 16 bits, on integers of the one before."""
    drawn = features(7)
    made = by_onnxruntime(tmp_path, drawn, KINDS["features"][1])
    network, held = read_network(made), constants_of(made)
    (given,) = file_inputs(network, inputs_of(tmp_path, drawn, 1))
    found = evaluate(network.graph, network.constants, given, "half_even")
    names = [("x", "x"), ("first.relu", "first"), ("second.relu", "second"), ("last", "last")]

    def real(tensor: str, operation: str) -> NDArray[np.float64]:
        integers = network.tensors[operation].to_file(found[operation]).astype(np.float64)
        return (integers - held[f"{tensor}_zero_point"]) * held[f"{tensor}_scale"]

    for (before, reads), (tensor, layer) in itertools.pairwise(names):
        weights = held[f"{layer}.w_quantized"].astype(np.float64) * held[f"{layer}.w_scale"]
        bias = held[f"{layer}.b_quantized"] * held[f"{layer}.b_quantized_scale"].astype(np.float64)
        sums = real(before, reads) @ weights + bias
        wanted = np.rint(sums / held[f"{tensor}_scale"]) + held[f"{tensor}_zero_point"]
        ours = network.tensors[layer].to_file(found[layer])
        assert ours.dtype == np.uint16
        np.testing.assert_array_equal(ours, np.clip(wanted, 0, 65407))
    assert len(np.unique(ours)) == 3


def run(network: Network, config: ChipConfig, inputs: Path | None = None, seed: int = 1) -> dict[str, Any]:
    job = file_job(network, config, seed, inputs=inputs)
    report, outputs, _ = run_jobs([job], AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert len(np.unique(next(iter(outputs[0].values())))) > 2
    return report


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("pixels", EVEN),
        *(pytest.param(kind, config, marks=pytest.mark.campaign) for kind in KINDS for config in (EVEN, AWAY)),
    ],
)
def test_from_a_file_to_rtl(tmp_path: Path, kind: str, config: ChipConfig) -> None:
    """Bit for bit, and in the predicted cycles; random integers reach both ends of 16 bits."""
    make, tensors = KINDS[kind]
    report = run(read_network(by_onnxruntime(tmp_path, make(5), tensors)), config)
    assert report["verdict"] == "pass", report["networks"][0].get("first_mismatch")
    assert report["cycles"] == report["predicted_cycles"]


def other_bias(held: Parameters) -> Parameters:
    return replace(held, bias=held.bias + (np.abs(held.bias).max() >> 6))


def other_scale(held: Parameters) -> Parameters:
    return replace(held, shift=held.shift + 1)


def swapped(held: Parameters) -> Parameters:
    return replace(held, weights=(held.weights[0][::-1].copy(),))


@pytest.mark.parametrize("fault", [other_bias, other_scale, swapped])
@pytest.mark.parametrize("layer", ["first", "second", "last"])
def test_faults_of_constants_are_seen(tmp_path: Path, layer: str, fault: Callable[[Parameters], Parameters]) -> None:
    drawn = features(3)
    made = by_onnxruntime(tmp_path, drawn, KINDS["features"][1])
    network = read_network(made)
    feeds = file_inputs(network, inputs_of(tmp_path, drawn))
    wrong = {**network.constants, layer: fault(network.constants[layer])}
    rows = beside(network, made, feeds, wrong)
    assert [name for name, row in rows.items() if not held_by(network, name, row)] == [layer]


def test_a_plane_that_is_lost_is_seen(tmp_path: Path) -> None:
    """The low one, which is all that 16 bits have beyond 8."""
    drawn = features(3)
    made = by_onnxruntime(tmp_path, drawn, KINDS["features"][1])
    network = read_network(made)
    (given,) = file_inputs(network, inputs_of(tmp_path, drawn, 1))
    whole, high = (
        evaluate(network.graph, network.constants, {"x": values}, "half_even")["first"]
        for values in (given["x"], ((given["x"].astype(np.int32) + 128) & ~255).clip(-32768, 32512).astype(np.int16))
    )
    assert np.abs(whole.astype(np.int32) - high).max() > 20 * STEP


def test_two_planes_end_at_65407(tmp_path: Path) -> None:
    """What an int16 of the file holds beyond is saturated, and the comparison counts it."""
    drawn = features(3)
    made = by_onnxruntime(tmp_path, drawn, ("first.relu",))
    network = read_network(made)
    np.savez(tmp_path / "large.npz", x=drawn.given(1) * 50)
    (given,) = file_inputs(network, tmp_path / "large.npz")
    found = evaluate(network.graph, network.constants, given, "half_even")["first"]
    assert network.tensors["first"].to_file(found).max() == 65407
    rows = beside(network, made, [given])
    assert rows["first"]["largest"] == 128
    assert rows["first"]["differing"] > rows["first"]["ties"]


def test_a_mean_is_not_rounded(tmp_path: Path) -> None:
    """A product with a mean is of layers alone, which any chip has."""
    drawn = classes(4)
    made = by_onnxruntime(tmp_path, drawn, ("mean",))
    network = read_network(made)
    assert type(network.graph) is Graph
    assert [operation.name for operation in network.graph.operations] == ["first", "second", "last"]
    rows = beside(network, made, file_inputs(network, inputs_of(tmp_path, drawn)))
    assert all(held_by(network, name, row) for name, row in rows.items())


@pytest.mark.parametrize(("make", "tensors"), [(pixels, ()), KINDS["pixels"], KINDS["features"]])
def test_a_bias_of_another_scale(tmp_path: Path, make: Callable[[int], Drawn], tensors: tuple[str, ...]) -> None:
    """Real numbers of a bias are what counts, as for onnxruntime (but where it fuses a Gemm of 8 bits), in 8 bits and in 16."""
    drawn = make(3)
    made = by_onnxruntime(tmp_path, drawn, tensors)
    model = onnx.load(made)
    (scale,) = (each for each in model.graph.initializer if each.name == "second.b_quantized_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(0.37), scale.name))
    before = read_network(made).constants["second"].bias
    onnx.save(model, made)
    network = read_network(made)
    assert np.abs(network.constants["second"].bias - before).max() > 100
    for name, row in beside(network, made, file_inputs(network, inputs_of(tmp_path, drawn))).items():
        assert held_by(network, name, row), row


@pytest.mark.campaign
def test_a_mean_of_many_positions_in_rtl(tmp_path: Path) -> None:
    """More than accumulators have rows, of more channels than the array."""
    drawn = Drawn(6, 1, 3, 6, 5)
    drawn.conv("first", 3, 9)
    drawn.add("GlobalAveragePool", "mean")
    drawn.conv("last", 9, 5)
    made = by_onnxruntime(tmp_path, drawn, ("mean",))
    network = read_network(made)
    rows = beside(network, made, file_inputs(network, inputs_of(tmp_path, drawn)))
    assert all(held_by(network, name, row) for name, row in rows.items())
    report = run(network, EVEN)
    assert report["verdict"] == "pass", report["networks"][0].get("first_mismatch")
    assert report["cycles"] == report["predicted_cycles"]


def random_chain(seed: int) -> tuple[Drawn, tuple[str, ...]]:
    """Products one behind the other, of any widths, some of them limited, and which tensors have 16 bits."""
    rng = np.random.default_rng([seed, 16])
    of_rows, width = bool(rng.integers(2)), int(rng.integers(1, 24))
    sizes = (1, int(rng.integers(1, 9)), width) if of_rows else (1, width, *(int(each) for each in rng.integers(1, 5, 2)))
    drawn, tensors = Drawn(seed, *sizes), list[str]()
    for number in range(int(rng.integers(2, 6))):
        wider, name = int(rng.integers(1, 24)), f"layer{number}"
        (drawn.matmul if of_rows else drawn.conv)(name, width, wider)
        if rng.integers(3) == 0:
            drawn.add("Relu", f"{name}.relu")
        tensors.append(drawn.last)
        width = wider
    tensors = ["x", *tensors]
    return drawn, tuple(name for name in tensors if rng.integers(3)) or (tensors[-1],)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(4, 60))])
def test_random_chains(tmp_path: Path, seed: int) -> None:
    drawn, tensors = random_chain(seed)
    made = by_onnxruntime(tmp_path, drawn, tensors)
    network = read_network(made)
    for name, row in beside(network, made, file_inputs(network, inputs_of(tmp_path, drawn))).items():
        assert held_by(network, name, row), row


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_random_chains_in_rtl(tmp_path: Path, seed: int) -> None:
    drawn, tensors = random_chain(seed)
    network = read_network(by_onnxruntime(tmp_path, drawn, tensors))
    job = file_job(network, (EVEN, AWAY)[seed % 2], seed)
    report, _, _ = run_jobs([job], AcceleratorWay((EVEN, AWAY)[seed % 2], check="always"), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", report["networks"][0].get("first_mismatch")
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.campaign
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_in_rtl(tmp_path: Path, sign: int) -> None:
    """All that 32 bits hold: weights of 127 for all that one output reads, of the least or the largest integers."""
    drawn = Drawn(1, 1, 516)
    drawn.gemm("first", 516, 3)
    drawn.held[0].CopyFrom(numpy_helper.from_array(np.full((516, 3), 0.01, np.float32), "first.w"))
    network = read_network(by_onnxruntime(tmp_path, drawn, ("x",)))
    assert np.abs(network.constants["first"].weights[0].astype(int)).sum(axis=0).tolist() == [65532] * 3
    np.savez(tmp_path / "ends.npz", x=np.full((1, 516), sign * 1e6, np.float32))
    config = EVEN.replace(x_words=2048, w_words=2048, p_words=2048)
    report, outputs, _ = run_jobs(
        [file_job(network, config, 1, inputs=tmp_path / "ends.npz")],
        AcceleratorWay(config, check="always"),
        Simulation(),
        lambda _: None,
    )
    assert report["verdict"] == "pass", report["networks"][0].get("first_mismatch")
    assert set(outputs[0]["first"].ravel().tolist()) == {127 if sign > 0 else -128}
