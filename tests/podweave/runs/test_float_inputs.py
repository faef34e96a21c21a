"""podweave quantise with layers that read 16 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Format, LayerNorm, RowLinear
from podweave.runs.calibration import Method
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import file_inputs, random_inputs
from tests.podweave.runs.sixteen_bit_files import Drawn, branches, features, pixels, tokens
from tests.podweave.runs.test_attention import EVEN
from tests.podweave.runs.test_sixteen_bits import beside, held_by, inputs_of, run


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
