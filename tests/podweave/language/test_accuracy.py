"""podweave.language.accuracy and podweave.language.samples: measures by hand, faults that they see, texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from podweave.ir.layers import WorkloadError
from podweave.language.accuracy import Scores, compare
from podweave.language.checkpoint import CheckpointError
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from podweave.language.samples import NEW_TOKENS, PLAIN_TEXTS, Sample, file_samples, own_samples, prefix_of, prose_samples, texts_of
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts


class Letters:
    """A tokenizer of one token for each byte below 126; "~" begins a text."""

    kind, begin, ends = "letters", 1, (2,)

    def encode(self, text: str) -> list[int]:
        return [1 if letter == "~" else min(ord(letter), VOCABULARY - 1) for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def to_text(self) -> str:
        return ""


CHECKPOINT = replace(tiny_checkpoint(), tokenizer=Letters())
SAMPLES = [Sample(text, 4 + number, ("chat", "prose")[number % 2]) for number, text in enumerate(tiny_texts(4, 40, seed=9))]


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(CHECKPOINT, tiny_texts(8, 40), (1,))


def test_measures_by_hand() -> None:
    scores = Scores()
    real = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], np.float32))
    integer = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], np.float32))
    scores.add(real, integer, np.array([0, 2]))
    scores.add(real[:1] + 7, integer[:1] - 3, np.array([1]))
    found = scores.summary()
    assert found["tokens"] == 3
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["top1_error"] == pytest.approx(np.sqrt(2) / 3 / np.sqrt(3))
    assert found["top5"] == 1
    # Of one of three: 1/4 log 1/2 + 1/2 log 2.
    assert found["kl"] == pytest.approx(np.log(2) / 4 / 3, rel=1e-5)
    assert found["perplexity_ratio"] == pytest.approx(1)
    scores.add(real[1:], integer[1:], np.array([1]))
    assert scores.summary()["perplexity_ratio"] == pytest.approx(2**0.25)


def test_accuracy_of_a_model(model: IntegerModel) -> None:
    found = compare(CHECKPOINT, model, SAMPLES)
    assert found["tokens"] == sum(sample.scored for sample in SAMPLES) == 41 * 4 - 4 * 4 - 6
    assert {kind: each["tokens"] for kind, each in found["by_kind"].items()} == {"chat": 37 + 35, "prose": 36 + 34}
    assert found["top1"] > 0.9
    assert 0 < found["kl"] < 0.02
    assert found["top5"] == 1
    assert [0.001 < layer["error"] < 0.05 for layer in found["layers"]] == [True, True]


def broken(model: IntegerModel, name: str, what: str, by: int) -> IntegerModel:
    held = model.constants[name]
    changed = getattr(held, what).copy()
    changed[::2] += by
    return replace(model, constants={**model.constants, name: replace(held, **{what: changed})})


@pytest.mark.parametrize(
    ("name", "what", "by"),
    [("layer1.v", "shift", 2), ("layer0.down", "bias", 2**20), ("head", "shift", -1), ("layer0.k_rope", "shift", 3)],
)
def test_faults_are_seen(model: IntegerModel, name: str, what: str, by: int) -> None:
    good, bad = (compare(CHECKPOINT, each, SAMPLES) for each in (model, broken(model, name, what, by)))
    assert bad["kl"] > 2 * good["kl"]
    if not name.startswith("head"):
        layer = int(name[5])
        assert bad["layers"][layer]["error"] > 1.5 * good["layers"][layer]["error"]
        assert [bad["layers"][i] == good["layers"][i] for i in range(layer)] == [True] * layer


def test_saturated_values_are_counted(model: IntegerModel) -> None:
    found = compare(CHECKPOINT, broken(model, "layer1.v", "shift", -4), SAMPLES)
    count, of = found["saturated"]["v"]
    assert of == 2 * 32 * sum(len(sample.tokens) - 2 for sample in SAMPLES)
    assert count > of / 40


def test_texts_of_a_model_that_is_not_asked() -> None:
    assert prefix_of(CHECKPOINT) == (1,)
    calibration, evaluation = (own_samples(CHECKPOINT, part) for part in ("calibration", "evaluation"))
    assert len(calibration) == PLAIN_TEXTS
    assert all(sample.tokens[0] == 1 and sample.first == 1 and sample.kind == "chat" for sample in calibration)
    assert all(sample.tokens[-1] == 2 or sample.scored == NEW_TOKENS for sample in calibration)
    assert calibration != evaluation
    assert own_samples(CHECKPOINT, "calibration") == calibration != own_samples(CHECKPOINT, "calibration", seed=1)
    # What ends a text is predicted, and never read.
    assert [len(text) for text in texts_of(calibration)] == [len(sample.tokens) - 1 for sample in calibration]


def test_texts_of_a_model_that_is_asked() -> None:
    asked = replace(CHECKPOINT, prompt_format="~Q {prompt} A")
    assert prefix_of(asked) == (1,)
    calibration, evaluation = (own_samples(asked, part) for part in ("calibration", "evaluation"))
    questions = [bytes(sample.tokens[3 : sample.first - 2]).decode() for sample in calibration + evaluation]
    assert questions[0] == "Why is the sky blue?"
    assert len(set(questions)) == len(questions) == 24 + 14


def test_texts_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("ab\ncd\n\n\n\nx\n\n" + "y" * 900)
    found = file_samples(CHECKPOINT, path)
    assert [sample.first for sample in found] == [2, 2]
    assert found[0].tokens == [1, *b"ab\ncd"]
    assert len(found[1].tokens) == 768
    assert prose_samples(CHECKPOINT, "~ab")[0].tokens == [1, *b"ab"]
    path.write_text("x\n\n")
    with pytest.raises(CheckpointError, match="texts has no paragraph of at least two tokens"):
        file_samples(CHECKPOINT, path)


def test_models_without_texts() -> None:
    with pytest.raises(CheckpointError, match="tiny has no tokenizer"):
        own_samples(tiny_checkpoint(), "calibration")
    silent = Letters()
    silent.begin = None  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="tiny neither answers questions nor has a token that begins texts: give it texts"):
        own_samples(replace(CHECKPOINT, tokenizer=silent), "calibration")
    assert prefix_of(replace(CHECKPOINT, tokenizer=silent)) == ()


def test_prompts_of_an_integer_model(model: IntegerModel) -> None:
    asked = replace(model, prompt_format="Q {prompt} A")
    assert asked.prompt("b?") == [1, *b"Q b? A"]
    assert asked.tokens("~ab") == [1, *b"ab"]
    with pytest.raises(WorkloadError, match="tiny has no tokenizer"):
        replace(model, tokenizer=None).prompt("b?")


def test_what_follows_the_prefix_is_not_scored(model: IntegerModel) -> None:
    (text,) = tiny_texts(1, 20, seed=4)
    found = compare(tiny_checkpoint(), model, [Sample(text, len(model.prefix), "prose")])
    assert found["tokens"] == len(text) - len(model.prefix) - 1
