"""Model files as others write them: GGUF by the package ``gguf``, folders of Hugging Face by ``safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from podweave.language.checkpoint import Checkpoint

GGUF_NAMES = {
    "attention_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "ffn_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
}
HUGGING_FACE_NAMES = {
    "attention_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "ffn_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
}
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endfor %}"


def in_halves(rows: np.ndarray, head_size: int) -> np.ndarray:
    """Rows of heads as models of halves have them: all even channels of a head, then all odd ones."""
    heads = rows.reshape(-1, head_size, *rows.shape[1:])
    return np.concatenate([heads[:, ::2], heads[:, 1::2]], axis=1).reshape(rows.shape)


def vocabulary(size: int) -> list[str]:
    """Two that no text has, the 95 characters of ASCII as GPT-2 writes them, and more: one pair, and fillers."""
    characters = ["Ġ", *(chr(i) for i in range(33, 127))]
    known = ["<s>", "</s>", *characters, "Ġa"]
    return known + [f"[{i}]" for i in range(size - len(known))]


def layer_tensors(checkpoint: Checkpoint, names: Mapping[str, str], halves: bool) -> dict[str, np.ndarray]:
    """By names in the file, with the number of the layer in front of each."""
    found = {}
    for index, layer in enumerate(checkpoint.layers):
        for field in fields(layer):
            tensor = getattr(layer, field.name)
            if tensor is not None:
                turned = halves and field.name[0] in "qk"
                found[f"{index}.{names[field.name]}"] = in_halves(tensor, checkpoint.sizes.head_size) if turned else tensor
    return found


def write_gguf(path: Path, checkpoint: Checkpoint, kind: str = "F32", architecture: str = "llama", **changed: Any) -> Path:
    """A file of a checkpoint. ``kind``: of its matrices.

    ``changed``: numbers of the architecture by name, None to leave them out; "pre", the name of how texts are cut; "tensors", by
    name, others or None.
    """
    import gguf

    sizes, writer = checkpoint.sizes, gguf.GGUFWriter(path, architecture)
    numbers = {
        "embedding_length": sizes.hidden,
        "block_count": sizes.layers,
        "feed_forward_length": sizes.intermediate,
        "context_length": checkpoint.context,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.key_length": sizes.head_size,
        "rope.dimension_count": sizes.head_size,
    }
    for name, number in (numbers | {name: number for name, number in changed.items() if name in numbers}).items():
        if number is not None:
            writer.add_uint32(f"{architecture}.{name}", number)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", checkpoint.epsilon)
    writer.add_float32(f"{architecture}.rope.freq_base", checkpoint.rope_theta)
    if "scaling" in changed:
        writer.add_string(f"{architecture}.rope.scaling.type", changed["scaling"])
    writer.add_name("tiny")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    tokens = vocabulary(checkpoint.vocabulary)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    layers = layer_tensors(checkpoint, GGUF_NAMES, halves=architecture != "llama")
    tensors = {"token_embd.weight": checkpoint.embedding, "output_norm.weight": checkpoint.norm}
    tensors |= {f"blk.{name}": tensor for name, tensor in layers.items()}
    if not checkpoint.tied:
        tensors["output.weight"] = checkpoint.head
    for name, tensor in (tensors | changed.get("tensors", {})).items():
        if tensor is None:
            continue
        of_kind = gguf.GGMLQuantizationType[kind if tensor.ndim == 2 else "F32"]
        if of_kind == gguf.GGMLQuantizationType.F16:
            writer.add_tensor(name, tensor.astype(np.float16))
        elif of_kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, tensor.astype(np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor.astype(np.float32), of_kind), raw_dtype=of_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_folder(folder: Path, checkpoint: Checkpoint, kind: str = "F32", files: int = 1, **changed: Any) -> Path:
    """A folder of a checkpoint. ``changed``: of config.json, None to leave out; "tensors" as in `write_gguf`."""
    sizes = checkpoint.sizes
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "llama",
        "hidden_size": sizes.hidden,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_size,
        "intermediate_size": sizes.intermediate,
        "num_hidden_layers": sizes.layers,
        "rms_norm_eps": checkpoint.epsilon,
        "rope_theta": checkpoint.rope_theta,
        "max_position_embeddings": checkpoint.context,
        "tie_word_embeddings": checkpoint.tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    others = changed.pop("tensors", {})
    config = {name: value for name, value in (config | changed).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": checkpoint.embedding, "model.norm.weight": checkpoint.norm}
    layers = layer_tensors(checkpoint, HUGGING_FACE_NAMES, halves=True)
    tensors |= {f"model.layers.{name}": tensor for name, tensor in layers.items()}
    if not checkpoint.tied:
        tensors["lm_head.weight"] = checkpoint.head
    tensors = {name: tensor for name, tensor in (tensors | others).items() if tensor is not None}
    for number in range(files):
        part = {name: tensors[name] for name in list(tensors)[number::files]}
        _write_safetensors(folder / f"model-{number}.safetensors", part, kind)
    return folder


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray], kind: str) -> None:
    from safetensors.numpy import save_file

    if kind != "BF16":
        types = {"F32": np.float32, "F16": np.float16, "I32": np.int32}
        save_file({name: np.ascontiguousarray(tensor, types[kind]) for name, tensor in tensors.items()}, path)
        return
    # Which NumPy has no type for: the format is the length of a JSON text, that text, and bytes.
    header, content = {}, b""
    for name, tensor in tensors.items():
        data = (np.ascontiguousarray(tensor, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
