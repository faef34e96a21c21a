"""Language models on the command line: rows and context, figures by kind, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.row_jobs import small_chip

LLAMA = "llama_16_2_1_24"
ROWS = f"podweave: {LLAMA} has operations on rows, "


@pytest.fixture
def rows2x4(tmp_path: Path) -> Path:
    """The file of a small chip with row functions."""
    path = tmp_path / "rows2x4.toml"
    path.write_text(small_chip().to_toml())
    return path


def test_rows_and_context_are_part_of_the_workload(cli: Cli, rows2x4: Path) -> None:
    text = f"{LLAMA},rows=3,context=9"
    report = cli("model", LLAMA, "--rows", 3, "--context", 9, "--config", rows2x4, "--json", "-").report
    written = cli("model", text, "--config", rows2x4, "--json", "-").report
    assert (report["workload"], report["through"]) == (text, "axi")
    assert [{**each, "wall_s": 0} for each in (report, written)] == [{**report, "wall_s": 0}] * 2
    assert report["cycles"] > cli("model", LLAMA, "--config", rows2x4, "--json", "-").report["cycles"]


@pytest.mark.parametrize("command", ["run", "model"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet50", "--rows", 2, "--config", "chip2x4"], "podweave: resnet50 takes no rows; those that do are llama_HIDDEN"),
        (["norm_16", "--context", 2, "--config", "chip2x4"], "podweave: norm_16 takes no context; those that do are llama_HIDDEN"),
        (
            ["bert_tiny_16", "--rows", 2, "--config", "chip2x4"],
            "podweave: bert_tiny_16 takes no rows; those that do are llama_HIDDEN",
        ),
        (
            ["bert_tiny", "--context", 2, "--config", "llm8x16"],
            "podweave: bert_tiny takes no context; those that do are llama_HIDDEN",
        ),
        (
            ["bert_tiny", "--config", "chip2x4"],
            "podweave: bert_tiny has operations on rows, which chip2x4 lacks: its row_registers",
        ),
        ([f"{LLAMA},rows=2", "--rows", 2, "--config", "{rows}"], "podweave: llama_16_2_1_24,rows=2 says itself what rows is"),
        ([LLAMA, "--config", "pod4"], f"{ROWS}which pod4 lacks: its row_registers (of [post]) are 0"),
        ([LLAMA, "--config", "chip2x4"], f"{ROWS}which chip2x4 lacks: its row_registers (of [post]) are 0"),
        ([LLAMA, "--config", "{bare}"], f"{ROWS}which run from memory, over AXI: bare has no table [prefetch]"),
        ([LLAMA, "--config", "{rows}", "--per-layer"], f"{ROWS}which read what others leave"),
        ([f"{LLAMA}/q", "--config", "{rows}"], f"{ROWS}which read what others leave"),
        ([LLAMA, "--config", "{rows}", "--through", "backdoor"], "has operations on rows, which run over AXI only"),
        ([LLAMA, "--config", "{rows}", "--partition", 4], f"is of layers; {LLAMA} has operations on rows"),
        ([LLAMA, "--config", "{rows}", "--scalesim-reports", "{tmp}/new"], f"are of layers; {LLAMA} has operations on rows"),
        ([f"{LLAMA},head=0", "--config", "{rows}"], "head must be at least 1, got 0"),
        (["gated_20000_20000", "--config", "{rows}"], "podweave: gate: with values, a tensor has at most 268,435,456 numbers"),
        (["llama_4096_32_8_14336_12", "--config", "llm8x16"], "podweave: llama_4096_32_8_14336_12: llm8x16 takes about 10,"),
        (
            [LLAMA, "--context", 100, "--config", "{narrow}"],
            "podweave: attention: an epoch needs 68 words of a W bank, more than its 64",
        ),
        ([f"{LLAMA},head=5", "--config", "{rows}"], "a head has pairs of channels, got 5"),
    ],
)
def test_refused(cli: Cli, tmp_path: Path, rows2x4: Path, command: str, arguments: list[object], sentence: str) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text(dataclasses.replace(small_chip(), name="bare", prefetch=None).to_toml())
    narrow = tmp_path / "narrow.toml"
    narrow.write_text(small_chip().replace(w_words=64).to_toml())
    files = {"rows": rows2x4, "bare": bare, "narrow": narrow, "tmp": tmp_path}
    told = cli(command, *(str(word).format(**files) for word in arguments))
    told.err = " ".join(told.err.split()) if not sentence.startswith("podweave: ") else told.err
    assert_refused(told, sentence)
    assert not (tmp_path / "new").exists()


def test_studies_are_of_layers(cli: Cli) -> None:
    sentence = f"{ROWS}and studies are of networks of layers"
    assert_refused(cli("study", "throughput", "--networks", LLAMA, "--fresh"), sentence)


def test_figures_by_kind_and_a_picture(cli: Cli, tmp_path: Path, rows2x4: Path) -> None:
    picture, target = tmp_path / "new" / "rows.svg", tmp_path / "report.json"
    told = cli("model", "llama_16_2_1_24_2", "--rows", 3, "--config", rows2x4, "--plot", picture, "--json", target)
    assert told.code == 0
    (row,) = json.loads(target.read_text())["networks"]
    for kind, cycles in row["cycles_by_kind"].items():
        assert re.search(rf"^{kind} +{cycles:,} +{cycles / row['cycles']:.1%} ", told.out, re.MULTILINE)
    drawn = picture.read_text()
    # Layers share colours: each name is there once.
    for name in ("attention_norm", "q_rope", "keys_now", "attention", "product", "down"):
        assert drawn.count(f">{name}<") == 1
    assert f"prefetch on: {row['cycles']:,} cycles" in drawn


def test_many_epochs_are_no_table(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text(small_chip().replace(w_words=128).to_toml())
    told = cli("model", "gated_64_300", "--config", path, "--json", tmp_path / "report.json")
    epochs = json.loads((tmp_path / "report.json").read_text())["networks"][0]["epochs"]
    assert epochs > 100
    assert f"{epochs} epochs, too many for a table" in told.out
