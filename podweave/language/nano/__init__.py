"""A language model small enough to come with podweave: its float weights, its sizes and its tokenizer.

`podweave.language.nano.train` writes ``vocabulary.txt``, the entry of a token in each line, and ``weights.npz``: each matrix NAME
as int8 with a float32 scale for each output, NAME.scale, and the norms in float32. It was trained on the texts of
`podweave.language.nano.stories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.ir.arrays import read_arrays

from .tokenizer import Tokenizer

NANO = "nano"
FOLDER = Path(__file__).parent
WEIGHTS, VOCABULARY = "weights.npz", "vocabulary.txt"
INTEGERS = FOLDER / "integers.npz"
"""The same as `podweave quantise nano` makes it: kept, since sums of floating point may differ between machines."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NanoSizes:
    """Of a model of Llama's shape; ``heads`` share ``kv_heads`` of keys and values.

    ``context``: the longest text that it was trained on, in tokens. The vocabulary is that of the tokenizer, and the matrix of
    embeddings is that of the head too.
    """

    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    intermediate: int = 176
    context: int = 256
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5

    def shapes(self, vocabulary: int) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by its name in checkpoints of Hugging Face; matrices are (outputs, inputs)."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (queries, self.hidden),
            "self_attn.k_proj": (keys, self.hidden),
            "self_attn.v_proj": (keys, self.hidden),
            "self_attn.o_proj": (self.hidden, queries),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        return {
            "model.embed_tokens.weight": (vocabulary, self.hidden),
            **{f"model.layers.{i}.{name}.weight": shape for i in range(self.layers) for name, shape in layer.items()},
            "model.norm.weight": (self.hidden,),
        }


@dataclass(frozen=True)
class NanoModel:
    """``tensors``: float32, by their names in checkpoints of Hugging Face; queries and keys have the channels that are rotated
    together half a head apart, as there."""

    sizes: NanoSizes
    tensors: dict[str, Floats]
    tokenizer: Tokenizer

    def config(self) -> dict[str, object]:
        """What a file config.json of Hugging Face says of it."""
        sizes = self.sizes
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "head_dim": sizes.head,
            "intermediate_size": sizes.intermediate,
            "max_position_embeddings": sizes.context,
            "rope_theta": sizes.rope_theta,
            "rms_norm_eps": sizes.norm_epsilon,
            "vocab_size": self.tokenizer.size,
            "tie_word_embeddings": True,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": self.tokenizer.begin,
            "eos_token_id": self.tokenizer.end,
        }


def load_nano(folder: Path = FOLDER) -> NanoModel:
    """The trained model."""
    sizes = NanoSizes()
    tokenizer = Tokenizer((folder / VOCABULARY).read_text(encoding="utf-8").splitlines())
    stored = read_arrays(folder / WEIGHTS)
    tensors = {}
    for name, shape in sizes.shapes(tokenizer.size).items():
        tensor = stored[name].astype(np.float32)
        if len(shape) == 2:
            tensor *= stored[f"{name}.scale"][:, None]
        if tensor.shape != shape:
            raise ValueError(f"{folder / WEIGHTS}: {name} has the shape {tensor.shape}, not {shape}")
        tensors[name] = tensor
    return NanoModel(sizes, tensors, tokenizer)


def save_nano(folder: Path, tensors: Mapping[str, Floats], tokenizer: Tokenizer) -> None:
    """Write what `load_nano` reads; the largest magnitude of a row of a matrix becomes 127."""
    arrays: dict[str, NDArray] = {}
    for name, tensor in tensors.items():
        arrays[name] = tensor.astype(np.float32)
        if tensor.ndim == 2:
            scale = np.abs(tensor).max(axis=1).astype(np.float32) / np.float32(127)
            arrays |= {name: np.rint(tensor / scale[:, None]).astype(np.int8), f"{name}.scale": scale}
    # Names and types of the arguments of savez are not those of arrays.
    np.savez_compressed(folder / WEIGHTS, **arrays)  # type: ignore[arg-type]
    (folder / VOCABULARY).write_text("\n".join([*tokenizer.entries, ""]), encoding="utf-8")
