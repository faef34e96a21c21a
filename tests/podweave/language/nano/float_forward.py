"""The nano model in NumPy, written down once more from what Llama's layers are: float64, whole texts, nothing cached."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.language.nano import NanoModel

Reals = NDArray[np.float64]


def logits(model: NanoModel, tokens: list[int]) -> Reals:
    """What comes after each token: (T, vocabulary)."""
    sizes = model.sizes
    weights = {name: tensor.astype(np.float64) for name, tensor in model.tensors.items()}
    count, pairs = len(tokens), sizes.head // 2
    # A pair of channels as a complex number, turned by an angle that grows with the position.
    turn = np.exp(1j * np.outer(np.arange(count), sizes.rope_theta ** (-np.arange(pairs) / pairs)))[:, None]
    future = np.triu(np.full((count, count), -np.inf), 1)

    def norm(name: str, x: Reals) -> Reals:
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + sizes.norm_epsilon) * weights[f"{name}.weight"]

    def heads(name: str, x: Reals) -> Reals:
        return (x @ weights[f"{name}.weight"].T).reshape(count, -1, sizes.head)

    def rotated(x: Reals) -> Reals:
        turned = (x[..., :pairs] + 1j * x[..., pairs:]) * turn
        return np.concatenate([turned.real, turned.imag], axis=2)

    x = weights["model.embed_tokens.weight"][tokens]
    for i in range(sizes.layers):
        place = f"model.layers.{i}"
        y = norm(f"{place}.input_layernorm", x)
        q, k = (rotated(heads(f"{place}.self_attn.{which}_proj", y)) for which in "qk")
        v = heads(f"{place}.self_attn.v_proj", y)
        mixed = []
        for head in range(sizes.heads):
            shared = head // (sizes.heads // sizes.kv_heads)
            scores = q[:, head] @ k[:, shared].T / np.sqrt(sizes.head) + future
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed.append(shares / shares.sum(axis=1, keepdims=True) @ v[:, shared])
        x = x + np.concatenate(mixed, axis=1) @ weights[f"{place}.self_attn.o_proj.weight"].T
        y = norm(f"{place}.post_attention_layernorm", x)
        gate, up = (y @ weights[f"{place}.mlp.{which}_proj.weight"].T for which in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{place}.mlp.down_proj.weight"].T
    return norm("model.norm", x) @ weights["model.embed_tokens.weight"].T


def loss(model: NanoModel, text: str) -> tuple[float, int]:
    """Nats of a text and of its end, by themselves, and how many tokens these are."""
    tokens = [*model.tokenizer.encode(text), model.tokenizer.end]
    given = logits(model, tokens[:-1])
    peak = given.max(axis=1)
    nats = peak + np.log(np.exp(given - peak[:, None]).sum(axis=1)) - given[np.arange(len(given)), tokens[1:]]
    return float(nats.sum()), len(nats)


def generate(model: NanoModel, prompt: str, tokens: int, temperature: float = 0, seed: int = 0) -> list[int]:
    """The prompt's tokens, and up to so many more, until the model ends the text; greedy without a temperature."""
    rng = np.random.default_rng(seed)
    found = model.tokenizer.encode(prompt)
    for _ in range(tokens):
        last = logits(model, found)[-1]
        if temperature:
            shares = np.exp((last - last.max()) / temperature)
            found.append(int(rng.choice(len(shares), p=shares / shares.sum())))
        else:
            found.append(int(last.argmax()))
        if found[-1] == model.tokenizer.end:
            break
    return found
