"""podweave.language.float_model: beside the float counterparts of the golden models, and token by token beside all at once."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from podweave.golden.layers.attention import attention_float
from podweave.golden.layers.norm import rms_norm_float
from podweave.golden.layers.product import silu_product_float
from podweave.golden.layers.rope import rope_float
from podweave.golden.layers.softmax import causal_lengths, visible_keys
from podweave.language.float_model import Rows, chosen, generate, hidden_states, logits
from tests.podweave.language.tiny import SIZES, VOCABULARY, tiny_checkpoint, tiny_texts

BIASES = dict.fromkeys(("q_bias", "k_bias", "v_bias"), True)
NORMS = dict.fromkeys(("q_norm", "k_norm"), True)


@pytest.mark.parametrize("optional", [{}, BIASES, NORMS], ids=["plain", "biases", "norms"])
def test_logits_are_those_of_the_layers_one_after_the_other(optional: dict[str, bool]) -> None:
    checkpoint = tiny_checkpoint(**optional)
    (text,) = tiny_texts(1, 30)
    count, size, epsilon = len(text), SIZES.head_size, checkpoint.epsilon
    positions, visible = np.arange(count), visible_keys(causal_lengths(count, count), count)
    x = checkpoint.embedding[text].astype(np.float64)
    for layer in checkpoint.layers:
        y = rms_norm_float(x, epsilon, layer.attention_norm)
        q, k, v = (
            y @ matrix.T + (0 if bias is None else bias)
            for matrix, bias in ((layer.q, layer.q_bias), (layer.k, layer.k_bias), (layer.v, layer.v_bias))
        )
        if layer.q_norm is not None:
            q, k = (
                rms_norm_float(each.reshape(count, -1, size), epsilon, gain).reshape(each.shape)
                for each, gain in ((q, layer.q_norm), (k, layer.k_norm))
            )
        q, k = (rope_float(each, positions, size, checkpoint.rope_theta) for each in (q, k))
        heads = [each.reshape(count, -1, size) for each in (q, k, v)]
        x = x + attention_float(*heads, scale=size**-0.5, visible=visible).reshape(count, -1) @ layer.o.T
        y = rms_norm_float(x, epsilon, layer.ffn_norm)
        x = x + silu_product_float(y @ layer.gate.T, y @ layer.up.T) @ layer.down.T
    wanted = rms_norm_float(x, epsilon, checkpoint.norm) @ checkpoint.head.T
    found = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))
    assert found.dtype == np.float32
    assert_allclose(found, wanted, atol=1e-3)


def test_texts_do_not_see_each_other() -> None:
    checkpoint = tiny_checkpoint()
    texts = [text[:length] for text, length in zip(tiny_texts(3, 20), (20, 7, 13), strict=True)]
    rows = Rows.of(texts)
    assert rows.positions.tolist() == [*range(20), *range(7), *range(13)]
    together = hidden_states(checkpoint, rows)
    for text, part in zip(texts, rows.slices, strict=True):
        assert_allclose(together[part], hidden_states(checkpoint, Rows.of([text])), atol=1e-4)


@pytest.mark.parametrize("optional", [{}, BIASES, NORMS], ids=["plain", "biases", "norms"])
def test_token_by_token_is_all_at_once(optional: dict[str, bool]) -> None:
    checkpoint = tiny_checkpoint(**optional)
    prompts = [text[:length] for text, length in zip(tiny_texts(4, 20), (9, 3, 20, 1), strict=True)]
    for prompt, text in zip(prompts, generate(checkpoint, prompts, 12), strict=True):
        assert text[: len(prompt)] == prompt
        assert len(text) == len(prompt) + 12
        whole = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))
        assert_array_equal(whole[len(prompt) - 1 : -1].argmax(axis=1), text[len(prompt) :])


def test_texts_end_at_their_last_token() -> None:
    checkpoint, prompts = tiny_checkpoint(), tiny_texts(2, 5)
    free = generate(checkpoint, prompts, 10)
    end = free[0][9]
    stopped = generate(checkpoint, prompts, 10, ends=(end,))
    for text, whole in zip(stopped, free, strict=True):
        length = next((i + 1 for i in range(6, len(whole)) if whole[i] == end), len(whole))
        assert text == whole[:length]
    assert len(stopped[0]) < len(free[0])


def test_what_is_drawn_depends_on_seed_and_text_alone() -> None:
    checkpoint, prompts = tiny_checkpoint(), tiny_texts(3, 5)
    drawn = generate(checkpoint, prompts, 10, 0.8, seed=1)
    assert generate(checkpoint, prompts, 10, 0.8, seed=1) == drawn
    assert generate(checkpoint, prompts, 10, 0.8, seed=2) != drawn
    assert generate(checkpoint, prompts[:2], 10, 0.8, seed=1) == drawn[:2]


def test_drawn_tokens_have_their_odds() -> None:
    draws = np.random.default_rng(0)
    values = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    counts = np.bincount([chosen(values, 1.0, draws) for _ in range(3000)], minlength=3)
    assert_allclose(counts / 3000, [0.5, 0.3, 0.2], atol=0.04)
    assert chosen(values, 0.0, draws) == 0
    cold = np.bincount([chosen(values, 0.1, draws) for _ in range(300)], minlength=3)
    assert cold[0] > 290


def test_what_is_looked_at() -> None:
    checkpoint = tiny_checkpoint()
    seen: list[tuple[str, int, tuple[int, ...]]] = []
    hidden_states(checkpoint, Rows.of(tiny_texts(1, 4)), lambda what, layer, values: seen.append((what, layer, values.shape)))
    queries, keys, wide = SIZES.query_channels, SIZES.key_channels, SIZES.intermediate
    widths = {"q_linear": queries, "q": queries, "k_linear": keys, "k": keys, "v": keys, "o": queries}
    widths |= dict.fromkeys(("gate", "up", "product"), wide)
    assert all(shape == (5, widths.get(what, SIZES.hidden)) for what, _, shape in seen)
    names = [what for what, layer, _ in seen if layer == 1 or (what, layer) in (("x", 2), ("x", 3))]
    assert len(seen) == 2 * 13 + 2
    assert sorted(set(names)) == sorted({"x", "attention_norm", "ffn_norm", *widths})
    assert checkpoint.vocabulary == VOCABULARY
