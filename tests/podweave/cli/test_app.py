"""podweave's command line: what it writes, what it refuses, and that a wrong verdict is a failure."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import podweave.runs.pod
from podweave.golden.cycle.pod.span import Span
from podweave.spec.presets import load_config, preset_names
from podweave.tb.benches.pod_bench import PodBench
from tests.podweave.command_line import Cli, assert_refused

ROOT = Path(__file__).resolve().parents[3]
GEMM = "gemm:5x6x7"
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
    assert {row[-1] for row in rows if row[0].startswith("chip")} == {"network"}


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"podweave \S+\n", cli("--version").out)


def test_generate_writes_the_three_files_of_a_toml_configuration(cli: Cli, tmp_path: Path) -> None:
    # Longer than a line of a terminal, and with what looks like markup.
    folder = tmp_path / "[red]" / ("x" * 90)
    folder.mkdir(parents=True)
    config = POD4.replace(name="mine", cols=8, group_cols=8)
    (folder / "mine.toml").write_text(config.to_toml())
    done = cli("generate", folder / "mine.toml", "-o", folder / "new")
    assert done.code == 0
    assert done.out.splitlines() == [str(folder / "new" / f"pod.{kind}") for kind in ("v", "vlt", "json")]
    assert "module pod(" in (folder / "new" / "pod.v").read_text()
    assert "verilator_config" in (folder / "new" / "pod.vlt").read_text()
    assert json.loads((folder / "new" / "pod.json").read_text())["config"] == config.to_dict()


def test_generate_with_a_prefix(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "pod4", "-o", tmp_path, "--prefix", "left")
    assert done.out.splitlines() == [str(tmp_path / f"left_pod.{kind}") for kind in ("v", "vlt", "json")]
    assert "module left_pod(" in (tmp_path / "left_pod.v").read_text()


def test_model_of_a_gemm(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.json"
    told = cli("model", "gemm:256x256x256", "--config", "pod16", "--json", target)
    report = json.loads(target.read_text())
    assert told.code == 0
    assert report["cycles"] == 65559
    assert report["macs"] == 256**3
    assert report["mac_per_cycle"] == pytest.approx(256**3 / 65559)
    assert report["mac_per_cycle"] >= 254
    assert report["utilization"] == pytest.approx(256**3 / 65559 / 256)
    assert "total: 65,559 cycles, 16,777,216 MAC" in told.out


def test_model_of_a_network_is_the_sum_of_its_layers(cli: Cli) -> None:
    report = cli("model", "resnet50_224", "--config", "pod32", "--json", "-").report
    assert len(report["layers"]) == 54
    for key in ("cycles", "macs", "epochs"):
        assert report[key] == sum(row[key] for row in report["layers"])
    (first,) = cli("model", "resnet50_224/conv1_conv", "--config", "pod32", "--json", "-").report["layers"]
    assert first == report["layers"][0]


def test_graphs_on_one_pod_say_what_is_left_out(cli: Cli) -> None:
    told = cli("model", "digits", "--config", "pod16")
    assert "left out, as one pod runs layers by themselves: 2 poolings and 1 residual addition" in told.out
    report = cli("model", "digits", "--config", "pod16", "--json", "-").report
    assert [row["layer"] for row in report["layers"]] == ["stem", "block_1", "block_2", "wide_1", "wide_2", "logits"]
    assert (report["macs"], report["left_out"]) == (25 * 525632, "2 poolings and 1 residual addition")
    assert "left out" not in cli("model", "resnet50_224/conv1_conv", "--config", "pod16").out


def test_run_of_a_layer_of_the_digits_on_one_pod(cli: Cli) -> None:
    report = cli("run", "digits/logits", "--config", "pod16", "--json", "-").report
    assert (report["verdict"], report["mismatches"], report["layers"][0]["M"]) == ("pass", 0, 25)


@pytest.mark.parametrize("check", ["result", "lockstep"])
def test_run_of_a_gemm(cli: Cli, check: str) -> None:
    done = cli("run", GEMM, "--config", "pod4", "--check", check, "--seed", "11", "--json", "-")
    report = done.report
    assert done.code == 0
    figures = {"verdict": "pass", "mismatches": 0, "cycles": 30, "predicted_cycles": 30, "macs": 210, "mac_per_cycle": 7.0}
    figures |= {"utilization": 7 / 16, "check": check, "seed": 11, "config": "pod4", "workload": GEMM, "failure": None}
    assert {key: report[key] for key in figures} == figures
    assert report["sim_cycles_per_s"] > 0
    assert report["sim_mmac_per_s"] > 0
    assert {"emit", "build", "simulate", "check"} <= set(report["wall_s"])
    assert all(seconds >= 0 for seconds in report["wall_s"].values())
    assert (report["compared_port_values"] > 1000) == (check == "lockstep")
    (row,) = report["layers"]
    assert (row["layer"], row["M"], row["K"], row["N"], row["errors"]) == (GEMM, 5, 6, 7, [])


def test_run_tells_people_and_takes_a_toml_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(POD4.replace(name="mine").to_toml())
    done = cli("run", "conv:5x5x4x4,kernel=3x3,padding=same", "--config", tmp_path / "mine.toml", "--check", "lockstep")
    assert done.code == 0
    assert "verdict: pass (bit-exact and cycle-exact; config mine, check lockstep, seed 0)" in done.out.replace("\n", " ")
    assert "predicted, difference 0" in done.out
    assert "port values held against the cycle model" in done.out


def test_waves_hold_every_port(cli: Cli, tmp_path: Path) -> None:
    waves = tmp_path / "new" / "pod.vcd"
    report = cli("run", GEMM, "--config", "pod4", "--waves", waves, "--json", "-").report
    assert report["verdict"] == "pass"
    names = set(re.findall(r"^ *\$var \S+ +\d+ \S+ (\w+)", waves.read_text(), re.MULTILINE))
    kinds = ("valid", "bank", "plane", "address")
    ports = {"clk", "rst", "run", "busy", "errors", "error_time", "x_data", "w_data", "p_data", "p_accumulate"}
    ports |= {f"{queue}_{part}" for queue in ("load", "stream") for part in ("valid", "job", "ready")}
    ports |= {f"{memory}_{kind}" for memory in ("x_request", "w_request", "p") for kind in kinds}
    assert ports <= names


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_plot_draws_a_picture(cli: Cli, tmp_path: Path, suffix: str, magic: bytes) -> None:
    picture = tmp_path / "new" / f"activity.{suffix}"
    done = cli("model", "gemm:50x16x16", "--config", "pod4", "--plot", picture)
    assert done.code == 0
    assert picture.read_bytes().startswith(magic)
    assert picture.stat().st_size > 2000


@pytest.mark.parametrize("how", ["json", "text"])
def test_wrong_result_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    right = podweave.runs.pod.golden_result

    def wrong(*arguments: Any) -> np.ndarray:
        result = right(*arguments).copy()
        result[0, 0, 3, 5] += 1
        return result

    monkeypatch.setattr(podweave.runs.pod, "golden_result", wrong)
    done = cli("run", GEMM, "--config", "pod4", *(["--json", "-"] if how == "json" else []))
    assert done.code == 1
    if how == "json":
        assert (done.report["verdict"], done.report["mismatches"]) == ("fail", 1)
        assert re.fullmatch(
            r"partial sums, image 0, row 0, column 3, channel 5: expected -?\d+, got -?\d+",
            done.report["layers"][0]["first_mismatch"],
        )
    else:
        assert "verdict: fail (NOT exact" in done.out
        assert "column 3, channel 5: expected" in done.out


def test_one_cycle_of_difference_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    right = podweave.runs.pod.predicted_spans
    monkeypatch.setattr(
        podweave.runs.pod,
        "predicted_spans",
        lambda program: [Span(span.first_request, span.last_write + 1) for span in right(program)],
    )
    done = cli("run", GEMM, "--config", "pod4", "--json", "-")
    assert done.code == 1
    figures = [done.report[key] for key in ("verdict", "mismatches", "cycles", "predicted_cycles")]
    assert figures == ["fail", 0, 30, 31]


def test_lockstep_failure_names_the_place_and_reports_no_figure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    corrupt = {"port": "p_data", "cycle": 25, "lane": 2, "bit": 4}
    monkeypatch.setattr(PodBench, "run", functools.partialmethod(PodBench.run, corrupt=corrupt))
    done = cli("run", GEMM, "--config", "pod4", "--check", "lockstep", "--json", "-")
    assert done.code == 1
    report = done.report
    assert "pod differs from its cycle model at cycle 25, port p_data lane 2: expected" in report["failure"]
    assert [report[key] for key in ("verdict", "cycles", "mismatches", "layers")] == ["fail", None, None, []]
    assert "utilization" not in report


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
        (["model", "gemm:5x70000x7", "--config", "pod4"], "podweave: gemm:5x70000x7: the reduction K is 70000, 4464 more than"),
        (["run", "resnet51", "--config", "pod4"], "podweave: workload 'resnet51' is none of gemm:MxKxN"),
        (
            ["model", "gemm:99999999999999999999x1x1", "--config", "pod4"],
            "podweave: gemm:99999999999999999999x1x1: M must be at most",
        ),
        (["model", "gemm:65536x65536x64", "--config", "pod4"], "podweave: gemm:65536x65536x64: pod4 takes about "),
        (
            ["run", "gemm:1048576x4096x1", "--config", "pod4"],
            "podweave: gemm:1048576x4096x1: with values, as in runs and on chips, ",
        ),
        (["run", "digits/max_pool", "--config", "pod4"], "podweave: max_pool of digits is a pooling, and one pod has none"),
        (["run", GEMM, "--config", "pod5"], "podweave: unknown preset 'pod5'"),
        (["run", GEMM, "--config", "pod4", "--check", "ports"], "'ports' is not one of lockstep, result"),
        (["run", GEMM, "--config", "pod4", "--seed", "-1"], "-1 is negative"),
        (["run", GEMM, "--config", "pod4", "--seed", "one"], "Invalid value for '--seed'"),
        (["run", GEMM, "--config", "pod4", "--threads", "2"], "Invalid value for --threads: is for chips of several pods"),
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
    [(["model", GEMM, "--config", "pod4", "--json", "-"], 0), (["generate", "pod5", "-o", "build"], 2)],
)
def test_as_a_module_in_a_process_of_its_own(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "podweave", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 0:
        assert json.loads(done.stdout)["cycles"] == 30
    else:
        assert done.stderr.startswith("podweave: unknown preset 'pod5'")
