"""Layers of ONNX files that read 16 bits: from onnxruntime's quantiser, and from ours, to RTL, and beside onnxruntime."""

from __future__ import annotations

import itertools
import re
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
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format, LayerNorm, RowLinear
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.calibration import Method
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import file_inputs, file_job, random_inputs
from podweave.runs.oracle import compare_file
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.podweave.runs.sixteen_bit_files import KINDS, Drawn, branches, by_onnxruntime, classes, features, pixels, tokens
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
    if tensor.form is Format.INT16:
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


Change = Callable[[Path], Path]


def refused(make: Callable[[int], Drawn], *tensors: str, **options: Any) -> Change:
    return lambda folder: by_onnxruntime(folder, make(1), tensors, **options)


def with_function(seed: int) -> Drawn:
    file = Drawn(seed, 1, 6)
    file.gemm("first", 6, 5)
    file.add("Sigmoid", "sigmoid")
    file.gemm("last", 5, 2)
    return file


def many(seed: int) -> Drawn:
    file = Drawn(seed, 1, 600)
    file.gemm("first", 600, 600)
    file.gemm("last", 600, 2)
    file.held[2].CopyFrom(numpy_helper.from_array(np.ones((600, 2), np.float32), "last.w"))
    return file


def two_images(seed: int) -> Drawn:
    file = pixels(seed)
    file.sizes = (2, 3, 4, 5)
    return file


def keys(seed: int) -> Drawn:
    file = Drawn(seed, 1, 4, 6)
    for name in ("query", "key"):
        file.matmul(name, 6, 6, source="x")
    file.nodes.append(onnx.helper.make_node("Transpose", ["key"], ["turned"], "turned", perm=[0, 2, 1]))
    file.last = "query"
    file.add("MatMul", "scores", "turned")
    return file


def limited(folder: Path) -> Path:
    """With a zero point in the midst of what 16 bits hold."""
    made = by_onnxruntime(folder, features(1), ("first.relu",), QDQKeepRemovableActivations=True)
    model = onnx.load(made)
    readers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "first"]
    (zero,) = (each for each in model.graph.initializer if each.name == "first.relu_zero_point")
    zero.CopyFrom(numpy_helper.from_array(np.array(30000, np.uint16), zero.name))
    for node in model.graph.node:
        # Without the quantisation between the product and its Relu.
        if node.op_type == "Relu" and node.output[0] == "first.relu":
            node.input[0] = "first"
    assert len(readers) == 1
    onnx.save(model, made)
    return made


def mean_and_more(seed: int) -> Drawn:
    file = Drawn(seed, 1, 3, 4, 4)
    file.add("GlobalAveragePool", "mean")
    file.add("Flatten", "flat")
    file.gemm("first", 3, 5)
    file.gemm("last", 5, 2)
    return file


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            refused(pixels, "third.relu"),
            r"\n  Conv last: it reads 16 bits, and is no product of single positions of one image \(what helps: 16 bits "
            r"in front of Gemm, MatMul by a constant, and Conv 1x1 without groups or strides, of one image; int8 or uint8 else",
        ),
        (
            refused(pixels, "first.relu"),
            r"\n  QuantizeLinear first\.relu_QuantizeLinear: it quantises what Conv first gives to uint16 \(what helps: 16 bits of "
            r"inputs, and behind Gemm, .* and means of whole images; int8 or uint8 elsewhere\)$",
        ),
        (
            refused(branches, "first.clip"),
            r"\n  Add sum: its input first\.clip_DequantizeLinear_Output has 16 bits \(what helps: 16 b",
        ),
        (refused(with_function, "sigmoid"), r"it quantises what Sigmoid sigmoid gives to uint16 \(what helps: 16 bits of"),
        (
            limited,
            r"it quantises what Gemm first gives to uint16, of which Relu leaves 30,000 to 65,407 \(what helps: a scale and a zero "
            r"point with which that is 0 to 65,407 or more\)$",
        ),
        (
            refused(mean_and_more, "mean", "first"),
            r"it quantises what Gemm first gives to uint16, and that reads a mean of 16 bits \(",
        ),
        (
            refused(many, "first"),
            r"\n  QuantizeLinear last_QuantizeLinear: sums of output 0 may be 2,496,921,600, more than 32 bits hold \(2,147,483,647"
            r"\) \(what helps: int8 or uint8 for what it reads: weights of an output have magnitudes of 65,535 together at most\)$",
        ),
        (refused(two_images, "inner.relu"), r"it quantises what Conv inner gives to uint16 \(what helps: .* of one image"),
        (
            refused(two_images, "x"),
            r"\n  QuantizeLinear x_QuantizeLinear: input x has 2 images, and 16 bits \(what helps: a batch of 1",
        ),
        (refused(classes, "mean", outputs=("mean",)), r"\n  output mean: it is a mean of 16 bits, which only products read \(what"),
        (
            refused(keys, "query"),
            r"\n  MatMul scores: its input query_DequantizeLinear_Output has 16 bits \(what helps: int8 or uint8",
        ),
    ],
)
def test_refused(tmp_path: Path, made: Change, sentence: str) -> None:
    file = made(tmp_path)
    with pytest.raises(WorkloadError, match=sentence):
        read_network(file)


