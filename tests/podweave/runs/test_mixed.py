"""Graphs of layers and operations on rows in RTL."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.frontends.random_mixed import random_mixed_inputs, random_mixed_parameters
from podweave.ir.graph import Graph
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.operations import Linear, Window
from podweave.ir.row_operations import Append, Attention, Format, RowOperation
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job, chip_jobs
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from tests.compiler.mixed.test_compile_parts import GRAPH
from tests.mixed_graphs import conv, linear
from tests.podweave.runs.row_jobs import small_chip

SIZE, ROWS, CONTEXT = (4, 4), 16, 9
FOUR = small_chip().replace(pods=4, banks=4, managers=2, y_planes=2, lanes=2)
CHIPS = {"two nodes": small_chip(), "four nodes, two lanes at a time": FOUR, "a crossbar": FOUR.replace(kind="crossbar")}


def mixed(*operations: Linear | RowOperation, formats: dict[str, Format] | None = None, **inputs: tuple[int, int, int, int]) -> Job:
    return job_of(MixedGraph("g", {"image": (1, 4, 4, 3), **inputs}, operations, formats=formats or {}))


def append(name: str, source: str, cache: str) -> Append:
    """A row, behind the first four."""
    sizes = {"width": 4, "context": CONTEXT, "position": 4, "span": 4}
    return Append(name, 1, source=source, cache=cache, offset="offset", **sizes)


def job_of(graph: MixedGraph) -> Job:
    return Job(graph, Constants(random_mixed_parameters(graph, 2)), random_mixed_inputs(graph, 2))


def run(config: ChipConfig, *jobs: Job) -> list[dict]:
    report, _, _ = run_jobs(jobs, AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    return report["networks"]


JOBS = {
    "by turns": job_of(GRAPH),
    "a pooling that rows read": mixed(
        conv("a", "image", SIZE, 3, 6),
        conv("p", "a", SIZE, 6, 6, window=Window("max", (2, 2), (1, 1))),
        conv("q", "p", (3, 3), 6, 6, window=Window("sum", (3, 3), (1, 1))),
        linear("r", 9, "p", 6, 5),
        linear("s", 1, "q", 6, 5),
    ),
    "rows as images of several shapes": mixed(
        linear("r", ROWS, "image", 3, 9, Format.INT8),
        conv("a", "r", SIZE, 9, 4, 3),
        conv("b", "r", (2, 8), 9, 4, 3),
        conv("c", "r", (16, 1), 9, 4, (3, 1)),
        linear("s", ROWS, "c", 4, 3, Format.INT8),
        conv("d", ("b", "s"), (2, 8), 7, 2),
    ),
    # One row, of what is left of an image: somewhere in a tile of the cache.
    "a cache that is added to where an offset says": mixed(
        conv("a", "image", SIZE, 3, 6),
        conv("mean", "a", SIZE, 6, 6, window=Window("sum", SIZE, (1, 1))),
        linear("k", 1, "mean", 6, 4, Format.INT8),
        append("keys_now", "k", "keys"),
        linear("v", 1, "mean", 6, 4, Format.INT8),
        append("values_now", "v", "values"),
        linear("q", 1, "mean", 6, 8),
        Attention("o", 1, query="q", key="keys_now", value="values_now", context=CONTEXT, heads=2, kv_heads=1, head_size=4),
        linear("y", 1, "o", 8, 5, Format.INT8),
        conv("b", ("y", "v"), (1, 1), 9, 4),
        formats={"offset": Format.OFFSET},
        keys=(1, 1, CONTEXT, 4),
        values=(1, 1, CONTEXT, 4),
        offset=(1, 1, 1, 1),
    ),
    # A stride leaves out rows of the image.
    "a layer with a stride": mixed(
        linear("r", ROWS, "image", 3, 5, Format.INT8),
        conv("a", "r", SIZE, 5, 6, 3, stride=(2, 2)),
        linear("s", 4, "a", 6, 4),
    ),
}


@pytest.mark.campaign
@pytest.mark.parametrize("chip", CHIPS)
def test_layers_and_rows(chip: str) -> None:
    found = run(CHIPS[chip], *JOBS.values())
    for row in found:
        kinds = row["cycles_by_kind"]
        assert sum(kinds.values()) == row["cycles"]
        assert kinds["weights"] > 0


@pytest.mark.campaign
def test_parts_of_a_layer_that_rows_read() -> None:
    """Its weights are more than an epoch's share."""
    wide = mixed(conv("a", "image", SIZE, 3, 44, 3), linear("r", ROWS, "a", 44, 6, Format.INT8), conv("b", "r", SIZE, 6, 3))
    (row,) = run(small_chip().replace(w_words=256), wide)
    names = [name for epoch in row["timeline"] for name in epoch["operations"]]
    assert sum(name.startswith("a/") for name in names) > 1


@pytest.mark.campaign
def test_a_vision_transformer() -> None:
    """Patches, two encoders, and classes of their mean: layers, rows and layers."""
    (row,) = run(small_chip().replace(w_words=4096, parameter_sets=256), *chip_jobs("vit_8_4_8_2_12_2", 3))
    names = [name for epoch in row["timeline"] for name in epoch["operations"]]
    assert names[0] == "patches"
    assert {"layer0.attention", "layer1.attention"} < set(names)
    assert row["timeline"][-1]["operations"][-1].startswith("classes")


@pytest.mark.campaign
def test_layers_alone_on_a_chip_with_row_functions() -> None:
    operations = (
        conv("a", "image", SIZE, 3, 6, 3),
        conv("p", "a", SIZE, 6, 6, window=Window("max", (2, 2), (2, 2))),
        conv("b", "p", (2, 2), 6, 9),
    )
    graph = Graph("layers", {"image": (1, 4, 4, 3)}, operations, ("a", "b"))
    rng = np.random.default_rng(4)
    job = Job(graph, Constants(random_parameters(graph, 4)), {"image": rng.integers(-128, 128, (1, 4, 4, 3), dtype=np.int8)})
    for config in CHIPS.values():
        (row,) = run(config, job)
        assert "cycles_by_kind" not in row


@pytest.mark.campaign
def test_a_reduction_in_parts_between_rows() -> None:
    """825 K steps of four words, where two W banks have 2,048."""
    job = mixed(
        linear("r", ROWS, "image", 3, 130, Format.INT8),
        conv("a", "r", SIZE, 130, 9, 5),
        linear("s", ROWS, "a", 9, 5),
    )
    _, _, (network,) = run_jobs([job], AcceleratorWay(CHIPS["two nodes"], check="always"), Simulation(), lambda _: None)
    assert len(network.split.sums["a"]) > 10
    run(CHIPS["two nodes"], job)
