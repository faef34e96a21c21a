"""podweave.encoders: transformers of ONNX files in integers, beside onnxruntime and in RTL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podweave.encoders.calibration import FloatTexts
from podweave.encoders.compare import compare_with_float
from podweave.encoders.ends import Host, batches_of, load_model
from podweave.encoders.files import quantise_transformer, row_file_jobs
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.onnx_rows import IntegerRows, RowFileError, load_rows, read_rows, row_file
from podweave.ir.layers import WorkloadError
from podweave.language.quantise import Recipe
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.model_files import arrays_of
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from tests.ir.frontends.onnx_rows.encoder_file import Sizes, Style, encoder_file, random_texts
from tests.podweave.runs.row_jobs import small_chip

SIZES = Sizes(16, 2, 24)
ROWS = 9


def quantised(
    folder: Path, sizes: Sizes = SIZES, style: Style | None = None, seed: int = 0, rows: int = ROWS, judged: int = 1
) -> dict[str, Any]:
    """The report; the folder has encoder.onnx, encoder.rows, and texts.npz on which it is judged: others, or with ``judged`` 0 the
    first of those that calibrate."""
    file = encoder_file(folder, sizes, seed, style)
    calibrating = random_texts(sizes, 24, rows, seed, style)
    others = random_texts(sizes, 5, rows, seed + 1, style) if judged else {name: each[:5] for name, each in calibrating.items()}
    np.savez(folder / "calibration.npz", **calibrating)  # type: ignore[arg-type]
    np.savez(folder / "texts.npz", **others)  # type: ignore[arg-type]
    paths = folder / "encoder.rows", folder / "calibration.npz", folder / "texts.npz"
    return quantise_transformer(file, *paths, Recipe(), accuracy=True, progress=lambda _: None)


def worst(report: dict[str, Any]) -> float:
    return float(report["accuracy"]["worst"][0]["sqnr_db"])


STYLES = {
    "operators": (SIZES, Style()),
    "pieces": (Sizes(24, 3, 40, 2), Style(pieces=True, scaled="query")),
    "one head": (Sizes(12, 1, 20), Style(scaled="both", epsilon=1e-2)),
    "guarded": (Sizes(20, 2, 28, 2), Style(guarded=True, scaled="both")),
    "first": (Sizes(24, 3, 32, 2), Style(first=True)),
    "causal": (Sizes(24, 3, 32, 2), Style(first=True, fused="split", hidden="causal", tanh=True, pool=False)),
    "patches": (SIZES, Style(first=True, gains=True, fused="parts", embed=False, patches=True, mask=False)),
    "parts": (SIZES, Style(fused="parts", hidden="where")),
    "rows": (SIZES, Style(embed=False, mask=False, pool=False)),
}


@pytest.mark.parametrize("way", STYLES)
def test_integers_are_near_floating_point(tmp_path: Path, way: str) -> None:
    report = quantised(tmp_path, *STYLES[way])
    (output,) = report["accuracy"]["outputs"]
    assert output["least_cosine"] > 0.999
    assert worst(report) > 28


def test_a_file_is_what_was_quantised(tmp_path: Path) -> None:
    quantised(tmp_path)
    first = load_rows(tmp_path / "encoder.rows")
    first.save(tmp_path / "again.rows")
    second = load_rows(tmp_path / "again.rows")
    assert second.constants.digest == first.constants.digest
    assert (second.graph, second.given, second.front, second.end) == (first.graph, first.given, first.front, first.end)
    job, *_ = row_file_jobs(str(tmp_path / "encoder.rows"), small_chip(), 0, tmp_path / "texts.npz")
    again, *_ = row_file_jobs(str(tmp_path / "again.rows"), small_chip(), 0, tmp_path / "texts.npz")
    assert all(np.array_equal(again.inputs[name], job.inputs[name]) for name in job.inputs)


def with_constants(network: IntegerRows, name: str, change: Callable[[Parameters], Parameters]) -> IntegerRows:
    held = dict(network.constants)
    held[name] = change(held[name])
    return dataclasses.replace(network, constants=Constants(held))


def without_bias(held: Parameters) -> Parameters:
    return dataclasses.replace(held, bias=held.bias * 0)


def twice(held: Parameters) -> Parameters:
    return dataclasses.replace(held, shift=held.shift - 1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("embeddings.LayerNorm/Norm", without_bias),
        ("encoder.layer.0.attention/MatMul", twice),
        ("encoder.layer.0.attention.output/Add", without_bias),
        ("encoder.layer.0.gelu", twice),
    ],
)
def test_wrong_constants_are_far_from_floating_point(tmp_path: Path, name: str, change: Callable[[Parameters], Parameters]) -> None:
    quantised(tmp_path)
    file = tmp_path / "encoder.onnx"
    texts = FloatTexts(load_model(file), read_rows(file, {"batch": 1, "sequence": ROWS}))
    batches = batches_of("texts", texts.network.given, arrays_of(tmp_path / "texts.npz"))
    wrong = with_constants(load_rows(tmp_path / "encoder.rows"), name, change)
    found = compare_with_float(texts, wrong, batches, lambda _: None)["worst"]
    assert found[0]["sqnr_db"] < 20
    # By itself, every other operation is as near as it was.
    assert min(found, key=lambda row: row["own_sqnr_db"])["operation"] == name
    assert sorted(row["own_sqnr_db"] for row in found)[1] > 30


def test_what_is_beyond_the_mask_changes_nothing(tmp_path: Path) -> None:
    quantised(tmp_path)
    network = load_rows(tmp_path / "encoder.rows")
    host, found = Host(network), []
    mask = (np.arange(ROWS) < 4).astype(np.int64)[None]
    for behind in (1, 7):
        given = {"input_ids": np.where(mask, [np.arange(ROWS)], behind), "attention_mask": mask}
        found.append(host.outputs(evaluate(network.graph, network.constants, host.inputs(given)), given)["y"])
    np.testing.assert_array_equal(*found)
    given["attention_mask"] = mask[:, ::-1]
    with pytest.raises(WorkloadError, match="a row must see the first keys, at least one"):
        host.inputs(given)


def in_rtl(folder: Path, config: ChipConfig, options: str = "") -> None:
    jobs = row_file_jobs(f"{folder / 'encoder.rows'}{options}", config, 0, None if options else folder / "texts.npz")
    report, outputs, _ = run_jobs(jobs[:2], AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    for job, found in zip(jobs, outputs, strict=False):
        right = evaluate(job.graph, job.constants, job.inputs)
        assert all(np.array_equal(found[name], right[name]) for name in job.graph.outputs)


def test_in_rtl(tmp_path: Path) -> None:
    quantised(tmp_path)
    in_rtl(tmp_path, small_chip())


def random_way(seed: int) -> tuple[Sizes, Style, int]:
    """Sizes, style and rows, drawn."""
    rng = np.random.default_rng([seed, 7])
    heads, size = int(rng.integers(1, 5)), int(rng.integers(2, 7)) * 2
    sizes = Sizes(heads * size, heads, int(rng.integers(3, 50)), int(rng.integers(1, 4)))
    masked = bool(rng.integers(2))
    style = Style(
        pieces=bool(rng.integers(2)),
        guarded=bool(rng.integers(2)),
        first=bool(rng.integers(2)),
        fused=str(rng.choice(["", "split", "parts"])) if heads > 1 else "",
        hidden=str(rng.choice(["", "causal", "where" if masked else ""])),
        tanh=bool(rng.integers(2)),
        flat=bool(rng.integers(2)),
        gains=bool(rng.integers(2)),
        scaled=str(rng.choice(["scores", "query", "both"])),
        mask=masked,
        pool=bool(rng.integers(2)),
        embed=bool(rng.integers(2)),
        epsilon=float(10.0 ** rng.integers(-12, -2)),
    )
    return sizes, style, int(rng.integers(2, 16))


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(10, 300), marks=pytest.mark.campaign)])
def test_random_transformers_are_near_floating_point(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        sizes, style, rows = random_way(seed)
        # On texts that were seen: a few of so few rows are hardly like each other. Each operation by itself: a norm of a few
        # channels that are nearly equal makes much of what is lost in front of it.
        found = quantised(tmp_path, sizes, style, seed, rows, judged=0)["accuracy"]
        assert min(row["own_sqnr_db"] for row in found["worst"]) > 30, (seed, sizes, style)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_random_transformers_in_rtl(tmp_path: Path, seed: int) -> None:
    sizes, style, rows = random_way(seed)
    quantised(tmp_path, sizes, style, seed, rows)
    in_rtl(tmp_path, small_chip())


@pytest.mark.campaign
@pytest.mark.parametrize("way", [*STYLES, "wide"])
def test_all_ways_in_rtl(tmp_path: Path, way: str) -> None:
    sizes, style = STYLES.get(way, (Sizes(64, 4, 128, 2), Style(pieces=True)))
    quantised(tmp_path, sizes, style, 5, rows=16 if way == "wide" else ROWS)
    config = load_config("llm8x16") if way == "wide" else small_chip()
    in_rtl(tmp_path, config)
    in_rtl(tmp_path, config, ",rows=5")


def test_texts_of_other_lengths(tmp_path: Path) -> None:
    """What integers make of a text does not depend on how far it was filled up."""
    quantised(tmp_path)
    found = []
    for rows in (ROWS, 5):
        network = row_file(f"{tmp_path / 'encoder.rows'},rows={rows}")
        given = {"input_ids": np.arange(rows)[None], "attention_mask": (np.arange(rows) < 4).astype(np.int64)[None]}
        found.append(Host(network).outputs(evaluate(network.graph, network.constants, Host(network).inputs(given)), given)["y"])
    np.testing.assert_allclose(*found, atol=1e-6)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "other.rows").write_bytes(b"PK\x03\x04")
    with pytest.raises(RowFileError, match="is no transformer that podweave quantise wrote, or not a whole one"):
        load_rows(tmp_path / "other.rows")
    with pytest.raises(RowFileError, match="cannot be read: No such file"):
        row_file(str(tmp_path / "none.rows"))
    quantised(tmp_path)
    with np.load(tmp_path / "encoder.rows") as file:
        arrays = dict(file)
    arrays["constants/embeddings.LayerNorm/Norm/bias"] += 1
    np.savez(tmp_path / "wrong.rows.npz", **arrays)
    with pytest.raises(RowFileError, match="its constants have the hash"):
        load_rows(tmp_path / "wrong.rows.npz")
    del arrays["constants/embeddings.LayerNorm/Norm/shift"]
    np.savez(tmp_path / "part.rows.npz", **arrays)
    with pytest.raises(RowFileError, match="it lacks 'shift'"):
        load_rows(tmp_path / "part.rows.npz")


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    quantised(tmp_path)
    file = str(tmp_path / "encoder.rows")
    np.savez(tmp_path / "few.npz", input_ids=np.zeros((1, ROWS), np.int64))
    with pytest.raises(WorkloadError, match="encoder takes attention_mask, input_ids, got input_ids"):
        row_file_jobs(file, small_chip(), 0, tmp_path / "few.npz")
    np.savez(tmp_path / "long.npz", input_ids=np.zeros((1, 10), np.int64), attention_mask=np.ones((1, 10), np.int64))
    with pytest.raises(WorkloadError, match=r"encoder: input_ids must be \[1, 9\], got \[1, 10\]"):
        row_file_jobs(file, small_chip(), 0, tmp_path / "long.npz")