def test_files_of_older_opsets(tmp_path: Path) -> None:
    """onnxruntime's own nodes for 16 bits, as it wrote them before ONNX had any."""
    drawn = pixels(3)
    made = by_onnxruntime(tmp_path, drawn, KINDS["pixels"][1])
    old = by_onnxruntime(tmp_path, drawn, KINDS["pixels"][1], UseQDQContribOps=True)
    assert {node.domain for node in onnx.load(old).graph.node if node.op_type == "QuantizeLinear"} == {"com.microsoft"}
    one, other = read_network(made), read_network(old)
    for name, held in one.constants.items():
        np.testing.assert_array_equal(held.bias, other.constants[name].bias)


def quantised(folder: Path, drawn: Drawn, *layers: str, **recipe: Any) -> tuple[Network, Path, dict[str, Any]]:
    model, some, made = folder / "float.onnx", folder / "some.npz", folder / "made.onnx"
    onnx.save(drawn.model(), model)
    np.savez(some, x=drawn.given(20))
    told = FileRecipe(int16_inputs=layers, **recipe)
    report = quantise_file(str(model), made, some, None, told, accuracy=True, progress=lambda _: None)
    return read_network(made), made, report


def test_layers_gain(tmp_path: Path) -> None:
    """Inputs of which a few are far larger than most."""
    drawn = features(2)
    np.savez(tmp_path / "some.npz", x=drawn.given(200) ** 5)
    onnx.save(drawn.model(), tmp_path / "float.onnx")

    def found(*layers: str) -> float:
        ways: dict[str, Any] = {"accuracy": True, "progress": lambda _: None}
        model, made, some = (tmp_path / name for name in ("float.onnx", "made.onnx", "some.npz"))
        report = quantise_file(str(model), made, some, None, FileRecipe(int16_inputs=layers), **ways)
        assert report["int16_inputs"] == [*layers]
        return next(row["sqnr_db"] for row in report["accuracy"]["layers"] if row["operation"] == "second")

    assert found("first", "second") > found() + 6


def test_what_is_quantised_runs_as_it_is(tmp_path: Path) -> None:
    """All of a file in 16 bits: nothing is off by more than int8 outputs, and ranges have room for two planes."""
    network, made, report = quantised(tmp_path, features(3), "first", "second", "last")
    rows = [operation for operation in network.graph.operations if isinstance(operation, RowLinear)]
    assert [operation.form for operation in rows] == [Format.INT16, Format.INT16, Format.INT8]
    for name, row in beside(network, made, file_inputs(network, inputs_of(tmp_path, features(3)))).items():
        assert held_by(network, name, row), row
    feeds = file_inputs(network, tmp_path / "some.npz")
    assert max(network.tensors["x"].to_file(each["x"]).max() for each in feeds) == 65407
    assert report["accuracy"]["outputs"][0]["cosine"] > 0.9995


