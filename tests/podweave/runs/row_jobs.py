"""Graphs of rows with random constants and inputs, and chips that run them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podweave.ir.constants import Constants, Parameters
from podweave.ir.quantise import exp_table
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Attention, Format
from podweave.runs.jobs import Job
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config


def small_chip() -> ChipConfig:
    """Two pods of 4x4 with row functions."""
    config = load_config("chip2x4")
    sizes = {"x_words": 1024, "p_words": 1024, "w_words": 1024, "parameter_sets": 64, "tables": 6}
    return config.replace(name="rows2x4", row_registers=16, column_words=4, base_registers=2, **sizes)


def attention_job(rows: int, heads: int, kv_heads: int, size: int, context: int, lengths: Sequence[int], seed: int) -> Job:
    """Queries over keys and values that are inputs."""
    rng = np.random.default_rng(seed)
    operation = Attention(
        "o",
        rows,
        query="q",
        key="k",
        value="v",
        lengths="n",
        context=context,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
    )
    shapes = {"q": (1, 1, rows, heads * size), "k": (1, 1, context, kv_heads * size), "v": (1, 1, context, kv_heads * size)}
    graph = RowGraph(
        "attention",
        {**shapes, "n": (1, 1, 1, rows)},
        (operation,),
        formats={"q": Format.INT16, "n": Format.LENGTHS},
    )
    # Scores are about 2**19 for a large head; a few nats apart are what a softmax is for.
    multiplier = rng.integers(1 << 28, 1 << 29, heads).astype(np.int32)
    shift, table = np.full(heads, 42, np.int32), exp_table().astype(np.int16)
    held = Parameters((), np.zeros(heads, np.int32), multiplier, shift, wide_table=table)
    inputs = {
        "q": rng.integers(-8000, 8000, shapes["q"]).astype(np.int16),
        "k": rng.integers(-128, 128, shapes["k"]).astype(np.int8),
        "v": rng.integers(-128, 128, shapes["v"]).astype(np.int8),
        "n": np.array(lengths, np.int32)[None, None, None],
    }
    return Job(graph, Constants({"o": held}), inputs)
