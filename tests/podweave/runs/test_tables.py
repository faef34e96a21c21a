"""Networks with more activation tables than post-processors hold, in RTL: epochs take turns with the slots; and all exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from podweave.compiler.memory.place import _Builder
from podweave.fuzz.random_layers import random_job
from podweave.ir.constants import Constants
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import run_on_device
from podweave.runs.jobs import Job
from tests.compiler.chip.chip_graphs import own_tables
from tests.podweave.runs.small_accelerator import CONFIG, small_bench

TIMING = HbmTiming(latency=70, beat_sixteenths=40, row_miss=20, refresh_interval=500, refresh_cycles=80, jitter=20, seed=3)


def job(seed: int) -> Job:
    made = random_job(seed)
    return dataclasses.replace(made, constants=Constants(own_tables(made.constants, seed)))


def jobs(seeds: range) -> list[Job]:
    found = list(map(job, seeds))
    assert sum(len(made.constants.tables) > CONFIG.post.tables for made in found) > len(seeds) // 3
    return found


def exact(seeds: range) -> None:
    report, *_ = run_on_device(jobs(seeds), CONFIG, timing=TIMING, bench=small_bench(), progress=lambda _: None, check="always")
    assert report["failure"] is None
    assert report["verdict"] == "pass"
    assert report["cycles"] == report["predicted_cycles"]


def test_random_networks() -> None:
    exact(range(10))


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(10, 210, 25))
def test_random_networks_campaign(first: int) -> None:
    exact(range(first, first + 25))


def test_another_table_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = _Builder._tables

    def turned(self: _Builder, epoch: int, tables: Mapping[int, int]) -> None:
        original(self, epoch, {slot: number if epoch < 2 else (number + 1) % 3 for slot, number in tables.items()})

    monkeypatch.setattr(_Builder, "_tables", turned)
    report, *_ = run_on_device(jobs(range(3)), CONFIG, timing=TIMING, bench=small_bench(), progress=lambda _: None)
    assert report["verdict"] == "fail"
