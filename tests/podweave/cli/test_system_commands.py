"""Several chips on the command line: runs and predictions of chips in a ring, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from podweave.cli.system_commands import link_timing, start_delays
from podweave.predict.link_timing import LinkTiming
from podweave.runs import system as system_runs
from podweave.spec.links_config import LinksConfig
from podweave.tb.benches.system_bench import SystemBench
from podweave.tb.build.make import cores
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.row_jobs import small_chip

CONFIG = dataclasses.replace(small_chip(), links=LinksConfig(flit_bits=32, buffer_words=8, jobs=64))
LLAMA = "llama_16_4_2_24,rows=2,context=9"


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """The file of a small chip with links."""
    path = tmp_path / "linked.toml"
    path.write_text(CONFIG.to_toml())
    return path


@pytest.fixture
def simulated(linked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and there is a simulator of two of them, which is the one that is built."""
    bench = SystemBench.of(CONFIG, 2, optimize="build", random_initial_state=True)

    def built(config: Any, chips: int, **options: Any) -> SystemBench:
        assert (config, chips) == (CONFIG, 2)
        assert (options.pop("waves"), options.pop("waves_of"), options.pop("threads")) == (False, (), cores())
        options.pop("progress")("building")
        assert not options
        return bench

    monkeypatch.setattr(system_runs.SystemBench, "of", built)
    return linked


def test_a_run_in_rtl(cli: Cli, tmp_path: Path, simulated: Path) -> None:
    target = tmp_path / "report.json"
    links = ["--links", "latency=13,beat_sixteenths=20,jitter=6,seed=9", "--skew", "0,170", "--cap", 40]
    command = [LLAMA, "--config", simulated, "--chips", 2, *links, "--no-beneath", "--memory", "latency=40"]
    told = cli("run", *command, "--check", "rules", "--seed", 3, "--json", target)
    assert told.code == 0, told.out + told.err
    report = json.loads(target.read_text())
    assert (report["workload"], report["verdict"], report["seed"], report["checked"]) == (LLAMA, "pass", 3, True)
    assert (report["chips"], report["delays"], report["cap"]) == (2, [0, 170], 40)
    assert (report["prefetch"], report["beneath"]) == (True, False)
    assert (report["link"]["beat_sixteenths"], report["memory"]["latency"]) == (20, 40)
    (row,) = report["networks"]
    assert row["cycles"] == row["predicted_cycles"] == max(chip["cycles"] + 170 * i for i, chip in enumerate(row["chips"]))
    for rank, chip in enumerate(row["chips"]):
        cycles, counters = f"{chip['cycles']:,}", chip["counters"]
        columns = [rank, 170 * rank, cycles, cycles, 0, 5, 2]
        columns += [f"{counters[name]:,}" for name in ("COLLECTIVE_CYCLES", "LINK_SENT", "WAIT_NEIGHBOUR", "BENEATH_BEATS")]
        assert re.search(rf"^{' +'.join(map(str, columns))}$", told.out, re.MULTILINE)
        assert counters["LINK_SENT"] == counters["LINK_RECEIVED"] > 0
    assert f"{row['cycles']:,} in RTL, {row['cycles']:,} predicted, difference 0" in told.out
    assert "prefetch on (none in collectives)" in told.out
    assert "pass (bit-exact, cycle-exact, counters exact on every chip; config rows2x4, 2 chips" in told.out.splitlines()[-1]
    predicted = cli("model", *command, "--json", "-").report
    for chip, other in zip(row["chips"], predicted["networks"][0]["chips"], strict=True):
        # One is not predicted.
        assert chip["counters"].keys() - other["counters"].keys() == {"HBM_BUSY"}
        assert chip["counters"] == {**other["counters"], "HBM_BUSY": chip["counters"]["HBM_BUSY"]}


