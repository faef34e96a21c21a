"""Files of anybody's, damaged byte by byte: each is read, or a sentence says why not. No traceback, no hang, no memory without
limit."""

from __future__ import annotations

import ast
import functools
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podweave.chat.session import Session, open_sessions
from podweave.fuzz.choices import Choices
from podweave.fuzz.files import FailingCase
from podweave.fuzz.random_files import RandomModel, quantised_file
from podweave.ir.arrays import ArraysError, read_arrays
from podweave.ir.frontends.onnx import read_network
from podweave.ir.frontends.onnx_rows import load_rows, read_rows
from podweave.language.integer_model import load_model
from podweave.language.load import load_checkpoint
from podweave.language.quantise import quantise
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.runs.model_files import arrays_of
from podweave.runs.workloads import load_graph
from podweave.spec.presets import PRESET_DIRECTORY, load_config
from tests.import_rules import ALLOWED
from tests.ir.frontends.onnx_rows.encoder_file import encoder_file
from tests.podweave.chat.test_session import CHIP
from tests.podweave.encoders.test_encoders import SIZES, quantised
from tests.podweave.inputs.bounds import damaged, damaged_inside, said, with_edits, with_edits_inside
from tests.podweave.language.model_files import write_folder, write_gguf
from tests.podweave.language.tiny import tiny_checkpoint, tiny_texts
from tests.test_architecture import ROOT

