"""podweave.language.nano: the stored model on texts held out, what it writes, and how it is stored."""

import re
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from podweave.language.nano import FOLDER, VOCABULARY, WEIGHTS, NanoModel, load_nano, save_nano, stories
from podweave.language.nano.questions import QUESTIONS, total
from podweave.language.nano.world import ANIMALS, COLOURS, HE_NAMES, NUMBERS, SHE_NAMES, TOYS, TRAITS, Chance, with_article
from tests.podweave.language.nano.float_forward import generate, logits, loss

NANO = load_nano()
HELD_OUT = list(islice(stories.texts(held_out=True), 60))


def per_token(model: NanoModel, texts: list[str]) -> float:
    """Nats."""
    totals = [loss(model, text) for text in texts]
    return sum(nats for nats, _ in totals) / sum(count for _, count in totals)


def written(prompt: str, temperature: float = 0, seed: int = 0) -> str:
    tokens = generate(NANO, prompt, 160, temperature, seed)
    assert tokens[-1] == NANO.tokenizer.end, "the text has no end"
    return NANO.tokenizer.decode(tokens)


def test_size() -> None:
    matrices = [tensor for tensor in NANO.tensors.values() if tensor.ndim == 2]
    assert sum(matrix.size for matrix in matrices) == 217_088
    assert (FOLDER / WEIGHTS).stat().st_size + (FOLDER / VOCABULARY).stat().st_size < 300_000
    assert {name: tensor.shape for name, tensor in NANO.tensors.items()} == NANO.sizes.shapes(512)
    assert {tensor.dtype for tensor in NANO.tensors.values()} == {np.dtype(np.float32)}
    config = NANO.config()
    assert (config["hidden_size"], config["vocab_size"], config["bos_token_id"], config["eos_token_id"]) == (64, 512, 0, 1)


def test_texts_held_out() -> None:
    assert per_token(NANO, HELD_OUT) < 0.45


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["pairs of neighbours", "heads of keys changed", "a layer lost", "norm lost", "begin lost"])
def test_the_loss_sees_a_fault(fault: str) -> None:
    tensors = dict(NANO.tensors)
    name = "model.layers.1.self_attn.k_proj.weight"
    if fault == "pairs of neighbours":
        order = np.arange(16).reshape(2, 8).T.ravel()
        tensors[name] = tensors[name].reshape(2, 16, 64)[:, order].reshape(32, 64)
    if fault == "heads of keys changed":
        tensors[name] = np.roll(tensors[name], 16, axis=0)
    if fault == "a layer lost":
        for part in ("self_attn.o_proj", "mlp.down_proj"):
            lost = f"model.layers.2.{part}.weight"
            tensors[lost] = np.zeros_like(tensors[lost])
    if fault == "norm lost":
        tensors["model.layers.0.input_layernorm.weight"] = np.ones(64, dtype=np.float32)
    if fault == "begin lost":
        # The text then begins with its end.
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.embed_tokens.weight"][0] = 0
    assert per_token(replace(NANO, tensors=tensors), HELD_OUT[:20]) > 1.05 * per_token(NANO, HELD_OUT[:20])


@pytest.mark.campaign
def test_stories_have_words_sentences_and_an_end() -> None:
    known = set(NANO.tokenizer.entries)
    for seed, prompt in enumerate(("", "once upon a time", "the cat", "one day, the fox", "there was a")):
        text = written(prompt, temperature=0.8 if seed % 2 else 0, seed=seed)
        assert text.lower().startswith(prompt)
        assert re.search(r'[.!?]"?$', text)
        sentences = re.split(r'(?<=[.!?]) |(?<=[.!?]") ', text)
        assert len(sentences) >= 4
        assert all(sentence[0].isupper() or sentence[0] == '"' for sentence in sentences)
        words = re.findall("[A-Za-z]+", text)
        assert sum(word in known or word.lower() in known for word in words) >= 0.9 * len(words)


