"""A language model in floating point, as it was trained, wherever it comes from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.language_models import DecoderSizes
from podweave.ir.layers import WorkloadError

from .tokenizer import Tokenizer

Floats: TypeAlias = NDArray[np.floating]
"""Of float32, unless something else is said."""

PLAIN_PROMPT = "{prompt}"
"""How a model is asked that was not trained to answer: what it is to go on with, as it is."""


class CheckpointError(WorkloadError):
    """A model that cannot be read, or that is none of those that can be."""


@dataclass(frozen=True)
class LayerTensors:
    """Of a decoder layer: matrices (outputs, inputs), vectors of norms, and biases, None where there are none.

    Rows of ``q`` and ``k`` are in the order in which a rotary embedding turns neighbours: channels 2i and 2i + 1 of a head.
    ``q_norm``, ``k_norm``: of norms over the channels of each head, in front of the rotary embedding, as Qwen3 has them.
    """

    attention_norm: Floats
    q: Floats
    k: Floats
    v: Floats
    o: Floats
    ffn_norm: Floats
    gate: Floats
    up: Floats
    down: Floats
    q_bias: Floats | None = None
    k_bias: Floats | None = None
    v_bias: Floats | None = None
    q_norm: Floats | None = None
    k_norm: Floats | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model of Llama's shape in float32.

    Parameters
    ----------
    name : str
        Of the model.
    sizes : DecoderSizes
        Of its layers.
    vocabulary : int
        V: how many tokens it knows.
    epsilon : float
        What its norms add to a mean of squares.
    rope_theta : float
        Base of the angles of its rotary embedding.
    context : int
        Longest text that it was made for, in tokens.
    embedding : ndarray of float32, shape (V, hidden)
        A row for each token.
    layers : tuple of LayerTensors
        In their order.
    norm : ndarray of float32, shape (hidden,)
        Of the norm behind all layers.
    head : ndarray of float32, shape (V, hidden)
        From there to logits: the embedding itself in a model whose ends are tied.
    tokenizer : Tokenizer, optional
        From text to tokens.
    prompt_format : str
        How it is asked; ``{prompt}`` stands for the question.

    Members
    -------
    tied : bool
        Whether embedding and head are one.

    Raises
    ------
    CheckpointError
        If a tensor has another shape, or numbers that are infinite, or none.
    """

    name: str
    sizes: DecoderSizes
    vocabulary: int
    epsilon: float
    rope_theta: float
    context: int
    embedding: Floats
    layers: tuple[LayerTensors, ...]
    norm: Floats
    head: Floats
    tokenizer: Tokenizer | None = None
    prompt_format: str = PLAIN_PROMPT

    def __post_init__(self) -> None:
        ends = {"embedding": (self.vocabulary, self.sizes.hidden), "norm": (self.sizes.hidden,)}
        for name, shape in (ends | {"head": ends["embedding"]}).items():
            _require_shape(self.name, name, getattr(self, name), shape)
            _require_finite(self.name, name, getattr(self, name))
        if len(self.layers) != self.sizes.layers:
            raise CheckpointError(f"{self.name}: there are tensors of {len(self.layers)} layers for {self.sizes.layers}")
        shapes = layer_shapes(self.sizes)
        for index, layer in enumerate(self.layers):
            for field in fields(layer):
                tensor = getattr(layer, field.name)
                if tensor is not None:
                    _require_shape(self.name, f"{field.name} of layer {index}", tensor, shapes[field.name])
                    _require_finite(self.name, f"{field.name} of layer {index}", tensor)

    @property
    def tied(self) -> bool:
        return self.head is self.embedding


def positive(model: str, name: str, found: object) -> float:
    """A real number of a file; raises `CheckpointError` unless it is one, finite, and above 0."""
    # Integers of any length are in JSON; NumPy's numbers in GGUF.
    if isinstance(found, bool) or not isinstance(found, (int, float, np.number)) or not 0 < found <= sys.float_info.max:
        raise CheckpointError(f"{model}: {name} must be a finite number above 0, got {found}")
    return float(found)


def _require_finite(model: str, name: str, tensor: Floats) -> None:
    """Integers stand for finite numbers."""
    count = int(np.count_nonzero(~np.isfinite(tensor)))
    if count:
        raise CheckpointError(f"{model}: tensor {name} has {count:,} numbers that are infinite, or no number")


def layer_shapes(sizes: DecoderSizes) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a layer, by its name in `LayerTensors`."""
    hidden, queries, keys, wide = sizes.hidden, sizes.query_channels, sizes.key_channels, sizes.intermediate
    return {
        "attention_norm": (hidden,),
        "q": (queries, hidden),
        "k": (keys, hidden),
        "v": (keys, hidden),
        "o": (hidden, queries),
        "ffn_norm": (hidden,),
        "gate": (wide, hidden),
        "up": (wide, hidden),
        "down": (hidden, wide),
        "q_bias": (queries,),
        "k_bias": (keys,),
        "v_bias": (keys,),
        "q_norm": (sizes.head_size,),
        "k_norm": (sizes.head_size,),
    }


OPTIONAL = ("q_bias", "k_bias", "v_bias", "q_norm", "k_norm")
"""Tensors that not every model has."""


def layer_tensors(
    model: str, tensors: Mapping[str, Floats], names: Mapping[str, str], sizes: DecoderSizes, halves: bool
) -> tuple[LayerTensors, ...]:
    """The tensors of all layers out of those of a file.

    Parameters
    ----------
    model : str
        What the sentence of an error calls the model.
    tensors : mapping
        Of the file, by name. What is taken is removed from it, if it can be.
    names : mapping
        From names of `LayerTensors` to those of the file, with ``{}`` for the number of a layer.
    sizes : DecoderSizes
        Of the layers.
    halves : bool
        Whether a rotary embedding turns channels i and i + half of a head: their rows are then put side by side.

    Raises
    ------
    CheckpointError
        If one is missing, or has another shape.
    """
    shapes = layer_shapes(sizes)
    found = []
    for index in range(sizes.layers):
        of_layer: dict[str, Floats] = {}
        for name, pattern in names.items():
            key = pattern.format(index)
            if key in tensors:
                _require_shape(model, key, tensors[key], shapes[name])
                of_layer[name] = neighbours(tensors[key], sizes.head_size) if halves and name[0] in "qk" else tensors[key]
            elif name not in OPTIONAL:
                raise CheckpointError(f"{model}: tensor {key} is missing")
        found.append(LayerTensors(**of_layer))
    return tuple(found)


def neighbours(rows: Floats, head_size: int) -> Floats:
    """Rows of heads, or a norm of a head, whose pairs are i and i + half, reordered so that pairs are 2i and 2i + 1.

    >>> neighbours(np.array([0, 1, 2, 3, 4, 5, 6, 7], np.float32), 4)
    array([0., 2., 1., 3., 4., 6., 5., 7.], dtype=float32)
    """
    halves = rows.reshape(-1, 2, head_size // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _require_shape(model: str, name: str, tensor: Floats, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise CheckpointError(f"{model}: {name} must be {shape}, got {tensor.shape}")
