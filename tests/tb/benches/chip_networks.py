"""Networks that run on chips in RTL, the chips, and what a report must say of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, gemm
from podweave.ir.operations import Linear, Operand, Window
from podweave.runs.chip import run_networks
from podweave.runs.jobs import Job
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PLANES, ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig
from podweave.tb.benches.chip_bench import ChipBench
from tests.rtl.chip.test_chip import CONFIGS as BLOCK_CONFIGS

BASE = ChipConfig(
    name="chip",
    pods=2,
    pod=PodConfig(array=ArrayConfig(rows=2, cols=1), time_width=20),
    memory=MemoryConfig(banks=2, x_words=4096, w_words=4096, p_words=4096),
    network=NetworkConfig(),
    post=PostConfig(parameter_sets=64),
    program=ProgramConfig(load_jobs=8192, stream_jobs=8192, post_jobs=8192),
)
# The smallest chip, of which faulty ones are built too: every sum over more than 2 products is made in a P bank.
TINY = BASE.replace(y_planes=2)
# Small builds, and those that the tests of rtl.chip.chip make anyway.
FAST: dict[str, ChipConfig] = {
    "2x(2x1)": TINY,
    **{name: BLOCK_CONFIGS[name] for name in ("2x4", "4x(8x4), 2 planes of X and Y, crossbar")},
    "8x(2x2), 2 planes of Y": BASE.replace(pods=8, banks=8, cols=2, y_planes=2, pipeline=2, accumulator_rows=8),
}
MORE: dict[str, ChipConfig] = {
    "4x(4x8), 2 planes": BLOCK_CONFIGS["4x(4x8), 2 planes"],
    "1x(4x4)": BASE.replace(pods=1, banks=1, rows=4, cols=4, accumulator_rows=16, tile_width=8),
    "2x(4x4), 2 planes of Y, 2 lanes, row functions": BASE.replace(rows=4, cols=4, y_planes=2, lanes=2, row_registers=16),
}
CAMPAIGN: dict[str, ChipConfig] = {
    "32x(1x1)": BLOCK_CONFIGS["32x(1x1)"],
    "4x(2x2), 1 lane": BASE.replace(pods=4, banks=4, cols=2, lanes=1),
    "2x(4x4), 2 lanes": BASE.replace(rows=4, cols=4, accumulator_rows=16, lanes=2),
    "2x(4x8)": BASE.replace(rows=4, cols=8, group_rows=2, group_cols=4, accumulator_rows=64),
    "4x(4x4)": BASE.replace(pods=4, banks=4, rows=4, cols=4, pipeline=2, accumulator_rows=24),
    "4x(1x2), 4 planes of Y": BASE.replace(
        pods=4, banks=4, rows=1, cols=2, x_planes=2, p_planes=8, y_planes=4, queue_depth=2, load_queue_depth=2
    ),
    "8x(8x4)": BASE.replace(pods=8, banks=8, rows=8, cols=4, group_rows=4, group_cols=4, pipeline=3, accumulator_rows=16),
    "8x(4x4), crossbar": BASE.replace(pods=8, banks=8, rows=4, cols=4, kind="crossbar", pipeline=2, y_planes=2),
    "16x(4x4), 2 planes": BASE.replace(**dict.fromkeys(PLANES, 2), pods=16, banks=16, rows=4, cols=4, accumulator_rows=32),
    "8x(8x4), crossbar, 1 lane": BASE.replace(pods=8, banks=8, rows=8, cols=4, kind="crossbar", accumulator_rows=32, lanes=1),
    "16x(4x1)": BASE.replace(pods=16, banks=16, rows=4, cols=1, pipeline=2, psum_width=24),
}
CONFIGS = FAST | MORE | CAMPAIGN


@functools.cache
def bench_of(key: str) -> ChipBench:
    return ChipBench.of(CONFIGS[key], optimize="build", random_initial_state=True, checking=True)


def conv(name: str, sources: str | tuple[str, ...], shape: tuple[int, int, int, int], outputs: int, **options: Any) -> Operand:
    batch, height, width, channels = shape
    value = options.pop("pad_value", 0)
    layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=outputs, **options)
    return Operand((sources,) if isinstance(sources, str) else sources, layer, value)


SAME: dict[str, Any] = {"kernel": (3, 3), "padding": ((1, 1), (1, 1))}


def small_network() -> Graph:
    """A residual, a depthwise layer, a max-pool with padding, a concatenation, a mean and a classifier, on two images."""
    shape, pads = (2, 4, 4, 6), ((1, 1), (1, 1))
    nodes = (
        Linear("first", (conv("first", "in", (2, 4, 4, 3), 6, **SAME),)),
        Linear("block", (conv("block", "first", shape, 6, **SAME), conv("side", "first", shape, 6, groups=6))),
        Linear("depthwise", (conv("depthwise", "block", shape, 6, groups=6, **SAME),)),
        Linear(
            "pool",
            (conv("pool", "depthwise", shape, 6, groups=6, padding=pads, pad_value=-128),),
            Window("max", (3, 3), (2, 2)),
            identity=True,
        ),
        Linear("join", (conv("join", ("pool", "pool"), (2, 2, 2, 12), 5),)),
        Linear("mean", (conv("mean", "join", (2, 2, 2, 5), 5, groups=5),), Window("sum", (2, 2), (1, 1)), identity=True),
        Linear("classes", (conv("classes", "mean", (2, 1, 1, 5), 3),)),
    )
    return Graph("small", {"in": (2, 4, 4, 3)}, nodes)


def windows() -> Graph:
    """Reductions of what is multiplied, and a mean; small enough for every bank."""
    whole, peak = Window("sum", (2, 2), (1, 1)), Window("max", (2, 2), (1, 1))
    nodes = (
        Linear("most", (conv("most", "in", (1, 4, 4, 3), 3, groups=3, **SAME),), Window("max", (2, 2), (2, 2))),
        Linear("all", (conv("all", "most", (1, 2, 2, 3), 4),), whole),
        Linear("mean", (conv("mean", "most", (1, 2, 2, 3), 3, groups=3),), whole, identity=True),
        Linear(
            "peak",
            (conv("peak", "most", (1, 2, 2, 3), 3, groups=3, padding=((1, 0), (0, 1)), pad_value=-128),),
            peak,
            identity=True,
        ),
    )
    return Graph("windows", {"in": (1, 4, 4, 3)}, nodes)


def gemm_chain() -> Graph:
    layers = [gemm(m, k, n, name=f"gemm{i}") for i, (m, k, n) in enumerate([(13, 11, 9), (13, 9, 10), (13, 10, 2)])]
    sources = ["in", *(layer.name for layer in layers)]
    nodes = tuple(Linear(layer.name, (Operand((source,), layer),)) for source, layer in zip(sources, layers, strict=False))
    return Graph("gemms", {"in": layers[0].input_shape}, nodes)


def job_of(graph: Graph, seed: int = 0) -> Job:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)


def run(key: str, jobs: list[Job], bench: ChipBench | None = None, **options: Any) -> dict[str, Any]:
    """The report of `run_networks`; programs obey every rule."""
    report, _, networks = run_networks(jobs, CONFIGS[key], bench=bench or bench_of(key), progress=lambda _: None, **options)
    for network in networks:
        check_chip(network.program)
    return report


def assert_exact(report: dict[str, Any], jobs: list[Job]) -> None:
    wrong = [row for row in report["networks"] if row["verdict"] != "pass"]
    for row in wrong:
        graph = next(job.graph for job in jobs if job.graph.name == row["network"])
        shown = {name: row.get(name) for name in ("first_mismatch", "cycles", "predicted_cycles", "counters_differing", "errors")}
        pytest.fail(f"{shown}\n{graph}")
    assert (report["verdict"], report["failure"]) == ("pass", None)
    assert [row["network"] for row in report["networks"]] == [job.graph.name for job in jobs]
    for row in report["networks"]:
        assert row["compared"] > 0
        assert row["cycles"] == row["predicted_cycles"]
