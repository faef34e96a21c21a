"""podweave.program within this process, and the programs that train, with training stood in for."""

from __future__ import annotations

import io
import math
import os
import shutil
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from podweave import digits, program
from podweave.cli.progress import Progress
from podweave.digits import train as train_digits
from podweave.golden.graph import evaluate
from podweave.ir.layers import WorkloadError
from podweave.language import nano
from podweave.language.nano import train as train_nano
from podweave.spec.config_parts import ConfigError


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Temporary folders are of the test; what would be done at the end of the process is a list."""
    found: list[Any] = []
    monkeypatch.setattr(program.tempfile, "mkdtemp", lambda prefix: str(tmp_path / f"{prefix}made"))
    monkeypatch.setattr(program.atexit, "register", lambda *what, **options: found.append((what, options)))
    return found


def test_a_cache_that_can_be_written_stays(
    elsewhere: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    program.prepare_cache()
    assert (os.environ["PODWEAVE_CACHE"], os.environ["XDG_CACHE_HOME"]) == (str(tmp_path / "mine"), str(tmp_path / "home"))
    assert capsys.readouterr().err == ""
    assert elsewhere == []


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "PODWEAVE_CACHE"])
def test_a_cache_that_cannot_be_written_is_one_of_this_process(
    name: str, elsewhere: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is said once, and the folder is removed at the end."""
    for each in ("XDG_CACHE_HOME", "PODWEAVE_CACHE"):
        monkeypatch.setenv(each, str(tmp_path / each))
    (tmp_path / name).touch()
    program.prepare_cache()
    made = str(tmp_path / "podweave-cache-made")
    assert os.environ[name] == made
    reason = "File exists"
    expected = f"podweave: {tmp_path / name} cannot be written ({reason}): what is made is not kept for later runs; set {name}\n"
    assert capsys.readouterr().err == expected
    assert elsewhere == [((shutil.rmtree, made), {"ignore_errors": True})]


