"""A checkpoint in floating point: over whole texts, with a look at every value on the way, and token by token with a cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.quantise import silu

from .checkpoint import Checkpoint, Floats, LayerTensors

Look = Callable[[str, int, Floats], None]
"""Is told of values: what they are, of which layer, and a row of them for each token."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Texts as rows of one matrix, one text after the other.

    Members
    -------
    tokens, positions : ndarray of int64, shape (T,)
        Of each row, and where it stands in its text.
    slices : tuple of slice
        The rows of each text.
    """

    tokens: Ints
    positions: Ints
    slices: tuple[slice, ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Rows:
        ends = np.cumsum([len(text) for text in texts])
        return cls(
            np.concatenate([np.asarray(text, np.int64) for text in texts]),
            np.concatenate([np.arange(len(text)) for text in texts]),
            tuple(slice(int(end) - len(text), int(end)) for text, end in zip(texts, ends, strict=True)),
        )


def nobody(what: str, layer: int, values: Floats) -> None:
    """Looks at nothing."""


def rms(x: Floats, epsilon: float) -> Floats:
    """Rows by the root of the mean of their squares."""
    squares = np.einsum("...c,...c->...", x, x, dtype=np.float64)[..., None] / x.shape[-1]
    return (x / np.sqrt(squares + epsilon)).astype(np.float32)


def angles(checkpoint: Checkpoint, positions: Ints) -> tuple[Floats, Floats]:
    """Cosines and sines, a row for each position, one for each pair of channels of a head."""
    size = checkpoint.sizes.head_size
    turned = positions[:, None] * checkpoint.rope_theta ** (-np.arange(0, size, 2) / size)
    return np.cos(turned).astype(np.float32), np.sin(turned).astype(np.float32)


def turn(heads: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Neighbouring channels of (T, heads, channels), rotated by the angles of their rows."""
    even, odd, c, s = heads[..., ::2], heads[..., 1::2], cosines[:, None], sines[:, None]
    return np.stack([even * c - odd * s, even * s + odd * c], axis=-1).reshape(heads.shape)


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: Floats) -> Floats:
    below = logits - logits.max(axis=-1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=-1, keepdims=True))


def attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal attention of one text: (T, heads, channels) over (T, groups, channels). Returns (T, heads * channels)."""
    rows, heads, size = q.shape
    shared = heads // k.shape[1]
    hidden = np.arange(rows)[None] > np.arange(rows)[:, None]
    out = np.empty((rows, heads, size), np.float32)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // shared].T / np.float32(np.sqrt(size))
        scores[hidden] = -np.inf
        out[:, head] = softmax(scores) @ v[:, head // shared]
    return out.reshape(rows, -1)


def hidden_states(checkpoint: Checkpoint, rows: Rows, look: Look = nobody) -> Floats:
    """The residual behind all layers, a row for each token.

    ``look`` is told of every value that hardware has to represent: "x", the residual, in front of attention (2i) and of the
    feed-forward part (2i + 1) of layer i; of layer i, "attention_norm" and "ffn_norm", the normalised residual without the
    weights of the norm; "q_linear", "k_linear", "v", "q", "k" (rotated), "o", "gate", "up" and "product"; and at the end "x" and
    "norm".
    """
    sizes, epsilon = checkpoint.sizes, checkpoint.epsilon
    turns = angles(checkpoint, rows.positions)
    x = checkpoint.embedding[rows.tokens]
    for i, layer in enumerate(checkpoint.layers):
        look("x", 2 * i, x)
        normalised = rms(x, epsilon)
        look("attention_norm", i, normalised)
        q, k, v = projections(checkpoint, layer, normalised * layer.attention_norm)
        for name, values in (("q_linear", q), ("k_linear", k), ("v", v)):
            look(name, i, values)
        queries, keys = rotated(checkpoint, layer, (q, k), turns)
        look("q", i, queries.reshape(q.shape))
        look("k", i, keys.reshape(k.shape))
        values = v.reshape(keys.shape)
        o = np.concatenate([attend(queries[text], keys[text], values[text]) for text in rows.slices])
        look("o", i, o)
        x = x + o @ layer.o.T
        look("x", 2 * i + 1, x)
        normalised = rms(x, epsilon)
        look("ffn_norm", i, normalised)
        y = normalised * layer.ffn_norm
        gate, up = y @ layer.gate.T, y @ layer.up.T
        look("gate", i, gate)
        look("up", i, up)
        h = silu(gate) * up
        look("product", i, h)
        x = x + h @ layer.down.T
    look("x", 2 * sizes.layers, x)
    look("norm", 0, rms(x, epsilon))
    return x


def logits(checkpoint: Checkpoint, x: Floats) -> Floats:
    """Of residuals behind all layers."""
    return (rms(x, checkpoint.epsilon) * checkpoint.norm) @ checkpoint.head.T


def projections(checkpoint: Checkpoint, layer: LayerTensors, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Queries, keys and values of normalised rows."""

    def of(matrix: Floats, bias: Floats | None) -> Floats:
        product = y @ matrix.T
        return product if bias is None else product + bias

    return of(layer.q, layer.q_bias), of(layer.k, layer.k_bias), of(layer.v, layer.v_bias)


