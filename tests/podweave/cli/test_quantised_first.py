"""podweave run and podweave model of ONNX files in floating point, which are quantised before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from podweave.digits import training_images
from podweave.fuzz.choices import Choices
from podweave.fuzz.random_files import RandomModel
from tests.ir.frontends.onnx.digits_file import float_model, real
from tests.podweave.command_line import Cli, assert_refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    onnx.save(float_model(), path)
    return path


@pytest.fixture
def some(tmp_path: Path, file: Path) -> Path:
    name = onnx.load(file).graph.input[0].name
    np.savez(tmp_path / "some.npz", **{name: real(training_images()[0][:100])})
    return tmp_path / "some.npz"


def test_a_file_is_predicted_as_the_one_that_is_quantised_before(cli: Cli, file: Path, some: Path, tmp_path: Path) -> None:
    at_once = cli("model", file, "--calibrate", some, "--config", "chip4x16", "--json", "-")
    assert at_once.code == 0, at_once.err
    made = tmp_path / "made.onnx"
    assert cli("quantise", file, "--calibrate", some, "-o", made).code == 0
    before = cli("model", made, "--config", "chip4x16", "--json", "-").report
    report = at_once.report
    assert report["cycles"] == before["cycles"]
    assert report["workload"] == str(file)
    assert report["quantised"]["accuracy"]["outputs"][0]["cosine"] > 0.99
    assert (report["quantised"]["file"], report["quantised"]["calibrated_on"]) == (str(file), str(some))


def test_what_is_shown(cli: Cli, file: Path) -> None:
    told = cli("model", file, "--calibrate", "random", "--config", "chip4x16")
    assert told.code == 0, told.err
    assert "layers farthest from floating point" in " ".join(told.out.split())
    assert "4 batches of calibration" in told.out
    assert "MAC in" in told.out


@pytest.mark.campaign
def test_a_file_runs(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "plain.onnx"
    onnx.save(RandomModel(Choices(1), size=5, channels=2, among=("convolution", "pooling", "residual")).made(), file)
    told = cli("run", file, "--calibrate", "random", "--config", "chip4x16", "--compare", "--json", "-")
    assert told.code == 0, told.err
    assert told.report["verdict"] == "pass"
    assert all(row["differing"] >= row["ties"] for row in told.report["onnxruntime"]["layers"])


def test_refused(cli: Cli, file: Path, some: Path, tmp_path: Path) -> None:
    assert_refused(cli("model", "digits", "--calibrate", some, "--config", "chip4x16"), "is for ONNX files in floating point")
    made = tmp_path / "made.onnx"
    assert cli("quantise", file, "--calibrate", some, "-o", made).code == 0
    assert_refused(cli("model", made, "--calibrate", some, "--config", "chip4x16"), "quantised")
    assert_refused(cli("model", file, "--calibrate", tmp_path / "none.npz", "--config", "chip4x16"), "none.npz")
    assert_refused(cli("model", file, "--config", "chip4x16"), "is in floating point: quantise it first (podweave quantise")
