"""golden.cycle.chip.chip: figures by hand, and against a count that walks word by word."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.golden.cycle.chip.chip import COUNTERS, ChipFigures, ChipGeometry, chip_figures
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.predict.chip import chip_geometry
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig

GEOMETRY = ChipGeometry(pods=4, write_latency=9, post_latency=6, epoch_overhead=11)
LOADS = ("pod", "start", "rows", "w_bank", "tiles", "period")
STREAMS = ("pod", "start", "n0", "n1", "n2", "x_bank", "emit", "p_bank", "tiles", "period", "x_turn", "accumulate")
POSTS = ("bank", "start", "n0", "n1", "n2", "n3", "x_bank")
Table = dict[str, np.ndarray]


def table(names: tuple[str, ...], rows: list[tuple[int, ...]]) -> Table:
    array = np.array(rows, np.int64).reshape(len(rows), len(names))
    # Where words lie in their banks does not count.
    anywhere = {name: np.zeros(len(rows), np.int64) for name in ("w_base", "w_step", "x_base", "x_tile_step")}
    return anywhere | {name: array[:, i] for i, name in enumerate(names)}


def rows_of(jobs: Table, names: tuple[str, ...]) -> list[dict[str, int]]:
    return [{name: int(jobs[name][i]) for name in names} for i in range(len(jobs[names[0]]))]


def counted(loads: Table, streams: Table, posts: Table, geometry: ChipGeometry) -> ChipFigures:
    """Every word of every job, one after the other."""
    count = {name: [0] * geometry.pods for name in COUNTERS}
    x_asked: set[tuple[int, int]] = set()
    w_asked: set[tuple[int, int]] = set()
    streaming: dict[int, set[int]] = {pod: set() for pod in range(geometry.pods)}
    final = -1
    for job in rows_of(loads, LOADS):
        for tile, row in itertools.product(range(job["tiles"]), range(job["rows"])):
            cycle = job["start"] + tile * job["period"] + row
            count["w_words"][job["pod"]] += 1
            w_asked.add((job["w_bank"], cycle))
            final = max(final, cycle)
    for job in rows_of(streams, STREAMS):
        bank = job["x_bank"]
        for tile in range(job["tiles"]):
            emits = job["emit"] and (not job["accumulate"] or tile == job["tiles"] - 1)
            stores = job["emit"] == 1 and (job["accumulate"] or tile == 0)
            for word in range(job["n0"] * job["n1"] * job["n2"]):
                cycle = job["start"] + tile * job["period"] + word
                count["x_words"][job["pod"]] += 1
                streaming[job["pod"]].add(cycle)
                x_asked.add((bank, cycle))
                if emits:
                    count["p_words"][job["pod"]] += 1
                    count["p_stores" if stores else "p_accumulates"][job["p_bank"]] += 1
                    final = max(final, cycle + geometry.write_latency)
            if job["x_turn"]:
                first = bank - bank % 2 ** job["x_turn"]
                bank = first + (bank - first + 1) % 2 ** job["x_turn"]
    for job in rows_of(posts, POSTS):
        for word in range(job["n0"] * job["n1"] * job["n2"] * job["n3"]):
            final = max(final, job["start"] + word + geometry.post_latency)
            if (word + 1) % (job["n0"] * job["n1"]) == 0:
                count["post_words"][job["bank"]] += 1
                count["x_writes"][job["x_bank"]] += 1
    for bank, _ in x_asked:
        count["x_reads"][bank] += 1
    for bank, _ in w_asked:
        count["w_reads"][bank] += 1
    for pod, cycles in streaming.items():
        # From the cycle before time 0 on, until the last word.
        count["waiting"][pod] = sum(cycle not in cycles for cycle in range(-1, max(cycles, default=-2) + 1))
    counters = {name: np.array(values, np.int64) for name, values in count.items()}
    return ChipFigures(final + geometry.epoch_overhead, counters)


def require_equal(found: ChipFigures, expected: ChipFigures) -> None:
    assert tuple(found.counters) == COUNTERS
    for name in COUNTERS:
        assert found.counters[name].tolist() == expected.counters[name].tolist(), name
    assert found.cycles == expected.cycles
    assert found.merged_words == expected.merged_words


def test_by_hand() -> None:
    """Pods 0 and 1 read the same 6 words of bank 2; pod 1 adds to bank 3, whose post-processor reduces 2 x 1 windows."""
    one, only = (1, 0), (1, 0, 0, 0)
    loads = table(LOADS, [(0, 0, 4, 0, *one), (1, 0, 4, 1, *one)])
    streams = table(STREAMS, [(0, 4, 3, 2, 1, 2, 1, 3, *only), (1, 4, 3, 2, 1, 2, 0, 0, *only), (1, 12, 2, 1, 1, 2, 2, 3, *only)])
    posts = table(POSTS, [(3, 30, 2, 1, 3, 1, 1)])
    figures = chip_figures(loads, streams, posts, GEOMETRY)
    assert {name: values.tolist() for name, values in figures.counters.items()} == {
        "x_words": [6, 8, 0, 0],
        "w_words": [4, 4, 0, 0],
        "p_words": [6, 2, 0, 0],
        "x_reads": [0, 0, 8, 0],
        "x_writes": [0, 3, 0, 0],
        "w_reads": [4, 4, 0, 0],
        "p_stores": [0, 0, 0, 6],
        "p_accumulates": [0, 0, 0, 2],
        "post_words": [0, 0, 0, 3],
        # Cycles -1 to 3, and for pod 1 also 10 and 11.
        "waiting": [5, 7, 0, 0],
    }
    # The last of six reads in cycle 35, on its way until 41.
    assert figures.cycles == 41 + 11
    assert figures.merged_words == {"x": 6, "w": 0}


@pytest.mark.parametrize(
    ("accumulate", "counters"),
    [
        (1, {"p_words": [0, 2, 0, 0], "p_stores": [2, 0, 0, 0], "p_accumulates": [0, 0, 0, 0]}),
        (0, {"p_words": [0, 6, 0, 0], "p_stores": [2, 0, 0, 0], "p_accumulates": [4, 0, 0, 0]}),
    ],
)
def test_tiles_by_hand(accumulate: int, counters: dict[str, list[int]]) -> None:
    """Pod 1 loads three tiles of four rows, one every 6 cycles, and streams two words for each, from X banks 3, 2 and 3."""
    loads = table(LOADS, [(1, 0, 4, 0, 3, 6)])
    streams = table(STREAMS, [(1, 4, 2, 1, 1, 3, 1, 0, 3, 6, 1, accumulate)])
    figures = chip_figures(loads, streams, table(POSTS, []), GEOMETRY)
    expected = {
        "x_words": [0, 6, 0, 0],
        "w_words": [0, 12, 0, 0],
        "x_reads": [0, 0, 2, 4],
        "x_writes": [0, 0, 0, 0],
        "w_reads": [12, 0, 0, 0],
        "post_words": [0, 0, 0, 0],
        # Cycles -1 to 3, 6 to 9 and 12 to 15.
        "waiting": [0, 13, 0, 0],
    }
    assert {name: values.tolist() for name, values in figures.counters.items()} == expected | counters
    # The last word is requested in cycle 17.
    assert figures.cycles == 17 + 9 + 11


def jobs_of(names: tuple[str, ...], **ranges: tuple[int, int]) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """Jobs of any unit at any time, whether or not they overlap elsewhere."""
    default = {"start": (0, 30), "rows": (1, 4), "emit": (0, 2), "tiles": (1, 3), "x_turn": (0, 2), "accumulate": (0, 2)}
    default |= {f"n{i}": (1, 3) for i in range(4)}
    return st.lists(st.tuples(*(st.integers(*(ranges | default).get(name, (0, 3))) for name in names)), max_size=6)


def with_periods(jobs: Table, words: Any) -> Table:
    """A period that is random by now becomes one that is long enough."""
    return jobs | {"period": jobs["period"] + words}


def one_at_a_time(jobs: Table, unit: str, words: Any) -> Table:
    """The jobs of each unit one behind the other, in the order they have."""
    if "tiles" in jobs:
        words = (jobs["tiles"] - 1) * jobs["period"] + words
    free: dict[int, int] = {}
    start = jobs["start"].copy()
    for job in np.argsort(start, kind="stable"):
        who = int(jobs[unit][job])
        start[job] = max(int(start[job]), free.get(who, 0))
        free[who] = int(start[job] + words[job])
    return jobs | {"start": start}


@settings(derandomize=True, deadline=None, max_examples=300)
@given(jobs_of(LOADS), jobs_of(STREAMS), jobs_of(POSTS))
def test_random_jobs(
    load_rows: list[tuple[int, ...]], stream_rows: list[tuple[int, ...]], post_rows: list[tuple[int, ...]]
) -> None:
    """On the read networks, whoever asks a bank in the same cycle asks for the same word. An epoch without jobs is refused."""
    loads, streams, posts = table(LOADS, load_rows), table(STREAMS, stream_rows), table(POSTS, post_rows)
    words = streams["n0"] * streams["n1"] * streams["n2"]
    loads = one_at_a_time(with_periods(loads, loads["rows"]), "pod", loads["rows"])
    streams = one_at_a_time(with_periods(streams, words), "pod", words)
    posts = one_at_a_time(posts, "bank", posts["n0"] * posts["n1"] * posts["n2"] * posts["n3"])
    if not (load_rows or stream_rows or post_rows):
        with pytest.raises(ValueError, match="at least one job"):
            chip_figures(loads, streams, posts, GEOMETRY)
        return
    found, expected = chip_figures(loads, streams, posts, GEOMETRY), counted(loads, streams, posts, GEOMETRY)
    # What is added to an accumulator is gone one cycle before it would have been emitted.
    silent = streams["emit"] == 0
    ends = (streams["start"] + (streams["tiles"] - 1) * streams["period"] + words)[silent] - 1 + GEOMETRY.write_latency - 1
    cycles = max(expected.cycles, int(ends.max(initial=-1)) + GEOMETRY.epoch_overhead)
    require_equal(found, ChipFigures(cycles, expected.counters))


@pytest.mark.parametrize("tile_width", [0, 4])
@pytest.mark.parametrize(("pods", "rows", "cols", "accumulator_rows"), [(2, 4, 4, 64), (4, 4, 4, 0), (8, 8, 4, 16)])
def test_compiled_programs(pods: int, rows: int, cols: int, accumulator_rows: int, tile_width: int) -> None:
    config = ChipConfig(
        name="chip",
        pods=pods,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols), accumulator_rows=accumulator_rows, tile_width=tile_width),
        memory=MemoryConfig(banks=pods, x_words=1024, w_words=1024, p_words=1024),
        network=NetworkConfig(),
        post=PostConfig(),
        program=ProgramConfig(),
    )
    same: dict[str, Any] = {"height": 5, "width": 5, "kernel": (3, 3), "padding": ((1, 1), (1, 1))}
    first = Linear("first", (Operand(("in",), Layer(name="first", channels=4, outputs=8, **same)),))
    second = Linear(
        "second", (Operand(("first",), Layer(name="second", channels=8, outputs=8, **same)),), Window("max", (2, 2), (1, 1))
    )
    program = compile_graph(Graph("g", {"in": (1, 5, 5, 4)}, (first, second)), config)
    geometry = chip_geometry(config)
    found = chip_figures(program.loads, program.streams, program.posts, geometry)
    require_equal(found, counted(program.loads, program.streams, program.posts, geometry))
    assert found.counters["post_words"].sum() > 0
