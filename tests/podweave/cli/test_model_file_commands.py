"""podweave run and podweave model with ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from podweave.digits import test_images, training_images
from podweave.fuzz.random_files import quantised_file
from podweave.ir.frontends.onnx import load_network
from tests.ir.frontends.onnx.digits_file import float_model, real
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.attention_file import Form, attention_file
from tests.podweave.runs.even_chips import NARROW
from tests.podweave.runs.sixteen_bit_files import features
from tests.podweave.runs.test_attention import EVEN

SHAPES = {"x": (1, 3, 6, 6), "y": (1, 1, 4, 4)}
"""Of a map: one number at each position."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return quantised_file(tmp_path, 1, unsigned=True, per_channel=True, size=5, channels=2)


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    path = tmp_path / "narrow.toml"
    path.write_text(NARROW.to_toml())
    return path


@pytest.mark.campaign
def test_a_file_runs_and_is_compared(cli: Cli, file: Path, narrow: Path) -> None:
    told = cli("run", file, "--config", narrow, "--compare", "--json", "-")
    assert told.code == 0, told.err
    report = told.report
    assert (report["verdict"], report["cycles"] - report["predicted_cycles"]) == ("pass", 0)
    assert [sentence.partition(" of ")[0] for sentence in report["numbers"]] == ["scales"]
    found, network = report["onnxruntime"], load_network(str(file))
    assert [row["operation"] for row in found["layers"]] == [name for name in network.constants if name in network.tensors]
    assert all(row["largest"] <= 1 for row in found["layers"])
    assert found["outputs"][0]["values"] == np.prod(network.outputs[network.graph.outputs[0]].view.shape)
    predicted = cli("model", file, "--config", narrow, "--json", "-").report
    assert predicted["cycles"] == report["cycles"]


@pytest.mark.campaign
def test_what_is_shown(cli: Cli, file: Path, narrow: Path) -> None:
    told = cli("run", file, "--config", narrow, "--compare")
    assert "numbers are not those of the file: scales of" in told.out
    assert f"onnxruntime {onnx_runtime()}, ORT_ENABLE_EXTENDED: each layer on what onnxruntime" in " ".join(told.out.split())
    assert "of the whole network: " in told.out
    assert told.out.splitlines()[-1].startswith("verdict: pass (bit-exact")


def onnx_runtime() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def test_refused(cli: Cli, file: Path, narrow: Path, tmp_path: Path) -> None:
    assert_refused(
        cli("run", tmp_path / "none.onnx", "--config", narrow), f"podweave: {tmp_path / 'none.onnx'} cannot be read: No such"
    )
    assert_refused(cli("run", file, "--config", narrow, "--size", "N=2"), "podweave: random1.onnx has no open size N")
    assert_refused(
        cli("run", "digits", "--config", narrow, "--size", "N=2"), "podweave: digits is no ONNX file: only those leave sizes open"
    )
    told = cli("run", "digits", "--config", narrow, "--compare")
    assert_refused(told, "--compare")
    assert_refused(cli("run", "digits", "--config", narrow, "--inputs", file), "--inputs")
    told = cli("run", file, "--config", narrow, "--inputs", tmp_path / "a.npz", "--images", 2)
    assert_refused(told, "images are those of --inputs: leave out --images")
    for option in ("--float", "--labels"):
        assert_refused(cli("run", file, "--config", narrow, option, file), option)
    onnx.save(float_model(), tmp_path / "float.onnx")
    # Before anything runs, and before inputs are read.
    told = cli("run", file, "--config", narrow, "--inputs", tmp_path / "a.npz", "--float", tmp_path / "float.onnx")
    assert_refused(told, "podweave: float.onnx has no output n")
    assert_refused(cli("run", file, "--config", narrow, "--plot-sqnr", tmp_path / "a.svg"), "is of --compare")
    assert_refused(cli("run", file, "--config", narrow, "--compare", "--plot-sqnr", tmp_path / "a.txt"), "must end in .svg")
    told = cli("run", file, "--config", narrow, "--per-layer")
    assert_refused(told, "--per-layer")
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.op_type = "LSTM"
    onnx.save(model, tmp_path / "odd.onnx")
    told = cli("run", tmp_path / "odd.onnx", "--config", narrow)
    assert_refused(told, "not taken:")
    assert told.err.count("  LSTM ") == sum(node.op_type == "LSTM" for node in model.graph.node)


