"""The network of `podweave.language.nano` in PyTorch, how it is trained, and its loss on texts that it never saw."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from . import NanoSizes, stories
from .tokenizer import Tokenizer

BATCH = 16
LEARNING_RATE = 4e-3
WARM_UP = 100
WEIGHT_DECAY = 0.05
HELD_OUT_TEXTS = 1000

Tokens = NDArray[np.int64]


class Network:
    """Parameters by name, and the logits that they give."""

    def __init__(self, sizes: NanoSizes, parameters: dict[str, torch.Tensor]):
        self.sizes = sizes
        self.parameters = parameters
        angles = torch.arange(sizes.context)[:, None] * sizes.rope_theta ** -(torch.arange(0, sizes.head, 2) / sizes.head)
        self.cosines, self.sines = angles.cos(), angles.sin()

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: (B, T). Returns (B, T, vocabulary)."""
        p, sizes = self.parameters, self.sizes
        x = functional.embedding(tokens, p["model.embed_tokens.weight"])
        for i in range(sizes.layers):
            x = x + self._attention(f"model.layers.{i}.self_attn", self._norm(f"model.layers.{i}.input_layernorm", x))
            y = self._norm(f"model.layers.{i}.post_attention_layernorm", x)
            gate, up, down = (p[f"model.layers.{i}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
            x = x + (functional.silu(y @ gate.T) * (y @ up.T)) @ down.T
        return self._norm("model.norm", x) @ p["model.embed_tokens.weight"].T

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.parameters[f"{name}.weight"], self.sizes.norm_epsilon)

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        def heads(which: str) -> torch.Tensor:
            y = x @ self.parameters[f"{name}.{which}_proj.weight"].T
            return y.unflatten(-1, (-1, self.sizes.head)).transpose(1, 2)

        def shared(y: torch.Tensor) -> torch.Tensor:
            return y.repeat_interleave(self.sizes.heads // self.sizes.kv_heads, dim=1)

        q, k, v = self._rotated(heads("q")), shared(self._rotated(heads("k"))), shared(heads("v"))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(2) @ self.parameters[f"{name}.o_proj.weight"].T

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        cosines, sines = self.cosines[: x.shape[2]], self.sines[: x.shape[2]]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)


def initial(sizes: NanoSizes, vocabulary: int) -> Network:
    parameters = {}
    for name, shape in sizes.shapes(vocabulary).items():
        if len(shape) == 1:
            value = torch.ones(shape)
        else:
            value = torch.randn(shape) * shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value *= (2 * sizes.layers) ** -0.5
        parameters[name] = value.requires_grad_()
    return Network(sizes, parameters)


def sequences(tokenizer: Tokenizer, length: int) -> Iterator[Tokens]:
    """Texts that are not held out, one behind the other, each sequence with the token that begins it in front: (length + 1,)."""
    source = stories.texts(held_out=False)
    while True:
        found = [tokenizer.begin]
        while len(found) <= length:
            found += [*tokenizer.encode(next(source))[1:], tokenizer.end]
        yield np.array(found[: length + 1], dtype=np.int64)


def train(sizes: NanoSizes, tokenizer: Tokenizer, steps: int, seed: int) -> Network:
    """AdamW with a learning rate that rises along a line and falls along a cosine; no sequence comes twice."""
    torch.manual_seed(seed)
    network = initial(sizes, tokenizer.size)
    matrices = [p for p in network.parameters.values() if p.ndim == 2]
    norms = [p for p in network.parameters.values() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    source = sequences(tokenizer, sizes.context)
    began, total = time.process_time(), 0.0
    for step in range(steps):
        rate = LEARNING_RATE * min((step + 1) / WARM_UP, (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = torch.from_numpy(np.stack(list(islice(source, BATCH))))
        loss = functional.cross_entropy(network.logits(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *norms], 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.process_time() - began
            print(f"step {step + 1}: {total / 100:.4f} nats per token, {seconds:.0f} s of the processor", flush=True)
            total = 0.0
    return network


def held_out_loss(network: Network, tokenizer: Tokenizer) -> float:
    """Nats per token of texts that are held out, each by itself; the token that ends it is one of them."""
    total, count = 0.0, 0
    with torch.no_grad():
        for text in islice(stories.texts(held_out=True), HELD_OUT_TEXTS):
            tokens = torch.tensor([*tokenizer.encode(text), tokenizer.end])
            total += functional.cross_entropy(network.logits(tokens[None, :-1])[0], tokens[1:], reduction="sum").item()
            count += len(tokens) - 1
    return total / count
