"""podweave chat with several prompts: each is answered as alone, and a pass over the weights serves all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.language.model_files import write_gguf
from tests.podweave.language.tiny import tiny_checkpoint

for package in ("gguf", "tokenizers"):
    pytest.importorskip(package, reason=f"reading models needs the Python package {package} of the extra podweave[llm]")

PROMPTS = ("Hello", "A longer prompt, of several words", "Why?")


def prompts(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--prompt", text)]


def quantised(cli: Cli, folder: Path) -> Path:
    """A model whose multipliers llm8x16 has room for."""
    texts, path = folder / "texts.txt", folder / "tiny.model"
    texts.write_text("A little text, of 9 words, to begin with.\n")
    tiny = write_gguf(folder / "tiny.gguf", tiny_checkpoint())
    outcome = cli("quantise", tiny, "-o", path, "--calibrate", texts, "--no-accuracy", "--multiplier-bits", 17)
    assert outcome.code == 0, outcome.err
    return path


def test_several_prompts(cli: Cli, tmp_path: Path) -> None:
    path = quantised(cli, tmp_path)
    common = ("chat", path, "--raw", "--tokens", 5, "--temperature", 1.0, "--json", "-")
    together = cli(*common, *prompts(*PROMPTS)).report
    alone = [cli(*common, "--prompt", prompt, "--golden").report for prompt in PROMPTS]
    names = ("prompt_tokens", "answer_tokens", "answer", "ended")
    assert [[text[name] for name in names] for text in together["texts"]] == [[one[name] for name in names] for one in alone]
    joint = [step for step in together["steps"] if step["logits"]]
    assert [step["count"] for step in joint] == [3] * 5
    assert all(step["predicted_cycles"] for step in together["steps"])
    assert [text["text"] for text in joint[0]["texts"]] == [0, 1, 2]
    outcome = cli("chat", path, "--raw", "--tokens", 2, *prompts(*PROMPTS))
    assert outcome.code == 0
    assert "3 texts, " in outcome.out
    assert " for a token of one of them, in which" in outcome.out
    (tmp_path / "saved").touch()
    for option in ("--save", "--restore"):
        refused = cli("chat", path, option, tmp_path / "saved", *prompts("A", "B"))
        assert refused.code == 2
        assert "a file holds one text, got 2 prompts" in refused.err
    many = cli("chat", path, *prompts(*"ABCDE"))
    assert_refused(many, "offset, offset.1, offset.2, offset.3, offset.4 take 10 base registers, llm8x16 has 8 (base_registers)")