def rotated(
    checkpoint: Checkpoint, layer: LayerTensors, projected: tuple[Floats, Floats], turns: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Queries and keys (T, heads, channels) as they meet: normed, if the layer does so, and turned by cosines and sines."""
    q, k = (
        turn(_normed(each, weights, checkpoint.sizes.head_size, checkpoint.epsilon), *turns)
        for each, weights in zip(projected, (layer.q_norm, layer.k_norm), strict=True)
    )
    return q, k


def _normed(values: Floats, weights: Floats | None, size: int, epsilon: float) -> Floats:
    heads = values.reshape(len(values), -1, size)
    return heads if weights is None else rms(heads, epsilon) * weights


class CachedModel:
    """Several texts, token by token, with what attention needs of the tokens before.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    texts : int
        How many there are.
    limit : int
        Longest of them, in tokens.
    """

    def __init__(self, checkpoint: Checkpoint, texts: int, limit: int):
        self.checkpoint = checkpoint
        sizes = checkpoint.sizes
        shape = (sizes.layers, texts, sizes.kv_heads, limit, sizes.head_size)
        self.keys, self.values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.cosines, self.sines = angles(checkpoint, np.arange(limit))

    def step(self, texts: Ints, tokens: Ints, positions: Ints) -> Floats:
        """One token of each of some texts, each at a position of its own. Returns their logits."""
        checkpoint, sizes = self.checkpoint, self.checkpoint.sizes
        seen = int(positions.max()) + 1
        hidden = np.arange(seen)[None] > positions[:, None]
        turns = self.cosines[positions], self.sines[positions]
        x = checkpoint.embedding[tokens]
        for i, layer in enumerate(checkpoint.layers):
            y = rms(x, checkpoint.epsilon) * layer.attention_norm
            q, k, v = projections(checkpoint, layer, y)
            queries, keys = rotated(checkpoint, layer, (q, k), turns)
            self.keys[i, texts, :, positions] = keys
            self.values[i, texts, :, positions] = v.reshape(keys.shape)
            groups = queries.reshape(len(texts), sizes.kv_heads, -1, sizes.head_size)
            scores = groups @ self.keys[i, texts, :, :seen].swapaxes(2, 3) / np.float32(np.sqrt(sizes.head_size))
            scores[np.broadcast_to(hidden[:, None, None], scores.shape)] = -np.inf
            o = softmax(scores) @ self.values[i, texts, :, :seen]
            x = x + o.reshape(len(texts), -1) @ layer.o.T
            y = rms(x, checkpoint.epsilon) * layer.ffn_norm
            x = x + (silu(y @ layer.gate.T) * (y @ layer.up.T)) @ layer.down.T
        return logits(checkpoint, x)


def generate(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    count: int,
    temperature: float = 0.0,
    seed: int = 0,
    ends: Collection[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Texts that go on from prompts.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    prompts : sequence of sequences of int
        Tokens, at least one each.
    count : int
        Tokens that are added, at most.
    temperature : float
        0 takes the likeliest token; otherwise one is drawn, each text from a generator of its own.
    seed : int
        Of those generators.
    ends : collection of int
        Tokens behind which a text is over.
    progress : callable, optional
        Is told how many steps are done, and of how many at most.

    Returns
    -------
    list of list of int
        Each prompt with what was added to it.
    """
    draws = [np.random.default_rng([seed, number]) for number in range(len(prompts))]
    texts = [list(prompt) for prompt in prompts]
    limits = np.array([len(prompt) + count for prompt in prompts])
    model = CachedModel(checkpoint, len(prompts), int(limits.max()))
    going = np.arange(len(prompts))
    position, last = 0, int(limits.max()) - 1
    while len(going):
        tokens = np.array([texts[number][position] for number in going])
        found = model.step(going, tokens, np.full(len(going), position))
        stays = np.ones(len(going), bool)
        for row, number in enumerate(going):
            if position == len(texts[number]) - 1:
                texts[number].append(chosen(found[row], temperature, draws[number]))
                stays[row] = texts[number][-1] not in ends and len(texts[number]) < limits[number]
        going = going[stays]
        position += 1
        if progress:
            progress(position, last)
    return texts


def chosen(logits: Floats, temperature: float, draws: np.random.Generator) -> int:
    """The likeliest token, or one drawn by its probability at a temperature."""
    if not temperature:
        return int(logits.argmax())
    odds = softmax(logits.astype(np.float64) / temperature)
    return int(draws.choice(len(odds), p=odds / odds.sum()))
