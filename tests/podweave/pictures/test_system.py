"""podweave.pictures.system: what is drawn of every chip adds up to what was counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podweave.compiler.rows.program import RowProgram
from podweave.pictures.system import draw_system, lanes_of, shares
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.jobs import Job, chip_graphs, model_constants
from podweave.runs.row_figures import cycles_by_kind
from podweave.runs.system import SystemNetwork, SystemWay
from podweave.spec.links_config import LinksConfig
from tests.podweave.runs.row_jobs import small_chip

CONFIG = dataclasses.replace(small_chip(), links=LinksConfig(flit_bits=32, buffer_words=8, jobs=64))
TIMING = HbmTiming(latency=40, row_miss=7, jitter=5, refresh_interval=700, refresh_cycles=60, beat_sixteenths=21)
LINK = LinkTiming(latency=13, beat_sixteenths=20)


def compiled(**options: Any) -> tuple[SystemWay, SystemNetwork]:
    way = SystemWay(CONFIG, 2, timing=TIMING, link=LINK, delays=[30, 900], **options)
    (graph,) = chip_graphs("llama_16_4_2_24,rows=2,context=9")
    job = Job(graph, model_constants(graph, scale_bits=CONFIG.scale_bits), {})
    return way, way.compile(job, lambda _: None)


def test_shares_of_steps() -> None:
    edges = np.array([-2.0, 0.0, 2.5, 5.0])
    np.testing.assert_allclose(shares(edges, np.array([0, 3]), np.array([1, 5])), [0, 0.4, 0.8])
    np.testing.assert_array_equal(shares(edges, np.zeros(0), np.zeros(0)), [0, 0, 0])


@pytest.mark.parametrize("steps", [97, 5000])
def test_lanes_add_up_to_what_is_counted(steps: int) -> None:
    way, network = compiled()
    for chip, prediction in zip(network.chips, way.predict(network).chips, strict=True):
        edges = np.linspace(0, 6000, steps + 1)
        assert prediction.cycles < 6000
        lanes = lanes_of(chip, prediction, TIMING, edges)
        cycles = {name: parts.sum(axis=1) * 6000 / steps for name, parts in lanes.items()}
        assert all((parts > -1e-9).all() and (parts.sum(axis=0) < 1 + 1e-9).all() for parts in lanes.values())
        kinds = cycles_by_kind(chip, prediction)
        np.testing.assert_allclose(cycles["pods"], [kinds[name] for name in ("weights", "attention", "rows", "latency")])
        waits = prediction.counters["WAIT_NEIGHBOUR"]
        np.testing.assert_allclose(cycles["links"], [kinds["links"] - waits, waits])
        counted = [prediction.counters[f"{name}_BEATS"] for name in ("PREFETCH", "DESCRIPTOR", "DEMAND")]
        beats = np.array([counted[0], counted[1] + counted[2]])
        np.testing.assert_allclose(cycles["memory"], beats * 21 / 16 / CONFIG.managers)


def test_pods_begin_when_their_queues_are_filled() -> None:
    way, network = compiled()
    chip, prediction = network.chips[1], way.predict(network).chips[1]
    edges = np.arange(6001.0)
    works = lanes_of(chip, prediction, TIMING, edges)["pods"][:3].sum(axis=0)
    for program, epoch in zip(chip.epochs, prediction.timeline, strict=True):
        if isinstance(program, RowProgram):
            first = min(np.concatenate([program.loads["start"], program.posts["start"]]))
            own = np.flatnonzero(works[epoch["begins"] : epoch["ends"] + 1])
            assert own[0] == 8 + first


def test_memory_lanes_are_in_cycles_of_the_run() -> None:
    """Beats that come in collectives are those that the counter has."""
    way, network = compiled()
    for prediction in way.predict(network).chips:
        # From the cycle before a collective on: engines show a beat a cycle late.
        spans = np.array([(epoch["begins"], epoch["ends"] + 1) for epoch in prediction.timeline if epoch["collective"]])
        found = 0
        for pieces in prediction.ahead:
            first = np.repeat(pieces[:, 0], pieces[:, 1])
            number = np.arange(pieces[:, 1].sum()) - np.repeat(np.cumsum(pieces[:, 1]) - pieces[:, 1], pieces[:, 1])
            cycle = -(-(first + 21 * number) // 16)
            found += sum(int(((cycle >= begin - 1) & (cycle < end)).sum()) for begin, end in spans)
        assert found == prediction.counters["BENEATH_BEATS"] > 0


@pytest.mark.parametrize(
    ("options", "above", "below"),
    [
        ({}, {}, {"prefetch": False}),
        ({"prefetch": False}, {"prefetch": False}, {}),
        ({"beneath": False}, {"beneath": False}, {}),
    ],
)
def test_two_ways_on_one_axis(tmp_path: Path, options: dict[str, bool], above: dict[str, bool], below: dict[str, bool]) -> None:
    way, network = compiled(**options)
    path = tmp_path / "picture.svg"
    draw_system(network.chips, path, **way.settings)
    drawn = path.read_text()
    titles = []
    for chosen in (above, below):
        text = "off" if "prefetch" in chosen else "on, but not in collectives" if "beneath" in chosen else "on"
        other, _ = compiled(**chosen)
        titles.append(f"on 2 chips rows2x4, prefetch {text}: {other.predict(network).cycles:,} cycles")
    assert 0 < drawn.index(titles[0]) < drawn.index(titles[1])
    for name in ("links: a collective", "pods: weights", "memory: beats of prefetch rings"):
        assert drawn.count(f">{name}<") == 1