FAST, LONG = 40, 1000
"""Files of each sort, in fast tests and in the campaign."""
GEMMS = "layer,M,K,N\nfc1,3,8,5\nfc2,3,5,9\n"
CONVOLUTIONS = (
    "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,\n"
    "conv1,9,9,3,3,4,8,1,\nconv2_DP,7,7,3,3,8,1,2,\n"
)
CASE = {"kind": "chip", "seed": 1, "index": 2, "made": [1, 7, 0.5], "why": "", "sentence": "", "text": []}
CASE |= {"tried": 0, "version": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[Session]:
    """Of a small model, by the golden model; what it saves is in the folder."""
    model = quantise(tiny_checkpoint(), tiny_texts(8, 40), (1,))
    model.save(folder / "model.npz")
    with open_sessions(model, CHIP, "golden", capacity=8) as (opened,):
        list(opened.feed([1, 2, 3]))
        opened.save(folder / "session.npz")
        yield opened


def text(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return write


def plain_file(folder: Path) -> Path:
    made = RandomModel(Choices(5), size=6, channels=2, among=("convolution", "pooling", "residual"))
    onnx.save(made.made(), folder / "floats.onnx")
    values = np.random.default_rng(1).normal(size=made.input).astype(np.float32)
    np.savez(folder / "calibration.npz", x=values)
    return folder / "floats.onnx"


def quantised_network(folder: Path) -> Path:
    return quantised_file(folder, 8, unsigned=True, per_channel=True, size=6, channels=2)


def rows_of(folder: Path) -> Path:
    inside = folder / "rows"
    inside.mkdir()
    quantised(inside)
    return inside / "encoder.rows"


def tensors_of(folder: Path) -> Path:
    return next(write_folder(folder / "hugging", tiny_checkpoint()).glob("*.safetensors"))


def config_of(folder: Path) -> Path:
    return write_folder(folder / "configured", tiny_checkpoint()) / "config.json"


def preset(name: str) -> Callable[[Path], Path]:
    return text(name, (PRESET_DIRECTORY / "llm8x16.toml").read_text(encoding="utf-8"))


SAMPLES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "configuration": (preset("chip.toml"), load_config),
    "GEMMs": (text("gemms.csv", GEMMS), lambda path: load_graph(str(path))),
    "convolutions": (text("convolutions.csv", CONVOLUTIONS), lambda path: load_graph(str(path))),
    "ONNX": (quantised_network, read_network),
    "transformer": (lambda folder: encoder_file(folder, SIZES), lambda path: read_rows(path, {"batch": 1, "sequence": 6})),
    "GGUF": (lambda folder: write_gguf(folder / "tiny.gguf", tiny_checkpoint(), "Q8_0"), load_checkpoint),
    "safetensors": (tensors_of, lambda path: load_checkpoint(path.parent)),
    "config.json": (config_of, lambda path: load_checkpoint(path.parent)),
    "rows": (rows_of, load_rows),
    "model": (lambda folder: folder / "model.npz", load_model),
    "arrays": (lambda folder: plain_file(folder).with_name("calibration.npz"), arrays_of),
    "failing case": (text("case.json", json.dumps(CASE)), FailingCase.read),
}


ZIPPED = ("rows", "model", "arrays")


@functools.cache
def _sample(name: str, folder: Path) -> Path:
    return SAMPLES[name][0](folder)


def hold(path: Path, read: Callable[[Path], Any], count: int, *, inside: bool = False) -> int:
    """Read so many damaged files in place of one that is whole; returns how many are refused."""
    whole, refused = path.read_bytes(), []
    ways: st.SearchStrategy[Any] = damaged_inside(len(whole)) if inside else damaged(len(whole))
    make: Callable[[bytes, Any], bytes] = with_edits_inside if inside else with_edits

    @settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(way=ways)
    def sentence_or_result(way: Any) -> None:
        path.write_bytes(make(whole, way))
        refused.append(bool(said(read, path)))

    try:
        assert said(read, path) == ""
        sentence_or_result()
    finally:
        path.write_bytes(whole)
    return sum(refused)


COUNTS = [FAST, pytest.param(LONG, marks=pytest.mark.campaign)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_files(name: str, count: int, folder: Path, session: Session) -> None:
    path = _sample(name, folder)
    assert hold(path, SAMPLES[name][1], count) > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ZIPPED)
def test_damage_inside_of_zip_files(name: str, count: int, folder: Path, session: Session) -> None:
    """What is in them is damaged, and has the right checksum."""
    path = _sample(name, folder)
    assert hold(path, SAMPLES[name][1], count, inside=True) > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("inside", [False, True])
def test_sessions(inside: bool, count: int, folder: Path, session: Session) -> None:
    assert hold(folder / "session.npz", session.restore, count, inside=inside) > 0


@pytest.mark.parametrize("count", [6, pytest.param(600, marks=pytest.mark.campaign)])
def test_networks_that_are_quantised(count: int, folder: Path) -> None:
    """Through onnxruntime, which calibrates them."""
    path = plain_file(folder)
    output, calibration = folder / "quantised.onnx", folder / "calibration.npz"

    def read(path: Path) -> None:
        quantise_file(str(path), output, calibration, None, FileRecipe(), accuracy=False, progress=lambda _: None)

    hold(path, read, count)


@pytest.mark.parametrize("count", [60, pytest.param(20_000, marks=pytest.mark.campaign)])
def test_workloads_by_name(count: int) -> None:
    """What is typed: pieces of names that there are, and anything."""
    pieces = ["gemm:", "conv:", "3x4x5", "9x9x3x4", ",kernel=", "3x3", "2", ",", "=", "stride=", "same", "llama_", "bert_tiny", "_"]
    pieces += [
        "resnet50",
        "_224",
        "/",
        "unet_16",
        "99999999",
        "9" * 24,
        "0",
        "-1",
        "rows=",
        "context=",
        "é",
        "\0",
    ]
    texts = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(pieces), max_size=8).map("".join))

    @settings(max_examples=count, deadline=None, derandomize=True, database=None)
    @given(text=texts)
    def sentence_or_graph(text: str) -> None:
        said(load_graph, text)

    sentence_or_graph()


