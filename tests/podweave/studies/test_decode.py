"""podweave study decode: whole language models put together of runs of some layers, beside published values."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import RowLinear
from podweave.pictures.studies import draw_study
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.presets import load_config
from podweave.studies import decode as decode_module
from podweave.studies import frame as frame_module
from podweave.studies.decode import CONTEXTS, MODELS, PROMPT, ROWS, WIDTHS, Setting, decode_study, prompt, wholes
from podweave.studies.language_points import LanguagePoint, MemoryWidth, ModelShape
from podweave.studies.points import point_key
from podweave.studies.published import load_published
from podweave.studies.run import STUDY_NAMES, chosen_networks, run_study
from podweave.studies.tables import print_study
from tests.podweave.command_line import Cli, assert_refused

TINY = ModelShape("tiny", DecoderSizes(64, 4, 2, 96, 5), 4000)
WIDE = ModelShape("wide", DecoderSizes(32, 2, 1, 64, 3), 30_000)
CHIP = "llm8x16"


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODWEAVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(decode_module, "MODELS", {model.name: model for model in (TINY, WIDE)})
        return decode_study(["tiny", "wide"], jobs=1)


def rows_of(report: dict[str, Any], table: int) -> list[dict[str, Any]]:
    shown = report["tables"][table]
    return [dict(zip(shown["columns"], row, strict=True)) for row in shown["rows"]]


def cycles_of(model: ModelShape, layers: int, *, rows: int = 1, context: int = 512, head: bool = False) -> int:
    """Predicted without what studies are made of."""
    sizes = dataclasses.replace(model.sizes, layers=layers)
    graph = decoder(sizes, [TextRows(rows, context)], "x", head=HeadSettings(model.vocabulary) if head else None)
    config = load_config(CHIP)
    constants = with_scale_bits(random_row_parameters(graph, 7), config.scale_bits)
    return predict_accelerator(compile_network(graph, config, constants, CompileOptions(from_memory=True)), HbmTiming()).cycles


def test_models_have_the_sizes_of_the_published_ones() -> None:
    billions = {name: model.weights / 1e9 for name, model in MODELS.items()}
    expected = {"smollm2_135m": 0.1345, "qwen3_0.6b": 0.5959, "llama3.2_1b": 1.2356, "llama3_8b": 7.5046}
    assert billions == pytest.approx(expected, rel=1e-3)
    for model in MODELS.values():
        graph = LanguagePoint(CHIP, model, 1, 1, 16, model.vocabulary).graph()
        linears = [operation for operation in graph.operations if isinstance(operation, RowLinear)]
        assert sum(each.width * each.outputs for each in linears) == model.layer_weights + model.head_weights
    assert [setting.model.name for setting in wholes(list(MODELS.values()))] == ["smollm2_135m"]
    # Two bytes of keys and of values for each layer, position and channel.
    assert 512 * MODELS["smollm2_135m"].sizes.cached == 2 * 30 * 512 * 192


def test_a_point_is_what_the_exact_model_says() -> None:
    figures = LanguagePoint(CHIP, TINY, 2, 1, 64, TINY.vocabulary).figures()
    assert figures["cycles"] == cycles_of(TINY, 2, context=64, head=True)
    assert figures["x_words"] > 0
    alone = LanguagePoint(CHIP, TINY, 0, 3, 64, 160).graph()
    assert [operation.name for operation in alone.operations] == ["norm", "head"]
    assert alone.outputs == ("head",)


def test_what_does_not_fit_keeps_its_sentence() -> None:
    refused = LanguagePoint(CHIP, WIDE, 1, 40, 64, WIDE.vocabulary).figures()
    assert list(refused) == ["refused"]
    assert "P bank" in refused["refused"]
    setting = Setting(TINY)
    figures = {point: {"cycles": 10, "x_words": 1} for point in setting.points()}
    assert setting.whole({**figures, setting.stack(2): refused}) == refused
    assert LanguagePoint(CHIP, TINY, 1, 1, 64, 0, MemoryWidth(3, 100)).figures()["refused"]


def test_what_a_key_depends_on() -> None:
    point = LanguagePoint(CHIP, TINY, 1, 1, 64)
    others = [
        dataclasses.replace(point, **change)
        for change in (
            {"preset": "chip16x32"},
            {"model": WIDE},
            {"layers": 2},
            {"rows": 2},
            {"context": 80},
            {"vocabulary": 10},
            {"memory": MemoryWidth(2)},
            {"memory": MemoryWidth(4, 256)},
            {"memory": MemoryWidth(beat_sixteenths=32)},
        )
    ]
    assert len({point_key(each) for each in (point, *others)}) == 1 + len(others)
    assert point_key(LanguagePoint(CHIP, TINY, 1, 1, 64)) == point_key(point)


def test_whole_models_are_put_together_of_layers_and_logits(report: dict[str, Any]) -> None:
    one, two, both = (cycles_of(TINY, layers, head=head) for layers, head in ((1, False), (2, False), (1, True)))
    logits = both - one
    shown = next(row for row in rows_of(report, 0) if (row["model"], row["context"]) == ("tiny", 512))
    assert shown["cycles"] == one + 4 * (two - one) + logits
    assert shown["bound"] == round((TINY.weights + 2 * 5 * 512 * 32) / 64)
    sendable = shown["cycles"] * 64 * (1 - 260 / 3900)
    assert shown["memory %"] == pytest.approx(100 * (TINY.weights + 2 * 5 * 512 * 32) / sendable)
    assert shown["tokens/s, 100 MHz"] == pytest.approx(1e8 / shown["cycles"])
    assert shown["tokens/s, 1 GHz"] == pytest.approx(10 * shown["tokens/s, 100 MHz"])
    # At a context of their own, layers cost more, logits do not.
    one, two = (cycles_of(TINY, layers, context=2048) for layers in (1, 2))
    far = next(row for row in rows_of(report, 0) if (row["model"], row["context"]) == ("tiny", 2048))
    assert far["cycles"] == one + 4 * (two - one) + logits


def test_they_are_near_the_exact_model_of_the_whole(report: dict[str, Any]) -> None:
    held = {row["model"]: row for row in rows_of(report, 4)}
    assert held["tiny"]["whole"] == cycles_of(TINY, 5, head=True)
    for row in held.values():
        assert row["difference %"] == pytest.approx(100 * (row["put together"] / row["whole"] - 1))
        assert abs(row["difference %"]) < 5


def test_logits_that_do_not_fit_are_computed_in_runs_of_their_own(report: dict[str, Any]) -> None:
    assert [Setting(WIDE, rows=rows).pieces for rows in ROWS] == [1, 1, 1, 1, 2]
    assert [row["runs"] for row in rows_of(report, 1) if row["model"] == "wide"] == [1, 1, 1, 1, 2]
    parts = {
        (part["layers"], part["rows"], part["context"], part["vocabulary"]): part["figures"]["cycles"]
        for part in report["parts"]
        if part["model"] == "wide" and part["memory"] == dataclasses.asdict(MemoryWidth())
    }
    last = next(row for row in rows_of(report, 1) if (row["model"], row["rows"]) == ("wide", 16))
    one, two = (parts[layers, 16, 512, 0] for layers in (1, 2))
    assert last["cycles"] == one + 2 * (two - one) + 2 * parts[0, 16, 512, 15_000]
    assert last["cycles/token"] == pytest.approx(last["cycles"] / 16)
    assert last["tokens/s, 100 MHz"] == pytest.approx(16e8 / last["cycles"])


def test_more_memory_is_faster_and_more_keys_are_slower(report: dict[str, Any]) -> None:
    for name in ("tiny", "wide"):
        by_context = [row["cycles"] for row in rows_of(report, 0) if row["model"] == name]
        assert by_context == sorted(by_context)
        assert len(by_context) == len(CONTEXTS)
        by_rows = [row["cycles/token"] for row in rows_of(report, 1) if row["model"] == name]
        assert by_rows == sorted(by_rows, reverse=True)
        widths = [row for row in rows_of(report, 2) if row["model"] == name]
        assert [row["bytes/cycle"] for row in widths] == [16, 32, 32, 64, 128]
        assert [row["memory"] for row in widths] == ["1 x 128", "2 x 128", "4 x 128 / 2", "4 x 128", "8 x 128"]
        cycles = [row["cycles"] for row in widths]
        assert cycles[0] > max(cycles[1:3]) > min(cycles[1:3]) > cycles[3] > cycles[4]
    (shown,) = [row for row in rows_of(report, 3) if row["model"] == "tiny"]
    one, two = (cycles_of(TINY, layers, rows=PROMPT, context=PROMPT) for layers in (1, 2))
    assert shown["rows"] == PROMPT
    assert shown["cycles"] == one + 4 * (two - one)
    assert shown["tokens/s, 100 MHz"] == pytest.approx(PROMPT * 1e8 / shown["cycles"])
    assert 0 < shown["pods %"] < 100


def test_prompts_run_in_as_many_pieces_as_banks_need(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {name: [(run.rows, run.context) for run in prompt(model)] for name, model in MODELS.items()}
    assert runs["smollm2_135m"] == [(128, 128)]
    assert runs["qwen3_0.6b"] == runs["llama3.2_1b"] == [(32, 32), (32, 64), (32, 96), (32, 128)]
    assert runs["llama3_8b"] == [(16, context) for context in range(16, 129, 16)]
    monkeypatch.setattr(
        frame_module,
        "sweep",
        lambda points, **_: [{"cycles": 100 * p.layers + p.context, "x_words": 80 * p.layers} for p in points],
    )
    (row,) = [row for row in rows_of(run_study("decode", networks="all"), 3) if row["model"] == "llama3_8b"]
    assert row["cycles"] == 8 * 3200 + sum(range(16, 129, 16))
    assert row["pods %"] == pytest.approx(100 * 8 * 32 * 80 / (row["cycles"] * 8))
    refused = [{"refused": "too large"}]
    monkeypatch.setattr(frame_module, "sweep", lambda points, **_: refused * len(points))
    (row,) = rows_of(run_study("decode", networks="smollm2_135m"), 3)
    assert row["cycles"] == "refused"


def test_published_values_stand_beside_their_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "sweep", lambda points, **_: [{"cycles": 1000 * p.layers + 1, "x_words": 10} for p in points])
    report = run_study("decode", networks="all")
    assert report["networks"] == list(MODELS)
    theirs = {(row["model"], row["context"]): row["Torch2RISCV"] for row in rows_of(report, 0)}
    published = load_published("torch2riscv").tables["decode"]
    for name, per_second in published.column("after_32").items():
        assert theirs[name, 64] == per_second
        assert theirs[name, 512] is None
        assert theirs[name, 2048] == pytest.approx(1000 / published.column("step_2048_ms")[name])
    assert theirs["llama3_8b", 64] is None
    assert {row["model"]: row["Torch2RISCV"] for row in rows_of(report, 3)}["smollm2_135m"] == 73.6
    (row,) = rows_of(report, 4)
    # One layer 1,001 cycles, each other 1,000 more, no more for logits.
    assert (row["put together"], row["whole"]) == (30_001, 30_001)


def test_chart_and_report_can_be_shown(report: dict[str, Any], tmp_path: Path) -> None:
    assert json.loads(json.dumps(report)) == report
    assert "Torch2RISCV" in report["source"]
    assert len(report["points"]) == 2 * (len(CONTEXTS) + len(ROWS) + len(WIDTHS) + 1)
    draw_study(report, tmp_path / "study.svg")
    assert "context 2048 (ours)" in (tmp_path / "study.svg").read_text()
    console = Console(record=True, width=80)
    print_study(console, report)
    text = console.export_text()
    assert "Torch2RISCV: 64 bytes per cycle at 100 MHz too" in text
    assert "put together" in text


def test_networks() -> None:
    assert "decode" in STUDY_NAMES
    assert chosen_networks("decode", "all") == tuple(MODELS)
    assert set(chosen_networks("decode", None)) == set(load_published("torch2riscv").tables["decode"].rows) < set(MODELS)
    assert chosen_networks("decode", "llama3_8b, smollm2_135m") == ("llama3_8b", "smollm2_135m")
    with pytest.raises(WorkloadError, match=r"^study decode is of smollm2_135m, .*, got 'resnet50_224'$"):
        chosen_networks("decode", "resnet50_224")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--pods", "4"], "podweave: study decode is of one chip, llm8x16: leave out --pods"),
        (["--networks", "gpt2"], "podweave: study decode is of smollm2_135m, qwen3_0.6b, llama3.2_1b, llama3_8b, got 'gpt2'"),
    ],
)
def test_refusals(cli: Cli, options: list[str], sentence: str) -> None:
    assert_refused(cli("study", "decode", *options), sentence)