@pytest.mark.campaign
def test_heroes_and_things_stay_what_they_are() -> None:
    named, meant, kept = [], [], []
    for i, name in enumerate((*HE_NAMES, *SHE_NAMES)):
        text = NANO.tokenizer.decode(generate(NANO, f"{name} was {with_article(f'{TRAITS[i % 12]} {ANIMALS[i]}')}.", 60))
        named.append(text.count(name) > 1)
        pronouns = re.findall(r"(?<=\. )(?:He|She)\b", text)
        meant.append(bool(pronouns) and pronouns[0] == ("He" if name in HE_NAMES else "She"))
    for thing, colour in product(TOYS[:3], COLOURS[:4]):
        had = with_article(f"{colour} {thing}")
        prompt = f"The bear was very old. He had {had} and loved it very much. One day, the bear could not find"
        kept.append(f"lost my {colour} {thing}." in NANO.tokenizer.decode(generate(NANO, prompt, 80)))
    assert np.mean(named) > 0.9
    assert np.mean(meant) > 0.9
    assert np.mean(kept) > 0.9


@pytest.mark.campaign
def test_an_unknown_word_is_a_name_in_letters() -> None:
    text = written("Once upon a time, there was a little robot named Podweave. He was hungry.")
    assert "robot named Podweave. He " in text
    # Which letters it has is not kept, but that it is a name is.
    known = set(map(str.lower, NANO.tokenizer.entries))
    assert len([word for word in re.findall("[A-Z][a-z]+", text) if word.lower() not in known]) > 2


@pytest.mark.campaign
def test_answers() -> None:
    right = wrong = 0
    for number in range(60):
        chance = Chance(f"asked {number}")
        question, answer = re.split(r"(?<=\?) ", chance.pick(QUESTIONS)(chance), maxsplit=1)
        given = NANO.tokenizer.decode(generate(NANO, question, 24))
        right += given.startswith(f"{question} {answer}")
        wrong += not given.startswith(f"{question} {answer}")
    assert right / (right + wrong) > 0.9


def test_sums() -> None:
    asked = {total(Chance(f"sum {number}")) for number in range(300)}
    found = [NANO.tokenizer.decode(generate(NANO, question[: question.index("?") + 1], 10)) for question in asked]
    right = [any(answer.startswith(question) for question in asked) for answer in found]
    assert len(asked) > 50
    assert NUMBERS[12] in " ".join(found)
    assert np.mean(right) > 0.9


def test_stored_weights_are_rows_of_int8() -> None:
    with np.load(FOLDER / WEIGHTS) as file:
        stored = dict(file)
    matrices = {name for name, tensor in NANO.tensors.items() if tensor.ndim == 2}
    assert stored.keys() == NANO.tensors.keys() | {f"{name}.scale" for name in matrices}
    for name in matrices:
        assert stored[name].dtype == np.int8
        assert_array_equal(np.abs(stored[name].astype(np.int16)).max(axis=1), 127)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_nano(tmp_path, NANO.tensors, NANO.tokenizer)
    again = load_nano(tmp_path)
    assert again.tokenizer.entries == NANO.tokenizer.entries
    for name, tensor in NANO.tensors.items():
        assert_allclose(again.tensors[name], tensor, rtol=1e-6)
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=tensor.shape).astype(np.float32) for name, tensor in NANO.tensors.items()}
    save_nano(tmp_path, noise, NANO.tokenizer)
    for name, tensor in load_nano(tmp_path).tensors.items():
        step = np.abs(noise[name]).max(axis=-1, keepdims=True) / 127
        assert (np.abs(tensor - noise[name]) <= 0.5001 * step).all()
    save_nano(tmp_path, {name: tensor[:1] for name, tensor in noise.items()}, NANO.tokenizer)
    with pytest.raises(ValueError, match=r"model\.embed_tokens\.weight has the shape \(1, 64\), not \(512, 64\)"):
        load_nano(tmp_path)


def test_logits_of_a_token_only_depend_on_those_before() -> None:
    tokens = NANO.tokenizer.encode(HELD_OUT[0])
    assert_allclose(logits(NANO, tokens)[:20], logits(NANO, tokens[:20]), atol=1e-9)
