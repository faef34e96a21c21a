"""Models out of folders of Hugging Face: config.json, safetensors, tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from podweave.ir.frontends.language_models import DecoderSizes

from ..program import extra
from .checkpoint import PLAIN_PROMPT, Checkpoint, CheckpointError, Floats, layer_tensors, positive
from .gguf_file import prompt_format
from .tokenizer import PairTokenizer, Tokenizer

KINDS = ("llama", "qwen2", "qwen3")
"""Of models: ``model_type`` of config.json."""
_NAMES = {
    "attention_norm": "model.layers.{}.input_layernorm.weight",
    "q": "model.layers.{}.self_attn.q_proj.weight",
    "k": "model.layers.{}.self_attn.k_proj.weight",
    "v": "model.layers.{}.self_attn.v_proj.weight",
    "o": "model.layers.{}.self_attn.o_proj.weight",
    "ffn_norm": "model.layers.{}.post_attention_layernorm.weight",
    "gate": "model.layers.{}.mlp.gate_proj.weight",
    "up": "model.layers.{}.mlp.up_proj.weight",
    "down": "model.layers.{}.mlp.down_proj.weight",
    "q_bias": "model.layers.{}.self_attn.q_proj.bias",
    "k_bias": "model.layers.{}.self_attn.k_proj.bias",
    "v_bias": "model.layers.{}.self_attn.v_proj.bias",
    "q_norm": "model.layers.{}.self_attn.q_norm.weight",
    "k_norm": "model.layers.{}.self_attn.k_norm.weight",
}
_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def load_folder(folder: Path) -> Checkpoint:
    """Read a folder of Hugging Face whose model has Llama's shape.

    Raises
    ------
    CheckpointError
        If config.json does not say what it must, or says something else; if a tensor is missing or unknown; if a file cannot be
        read.
    OSError
        If a file is not there.
    """
    config = _json(folder / "config.json")
    path = folder / "tokenizer.json"
    tokenizer = _tokenizer(folder, path, config) if path.exists() else None
    # Before gigabytes are read.
    _require_known(str(folder), config)
    found = checkpoint_of(str(folder), config, _tensors(folder), tokenizer, prompt_format(_template(folder)))
    return replace(found, name=folder.resolve().name)


def checkpoint_of(
    name: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Floats],
    tokenizer: Tokenizer | None = None,
    prompt_format: str = PLAIN_PROMPT,
) -> Checkpoint:
    """A model out of its tensors.

    Parameters
    ----------
    name : str
        Of the model.
    config : mapping
        As config.json has it.
    tensors : mapping
        By the names that files of Hugging Face have.
    tokenizer, prompt_format : Tokenizer, str
        As in `Checkpoint`.

    Raises
    ------
    CheckpointError
        If ``config`` does not say what it must, or says something else; if a tensor is missing or unknown.
    """
    _require_known(name, config)
    sizes = _sizes(name, config)
    for required in (_EMBEDDING, _NORM):
        if required not in tensors:
            raise CheckpointError(f"{name}: tensor {required} is missing")
    tied = config.get("tie_word_embeddings", False)
    if not tied and _HEAD not in tensors:
        raise CheckpointError(f"{name}: tensor {_HEAD} is missing, and config.json does not say tie_word_embeddings")
    layers = layer_tensors(name, tensors, _NAMES, sizes, halves=True)
    known = {_EMBEDDING, _NORM, _HEAD, *(each.format(i) for each in _NAMES.values() for i in range(sizes.layers))}
    for given in tensors:
        if given not in known:
            raise CheckpointError(f"{name}: tensor {given} belongs to no layer of Llama's shape")
    embedding = tensors[_EMBEDDING]
    return Checkpoint(
        name=name,
        sizes=sizes,
        vocabulary=len(embedding),
        epsilon=positive(name, "rms_norm_eps", config.get("rms_norm_eps", 1e-6)),
        rope_theta=positive(name, "rope_theta", _rope(name, config).get("rope_theta", config.get("rope_theta", 10_000.0))),
        context=_number(name, config, "max_position_embeddings"),
        embedding=embedding,
        layers=layers,
        norm=tensors[_NORM],
        head=embedding if tied else tensors[_HEAD],
        tokenizer=tokenizer,
        prompt_format=prompt_format,
    )


def _rope(model: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    name = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{model}: {name} must be an object, got {found}")
    return found


def _require_known(name: str, config: Mapping[str, Any]) -> None:
    if config.get("model_type") not in KINDS:
        raise CheckpointError(f"{name}: model_type must be one of {', '.join(KINDS)}, got {config.get('model_type')}")
    rope = _rope(name, config)
    for what, found, allowed in (
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("rope_scaling", rope.get("rope_type", rope.get("type", "default")), "default"),
        ("use_sliding_window", config.get("use_sliding_window", False), False),
    ):
        if found != allowed:
            raise CheckpointError(f"{name}: {what} must be {allowed}, got {found}")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} must be an object, got {type(found).__name__}")
    return found


def _number(model: str, config: Mapping[str, Any], name: str, otherwise: int | None = None) -> int:
    found = config.get(name)
    if found is None and otherwise is not None:
        return otherwise
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise CheckpointError(f"{model}: {name} must be a number of at least 1, got {found}")
    return found


def _sizes(model: str, config: Mapping[str, Any]) -> DecoderSizes:
    hidden, heads = (_number(model, config, name) for name in ("hidden_size", "num_attention_heads"))
    return DecoderSizes(
        hidden=hidden,
        heads=heads,
        kv_heads=_number(model, config, "num_key_value_heads", heads),
        intermediate=_number(model, config, "intermediate_size"),
        layers=_number(model, config, "num_hidden_layers"),
        head=_number(model, config, "head_dim", hidden // heads),
    )


def _tensors(folder: Path) -> dict[str, Floats]:
    """Of all files. The package reads bfloat16 as bytes only, so all types are made of bytes here."""
    with extra("llm", "a safetensors file"):
        from safetensors import SafetensorError, deserialize
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: there is no *.safetensors")
    found = {}
    for file in files:
        try:
            parts = deserialize(file.read_bytes())
        except SafetensorError as error:
            raise CheckpointError(f"{file} is not a whole safetensors file: {error}") from error
        for name, part in parts:
            found[name] = _array(f"{file}: tensor {name}", part["dtype"], part["data"]).reshape(part["shape"])
    return found


def _array(what: str, kind: str, data: bytes) -> Floats:
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    types = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    if kind not in types:
        raise CheckpointError(f"{what} is of type {kind}, which cannot be read: it must be BF16 or {', '.join(types)}")
    return np.frombuffer(data, types[kind]).astype(np.float32)


def _tokenizer(folder: Path, path: Path, config: dict[str, Any]) -> PairTokenizer:
    end = config.get("eos_token_id")
    ends: list[Any] = end if isinstance(end, list) else [end]
    if not ends or not all(isinstance(each, int) and not isinstance(each, bool) for each in ends):
        raise CheckpointError(f"{folder}: eos_token_id must be a number, or several, got {end}")
    begin = config.get("bos_token_id")
    if begin is not None and (isinstance(begin, bool) or not isinstance(begin, int)):
        raise CheckpointError(f"{folder}: bos_token_id must be a number, got {begin}")
    return PairTokenizer(_text(path), begin, ends)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is no UTF-8: {error}") from error


def _template(folder: Path) -> str:
    alone, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if alone.exists():
        return _text(alone)
    found = _json(config).get("chat_template") if config.exists() else None
    return found if isinstance(found, str) else ""