def bomb(folder: Path, header: bytes = b"", size: int = 0) -> Path:
    """A small file with ``size`` zeros in it, behind a header."""
    file = folder / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header + bytes(size))
    return file


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_2_0(made, {"descr": kind, "fortran_order": False, "shape": shape})
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "size", "sentence"),
    [
        (header((33 << 20,)), 33 << 20, r"its arrays have 34,603,\d{3} bytes, more than 33,554,432$"),
        (header((1 << 62,)), 1 << 20, r"array 'x' says that it has 4,611,686,018,427,387,904 numbers, more than are there$"),
        (header((1 << 40, 1 << 40)), 1 << 20, r"array 'x' says that it has 1,208,925,.* numbers, more than are there$"),
        (header((3,), "|O"), 1 << 20, r"array 'x' has objects of Python, which are not read$"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 20, 0, r"array 'x' is of version 9.0 of the format$"),
        (b"", 0, r"EOF: reading magic string"),
    ],
)
def test_arrays_that_are_not_what_they_say(
    tmp_path: Path, content: bytes, size: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podweave.ir.arrays.LEAST_LIMIT", 1 << 25)
    with pytest.raises(ArraysError, match=sentence):
        read_arrays(bomb(tmp_path, content, size))
    assert said(arrays_of, bomb(tmp_path, content, size))


def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every order, shape and type, as NumPy reads them; a file of which bytes are missing; other files in it."""
    rng = np.random.default_rng(3)
    arrays = {"a": rng.normal(size=(3, 4)), "b/c": np.asfortranarray(rng.integers(0, 9, (2, 5))), "d": np.zeros((0, 7), np.int8)}
    arrays |= {"e": np.array(5, np.float16), "f": np.array(["x", "yz"]), "g": np.zeros((1 << 20,), np.int32)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
            np.testing.assert_array_equal(found[name], values)
    np.save(tmp_path / "one.npy", rng.normal(size=3))
    with pytest.raises(ArraysError, match=r"^it is a single array \(\.npy\)$"):
        read_arrays(tmp_path / "one.npy")
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "a") as archive:
        archive.writestr("note.txt", "x")
    with pytest.raises(ArraysError, match=r"^'note\.txt' in it is no array \(\.npy\)$"):
        read_arrays(tmp_path / "b.npz")
    monkeypatch.setattr("podweave.ir.arrays.MOST_ARRAYS", 5)
    with pytest.raises(ArraysError, match=r"^it has 6 arrays, more than 5$"):
        read_arrays(tmp_path / "a.npz")


READ_BY = {"np.load", "numpy.load", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "torch.load", "yaml.load"}
EVALUATED = {"eval", "exec", "compile", "__import__"}


def test_nothing_from_outside_is_unpickled() -> None:
    """Arrays of files are read in one place. Pickles are of podweave and its own simulator, in folders of its own; kept networks
    have a reader that takes classes of podweave only. Nothing is evaluated."""
    found = set()
    for file in (file for room in ALLOWED for file in sorted((ROOT / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            what = node.func
            name = what.id if isinstance(what, ast.Name) else ""
            if isinstance(what, ast.Attribute) and isinstance(what.value, ast.Name):
                name = f"{what.value.id}.{what.attr}"
            pickles = any(each.arg == "allow_pickle" and ast.unparse(each.value) != "False" for each in node.keywords)
            if name in READ_BY | EVALUATED or pickles:
                found.add((file.relative_to(ROOT).as_posix(), f"{name} with pickles" if pickles else name))
    own = {f"tb/{name}.py" for name in ("benches/prefetch_bench", "sim/prefetch_axi", "sim/prefetch_run")}
    pickled = {"tb/benches/design_bench.py", "tb/sim/chip_run.py", "tb/sim/accelerator_run.py"}
    # Faults are planted into modules of podweave itself, which are compiled again.
    planted = {("formal/faults.py", "exec"), ("formal/faults.py", "compile")}
    assert found == {(file, "np.load") for file in own} | {(file, "pickle.load") for file in pickled} | planted
