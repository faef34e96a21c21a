"""podweave's command line: what it writes, what it refuses, and that a wrong verdict is a failure."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import podweave.runs.chip
from podweave.spec.presets import load_config, preset_names
from tests.podweave.command_line import Cli, assert_refused

ROOT = Path(__file__).resolve().parents[3]
GEMM = "gemm:5x6x7"
ALONE = ("--config", "pod4", "--layers-alone")
POD4 = load_config("pod4")


def test_presets(cli: Cli) -> None:
    listed = cli("presets", "--json", "-")
    assert listed.code == 0
    assert listed.report == {"presets": {name: load_config(name).to_dict() for name in preset_names()}}
    table = cli("presets").out
    expected = []
    for name in preset_names():
        config = load_config(name)
        expected.append([name, str(config.pods), f"{config.array.rows}x{config.array.cols}"])
    rows = [line.split() for line in table.splitlines() if re.match(r"(pod|chip|llm)\d", line)]
    assert [row[:3] for row in rows] == expected


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"podweave \S+\n", cli("--version").out)


def test_generate_writes_the_three_files_of_a_toml_configuration(cli: Cli, tmp_path: Path) -> None:
    # Longer than a line of a terminal, and with what looks like markup.
    folder = tmp_path / "[red]" / ("x" * 90)
    folder.mkdir(parents=True)
    config = dataclasses.replace(POD4.replace(name="mine", cols=8, group_cols=8), prefetch=None)
    (folder / "mine.toml").write_text(config.to_toml())
    done = cli("generate", folder / "mine.toml", "-o", folder / "new")
    assert done.code == 0
    assert done.out.splitlines() == [str(folder / "new" / f"chip.{kind}") for kind in ("v", "vlt", "json")]
    assert "module chip(" in (folder / "new" / "chip.v").read_text()
    assert "verilator_config" in (folder / "new" / "chip.vlt").read_text()
    assert json.loads((folder / "new" / "chip.json").read_text())["config"] == config.to_dict()


def test_generate_with_a_prefix(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "pod4", "-o", tmp_path, "--prefix", "left")
    assert done.out.splitlines() == [str(tmp_path / f"left_accelerator.{kind}") for kind in ("v", "vlt", "json")]
    assert "module left_accelerator(" in (tmp_path / "left_accelerator.v").read_text()


def test_model_of_a_gemm(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.json"
    told = cli("model", "gemm:256x256x256", "--config", "pod16", "--layers-alone", "--json", target)
    report = json.loads(target.read_text())
    assert told.code == 0
    # 16 rows of weights, 256 tiles of 256 words, 1 cycle to the bank, 2 through the array and 1 into it.
    (network,) = report["networks"]
    assert network["sums_cycles"] == network["layers"][0]["cycles"] == 16 + 256 * 256 + 4
    # Requantised and stored behind the last sums, and the beginning of an epoch.
    assert report["cycles"] == 65568
    assert report["macs"] == 256**3
    assert report["utilization"] == pytest.approx(256**3 / 65568 / 256)
    assert "16,777,216 MAC in 65,568 cycles" in told.out
    assert "from the first word requested to the last sum written: 65,556 cycles" in told.out


def test_layers_alone_are_the_sum_of_their_own(cli: Cli) -> None:
    """ResNet-50 in SCALE-Sim's dimensions: no more cycles than ever, with and without what post-processors do."""
    report = cli("model", "resnet50_224_scalesim", "--config", "pod32", "--layers-alone", "--json", "-").report
    assert len(report["networks"]) == 54
    for key in ("cycles", "macs"):
        assert report[key] == sum(row[key] for row in report["networks"])
    assert (report["cycles"], sum(row["sums_cycles"] for row in report["networks"])) == (3_522_384, 3_521_736)
    (first,) = cli("model", "resnet50_224_scalesim/Conv1", "--config", "pod32", "--layers-alone", "--json", "-").report["networks"]
    assert first == report["networks"][0]


def test_layers_alone_say_what_they_are_without(cli: Cli) -> None:
    options = ("--config", "pod16", "--layers-alone")
    told = cli("model", "digits", *options)
    assert "left out, as layers are alone: 2 poolings and 1 residual addition" in told.out
    report = cli("model", "digits", *options, "--json", "-").report
    assert [row["network"] for row in report["networks"]] == ["stem", "block_1", "block_2", "wide_1", "wide_2", "logits"]
    assert (report["macs"], report["left_out"]) == (25 * 525632, "2 poolings and 1 residual addition")
    assert "left out" not in cli("model", "resnet50_224/conv1_conv", "--config", "pod32", "--layers-alone").out