def test_a_float_file_is_quantised(cli: Cli, tmp_path: Path) -> None:
    """The digits: quantised on training images, judged on held-out ones."""
    plain, out = tmp_path / "float.onnx", tmp_path / "out" / "digits.onnx"
    onnx.save(float_model(), plain)
    np.savez(tmp_path / "training.npz", image=real(training_images()[0][:250]))
    np.savez(tmp_path / "test.npz", image=real(test_images()[0][:100]))
    given = ("--calibrate", tmp_path / "training.npz", "--evaluate", tmp_path / "test.npz", "--json", tmp_path / "report.json")
    more = ("--method", "mse", "--equalise", "--correct-biases", "--plot-sqnr", tmp_path / "a.svg")
    told = cli("quantise", plain, "-o", out, *given, *more)
    assert told.code == 0, told.err
    assert "output classes beside floating point, 4 batches: cosine 0.99" in told.out
    report = json.loads((tmp_path / "report.json").read_text())
    (output,) = report["accuracy"]["outputs"]
    assert (report["calibration_batches"], report["accuracy"]["batches"], output["images"]) == (10, 4, 100)
    assert output["cosine"] > 0.999
    assert output["same_top"] >= 99
    assert ">signal over noise (dB)<" in (tmp_path / "a.svg").read_text()
    assert report["corrected_biases"] == sum(node.op_type == "Conv" for node in float_model().graph.node)
    assert [row["operation"] for row in report["accuracy"]["layers"]] == [*load_network(str(out)).operators]
    ratios = [row["sqnr_db"] for row in report["accuracy"]["worst"]]
    assert ratios == sorted(ratios)
    assert 15 < ratios[0] < 60
    assert load_network(str(out)).graph.macs == report["macs"]


def test_texts_of_a_float_file(cli: Cli, tmp_path: Path) -> None:
    """Positions in a row, of five classes."""
    plain, given = attention_file(tmp_path, Form())
    out = tmp_path / "made.onnx"
    told = cli("quantise", plain, "-o", out, "--calibrate", given, "--ctc-blank", 0, "--json", tmp_path / "report.json")
    assert told.code == 0, told.err
    (row,) = json.loads((tmp_path / "report.json").read_text())["accuracy"]["outputs"]
    assert (row["images"], row["positions"]) == (6, 36)
    same = f"at {row['same_positions']} of 36 positions, at all of them in {row['same_top']} of 6, "
    same += f"the same text in {row['same_text']} of 6"
    assert f"same largest {same}" in " ".join(told.out.split())
    told = cli("quantise", plain, "-o", out, "--calibrate", given, "--ctc-blank", 5)
    assert_refused(told, "class 5 cannot be the blank: made has classes 0 to 4")


def test_texts_of_what_has_none(cli: Cli, tmp_path: Path) -> None:
    plain, given, rng = tmp_path / "float.onnx", tmp_path / "some.npz", np.random.default_rng(0)
    held = onnx.numpy_helper.from_array(rng.normal(size=(1, 3, 3, 3)).astype(np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in SHAPES.items()]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "map", ends[:1], ends[1:], [held])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), plain)
    np.savez(given, x=rng.normal(size=(2, 3, 6, 6)).astype(np.float32))
    told = cli("quantise", plain, "-o", tmp_path / "made.onnx", "--calibrate", given, "--ctc-blank", 0)
    assert_refused(told, "has no output with classes at several positions, whose texts could be compared")
    told = cli("quantise", plain, "-o", tmp_path / "made.onnx", "--calibrate", given, "--ctc-blank", 0, "--no-accuracy")
    assert_refused(told, "is of the accuracy, which --no-accuracy leaves out")


