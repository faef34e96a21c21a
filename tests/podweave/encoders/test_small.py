"""podweave.encoders: each way in which tensors become integers, in small files, and what cannot be made integers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.encoders.ends import load_model
from podweave.encoders.files import is_transformer, quantise_transformer, row_file_jobs, sizes_of
from podweave.ir.frontends.onnx_rows import RowFileError, load_rows
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Format
from podweave.language.quantise import Recipe
from tests.ir.frontends.onnx_rows.small_file import ATTENTION, ROWS, SCORES, WIDTH, small
from tests.podweave.runs.row_jobs import small_chip

TEXTS = 24


def attention(of: str) -> str:
    return ATTENTION.replace("(x, w", f"({of}, w")


def texts(seed: int = 0, factor: float = 1.0) -> dict[str, NDArray]:
    rng = np.random.default_rng([seed, 5])
    return {"x": (factor * rng.normal(size=(TEXTS, ROWS, WIDTH))).astype(np.float32)}


def quantised(file: Path, given: dict[str, NDArray], recipe: Recipe | None = None, *, accuracy: bool = True) -> dict[str, Any]:
    folder = file.parent
    np.savez(folder / "texts.npz", **given)  # type: ignore[arg-type]
    paths = folder / "small.rows", folder / "texts.npz", None
    return quantise_transformer(file, *paths, recipe or Recipe(), accuracy=accuracy, progress=lambda _: None)


WAYS: dict[str, tuple[str, dict[str, Format]]] = {
    # What an attention reads first is multiplied alone; a product that a norm reads is as long as a sum.
    "multiplied at once": (attention("x"), {"x": Format.INT16}),
    "normalised at once": (f"n = LayerNormalization(x, g, b) {attention('n')}", {"x": Format.WIDE, "n": Format.INT16}),
    "a norm of a product": (
        f"u = MatMul(x, w) n = LayerNormalization(u, g, b) {attention('n')}",
        {"x": Format.INT16, "u": Format.WIDE, "n": Format.INT16},
    ),
    "a product of a product": (f"{attention('x')} y = MatMul(h, wq)", {"h": Format.INT16, "y": Format.INT16}),
    "a residual of a product": (
        f"u = MatMul(x, w) n = LayerNormalization(u, g, b) {attention('n')} y = Add(h, u)",
        {"u": Format.WIDE, "y": Format.WIDE},
    ),
}


@pytest.mark.parametrize("damping", [Recipe().damping, None])
@pytest.mark.parametrize("way", WAYS)
def test_integers_are_near_floating_point(tmp_path: Path, way: str, damping: float | None) -> None:
    nodes, forms = WAYS[way]
    report = quantised(small(tmp_path, nodes), texts(), Recipe(damping=damping))
    graph = load_rows(tmp_path / "small.rows").graph
    assert {name: graph.format(name) for name in forms} == forms
    assert min(row["own_sqnr_db"] for row in report["accuracy"]["worst"]) > 30
    (output,) = report["accuracy"]["outputs"]
    assert output["least_cosine"] > 0.99


def test_outputs_that_are_no_real_numbers_are_not_compared(tmp_path: Path) -> None:
    report = quantised(small(tmp_path, f"{attention('x')} y = Sigmoid(h) most = ArgMax(h)"), texts())
    assert [row["output"] for row in report["accuracy"]["outputs"]] == ["y"]


def test_without_accuracy(tmp_path: Path) -> None:
    report = quantised(small(tmp_path, attention("x")), texts(), accuracy=False)
    assert (report["accuracy"], report["calibration_batches"], report["rows"]) == (None, TEXTS, ROWS)


def test_random_rows_are_one_job(tmp_path: Path) -> None:
    quantised(small(tmp_path, attention("x")), texts())
    file = str(tmp_path / "small.rows")
    (job,), (again,) = (row_file_jobs(file, small_chip(), 3) for _ in range(2))
    assert job.graph == load_rows(tmp_path / "small.rows").graph
    np.testing.assert_array_equal(job.inputs["x"], again.inputs["x"])
    assert len(row_file_jobs(file, small_chip(), 3, tmp_path / "texts.npz")) == TEXTS


_NORM = f"n = LayerNormalization<epsilon = 1000000.0>(x, g, b) {attention('n')}"
REFUSED: dict[str, tuple[str, dict[str, NDArray], str]] = {
    "multiplied and normalised": (
        f"n = LayerNormalization(x, g, b) {attention('n')} u = MatMul(x, w) y = Add(u, h)",
        texts(),
        "small: x is normalised, and multiplied as it is",
    ),
    "added to attention": (
        f"{attention('x')} y = Add(h, h0)",
        texts(),
        "small: o is added to, or normalised, and has a unit for each channel",
    ),
    "a large bias": (
        f"u = MatMul(x, w) n = Add(u, large) {attention('n')}",
        texts(),
        "small: a bias of n is too large for its weights",
    ),
    "a large gate": (
        f"u = MatMul(x, w) e0 = Div(u, root) e1 = Erf(e0) e2 = Add(e1, unit) e3 = Mul(u, e2) n = Mul(e3, half) {attention('n')}",
        texts(factor=1e4),
        "small: u reaches [0-9]+, more than 16 bits hold",
    ),
    "a large epsilon": (_NORM, texts(factor=1e-6), "small: the epsilon of n is too large for rows so small"),
    "texts without an end": (
        attention("x"),
        {"x": np.where(np.arange(TEXTS) == 7, np.inf, texts()["x"].T).T},
        "small: x is not finite in text 7 of the calibration",
    ),
    "no texts": (
        attention("x"),
        {"x": texts()["x"][:0]},
        "small: arrays must be of as many texts as each other, at least one, got [0]",
    ),
    "numbers alone": (
        attention("x"),
        {"x": np.float32(1)},
        "small: arrays must be of as many texts as each other, at least one, got [0]",
    ),
    "masks that are none": (
        f"{SCORES} t = Add(s, m) p = Softmax<axis = -1>(t) o = MatMul(p, v) o1 = Transpose<perm = [0, 2, 1, 3]>(o) "
        "h0 = Reshape(o1, back) h = MatMul(h0, w)",
        {**texts(), "m": np.full((TEXTS, 1, 1, ROWS), -1, np.float32)},
        "small: m is added to scores, and must be 0, or at most -1,000, which is no mask",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_made_integers(tmp_path: Path, case: str) -> None:
    nodes, given, sentence = REFUSED[case]
    file = small(tmp_path, nodes, large=np.full(WIDTH, 1e12, np.float32))
    with pytest.raises(WorkloadError) as error:
        quantised(file, given)
    assert re.fullmatch(re.escape(sentence).replace(r"\[0\-9\]\+", "[0-9]+"), str(error.value)), error.value
    assert not (tmp_path / "small.rows").exists()


def test_which_files_are_transformers(tmp_path: Path) -> None:
    assert is_transformer(small(tmp_path, attention("x")))
    assert not is_transformer(small(tmp_path, "y = MatMul(x, w)"))
    (tmp_path / "other.onnx").write_bytes(b"\xff" * 40)
    assert not is_transformer(tmp_path / "other.onnx")
    assert not is_transformer(tmp_path / "none.onnx")


def test_sizes_that_arrays_give(tmp_path: Path) -> None:
    """Of the inputs that there are arrays for, with as many dimensions; all alike."""
    model = load_model(small(tmp_path, "y = Add(x, z)"))
    for each in model.graph.input:
        each.type.tensor_type.shape.dim[1].ClearField("dim_value")
        each.type.tensor_type.shape.dim[1].dim_param = "rows"
    assert sizes_of(model, {"x": np.zeros((5, 9, WIDTH)), "z": np.zeros((2, 2))}) == {"rows": 9}
    assert sizes_of(model, {}) == {}
    with pytest.raises(WorkloadError, match=r"^z: its size rows is 8, and 9 elsewhere$"):
        sizes_of(model, {"x": np.zeros((5, 9, WIDTH)), "z": np.zeros((5, 8, WIDTH))})


def test_files_of_rows_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RowFileError, match=r"cannot be read: Is a directory$"):
        load_rows(tmp_path)
    quantised(small(tmp_path, attention("x")), texts())
    with np.load(tmp_path / "small.rows") as file:
        arrays = dict(file)
    about = arrays["about"].tobytes()
    arrays["about"] = np.frombuffer(about.replace(b"podweave rows 1", b"podweave rows 9"), np.uint8)
    np.savez(tmp_path / "later.npz", **arrays)
    with pytest.raises(RowFileError, match=r"the format must be 'podweave rows 1', got 'podweave rows 9'$"):
        load_rows(tmp_path / "later.npz")
