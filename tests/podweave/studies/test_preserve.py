"""podweave study preserve: several chips, by the exact model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_system
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.language_models import DecoderSizes, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.presets import load_config
from podweave.studies import frame as frame_module
from podweave.studies.points import Figures
from podweave.studies.preserve import AHEAD, BATCHES, CONTEXTS, LINKS, TEXTS, W_WORDS, Ratio, preserve_study
from podweave.studies.ring_points import RingPoint
from tests.podweave.command_line import Outcome, assert_refused

Cli = Callable[..., Outcome]
POINT = RingPoint("llm8x16", "llama_64_4_2_96_2,rows=1,context=16", 2, (16, 256))


def test_a_point_is_what_runs_take() -> None:
    graph, config = load_graph(POINT.workload), load_config("llm8x16")
    assert isinstance(graph, RowGraph)
    constants = with_scale_bits(random_row_parameters(graph, with_weights=False), config.scale_bits)
    networks = compile_system(partition(graph, constants, 2), config, CompileOptions(from_memory=True))
    found = POINT.figures()
    for number, sixteenths in enumerate(POINT.links):
        link = LinkTiming(latency=100, beat_sixteenths=sixteenths)
        for name, options in (("on", {}), ("apart", {"beneath": False}), ("off", {"prefetch": False})):
            chips = predict_system(networks, HbmTiming(), link, **options)  # type: ignore[arg-type]
            assert found["links"][number][name]["cycles"] == max(chip.cycles for chip in chips)
    assert found["collectives"] == 4
    assert found["bytes"] == networks[0].memory.loaded_bytes()
    assert found["links"][1]["on"]["collective"] > 2 * found["links"][0]["on"]["collective"]


def test_a_point_of_which_nothing_is_ahead() -> None:
    found, plain = dataclasses.replace(POINT, ahead=0.0).figures(), POINT.figures()
    for one, other in zip(found["links"], plain["links"], strict=True):
        assert one["on"]["beneath"] < other["on"]["beneath"]
        assert one["on"]["collective"] == other["on"]["collective"]


def test_what_cannot_be_shared_is_a_point_that_is_refused() -> None:
    found = RingPoint("llm8x16", "llama_576_9_3_1536", 2, (16,)).figures()
    assert found["refused"].endswith("3 can")


def test_the_closed_form() -> None:
    """Collectives of 100 cycles beneath which as much is loaded as W banks have room for, or as there is."""

    def closed(collective: int, loading: float, run: int, most: float = 1e9, leaks: float = 0) -> float:
        none: Any = {}
        return Ratio(1.0, none, none, collective, loading, run, most, leaks).closed

    assert closed(100, 100, 0) == 2
    assert closed(100, 100, 50) == pytest.approx(200 / 150)
    assert closed(100, 100, 0, most=60) == pytest.approx(200 / 140)
    assert closed(100, 100, 0, leaks=20) == pytest.approx(180 / 100)
    assert closed(1000, 100, 0) == pytest.approx(1100 / 1000)


def test_refusals(cli: Cli) -> None:
    assert_refused(cli("study", "preserve", "--pods", "4"), "podweave: study preserve is of chips, llm8x16: leave out --pods")
    models = "smollm2_135m, qwen3_0.6b, llama3.2_1b, llama3_8b, llama3_70b, deepseek_v3_expert, deepseek_v3_ffn"
    sentence = f"podweave: study preserve is of {models}, got 'gpt2'"
    assert_refused(cli("study", "preserve", "--networks", "gpt2"), sentence)


def test_texts_have_keys_of_their_own() -> None:
    sizes = DecoderSizes(64, 4, 2, 96, 2)
    named = load_graph("llama_64_4_2_96_2,rows=2,context=16,texts=3")
    assert named == decoder(sizes, [TextRows(2, 16, slot=slot) for slot in range(3)], named.name)
    bytes_of = {
        (texts, context): RingPoint("llm8x16", f"llama_64_4_2_96_2,context={context},texts={texts}", 2, (16,)).figures()["bytes"]
        for texts in (1, 3)
        for context in (128, 640)
    }
    one, three = (bytes_of[texts, 640] - bytes_of[texts, 128] for texts in (1, 3))
    # Of 512 more positions, on each chip, 16 channels of keys and of values in each of two layers, and programs.
    assert one > 512 * 2 * 16 * 2
    assert three == pytest.approx(3 * one, rel=0.1)


def test_tables_say_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """On planted figures: cycles that are told by the layers and texts of a workload; one point is refused."""

    def planted(points: Sequence[RingPoint], **_: object) -> list[Figures]:
        found: list[Figures] = []
        for point in points:
            texts = int(point.workload.rpartition("=")[2])
            if point.chips == 8 and texts == 64:
                found.append({"refused": "too large"})
                continue
            size = 1000 * (4 if "1408_4" in point.workload else 2)
            ways = {"on": size, "apart": size * 5 // 4, "off": size * 2}
            run = {
                name: {"cycles": cycles, "collective": size // 4, "run": size // 5, "beneath": 0} for name, cycles in ways.items()
            }
            figures: Figures = {"loading": size / 2, "bytes": 32768 * texts, "collectives": 8, "w_bytes": 1 << 20, "beat_bytes": 16}
            found.append(figures | {"memory_bytes_per_cycle": 16.0, "links": [run] * len(point.links)})
        return found

    monkeypatch.setattr(frame_module, "sweep", planted)
    report = preserve_study(["qwen3_0.6b"])
    ratio, capacity, context, batch, models, ahead = (
        [dict(zip(each["columns"], row, strict=True)) for row in each["rows"]] for each in report["tables"]
    )
    assert [row["off/on"] for row in ratio] == [2.0] * len(LINKS)
    assert [row["apart/on"] for row in context + batch] == [1.25] * (len(CONTEXTS) * len(TEXTS) + 2 * len(BATCHES))
    # Four layers with 256 channels of keys and as many of values, on four chips.
    assert [row["KV %"] for row in context[:2]] == [100 * 64 * 512 / 32768, 100 * 512 * 512 / 32768]
    assert [(row["chips"], row["batch"]) for row in models] == [(chips, batch) for chips in (4, 8) for batch in BATCHES]
    assert (models[0]["ratio"], models[0]["collectives %"], models[0]["epochs %"]) == (0.5, 25.0, 20.0)
    assert (models[-1]["ratio"], models[-1]["epochs %"]) == ("refused", None)
    assert len(capacity) == len(W_WORDS)
    assert [(row["prefetch ratio"], row["off/on"]) for row in ahead] == [(ratio, 2.0) for ratio in AHEAD]
    assert report["chart"]["series"]
