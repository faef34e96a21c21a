"""podweave.runs.agreement: the digits beside their file in floating point, and what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from podweave.digits import test_images
from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import Network, load_network
from podweave.ir.layers import WorkloadError
from podweave.runs.agreement import agreement
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import file_inputs
from tests.ir.frontends.onnx.digits_file import digits_file, float_model, real
from tests.podweave.runs.attention_file import Form, attention_file

IMAGES = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    digits_file(folder)
    pixels, labels = test_images()
    np.savez(folder / "images.npz", image=real(pixels[:IMAGES]))
    np.savez(folder / "labels.npz", digits=labels[:IMAGES])
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return load_network(str(folder / "digits.onnx"))


def found(network: Network, folder: Path, plain: str | None = "float.onnx", labels: str | None = "labels.npz") -> dict[str, object]:
    files = [folder / name if name else None for name in (plain, labels)]
    (row,) = agreement(network, folder / "digits.onnx", network.constants, "half_even", folder / "images.npz", *files)
    return row


def test_digits(network: Network, folder: Path) -> None:
    row = found(network, folder)
    chosen = np.concatenate(
        [
            evaluate(network.graph, network.constants, batch, "half_even")[network.graph.outputs[0]].reshape(-1, 10).argmax(axis=1)
            for batch in file_inputs(network, folder / "images.npz")
        ]
    )
    right = int((chosen == np.load(folder / "labels.npz")["digits"]).sum())
    assert (row["output"], row["images"], row["right"]) == ("classes", IMAGES, right)
    assert min(row["same_top"], row["right"], row["right_float"]) >= 97
    assert row["cosine"] > 0.999
    assert found(network, folder, labels=None).keys() == {"output", "images", "same_top", "cosine"}
    assert found(network, folder, plain=None).keys() == {"output", "images", "right"}


def test_wrong_numbers_agree_less(network: Network, folder: Path) -> None:
    name = network.graph.outputs[0]
    held = network.constants[name]
    wrong = {**network.constants, name: replace(held, weights=np.roll(held.weights, 1, axis=-1))}
    (row,) = agreement(
        *(network, folder / "digits.onnx", wrong, "half_even", folder / "images.npz", folder / "float.onnx", folder / "labels.npz"),
    )
    assert max(row["same_top"], row["right"]) < 50 < row["right_float"]


def test_outputs_of_several_positions(tmp_path: Path) -> None:
    """As when it was quantised; labels are for outputs that have a class for each image."""
    plain, inputs = attention_file(tmp_path, Form())
    made = tmp_path / "made.onnx"
    told = quantise_file(str(plain), made, inputs, None, FileRecipe(), accuracy=True, progress=lambda _: None)
    network = load_network(str(made))
    (row,) = agreement(network, made, network.constants, "half_even", inputs, plain, None)
    (wanted,) = told["accuracy"]["outputs"]
    assert {key: row[key] for key in ("images", "positions", "same_top", "same_positions", "cosine")} == {
        **{key: wanted[key] for key in ("images", "positions", "same_top", "same_positions")},
        "cosine": pytest.approx(wanted["cosine"], abs=1e-9),
    }
    np.savez(tmp_path / "labels.npz", digits=np.zeros(6, int))
    with pytest.raises(WorkloadError, match=r"is for outputs with a class for each image, and there is none: "):
        agreement(network, made, network.constants, "half_even", inputs, None, tmp_path / "labels.npz")


def test_in_front_of_what_is_left_to_the_host(tmp_path: Path) -> None:
    """The tensor inside of a file that leaves its batch open, in front of a softmax."""
    # Of an opset that is not converted, which gives other names.
    plain, inputs = attention_file(tmp_path, Form(qkv="gather", opset=17, whole_norms=True))
    model, made = onnx.load(plain), tmp_path / "made.onnx"
    (end,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Softmax", [end.name], ["chances"], axis=1))
    inside, end.name = end.name, "chances"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, plain)
    ways = {"accuracy": True, "host_ops": True}
    told = quantise_file(f"{plain},N=1", made, inputs, None, FileRecipe(), **ways, progress=lambda _: None)
    network = load_network(f"{made},host-ops")
    (row,) = agreement(network, made, network.constants, "half_even", inputs, plain, None)
    (wanted,) = told["accuracy"]["outputs"]
    assert row["output"].startswith(inside)
    assert wanted["output"] == inside
    assert (row["same_positions"], row["cosine"]) == (wanted["same_positions"], pytest.approx(wanted["cosine"], abs=1e-9))


def test_refused(network: Network, folder: Path, tmp_path: Path) -> None:
    model = float_model()
    model.graph.output[0].name = model.graph.node[-1].output[0] = "others"
    onnx.save(model, folder / "others.onnx")
    with pytest.raises(WorkloadError, match=r"^others\.onnx has no output classes: it has others$"):
        found(network, folder, plain="others.onnx")
    for arrays, sentence in [
        ({}, r"must have one array, got nothing$"),
        ({"a": np.zeros(3, int), "b": np.zeros(3, int)}, r"must have one array, got a, b$"),
        ({"a": np.zeros(3, int)}, r": a has 3 numbers, and classes has 100 rows$"),
        ({"a": np.zeros(100)}, r": a must be whole numbers of one dimension, got float64 \[100\]$"),
        ({"a": np.zeros((10, 10), int)}, r": a must be whole numbers of one dimension, got int64 \[10, 10\]$"),
    ]:
        np.savez(folder / "odd.npz", **arrays)
        with pytest.raises(WorkloadError, match=sentence):
            found(network, folder, labels="odd.npz")