def test_others_read_copies_of_8_bits(tmp_path: Path) -> None:
    """A sum and a convolution of three by three, beside the layer that is named."""
    drawn = branches(2)
    model = drawn.model(("sum", "third"))
    onnx.save(model, tmp_path / "float.onnx")
    np.savez(tmp_path / "some.npz", x=drawn.given(20))
    made = tmp_path / "made.onnx"
    ways: dict[str, Any] = {"accuracy": True, "progress": lambda _: None}
    recipe = FileRecipe(int16_inputs=("second",))
    report = quantise_file(str(tmp_path / "float.onnx"), made, tmp_path / "some.npz", None, recipe, **ways)
    network = read_network(made)
    readers = {operation.name: operation.sources for operation in network.graph.operations}
    assert network.tensors["first"].form is Format.INT16
    assert "first" in (*readers["second"], *readers["second.rows"])
    assert all("first" not in readers[name] for name in ("sum", "third"))
    assert min(row["cosine"] for row in report["accuracy"]["outputs"]) > 0.999
    # At the limit of the Clip, where many are, and beyond what was seen.
    for name, row in beside(network, made, [random_inputs(network, 4)]).items():
        assert held_by(network, name, row), row
    result = run(network, EVEN)
    assert (result["verdict"], result["cycles"]) == ("pass", result["predicted_cycles"])


def test_the_host_takes_no_layer_that_was_named(tmp_path: Path) -> None:
    """Where 16 bits are refused, the network does not end in front of them."""
    drawn = pixels(1)
    onnx.save(drawn.model(), tmp_path / "float.onnx")
    np.savez(tmp_path / "some.npz", x=drawn.given(4))
    ways: dict[str, Any] = {"accuracy": True, "progress": lambda _: None, "host_ops": True}
    recipe, made = FileRecipe(int16_inputs=("inner",)), tmp_path / "made.onnx"
    with pytest.raises(WorkloadError, match=r"it quantises what Conv first gives to uint16"):
        quantise_file(str(tmp_path / "float.onnx"), made, tmp_path / "some.npz", None, recipe, **ways)
    assert not made.exists()


def test_a_norm_gives_16_bits(tmp_path: Path) -> None:
    network, _, _ = quantised(tmp_path, tokens(2), "first")
    (norm,) = (operation for operation in network.graph.operations if isinstance(operation, LayerNorm))
    assert network.tensors[norm.name].form is Format.INT16
    assert norm.name in next(each for each in network.graph.operations if each.name == "first").sources


def test_all_that_was_seen_is_in_16_bits(tmp_path: Path) -> None:
    """Ranges that leave numbers out are for 8 bits."""
    ways: dict[str, Any] = {"method": Method.of("percentile=90")}
    network, _, _ = quantised(tmp_path, features(3), "second", **ways)
    whole, _, _ = quantised(tmp_path, features(3), "second")
    assert network.tensors["first"].scale == whole.tensors["first"].scale
    assert network.tensors["second"].scale != whole.tensors["second"].scale


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("secnd", "float has no layer secnd that weights multiply: it has second, last, third, inner, first"),
        (
            "inner.relu",
            "float: Relu inner.relu is no product with constant weights: 16 bits are read by Gemm, MatMul by a constant, ",
        ),
        ("last", "Conv last: it reads 16 bits, and is no product of single positions of one image"),
        ("inner", "it quantises what Conv first gives to uint16 (what helps: 16 bits of inputs, and behind Gemm"),
    ],
)
def test_layers_that_cannot(tmp_path: Path, layer: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=re.escape(sentence)):
        quantised(tmp_path, pixels(1), layer)


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
