"""podweave quantise, run and model with transformers of ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.ir.frontends.onnx_rows.encoder_file import Sizes, encoder_file, random_texts
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.row_jobs import small_chip

SIZES = Sizes(16, 2, 24)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With encoder.onnx, texts.npz, one.npz and rows.toml."""
    encoder_file(tmp_path, SIZES)
    texts = random_texts(SIZES, 12, 6, 1)
    np.savez(tmp_path / "texts.npz", **texts)  # type: ignore[arg-type]
    np.savez(tmp_path / "one.npz", **{name: values[:1] for name, values in texts.items()})  # type: ignore[arg-type]
    (tmp_path / "rows.toml").write_text(small_chip().to_toml())
    return tmp_path


def test_from_a_file_to_a_verdict(cli: Cli, folder: Path) -> None:
    out, chip = folder / "out" / "encoder.rows", folder / "rows.toml"
    told = cli("quantise", folder / "encoder.onnx", "-o", out, "--calibrate", folder / "texts.npz", "--json", folder / "r.json")
    assert told.code == 0, told.err
    assert "output y beside floating point, 12 batches: cosine 0.99" in told.out
    assert "left to the host: Mul /model/Mul_" in told.out
    report = json.loads((folder / "r.json").read_text())
    assert (report["rows"], report["operations"], report["calibration_batches"]) == (6, 13, 12)
    assert report["accuracy"]["outputs"][0]["least_cosine"] > 0.999
    told = cli("run", out, "--config", chip, "--inputs", folder / "one.npz", "--json", "-")
    assert told.code == 0, told.err
    assert (told.report["verdict"], told.report["cycles"] - told.report["predicted_cycles"]) == ("pass", 0)
    predicted = cli("model", out, "--config", chip, "--json", "-").report
    assert predicted["cycles"] == told.report["cycles"]
    assert cli("model", out, "--config", chip, "--rows", 3, "--json", "-").report["cycles"] < predicted["cycles"]


def test_refused(cli: Cli, folder: Path) -> None:
    out, chip, file = folder / "encoder.rows", folder / "rows.toml", folder / "encoder.onnx"
    given = ("--calibrate", folder / "texts.npz")
    sizes = ("--size", "batch=1", "--size", "sequence=6")
    assert_refused(cli("run", file, "--config", chip, *sizes), "podweave: encoder is a transformer in floating point: quantise it")
    assert_refused(cli("quantise", file, "-o", out), "--calibrate")
    assert_refused(cli("quantise", file, "-o", folder / "out.onnx", *given), "must end in .rows, since this file is a")
    assert_refused(cli("quantise", file, "-o", out, *given, "--int16-input", "fc"), "--int16-input")
    model = onnx.load(file)
    next(node for node in model.graph.node if node.op_type == "Erf").op_type = "Sin"
    onnx.save(model, folder / "odd.onnx")
    told = cli("quantise", folder / "odd.onnx", "-o", out, *given)
    assert_refused(told, "odd: the transformer ends in front of LayerNormalization")
    assert "  Sin /model/Erf_" in told.err
    assert not out.exists()
    assert_refused(cli("run", out, "--config", chip), f"podweave: {out} cannot be read: No such file or directory")
    assert cli("quantise", file, "-o", out, *given).code == 0
    assert_refused(cli("run", out, "--config", chip, "--compare"), "is for ONNX files, and")
    assert_refused(cli("run", out, "--config", chip, "--rows", 0), "rows")
    assert_refused(cli("model", out, "--config", "chip4x16"), "has operations on rows, which chip4x16 lacks")
