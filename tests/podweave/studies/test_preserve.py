"""podweave study preserve: several chips, by the exact model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_system
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.presets import load_config
from podweave.studies.preserve import Ratio
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
    assert found["bytes"] == networks[0].memory.loaded_bytes
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
    models = "smollm2_135m, qwen3_0.6b, llama3.2_1b, deepseek_v3_expert, llama3_8b, llama3_70b"
    sentence = f"podweave: study preserve is of {models}, got 'gpt2'"
    assert_refused(cli("study", "preserve", "--networks", "gpt2"), sentence)
