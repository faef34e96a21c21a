"""podweave.runs.model_files and podweave.runs.oracle: ONNX files beside onnxruntime, and what is wrong is seen; inputs of files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from podweave.digits import test_images
from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters, with_scale_bits
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.model_files import file_inputs, file_job, fitted, keeps_numbers, random_inputs
from podweave.runs.oracle import compare_file
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.presets import load_config
from tests.ir.frontends.onnx.digits_file import digits_file, real
from tests.podweave.runs.file_cases import EXACT, compared, random_network

Fault = Callable[[Network, str], dict[str, Parameters]]


def with_bias(network: Network, name: str) -> dict[str, Parameters]:
    held = network.constants[name]
    # By a twentieth of a step.
    step = np.ldexp(1.0, held.shift) / held.multiplier
    return {**network.constants, name: replace(held, bias=(held.bias + np.ceil(step / 20)).astype(np.int32))}


def with_zero_point(network: Network, name: str) -> dict[str, Parameters]:
    held = network.constants[name]
    return {**network.constants, name: replace(held, zero_point=held.zero_point + 1)}


def with_fewer_bits(network: Network, name: str) -> dict[str, Parameters]:
    return {**network.constants, name: with_scale_bits({name: network.constants[name]}, 8)[name]}


def test_pads_that_count_are_no_tie(tmp_path: Path) -> None:
    """A mean that divides by the whole window at the borders, too."""
    network, file, name = next(
        (network, file, name)
        for network, file in (random_network(tmp_path, seed, among=["convolution", "pooling"]) for seed in range(50))
        for name, held in network.constants.items()
        if held.border_scales
    )
    held = network.constants[name]
    scales = dict.fromkeys(held.border_scales, (held.multiplier, held.shift))
    rows = compared(network, file, 1, {**network.constants, name: replace(held, border_scales=scales)})
    (row,) = (row for row in rows if row["operation"] == name)
    assert row["differing"] > row["ties"]


@pytest.mark.parametrize("fault", [with_bias, with_zero_point, with_fewer_bits])
def test_what_is_wrong_is_no_tie(tmp_path: Path, fault: Fault) -> None:
    network, file = random_network(tmp_path, 1, among=["convolution"])
    (name, *_) = (operation.name for operation in network.graph.operations if operation.window is None)
    assert network.constants[name].zero_point
    (row,) = (row for row in compared(network, file, 1, fault(network, name)) if row["operation"] == name)
    assert row["differing"] > row["ties"]
    assert row["noise"] > 0


def test_another_function_is_no_tie(tmp_path: Path) -> None:
    """An entry of a table that is one step off, and was not near a half."""
    network, file = random_network(tmp_path, 1, among=["convolution", "Tanh", "Softsign"], surely=["Tanh"])
    name = next(name for name, operator in network.operators.items() if operator == "Tanh")
    held, exact = network.constants[name], network.exact[name]
    assert held.table is not None
    np.testing.assert_array_equal(held.table, np.clip(np.rint(exact), -128, 127))
    moved = np.where(held.table < 127, held.table + 1, 126).astype(np.int8)
    wrong = {**network.constants, name: replace(held, table=moved)}
    (row,) = (row for row in compared(network, file, 1, wrong) if row["operation"] == name)
    assert row["differing"] > row["ties"]


def test_padding_is_the_zero_point(tmp_path: Path) -> None:
    """Read as 0 instead, it is wrong."""
    network, file = random_network(tmp_path, 1)
    padded = next(
        operation
        for operation in network.graph.operations
        if operation.operands[0].pad_value and np.any(operation.operands[0].layer.padding)
    )
    wrong = replace(padded, operands=tuple(replace(operand, pad_value=0) for operand in padded.operands))
    operations = tuple(wrong if each is padded else each for each in network.graph.operations)
    rows = compared(replace(network, graph=replace(network.graph, operations=operations)), file, 1)
    (row,) = (row for row in rows if row["operation"] == padded.name)
    assert row["differing"] > row["ties"]


def test_whole_networks(tmp_path: Path) -> None:
    """Over several passes: rows are sums of those of each."""
    network, file = random_network(tmp_path, 1, among=["convolution", "pooling", "residual"])
    constants, feeds = fitted(network.constants, EXACT), [random_inputs(network, 1, index) for index in range(3)]
    one, all_of_them = (compare_file(network, file, constants, each, "half_even") for each in (feeds[:1], feeds))
    assert len(one["layers"]) == len([name for name in network.tensors if name not in network.graph.inputs])
    for before, after in zip(one["layers"], all_of_them["layers"], strict=True):
        assert (before["operation"], 3 * before["values"]) == (after["operation"], after["values"])
        assert after["differing"] == after["ties"] >= before["ties"]
        assert (after["sqnr_db"] is None) == (after["differing"] == 0)
    (output,) = all_of_them["outputs"]
    assert output["differing"] <= output["values"] // 10
    assert output["largest"] <= 1


def test_in_front_of_the_host(tmp_path: Path) -> None:
    """With a Softmax behind it, the network is as without."""
    network, file = random_network(tmp_path, 2)
    model = onnx.load(file)
    (output,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Softmax", [output.name], ["soft"], name="soft", axis=1))
    output.name = "soft"
    onnx.save(model, tmp_path / "soft.onnx")
    ended = read_network(tmp_path / "soft.onnx", host_ops=True)
    assert ended.on_host == ("Softmax soft",)
    assert ended.graph == replace(network.graph, name="soft")
    feeds = [random_inputs(network, 2)]
    reports = [
        compare_file(found, path, network.constants, feeds, "half_even")
        for found, path in ((network, file), (ended, tmp_path / "soft.onnx"))
    ]
    assert reports[0] == reports[1]


def test_the_digits(tmp_path: Path) -> None:
    """As onnxruntime quantises them on training images: held-out ones, through all layers; the same class for each."""
    file = digits_file(tmp_path)
    network, (pixels, labels) = read_network(file), test_images()
    np.savez(tmp_path / "images.npz", image=real(pixels[:200]))
    feeds = file_inputs(network, tmp_path / "images.npz")
    report = compare_file(network, file, network.constants, feeds, "half_even")
    assert all(row["differing"] == row["ties"] for row in report["layers"])
    # All but a few are of the sum, whose factors are not those of the file.
    assert sum(row["ties"] for row in report["layers"] if row["operator"] != "Add") < 5
    assert sum(row["ties"] for row in report["layers"]) < sum(row["values"] for row in report["layers"]) / 1000
    assert [(row["images"], row["same_top"]) for row in report["outputs"]] == [(200, 200)]
    (output,) = network.graph.outputs
    logits = np.concatenate([evaluate(network.graph, network.constants, feed, "half_even")[output] for feed in feeds])
    assert (logits[:, 0, 0].argmax(axis=1) == labels[:200]).mean() > 0.98


@pytest.mark.campaign
def test_the_digits_in_rtl(tmp_path: Path) -> None:
    file = digits_file(tmp_path)
    np.savez(tmp_path / "images.npz", image=real(test_images()[0][:100]))
    job = file_job(read_network(file), EXACT, 0, inputs=tmp_path / "images.npz")
    report, _, _ = run_jobs([job], AcceleratorWay(EXACT), Simulation(), lambda _: None)
    assert (report["verdict"], report["cycles"]) == ("pass", report["predicted_cycles"])


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"image": np.zeros((1, 3, 9, 9))}, r"images\.npz must have x, got image$"),
        (
            {"x": np.zeros((1, 3, 9, 8))},
            r"images\.npz: x must be \[1, 3, 9, \d+\], or several of them one after the other, got \[1, 3, 9, 8\]$",
        ),
        ({"x": np.zeros((0, 3, 9, 10))}, r"images\.npz: x must be "),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    network, _ = random_network(tmp_path, 1, size=9, channels=3)
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(WorkloadError, match=sentence):
        file_inputs(network, tmp_path / "images.npz")
    (tmp_path / "images.npz").write_bytes(b"PK damaged")
    with pytest.raises(WorkloadError, match=r"images\.npz is no file of arrays \(\.npz\): "):
        file_inputs(network, tmp_path / "images.npz")


def test_what_a_chip_changes_is_told(tmp_path: Path) -> None:
    network, _ = random_network(tmp_path, 1)
    told = keeps_numbers(network, load_config("chip4x16"))
    assert told[0] == 'a half is rounded away from zero (rounding = "half_even")'
    assert [sentence.partition(" of ")[0] for sentence in told[1:]] == ["scales", "zero points"]
    # Means have scales that no float32 is.
    means = [name for name, operator in network.operators.items() if "Average" in operator]
    assert len(keeps_numbers(network, EXACT)) == bool(means)


def test_a_stream_has_inputs_of_its_own(tmp_path: Path) -> None:
    network, _ = random_network(tmp_path, 1, batch=2)
    job = file_job(network, EXACT, 7, images=5)
    assert job.passes == 3
    feeds = [feed["x"] for feed in job.feeds]
    assert all(feed.shape == network.graph.inputs["x"] for feed in feeds)
    assert not any(np.array_equal(one, other) for one, other in itertools.pairwise(feeds))
    assert np.array_equal(feeds[0], file_job(network, EXACT, 7).inputs["x"])