@pytest.mark.campaign
def test_run_of_a_layer_of_the_digits_on_one_pod(cli: Cli) -> None:
    report = cli("run", "digits/logits", "--config", "pod4", "--per-layer", "--json", "-").report
    assert (report["verdict"], report["mismatches"], report["networks"][0]["layers"][0]["M"]) == ("pass", 0, 25)


@pytest.mark.parametrize("check", ["result", "rules"])
def test_run_of_a_gemm(cli: Cli, check: str) -> None:
    done = cli("run", GEMM, *ALONE, "--check", check, "--seed", "11", "--json", "-")
    report = done.report
    assert done.code == 0
    figures = {"verdict": "pass", "mismatches": 0, "cycles": 40, "predicted_cycles": 40, "macs": 210, "pods": 1}
    figures |= {"seed": 11, "config": "pod4", "workload": GEMM, "failure": None, "left_out": "", "through": "backdoor"}
    assert {key: report[key] for key in figures} == figures
    assert report["utilization"] == pytest.approx(210 / 40 / 16)
    assert report["checked"] or check == "result"
    assert report["sim_cycles_per_s"] > 0
    assert report["sim_mmac_per_s"] > 0
    assert {"emit", "build", "simulate", "check"} <= set(report["wall_s"])
    assert all(seconds >= 0 for seconds in report["wall_s"].values())
    (network,) = report["networks"]
    (row,) = network["layers"]
    assert (row["layer"], row["M"], row["K"], row["N"], network["errors"]) == (GEMM, 5, 6, 7, [])
    # Two tiles of 4 and 2 rows for 4 and for 3 outputs: 4 to load, 4 x 5 streamed, 1 to the bank, 2 through the array, 1 into it.
    assert row["cycles"] == network["sums_cycles"] == 4 + 4 * 5 + 4


def test_run_tells_people_and_takes_a_toml_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(POD4.replace(name="mine").to_toml())
    done = cli("run", "conv:5x5x4x4,kernel=3x3,padding=same", "--config", tmp_path / "mine.toml", "--layers-alone")
    assert done.code == 0
    assert "verdict: pass (bit-exact, cycle-exact, counters exact; config mine, seed 0)" in done.out.replace("\n", " ")
    assert "predicted, difference 0" in done.out


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_plot_draws_a_picture(cli: Cli, tmp_path: Path, suffix: str, magic: bytes) -> None:
    picture = tmp_path / "new" / f"activity.{suffix}"
    done = cli("model", "gemm:50x16x16", *ALONE, "--plot", picture)
    assert done.code == 0
    assert picture.read_bytes().startswith(magic)
    assert picture.stat().st_size > 2000


@pytest.mark.parametrize("how", ["json", "text"])
def test_wrong_result_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    right = podweave.runs.chip.evaluate_operation

    def wrong(*arguments: object) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        sums, outputs = right(*arguments)  # type: ignore[arg-type]
        sums = sums.copy()
        sums[0, 0, 3, 5] += 1
        return sums, outputs

    monkeypatch.setattr(podweave.runs.chip, "evaluate_operation", wrong)
    done = cli("run", GEMM, *ALONE, *(["--json", "-"] if how == "json" else []))
    assert done.code == 1
    if how == "json":
        assert (done.report["verdict"], done.report["mismatches"]) == ("fail", 1)
        assert re.fullmatch(
            r"accumulators of gemm:5x6x7, image 0, row 0, column 3, channel 5: expected -?\d+, got -?\d+",
            done.report["networks"][0]["first_mismatch"],
        )
    else:
        assert "verdict: fail (NOT exact" in done.out
        assert "column 3, channel 5: expected" in done.out