def test_a_run_that_is_not_as_predicted(cli: Cli, simulated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = system_runs.predict_system

    def wrong(*given: Any, link: LinkTiming, **settings: Any) -> Any:
        return real(*given, link=dataclasses.replace(link, latency=link.latency + 400), **settings)

    monkeypatch.setattr(system_runs, "predict_system", wrong)
    told = cli("run", LLAMA, "--config", simulated, "--chips", 2)
    assert told.code == 1
    assert "verdict: fail (NOT exact; config rows2x4, 2 chips, seed 0, over AXI)" in told.out
    assert "counters other than predicted: chip 0: " in told.out
    assert re.search(r"^0 +[0-9,]+ +[0-9,]+ +-[0-9]+ ", told.out, re.MULTILINE)


def test_a_prediction(cli: Cli, tmp_path: Path, linked: Path) -> None:
    picture, target = tmp_path / "new" / "ring.svg", tmp_path / "other" / "report.json"
    told = cli("model", LLAMA, "--config", linked, "--chips", 2, "--json", target, "--plot", picture)
    assert told.code == 0
    report = json.loads(target.read_text())
    (row,) = report["networks"]
    assert report["cycles"] == row["cycles"] == row["predicted_cycles"]
    slowest = row["chips"][row["slowest"]]
    assert slowest["cycles"] == row["cycles"]
    assert slowest["cycles_by_kind"]["links"] > 0
    for kind, cycles in slowest["cycles_by_kind"].items():
        assert re.search(rf"^{kind} +{cycles:,} +{cycles / row['cycles']:.1%} ", told.out, re.MULTILINE)
    assert "starts at" not in told.out
    drawn = picture.read_text()
    assert f"{LLAMA} on 2 chips rows2x4, prefetch on: {row['cycles']:,} cycles" in drawn
    other = cli("model", LLAMA, "--config", linked, "--chips", 2, "--no-prefetch", "--json", "-").report
    assert f"prefetch off: {other['cycles']:,} cycles" in drawn
    for name in ("chip 0", "chip 1"):
        assert drawn.count(f">{name}<") == 2
    limited = cli("model", LLAMA, "--config", linked, "--chips", 2, "--prefetch-ratio", "0", "--json", target)
    assert "prefetch on (ratios *=0): " in limited.out
    found = json.loads(target.read_text())
    assert (found["prefetch_ratios"], report["prefetch_ratios"]) == ({"*": 0}, {})
    for chip, plain in zip(found["networks"][0]["chips"], row["chips"], strict=True):
        assert chip["counters"]["DEMAND_BEATS"] > plain["counters"]["DEMAND_BEATS"]


def test_rows_are_divided_without_collectives(cli: Cli, linked: Path) -> None:
    report = cli("model", "gated_16_24,rows=4", "--config", linked, "--chips", 2, "--divide", "rows", "--json", "-").report
    (row,) = report["networks"]
    assert [(chip["collectives"], chip["counters"]["LINK_SENT"]) for chip in row["chips"]] == [(0, 0)] * 2
    assert "links" not in row["chips"][0]["cycles_by_kind"]
    assert sum(chip["macs"] for chip in row["chips"]) == row["macs"]


@pytest.mark.parametrize("command", ["run", "model"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([LLAMA, "--config", "{rows}", "--chips", 2], "rows2x4 has no table [links]; presets that have one: llm8x16, llm16x32"),
        ([LLAMA, "--config", "pod4", "--chips", 2], "pod4 has no table [links]; presets that have one: llm8x16, llm16x32"),
        ([LLAMA, "--config", "{linked}", "--chips", 1], "greater than or equal to 2"),
        ([LLAMA, "--config", "{linked}", "--chips", 17], "less than or equal to 16"),
        (
            [LLAMA, "--config", "{linked}", "--chips", 3],
            f"podweave: {LLAMA}: 3 chips cannot share the 4 heads and 2 KV heads of attention; 2 can",
        ),
        (
            [LLAMA, "--config", "{linked}", "--chips", 2, "--divide", "rows"],
            f"podweave: {LLAMA}: 2 chips cannot share 1 sequence evenly; no number from 2 to 16 fits",
        ),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--divide", "heads"], "'heads' is not one of channels, rows"),
        (
            ["gemm:8x8x8", "--config", "{linked}", "--chips", 2],
            "podweave: gemm:8x8x8 is a graph of layers: what chips share are graphs of operations on rows, as language models are",
        ),
        (
            ["vit_16_4_16_2_32", "--config", "{linked}", "--chips", 2, "--divide", "rows"],
            "podweave: vit_16_4_16_2_32 has layers: what chips share are graphs of operations on rows, as language models are",
        ),
        (
            ["gated_40000_20000", "--config", "{linked}", "--chips", 2],
            "podweave: gate: with values, a tensor has at most 268,435,456",
        ),
        (
            [LLAMA, "--config", "{linked}", "--chips", 2, "--links", "latency=9,down=3"],
            "'down=3' is not NAME=NUMBER with a name of latency, beat_sixteenths, jitter, seed",
        ),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--links", "latency=0"], "latency must be between 1 and 2048, got 0"),
        (
            [LLAMA, "--config", "{linked}", "--chips", 2, "--skew", "1,2,3"],
            "'1,2,3' is not a number of cycles, at most 1,048,576, for each of 2 chips, with commas between",
        ),
        (
            [LLAMA, "--config", "{linked}", "--chips", 2, "--no-prefetch", "--no-beneath"],
            "without prefetch there is none in collectives either",
        ),
        (
            [LLAMA, "--config", "{linked}", "--chips", 2, "--prefetch-ratio", "0.5", "--prefetch-ratio", "mid=1"],
            f"podweave: {LLAMA} has no weights, keys or values 'mid' for a prefetch ratio; it has down, gate, k, ",
        ),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--per-layer"], "is for one chip: leave out --chips"),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--through", "port"], "is for one chip: leave out --chips"),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--partition", 3], "is for one chip: leave out --chips"),
        ([LLAMA, "--config", "{linked}", "--chips", 2, "--scalesim-reports", "{tmp}/new"], "is for one chip: leave out --chips"),
        ([LLAMA, "--config", "{linked}", "--links", "latency=9"], "--links: is for several chips: give --chips too"),
        ([LLAMA, "--config", "{linked}", "--skew", "0,1"], "--skew: is for several chips: give --chips too"),
        ([LLAMA, "--config", "{linked}", "--no-beneath"], "--no-beneath: is for several chips: give --chips too"),
        ([LLAMA, "--config", "{linked}", "--divide", "rows"], "--divide: is for several chips: give --chips too"),
    ],
)
def test_refused(cli: Cli, tmp_path: Path, linked: Path, command: str, arguments: list[object], sentence: str) -> None:
    rows = tmp_path / "rows.toml"
    rows.write_text(small_chip().to_toml())
    told = cli(command, *(str(word).format(linked=linked, rows=rows, tmp=tmp_path) for word in arguments))
    told.err = " ".join(told.err.split()) if not sentence.startswith("podweave: ") else told.err
    assert_refused(told, sentence)
    assert not (tmp_path / "new").exists()


def test_more_chips_are_predicted_than_simulated(cli: Cli, linked: Path) -> None:
    command = ["gated_16_24,rows=9", "--config", linked, "--chips", 9, "--divide", "rows"]
    sentence = "9 chips are more than RTL is simulated of (8): podweave model predicts them"
    told = cli("run", *command)
    told.err = " ".join(told.err.split())
    assert_refused(told, sentence)
    assert cli("model", *command, "--json", "-").report["chips"] == 9


def test_links_and_skew() -> None:
    assert link_timing(None) == LinkTiming()
    assert link_timing("jitter=8, latency=100") == LinkTiming(latency=100, jitter=8)
    assert start_delays(None, 3) == (0, 0, 0)
    assert start_delays("5, 0,1048576", 3) == (5, 0, 2**20)
