"""podweave chat: how prompts are put, and what is refused before anything is run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from podweave.cli import chat_answers
from podweave.cli.chat_answers import next_turn
from podweave.ir.layers import WorkloadError
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from podweave.spec.presets import load_config
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.language.tiny import tiny_checkpoint, tiny_texts

FORM = "<a>system\nBe kind.<z>\n<a>user\n{prompt}<z>\n<a>bot\n"


class Letters:
    """A token for each letter, and one for what begins a turn (1) and what ends it (2); another (0) ends texts, and is no text."""

    kind, begin, ends = "letters", None, (2, 0)

    def encode(self, text: str) -> list[int]:
        return [{"<a>": 1, "<z>": 2, "\n": 3}.get(part) or ord(part) for part in re.findall(r"<[az]>|.|\n", text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join({0: "", 1: "<a>", 2: "<z>", 3: "\n"}.get(token) or chr(token) for token in tokens if token)

    def to_text(self) -> str:
        return ""


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return dataclasses.replace(quantise(tiny_checkpoint(), tiny_texts(4, 30), (1,)), tokenizer=Letters(), prompt_format=FORM)


def put(model: IntegerModel, *, raw: bool, continued: bool) -> str:
    return Letters().decode(chat_answers._prompt(model, "Why?", raw=raw, continued=continued))


def test_how_prompts_are_put(model: IntegerModel) -> None:
    # The token in front of all texts is never run.
    assert put(model, raw=False, continued=False) == "system\nBe kind.<z>\n<a>user\nWhy?<z>\n<a>bot\n"
    # Behind an answer: what ends it, and no second system prompt.
    assert put(model, raw=False, continued=True) == "<z>\n<a>user\nWhy?<z>\n<a>bot\n"
    assert put(model, raw=True, continued=False) == put(model, raw=True, continued=True) == "Why?"


@pytest.mark.parametrize(
    ("form", "turn"),
    [
        (FORM, "<z>\n<a>user\n{prompt}<z>\n<a>bot\n"),
        ("{prompt}", "{prompt}"),
        ("Q: {prompt}<z>A:", "Q: {prompt}<z>A:"),
        ("one<z>two<z>{prompt}", "<z>{prompt}"),
    ],
)
def test_next_turn(form: str, turn: str) -> None:
    assert next_turn(form, Letters()) == turn


@pytest.mark.parametrize(("continued", "what"), [(False, "to begin with"), (True, "to go on with")])
@pytest.mark.parametrize("raw", [False, True])
def test_a_prompt_without_words(model: IntegerModel, raw: bool, continued: bool, what: str) -> None:
    with pytest.raises(WorkloadError, match=rf"^the prompt has no tokens: --prompt TEXT says what there is {what}$"):
        chat_answers._prompt(model, "", raw=raw, continued=continued)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["none.model"], "podweave: none.model is no model: neither nano nor a file; podweave quantise MODEL -o FILE writes one"),
        (
            ["none.model", "--config", "bare.toml"],
            "podweave: a language model runs from memory, and bare has no table [prefetch]; llm8x16 has one",
        ),
        (["none.model", "--restore", "none.session"], "'none.session' does not exist"),
        (["none.model", "--rtl", "--golden"], "--rtl and --golden exclude each other"),
        (["none.model", "--temperature", "100"], "podweave: temperature must be at least 0 and below 100, got 100.0"),
        (
            ["none.model", "--chips", "2", "--config", "chip2x4"],
            "podweave: chip2x4 has no table [links]: its chips cannot be joined",
        ),
        (
            ["nano", "--chips", "3"],
            "podweave: nano, 1 of 16: 3 chips cannot share the 4 heads and 2 KV heads of layer0.attention; 2 can",
        ),
        (["nano", "--links", "latency=4"], "--links: is for several chips: give --chips too"),
        (["nano", "--no-beneath"], "--no-beneath: is for several chips: give --chips too"),
        (
            ["nano", "--chips", "2", "--links", "down=4"],
            "'down=4' is not NAME=NUMBER with a name of latency, beat_sixteenths, jitter, seed",
        ),
        (
            ["nano", "--chips", "2", "--no-beneath", "--no-prefetch"],
            "--no-beneath: without prefetch there is none in collectives either",
        ),
        (["nano", "--chips", "1"], "Invalid value for '--chips': Input should be greater than or equal to 2"),
        (["nano", "--chips", "2", "--links", "latency=0"], "latency must be between 1 and 2048, got 0"),
        (["nano", "--chips", "2", "--memory", "rate=4"], "'rate=4' is not NAME=NUMBER with a name of latency, "),
    ],
)
def test_refusals(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.toml").write_text(dataclasses.replace(load_config("pod4"), name="bare", prefetch=None).to_toml())
    assert_refused(cli("chat", *options, "--prompt", "Why?"), sentence)


def test_several_chips(cli: Cli) -> None:
    common = ("chat", "nano", "--prompt", "Once", "--tokens", 2, "--json", "-")
    alone, two, apart, off = (
        cli(*common, *more).report
        for more in ((), ("--chips", 2), ("--chips", 2, "--no-beneath"), ("--chips", 2, "--no-prefetch", "--links", "latency=300"))
    )
    assert (alone["chips"], two["chips"]) == (1, 2)
    assert [report["answer"] for report in (two, apart, off)] == [alone["answer"]] * 3
    cycles = [[step["predicted_cycles"] for step in report["steps"]] for report in (two, apart, off)]
    assert cycles[0][0] < cycles[2][0]
    assert cycles[1] != cycles[0]
    assert all(step["collectives"] is None for step in alone["steps"])
    assert all(0 < step["collectives"] < 0.5 for step in two["steps"])
    shown = cli("chat", "nano", "--prompt", "Once", "--tokens", 2, "--chips", 2).out
    assert "nano on 2 chips of llm8x16: 1 tokens asked, 2 answered" in shown
    assert f"of which {sum(step['collectives'] for step in two['steps']) / 2:.1%} are collectives for a token" in shown
