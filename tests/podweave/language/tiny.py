"""A language model of random weights, small enough for tests, with the outliers that trained ones have."""

from __future__ import annotations

import numpy as np

from podweave.ir.frontends.language_models import DecoderSizes
from podweave.language.checkpoint import Checkpoint, LayerTensors, layer_shapes

SIZES = DecoderSizes(hidden=64, heads=4, kv_heads=2, intermediate=96, layers=2, head=16)
VOCABULARY = 128


def tiny_checkpoint(seed: int = 0, tied: bool = True, sizes: DecoderSizes = SIZES, **optional: bool) -> Checkpoint:
    """``optional``: which of the optional tensors there are, as q_bias=True."""
    rng = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return rng.uniform(0.2, 2, shape).astype(np.float32)
        return (rng.normal(0, 1 / np.sqrt(shape[1]), shape) * rng.lognormal(0, 0.3, (shape[0], 1))).astype(np.float32)

    shapes = layer_shapes(sizes)
    given = [name for name in shapes if not name.startswith(("q_", "k_", "v_")) or optional.get(name)]
    layers = tuple(LayerTensors(**{name: drawn(shapes[name]) for name in given}) for _ in range(sizes.layers))
    embedding = rng.normal(0, 0.3, (VOCABULARY, sizes.hidden)).astype(np.float32)
    embedding[:, 3] *= 8
    return Checkpoint(
        name="tiny",
        sizes=sizes,
        vocabulary=VOCABULARY,
        epsilon=1e-5,
        rope_theta=10_000.0,
        context=256,
        embedding=embedding,
        layers=layers,
        norm=drawn((sizes.hidden,)),
        head=embedding if tied else drawn((VOCABULARY, sizes.hidden)),
    )


def tiny_texts(count: int, length: int, seed: int = 1, prefix: tuple[int, ...] = (1,)) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*prefix, *rng.integers(2, VOCABULARY, length).tolist()] for _ in range(count)]
