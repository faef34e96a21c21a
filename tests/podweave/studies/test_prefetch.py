"""podweave study prefetch: what the exact model says of runs with and without it, in a table and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from podweave.compiler.compile_network import compile_network
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.pictures.studies import draw_study
from podweave.predict.chip import predict
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import model_on_device
from podweave.studies.prefetch import NETWORKS, SIXTEENTHS, prefetch_study
from podweave.studies.run import STUDY_NAMES, chosen_networks, run_study
from podweave.studies.tables import print_study
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY

SMALL = ("gemm:16x24x20", "ffn_24_32_4")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    told: list[str] = []
    made = prefetch_study(SMALL, CONFIG, progress=told.append)
    assert [text for text in told if text.startswith("study prefetch: ffn_24_32_4, ")]
    return made


def test_figures_are_those_of_the_model(report: dict[str, Any]) -> None:
    assert len(report["points"]) == 2 * len(SMALL) * len(SIXTEENTHS)
    cycles = {
        (point["network"], point["series"], point["changes"]["beat_sixteenths"]): point["figures"]["cycles"]
        for point in report["points"]
    }
    for network in SMALL:
        for way in (True, False):
            timing = HbmTiming(beat_sixteenths=SIXTEENTHS[-1])
            modelled, _ = model_on_device([load_graph(network)], CONFIG, timing=timing, prefetch=way)
            assert cycles[network, "on" if way else "off", SIXTEENTHS[-1]] == modelled["cycles"]
        # From wide memory to narrow.
        for series in ("on", "off"):
            times = [cycles[network, series, sixteenths] for sixteenths in SIXTEENTHS]
            assert times == sorted(times)
    (shown,) = report["tables"]
    rows = [dict(zip(shown["columns"], row, strict=True)) for row in shown["rows"]]
    assert [row["network"] for row in rows] == [network for network in SMALL for _ in SIXTEENTHS]
    # Two managers of 16 bytes.
    assert [row["bytes/cycle"] for row in rows[: len(SIXTEENTHS)]] == [32 * 16 / sixteenths for sixteenths in SIXTEENTHS]
    for row, sixteenths in zip(rows, [*SIXTEENTHS] * 2, strict=True):
        on, off = (cycles[row["network"], series, sixteenths] for series in ("on", "off"))
        assert (row["cycles on"], row["cycles off"]) == (on, off)
        assert row["speed-up"] == pytest.approx(off / on)
        assert row["on/bound"] == pytest.approx(on / max(row["epochs"], row["memory"]))
        assert row["off/bound"] == pytest.approx(off / max(row["epochs"], row["memory"]))
        assert 1 <= row["on/bound"] < row["off/bound"]
        assert 0 < row["memory used"] < 1
    graph = load_graph(SMALL[1])
    programs = compile_network(graph, CONFIG, random_parameters(graph), FROM_MEMORY).programs
    assert rows[-1]["epochs"] == sum(predict(program).cycles for program in programs)


def test_chart_is_the_speed_up(report: dict[str, Any], tmp_path: Path) -> None:
    chart = report["chart"]
    assert chart["x"] == [f"{32 * 16 / sixteenths:.0f}" for sixteenths in SIXTEENTHS]
    assert [one["name"] for one in chart["series"]] == list(SMALL)
    assert not any(one["published"] for one in chart["series"])
    assert all(value > 1 for one in chart["series"] for value in one["values"])
    draw_study(report, tmp_path / "study.svg")
    assert "ffn_24_32_4 (ours)" in (tmp_path / "study.svg").read_text()


@pytest.mark.parametrize("width", [40, 80, 300])
def test_no_column_is_lost_on_a_narrow_terminal(report: dict[str, Any], width: int) -> None:
    console = Console(record=True, width=width)
    print_study(console, report)
    lines = console.export_text().splitlines()
    (head,) = (line for line in lines if line.startswith("network"))
    for column in report["tables"][0]["columns"]:
        assert column in head
    assert sum(line.startswith("gemm:16x24x20 ") for line in lines) == len(SIXTEENTHS)


def test_report_can_be_written(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report
    assert "PRESERVE" in report["source"]
    assert f"latency {HbmTiming().latency} cycles" in report["tables"][0]["notes"][0]


def test_command(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "study.json"
    done = cli("study", "prefetch", "--networks", "gemm:64x64x64, ffn_64_128", "--plot", tmp_path, "--json", target)
    assert done.code == 0
    report = json.loads(target.read_text())
    assert (report["study"], report["networks"], report["pods"]) == ("prefetch", ["gemm:64x64x64", "ffn_64_128"], 16)
    assert (tmp_path / "study_prefetch.svg").read_text().startswith("<?xml")
    assert "chip16x32: 8 managers of 128 bits" in done.out
    assert f"points: {4 * len(SIXTEENTHS)}, in " in done.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--pods", "4"], "podweave: study prefetch is of one chip, chip16x32, computed here and anew: leave out --pods"),
        (["--networks", "lenet"], "podweave: workload 'lenet' is none of "),
        (["--networks", ","], "podweave: --networks ',' names no network"),
        (["--plot", "study.txt"], "study.txt must end in .svg, .png or .pdf"),
    ],
)
def test_refusals(cli: Cli, options: list[str], sentence: str) -> None:
    assert_refused(cli("study", "prefetch", *options), sentence)


def test_networks() -> None:
    assert "prefetch" in STUDY_NAMES
    assert chosen_networks("prefetch", None) == chosen_networks("prefetch", "all") == NETWORKS
    for network in NETWORKS:
        assert load_graph(network).macs > 1e6
    with pytest.raises(WorkloadError, match=r"^study prefetch is of one chip"):
        run_study("prefetch", networks=SMALL[0], pods=16)
