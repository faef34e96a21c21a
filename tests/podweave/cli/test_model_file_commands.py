"""podweave run and podweave model with ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from podweave.ir.frontends.onnx import load_network
from tests.ir.frontends.onnx.random_models import quantised_file
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.even_chips import NARROW


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return quantised_file(tmp_path, 1, unsigned=True, per_channel=True, size=5, channels=2)


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    path = tmp_path / "narrow.toml"
    path.write_text(NARROW.to_toml())
    return path


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
    assert_refused(cli("run", file, "--config", "pod4", "--compare"), "--compare")
    told = cli("run", file, "--config", narrow, "--inputs", tmp_path / "a.npz", "--images", 2)
    assert_refused(told, "images are those of --inputs: leave out --images")
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
