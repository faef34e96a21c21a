"""podweave study throughput --memory: the chip with SOSA's banks and memory, points against the exact model, the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.predict.accelerator import predict_accelerator
from podweave.studies import frame as frame_module
from podweave.studies import from_memory
from podweave.studies.from_memory import BYTES_PER_CYCLE, MemoryPoint, memory_config, memory_points, memory_timing
from podweave.studies.points import Figures, Point, point_key
from podweave.studies.run import run_study
from podweave.studies.tables import TEN, hmean

GEMM = "gemm:40x96x64"
SMALL = (("pods", 4),)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))


def test_the_chip_has_sosa_s_banks_and_memory() -> None:
    config = memory_config({})
    memory, prefetch = config.memory, config.prefetch
    assert prefetch is not None
    assert memory.x_words * config.array.rows == memory.w_words * config.array.cols == 256 * 1024
    assert memory.p_words * config.array.cols * 4 == 256 * 1024
    # 1.2 TB/s, in sixteenths of a cycle: 1,170 bytes per cycle; one sixteenth less would be more.
    full, sixteenths = prefetch.managers * prefetch.data_width // 8, memory_timing(config).beat_sixteenths
    assert full * 16 / sixteenths <= BYTES_PER_CYCLE < full * 16 / (sixteenths - 1)
    # As many words as come are delivered.
    assert prefetch.managers * config.array.cols > BYTES_PER_CYCLE
    assert memory_config({"pods": 4}).managers == 4


def test_a_point_is_what_the_exact_model_says() -> None:
    figures = MemoryPoint("throughput", GEMM, "from memory", SMALL).figures()
    graph, config = load_graph(GEMM), memory_config(dict(SMALL))
    constants = with_scale_bits(random_parameters(graph, 1), config.scale_bits)
    compiled = compile_network(graph, config, constants, CompileOptions(from_memory=True, policy=from_memory._POLICY))
    for name, warm in (("cycles", False), ("warm_cycles", True)):
        assert figures[name] == predict_accelerator(compiled, memory_timing(config), warm=warm).cycles
    assert figures["tops"] == pytest.approx(2 * 40 * 96 * 64 / figures["cycles"] / 1e3)
    assert figures["warm_cycles"] < figures["cycles"]
    assert figures["warm_bytes"] < 96 * 64 < figures["bytes"]
    assert figures["least_bytes"] == 96 * 64 + 40 * (96 + 64)


def test_what_does_not_fit_is_refused_with_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WorkloadError("X bank 0 is full")

    monkeypatch.setattr(from_memory, "compile_network", refuse)
    assert MemoryPoint("throughput", GEMM, "from memory", SMALL).figures() == {"refused": "X bank 0 is full"}


def test_points_of_both_kinds_are_kept_apart() -> None:
    resident, cold = memory_points([GEMM], 4)
    assert (type(resident), type(cold)) == (Point, MemoryPoint)
    assert point_key(resident) != point_key(cold)
    assert point_key(cold) != point_key(MemoryPoint("throughput", GEMM, "from memory", (("pods", 8),)))


def planted(points: Sequence[Point], **_: object) -> list[Figures]:
    rows: list[Figures] = []
    for point in points:
        resident = {"pods": 256, "cycles": 100_000, "tops": 400.0}
        cold = {"cycles": 250_000, "tops": 200.0, "warm_cycles": 200_000, "warm_tops": 250.0, "least_bytes": 240_000_000}
        cold |= {"bytes": 3e8, "warm_bytes": 1e6, "epochs": 7, "compute_cycles": 120_000, "hbm_cycles": 240_000, "compile_s": 1.0}
        rows.append(cold if isinstance(point, MemoryPoint) else resident)
    return rows


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "sweep", planted)
    made = run_study("throughput", memory=True)
    assert made["networks"] == list(TEN)
    columns, *_ = (table["columns"] for table in made["tables"])
    rows: list[dict[str, Any]] = [dict(zip(columns, cells, strict=True)) for cells in made["tables"][0]["rows"]]
    for row in rows[:-1]:
        assert (row["resident"], row["from memory"], row["warm"]) == (400.0, 200.0, 250.0)
    # 240 MB take 200,000 cycles at 1,200 bytes per cycle, longer than the resident network.
    bounds = {row["network"]: row["bound"] for row in rows}
    assert bounds["resnet50_299"] == pytest.approx(2 * 7_211_875_072 / 200_000 / 1e3)
    assert bounds["hmean of 10"] == pytest.approx(hmean([row["bound"] for row in rows[:-1]]))
    assert rows[-1]["SOSA TOPS"] == pytest.approx(206.5, abs=0.05)
    with pytest.raises(WorkloadError, match="--memory is of study throughput, not of banks"):
        run_study("banks", memory=True)


def test_traffic_costs_something() -> None:
    with pytest.raises(ValueError, match="traffic must be more than 0, got 0"):
        BankPolicy(traffic=0)