def test_layers_that_read_16_bits(cli: Cli, tmp_path: Path) -> None:
    """Two of three, from the command line to RTL and beside onnxruntime."""
    drawn = features(3)
    onnx.save(drawn.model(), tmp_path / "float.onnx")
    np.savez(tmp_path / "some.npz", x=drawn.given(20))
    np.savez(tmp_path / "one.npz", x=drawn.given(1))
    (tmp_path / "even.toml").write_text(EVEN.to_toml())
    layers = ("--int16-input", "second", "--int16-input", "last")
    told = cli("quantise", tmp_path / "float.onnx", "-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "some.npz", *layers)
    assert told.code == 0, told.err
    assert "16 bits are read by second, last\n" in told.out
    told = cli(
        *("run", tmp_path / "q.onnx", "--config", tmp_path / "even.toml", "--inputs", tmp_path / "one.npz"),
        "--compare",
        "--json",
        "-",
    )
    assert told.code == 0, told.err
    report = told.report
    assert (report["verdict"], report["cycles"] - report["predicted_cycles"]) == ("pass", 0)
    assert {row["operation"]: row["largest"] < 3 for row in report["onnxruntime"]["layers"]} == dict.fromkeys(
        ("first", "second", "last"), True
    )
    assert report["onnxruntime"]["outputs"][0]["largest"] <= 1


def test_sizes_that_a_float_file_leaves_open(cli: Cli, tmp_path: Path) -> None:
    """The same integers as of a file with that size."""
    open_, fixed = float_model(), float_model(25)
    for each in (open_.graph.input[0], open_.graph.output[0]):
        each.type.tensor_type.shape.dim[0].dim_param = "N"
    np.savez(tmp_path / "images.npz", image=real(training_images()[0][:25]))
    made = {}
    for name, model in {"open": open_, "fixed": fixed}.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
        size = ("--size", "N=25") if name == "open" else ()
        out = tmp_path / f"q_{name}.onnx"
        given = ("--calibrate", tmp_path / "images.npz", "--no-accuracy", *size)
        told = cli("quantise", tmp_path / f"{name}.onnx", "-o", out, *given)
        assert told.code == 0, told.err
        made[name] = load_network(str(out))
    assert made["open"].graph.inputs == made["fixed"].graph.inputs
    for name, held in made["fixed"].constants.items():
        np.testing.assert_array_equal(held.weights, made["open"].constants[name].weights)
        np.testing.assert_array_equal(held.bias, made["open"].constants[name].bias)
    given = ("-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "images.npz")
    assert_refused(cli("quantise", tmp_path / "open.onnx", *given), "leaves its size N open: --size N=N fixes it")
    assert_refused(cli("quantise", tmp_path / "fixed.onnx", *given, "--size", "M=3"), "fixed.onnx has no open size M")


def test_quantising_is_refused(cli: Cli, file: Path, tmp_path: Path) -> None:
    plain = tmp_path / "float.onnx"
    onnx.save(float_model(), plain)
    np.savez(tmp_path / "odd.npz", image=np.zeros((24, 1, 8, 8), np.float32))
    assert_refused(cli("quantise", plain, "-o", tmp_path / "q.onnx"), "--calibrate")
    assert_refused(cli("quantise", plain, "-o", tmp_path / "q.npz", "--calibrate", tmp_path / "odd.npz"), "must end in .onnx")
    sentence = (
        f"podweave: {tmp_path / 'odd.npz'}: image must be [25, 1, 8, 8], or several of them one after the other, got [24, 1, 8, 8]"
    )
    assert_refused(cli("quantise", plain, "-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "odd.npz"), sentence)
    np.savez(tmp_path / "images.npz", image=np.zeros((25, 1, 8, 8), np.float32))
    right = ("quantise", plain, "-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "images.npz")
    assert_refused(cli(*right, "--method", "max"), "podweave: 'max' is no method: absmax, mse, or percentile=P")
    assert_refused(cli(*right, "--plot-sqnr", tmp_path / "a.svg", "--no-accuracy"), "--plot-sqnr")
    assert_refused(cli("quantise", "smollm2", "-o", tmp_path / "q.npz", "--equalise"), "is for ONNX files, and smollm2 is none")
    assert_refused(cli("quantise", "smollm2", "-o", tmp_path / "q.npz", "--int16-input", "fc"), "--int16-input")
    assert_refused(cli(*right, "--int16-input", "fc"), "podweave: float has no layer fc that weights multiply: it has ")
    for values, sentence in [
        (np.full((25, 1, 8, 8), "a"), "image must be real numbers or integers, got <U1"),
        (np.full((25, 1, 8, 8), np.nan), "1,600 of 1,600 numbers of image are infinite, or no number"),
        (np.zeros((25, 1, 8, 8), complex), "image must be real numbers or integers, got complex128"),
        (
            np.full((25, 1, 8, 8), None),
            "no file of arrays (.npz): array 'image' has objects of Python, which are not read",
        ),
        (np.zeros((25, 64)), "image must be [25, 1, 8, 8], or several of them one after the other, got [25, 64]"),
        (np.zeros((0, 1, 8, 8)), "or several of them one after the other, got [0, 1, 8, 8]"),
    ]:
        np.savez(tmp_path / "odd.npz", image=values)
        assert_refused(cli("quantise", plain, "-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "odd.npz"), sentence)
    np.savez(tmp_path / "odd.npz", other=np.zeros(3))
    assert_refused(cli(*right[:-1], tmp_path / "odd.npz"), "must have image, got other")
    whole = (tmp_path / "images.npz").read_bytes()
    (tmp_path / "odd.npz").write_bytes(whole[: len(whole) // 2])
    assert_refused(
        cli("quantise", plain, "-o", tmp_path / "q.onnx", "--calibrate", tmp_path / "odd.npz"), "is no file of arrays (.npz)"
    )
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert_refused(cli(*right[:-1], tmp_path / "one.npy"), "it is a single array (.npy)")
    model = float_model()
    weights = np.array(onnx.numpy_helper.to_array(model.graph.initializer[0]))
    weights.ravel()[:3] = [np.nan, np.inf, -np.inf]
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, model.graph.initializer[0].name))
    onnx.save(model, tmp_path / "infinite.onnx")
    told = cli("quantise", tmp_path / "infinite.onnx", *right[2:])
    assert_refused(told, "has 3 numbers that are infinite, or no number: integers stand for finite ones")
    assert_refused(cli("quantise", file, *right[2:]), "podweave: random1 is quantised already: ")
    assert not (tmp_path / "q.onnx").exists()