def test_without_a_home_there_is_a_cache(
    elsewhere: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("PODWEAVE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(program, "user_cache_directory", nobody)
    program.prepare_cache()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "podweave-cache-made")
    assert capsys.readouterr().err.startswith("podweave: ~ cannot be written (Could not determine home directory.): ")


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (ValueError("no such node\nat line 3"), WorkloadError, "it is none: no such node"),
        (RuntimeError(""), WorkloadError, "it is none: RuntimeError"),
        (KeyError("x" * 400), WorkloadError, f"it is none: '{'x' * 299}"),
        # What a user can mend is said already.
        (ConfigError("pods must be 1"), ConfigError, "pods must be 1"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_errors_of_other_packages_are_sentences(error: BaseException, kind: type[BaseException], sentence: str) -> None:
    with pytest.raises(kind) as raised, program.by_others("it is none"):
        raise error
    assert str(raised.value) == sentence


def test_a_program_runs_in_a_thread_and_on_streams_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where signals are not its own; streams that are no files stay as they are."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    codes: list[Any] = []

    def run() -> None:
        try:
            with program.program():
                raise WorkloadError("too large")
        except SystemExit as ended:
            codes.append(ended.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [2]


class Status:
    """In place of the line of a terminal."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")

    def update(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize(("encoding", "spinner"), [("utf-8", "dots"), ("ascii", "line")])
def test_progress_is_one_line_of_a_terminal(encoding: str, spinner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not there while something else is printed."""
    status, asked = Status(), list[str]()

    def of(text: str, *, spinner: str) -> Status:
        asked.append(spinner)
        return status

    monkeypatch.setattr("podweave.cli.progress.errors", SimpleNamespace(encoding=encoding, is_terminal=True, status=of))
    with Progress() as progress:
        progress("building")
        progress.pause()
        progress.resume()
        progress("running")
    assert status.told == ["start", "building", "stop", "start", "running", "stop"]
    assert asked == [spinner]


def test_progress_elsewhere_is_a_line_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    clock = iter([10.0, 10.0, 10.5, 11.2, 11.2])
    errors = SimpleNamespace(encoding="utf-8", is_terminal=False, print=lambda text, **options: told.append(text))
    monkeypatch.setattr("podweave.cli.progress.errors", errors)
    monkeypatch.setattr("podweave.cli.progress.time.monotonic", lambda: next(clock))
    with Progress() as progress:
        for text in ("one", "two", "three"):
            progress.pause()
            progress.resume()
            progress(text)
    assert told == ["one", "three"]


def test_digits_are_trained_quantised_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is trained being what is in the repository, its file is too; accuracy by hand."""
    given: list[Any] = []

    def train(images: Any, labels: Any, seed: int) -> Any:
        given.append((len(images), len(labels), seed))
        return digits.float_layers()

    monkeypatch.setattr(train_digits, "train", train)
    monkeypatch.setattr(sys, "argv", ["train", "--output", str(tmp_path / "digits.npz"), "--seed", "4"])
    train_digits.main()
    assert given == [(1097, 1097, 4)]
    with np.load(digits.WEIGHTS) as kept, np.load(tmp_path / "digits.npz") as written:
        assert set(written.files) == set(kept.files)
        for name in kept.files:
            assert written[name].dtype == kept[name].dtype
            # Another BLAS may differ in the last bit of the largest activations.
            atol = 1 if written[name].dtype == np.int8 else 1 + np.abs(kept[name]).max() * 1e-4
            assert_allclose(written[name].astype(float), kept[name].astype(float), atol=atol)
    images, labels = digits.test_images()
    integer = evaluate(digits.digits_graph(500), digits.digits_parameters(), {"image": images})["logits"].reshape(500, -1)
    right = [float((logits.argmax(axis=1) == labels).mean()) for logits in (digits.float_logits(images), integer)]
    size, *parts = capsys.readouterr().out.splitlines()
    assert size == f"{tmp_path / 'digits.npz'}: {(tmp_path / 'digits.npz').stat().st_size} bytes"
    assert [part.split(" images")[0] for part in parts] == ["training, 1097", "validation, 200", "held out, 500"]
    assert parts[-1] == f"held out, 500 images: accuracy {right[0]:.2%} in floating point, {right[1]:.2%} in int8"


def test_the_small_model_is_trained_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With PyTorch stood in for: what is trained being what is in the repository, its files are too."""
    kept = nano.load_nano()
    torch, learning = ModuleType("torch"), ModuleType("podweave.language.nano.learning")
    threads: list[int] = []
    trained = {
        name: SimpleNamespace(detach=lambda tensor=tensor: SimpleNamespace(numpy=lambda: tensor))
        for name, tensor in kept.tensors.items()
    }
    given: list[Any] = []

    def train(sizes: Any, tokenizer: Any, steps: int, seed: int) -> Any:
        given.append((sizes, tokenizer.entries, steps, seed))
        return SimpleNamespace(parameters=trained)

    def loss(network: Any, tokenizer: Any) -> float:
        return 1.25 if network.parameters is trained else 1.5

    torch.set_num_threads = threads.append  # type: ignore[attr-defined]
    torch.from_numpy = lambda tensor: tensor  # type: ignore[attr-defined]
    for name, what in {
        **{"HELD_OUT_TEXTS": 1000, "train": train, "held_out_loss": loss},
        "Network": lambda sizes, parameters: SimpleNamespace(parameters=parameters),
    }.items():
        setattr(learning, name, what)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "podweave.language.nano.learning", learning)
    monkeypatch.setattr(train_nano, "vocabulary", lambda: kept.tokenizer)
    monkeypatch.setattr(sys, "argv", ["train", "--folder", str(tmp_path), "--steps", "7", "--seed", "3"])
    train_nano.main()
    assert given == [(nano.NanoSizes(), kept.tokenizer.entries, 7, 3)]
    assert threads == [1]
    written = nano.load_nano(tmp_path)
    assert written.tokenizer.to_text() == kept.tokenizer.to_text()
    assert written.tokenizer.from_text(kept.tokenizer.to_text()).entries == kept.tokenizer.entries
    for name, tensor in kept.tensors.items():
        assert_array_equal(written.tensors[name], tensor)
    *files, first, second = capsys.readouterr().out.splitlines()
    assert files == [f"{file}: {file.stat().st_size} bytes" for file in sorted(tmp_path.iterdir())]
    assert first == f"1000 texts held out, as trained: 1.2500 nats per token, perplexity {math.exp(1.25):.4f}"
    assert second == f"1000 texts held out, as stored: 1.5000 nats per token, perplexity {math.exp(1.5):.4f}"