def test_one_cycle_of_difference_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    right = podweave.runs.chip.predict
    monkeypatch.setattr(
        podweave.runs.chip, "predict", lambda program: dataclasses.replace(right(program), cycles=right(program).cycles + 1)
    )
    done = cli("run", GEMM, *ALONE, "--json", "-")
    assert done.code == 1
    figures = [done.report[key] for key in ("verdict", "mismatches", "cycles", "predicted_cycles")]
    assert figures == ["fail", 0, 40, 41]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate", "pod5", "-o", "{tmp}"], "podweave: unknown preset 'pod5'; presets are pod4, chip2x4, pod8, pod16, "),
        (["generate", "{tmp}/none.toml", "-o", "{tmp}"], "podweave: configuration file '{tmp}/none.toml' does not exist"),
        (["generate", "{tmp}/bad.toml", "-o", "{tmp}"], "podweave: {tmp}/bad.toml: rows must be between 1 and 256, got 0"),
        (
            ["generate", "pod4", "-o", "{tmp}", "--prefix", "4x"],
            "podweave: a prefix is lower-case letters, digits and underscores, ",
        ),
        (
            ["generate", "pod4", "-o", "{tmp}", "--prefix", "reg"],
            "podweave: a prefix must not be a keyword of Verilog or C, got 'reg'",
        ),
        (["generate", "pod4", "-o", "{tmp}/bad.toml"], "podweave: [Errno 17] File exists: '{tmp}/bad.toml'"),
        (["model", "gemm:5x6", "--config", "pod4"], "podweave: workload 'gemm:5x6' is not of the form gemm:MxKxN or conv:"),
        (["model", "gemm:5x70000x7", *ALONE], "podweave: gemm:5x70000x7: the reduction K is 70000, 4464 more than"),
        (["run", "resnet51", "--config", "pod4"], "podweave: workload 'resnet51' is none of gemm:MxKxN"),
        (
            ["model", "gemm:99999999999999999999x1x1", "--config", "pod4"],
            "podweave: gemm:99999999999999999999x1x1: M must be at most",
        ),
        (["model", "gemm:16384x8192x1024", "--config", "pod4"], "podweave: gemm:16384x8192x1024: pod4 takes about "),
        (
            ["run", "gemm:1048576x4096x1", "--config", "pod4"],
            "podweave: gemm:1048576x4096x1: with values, as in runs and on chips, ",
        ),
        (["run", "digits/max_pool", *ALONE], "podweave: max_pool of digits is a pooling, and has no weights"),
        (["run", GEMM, "--config", "pod5"], "podweave: unknown preset 'pod5'"),
        (["run", GEMM, "--config", "pod4", "--check", "ports"], "'ports' is not one of result, rules"),
        (["run", GEMM, "--config", "pod4", "--seed", "-1"], "-1 is negative"),
        (["run", GEMM, "--config", "pod4", "--seed", "one"], "Invalid value for '--seed'"),
        (
            ["run", GEMM, "--config", "chip2x4", "--waves-of", "root"],
            "Invalid value for --waves-of: says what --waves shows: give both",
        ),
        (
            ["run", GEMM, "--config", "chip2x4", "--waves", "{tmp}/x.vcd", "--waves-of", "node_2"],
            "podweave: chip2x4 has no block node_2; it has engine_0, control.csr, ",
        ),
        (["run", GEMM, "--config", "pod4", "--waves", "{tmp}/x.fst"], "{tmp}/x.fst must end in .vcd"),
        (["run", GEMM, "--config", "pod4", "--waves", "{tmp}/bad.toml/x.vcd"], "podweave: [Errno"),
        (["run", GEMM, "--config", "pod4", "--plot", "{tmp}/x.gif"], "{tmp}/x.gif must end in .svg, .png or .pdf"),
        (["model", GEMM, "--config", "pod4", "--plot", "{tmp}/x"], "{tmp}/x must end in .svg, .png or .pdf"),
        (["run", GEMM], "Missing option '--config'"),
        (["run", "--config", "pod4"], "Missing argument"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_refusals_are_one_sentence_and_exit_code_2(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "bad.toml").write_text(POD4.to_toml().replace("\nrows = 4", "\nrows = 0"))
    assert_refused(cli(*(argument.format(tmp=tmp_path) for argument in arguments)), sentence.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["model", GEMM, *ALONE, "--json", "-"], 0), (["generate", "pod5", "-o", "build"], 2)],
)
def test_as_a_module_in_a_process_of_its_own(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "podweave", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 0:
        assert json.loads(done.stdout)["cycles"] == 40
    else:
        assert done.stderr.startswith("podweave: unknown preset 'pod5'")
