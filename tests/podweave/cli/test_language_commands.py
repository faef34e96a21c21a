"""podweave quantise on the command line: a tiny model out of a file, reports, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podweave.language.integer_model import load_model
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.language.model_files import write_gguf
from tests.podweave.language.tiny import tiny_checkpoint

for package in ("gguf", "tokenizers"):
    pytest.importorskip(package, reason=f"reading models needs the Python package {package} of the extra podweave[llm]")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", tiny_checkpoint())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("A little text, of 9 words, to begin with.\n\nAnother one: it is longer, and it has (two) parts!\n")
    return path


def test_a_model_with_texts_that_are_given(cli: Cli, tiny: Path, texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "folder" / "tiny.model"
    report = cli("quantise", tiny, "-o", output, "--calibrate", texts, "--evaluate", texts, "--json", "-").report
    model = load_model(output)
    assert (report["digest"], report["bytes"], report["prefix"]) == (model.digest, output.stat().st_size, [2 + ord("<") - 32])
    accuracy = report["accuracy"]
    # Letters but two pairs, and the token in front of each text, which is not run.
    count = len(model.tokens("A little text, of 9 words, to begin with.")) + len(
        model.tokens("Another one: it is longer, and it has (two) parts!")
    )
    assert (report["calibration_tokens"], accuracy["tokens"]) == (count - 2, count - 2 * 2)
    assert list(accuracy["by_kind"]) == ["prose"]
    assert accuracy["top1"] > 0.8
    assert 0 < accuracy["kl"] < 0.1
    assert 0.9 < accuracy["perplexity_ratio"] < 1.1
    assert [0 < layer["error"] < layer["worst"] < 0.2 for layer in accuracy["layers"]] == [True, True]
    assert model.prompt("Why?")[1:] == model.tokenizer.encode(model.prompt_format.replace("{prompt}", "Why?"))[1:]  # type: ignore[union-attr]


def test_the_same_twice_is_the_same_file(cli: Cli, tiny: Path, texts: Path, tmp_path: Path) -> None:
    common = ("quantise", tiny, "--calibrate", texts, "--no-accuracy", "--json", "-")
    first, second, other = (
        cli(*common, "-o", tmp_path / name, *more).report for name, more in (("a", ()), ("b", ()), ("c", ("--multiplier-bits", 12)))
    )
    assert first["accuracy"] is None
    assert first["digest"] == second["digest"] != other["digest"]


def test_texts_of_its_own_and_a_report_for_people(cli: Cli, tiny: Path, texts: Path, tmp_path: Path) -> None:
    outcome = cli("quantise", tiny, "-o", tmp_path / "tiny", "--evaluate", texts, "--json", tmp_path / "report.json")
    assert outcome.code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    # 24 questions with answers, and four paragraphs of prose, in letters.
    assert report["calibration_tokens"] > 5_000
    assert "top-1 as in float" in outcome.out
    assert f"hash {report['digest'][:16]}" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing", "-o", "{tmp}/out"], "podweave: nothing is no model: neither nano nor smollm2 nor a GGUF file nor a folder"),
        (["{tmp}", "-o", "{tmp}/out"], "podweave: [Errno 2] No such file or directory"),
        (["{tiny}", "-o", "{tmp}/out", "--calibrate", "{tmp}/nothing"], "podweave: [Errno 2] No such file or directory"),
        (["{tiny}", "-o", "{tmp}/out", "--calibrate", "{tiny}"], "is no text: "),
        (["{tiny}", "-o", "{tmp}/out", "--calibrate", "{empty}"], "has no paragraph of at least two tokens"),
        (["{tiny}", "-o", "{tmp}/out", "--multiplier-bits", "40"], "Input should be less than or equal to 31"),
        (["{tiny}"], "Missing option '-o'"),
    ],
)
def test_what_is_refused(cli: Cli, tiny: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    places = {"tmp": tmp_path, "tiny": tiny, "empty": tmp_path / "empty.txt"}
    outcome = cli("quantise", *(argument.format(**places) for argument in arguments))
    assert_refused(outcome, sentence)
    assert not (tmp_path / "out").exists()
