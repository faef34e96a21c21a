"""Graphs of rows that a chip cannot run, each with a sentence; and chips on which they only just fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.golden.graph import evaluate
from podweave.ir.frontends.language_models import DecoderSizes, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Append, Attention, Rope
from podweave.runs.jobs import chip_jobs, model_constants
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from tests.podweave.runs.row_jobs import small_chip

LAYER = "llama_16_2_1_24,rows=3,context=9"


def compiled(name: str, config: ChipConfig) -> CompiledNetwork:
    (job,) = chip_jobs(name, 3)
    return compile_network(job.graph, config, job.constants, CompileOptions(from_memory=True, check="always"))


# What is changed in the chip, and what is said.
CHIPS: dict[str, tuple[str, dict[str, int], str]] = {
    "no row functions": (LAYER, {"row_registers": 0}, r"which rows2x4 lacks: its row_registers \(of \[post\]\) are 0"),
    "narrow sums": (LAYER, {"psum_width": 24}, "residuals and norms need a psum_width of 32, got 24$"),
    "array": (LAYER, {"rows": 8}, "need a square array, got 8 rows and 4 cols$"),
    "accumulators": (LAYER, {"accumulator_rows": 1}, "sums of two planes need accumulator_rows of at least 2, got 1$"),
    "tables": (LAYER, {"tables": 2}, r"^the network has 4 activation tables, 2 more than tables \(2\)$"),
    "columns": (LAYER, {"column_words": 0}, "^keys_now: keys are stored in columns, for which rows2x4 needs column_words$"),
    "X banks": (
        LAYER,
        {"x_words": 16},
        r"^values_now: every X bank must hold 3 words more, 3 more than are free",
    ),
    "P banks": ("gated_3000_40,rows=9", {}, "^x: every P bank must hold 3375 words more, 2352 more than are free"),
    "W banks": (
        "llama_16_2_1_24,context=100",
        {"w_words": 64},
        "^attention: an epoch needs 68 words of a W bank, more than its 64$",
    ),
    "parameter sets": (LAYER, {"parameter_sets": 1}, "^attention_norm: an epoch needs 3 parameter sets, more than its 1$"),
    "loads": (LAYER, {"load_jobs": 4}, "^down: an epoch has 6 loads, more than its 4$"),
    "streams": (LAYER, {"stream_jobs": 4}, "^down: an epoch has 6 streams, more than its 4$"),
    "row registers": (
        "llama_16_2_1_24,rows=30,context=40",
        {},
        r"^attention: 30 rows of 2 heads each need 60 row registers, 44 more than row_registers \(16\)$",
    ),
    "row registers of encoders": (
        "encoder_8_2_12,rows=17",
        {},
        r"^attention: 17 rows of 1 heads each need 17 row registers, 1 more than row_registers \(16\)$",
    ),
    "P banks of encoders": (
        "encoder_600_2_12,rows=9",
        {},
        "^embedding_norm: every P bank must hold 675 words more, 327 more than are free",
    ),
    "lengths": (
        "llama_16_2_1_24,rows=8,context=9",
        {},
        r"there are 17 lengths of rows, 1 more than row_registers \(16\)$",
    ),
    "rows": ("gated_18_30,rows=33", {"count_width": 5}, r"^product: a job goes over 33 rows, more than count_width allows \(31\)$"),
    "words of a row": (
        "gated_80_300,rows=3",
        {"count_width": 4},
        r"^product: a job goes over 16 words of a row, more than count_width allows \(15\)$",
    ),
    "time": (
        "gated_64_90,rows=20",
        {"time_width": 9},
        r"^product: an epoch lasts \d+ cycles, more than time_width allows",
    ),
}


@pytest.mark.parametrize("what", CHIPS)
def test_chip(what: str) -> None:
    name, changes, sentence = CHIPS[what]
    with pytest.raises(WorkloadError, match=sentence):
        compiled(name, small_chip().replace(**changes))


def test_no_engines() -> None:
    with pytest.raises(WorkloadError, match=r"run from memory, over AXI: rows2x4 has no table \[prefetch\]$"):
        compiled(LAYER, dataclasses.replace(small_chip(), prefetch=None))


def test_one_pod() -> None:
    sentence = r"which pod4 lacks: its row_registers \(of \[post\]\) are 0; llm8x16 and chip16x32_attention have them$"
    with pytest.raises(WorkloadError, match=sentence):
        compiled(LAYER, load_config("pod4"))


NAMES = {
    "llama_10_3_1_24": r"heads \(3\) must divide hidden \(10\)$",
    "llama_16_4_3_24": r"kv_heads \(3\) must divide heads \(4\)$",
    "llama_15_5_1_24": "a head has pairs of channels, got 3$",
    "llama_16_2_1_24,rows=8,context=4": "8 rows are more than a context of 4$",
}


@pytest.mark.parametrize("name", NAMES)
def test_name(name: str) -> None:
    with pytest.raises(WorkloadError, match=NAMES[name]):
        compiled(name, small_chip())


def test_sizes_of_operations() -> None:
    with pytest.raises(WorkloadError, match=r"^t: rows 7 to 9 are beyond the 9 of the cache$"):
        Append("t", 3, source="k", cache="keys", width=4, context=9, position=7)
    sizes: dict[str, Any] = {"query": "q", "key": "k", "value": "v", "lengths": "n", "context": 9, "head_size": 4}
    with pytest.raises(WorkloadError, match=r"^t: kv_heads \(2\) must divide heads \(3\)$"):
        Attention("t", 3, **sizes, heads=3, kv_heads=2)
    with pytest.raises(WorkloadError, match=r"^t: a head has pairs of channels, got head_size 5$"):
        Rope("t", 3, source="q", angles="a", heads=2, head_size=5)


def test_a_context_that_is_not_that_of_the_cache() -> None:
    (job,) = chip_jobs(LAYER, 3)
    longer = [dataclasses.replace(each, context=12) if isinstance(each, Attention) else each for each in job.graph.operations]
    wrong = dataclasses.replace(job.graph, operations=tuple(longer))
    with pytest.raises(WorkloadError, match=r"attention expects 12 rows of 8 int8, but keys_now has 9 of 8 int8$"):
        compile_network(wrong, small_chip(), job.constants, CompileOptions(from_memory=True))


OFFSETS: dict[str, tuple[tuple[int, int, int, int], dict[str, int], str]] = {
    # Rows, context, position, span.
    "tiles": ((1, 12, 2, 4), {}, "^keys_now: rows 2 to 5, among which an offset chooses, lie in more than one tile of 4 keys$"),
    "columns": ((3, 12, 4, 4), {"column_words": 2}, r"^keys_now: an offset moves at most 2 rows \(column_words\), got 3$"),
    "registers": ((1, 12, 4, 4), {"base_registers": 1}, "offset take 2 base registers, rows2x4 has 1"),
}


@pytest.mark.parametrize("what", OFFSETS)
def test_offset(what: str) -> None:
    (rows, context, position, span), changes, sentence = OFFSETS[what]
    graph = decoder(DecoderSizes(16, 2, 1, 24), [TextRows(rows, context, position, span)], "moves")
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(graph, small_chip().replace(**changes), model_constants(graph), CompileOptions(from_memory=True))


TEXTS: dict[str, tuple[list[TextRows], str]] = {
    "a part of a tile": (
        [TextRows(1, 12, 8), TextRows(1, 12, 8, slot=1, shared=6)],
        "^attention: keys are shared in whole tiles of 4, got 6 keys$",
    ),
    "a shared row": (
        [TextRows(1, 12, 8), TextRows(1, 12, 6, slot=1, shared=8)],
        "^keys_now.1: row 6 is one of the 8 that are shared, which are in another cache$",
    ),
    "registers": (
        [TextRows(1, 12, 8), TextRows(9, 12, 0, slot=1)],
        "^attention: 9 rows of 2 heads each need 18 row registers, 2 more than row_registers",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_several_texts(what: str) -> None:
    texts, sentence = TEXTS[what]
    graph = decoder(DecoderSizes(16, 2, 1, 24), texts, "several")
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(graph, small_chip(), model_constants(graph), CompileOptions(from_memory=True))


def test_texts_of_a_graph() -> None:
    def refuse(texts: list[TextRows], sentence: str) -> None:
        with pytest.raises(WorkloadError, match=sentence):
            decoder(DecoderSizes(16, 2, 1, 24), texts, "several")

    refuse([], "^several: texts must be at least 1, got 0$")
    refuse([TextRows(1, 4, slot=1), TextRows(1, 5, slot=1)], "^several: each text has a slot of its own, got 1, 1$")
    shared = [TextRows(1, 9, slot=1, shared=4), TextRows(1, 9, slot=2, shared=8)]
    refuse(shared, r"^several: texts share as many positions with that in slot 0, got \[4, 8\]$")
    refuse([TextRows(1, 9, shared=4)], r"^several: texts share as many positions with that in slot 0, got \[4\]$")
    refuse([TextRows(1, 3, slot=1, shared=4)], "^attention: of the keys that all see, 1 to 3 are shared, got 4$")


def test_offsets_of_operations() -> None:
    sizes: dict[str, Any] = {"source": "k", "cache": "keys", "width": 4, "context": 9}
    with pytest.raises(WorkloadError, match=r"^t: rows 4 to 9 are beyond the 9 of the cache$"):
        Append("t", 3, **sizes, position=4, offset="o", span=6)
    with pytest.raises(WorkloadError, match=r"^t: span must be at least its 3 rows, got 2$"):
        Append("t", 3, **sizes, position=4, offset="o", span=2)
    with pytest.raises(WorkloadError, match=r"^t: rows 2 to 4 are not among the 4 of k$"):
        Append("t", 3, **sizes, position=4, first_row=2, source_rows=4)
    with pytest.raises(WorkloadError, match=r"^t: there is no offset, but a span of 2$"):
        Append("t", 3, **sizes, position=4, span=2)


def test_an_offset_beyond_its_span() -> None:
    graph = decoder(DecoderSizes(16, 2, 1, 24), [TextRows(1, 12, 4, 4)], "moves")
    inputs = random_row_inputs(graph) | {"offset": np.full((1, 1, 1, 1), 4, np.int32)}
    with pytest.raises(WorkloadError, match=r"^keys_now: offset must be between 0 and 3, got 4$"):
        evaluate(graph, random_row_parameters(graph), inputs)


# The least that a layer runs with, or nearly.
TIGHT = [
    {"accumulator_rows": 2},
    {"w_words": 16},
    {"x_words": 64, "p_words": 32},
    {"parameter_sets": 8},
    {"load_jobs": 8, "stream_jobs": 8, "post_jobs": 4},
    {"time_width": 8},
    {"tile_width": 0},
    {"tile_width": 1},
]


@pytest.mark.parametrize("changes", TIGHT)
def test_tight(changes: dict[str, int]) -> None:
    network = compiled(LAYER, small_chip().replace(**changes))
    assert network.checked
    assert all(program.streams["start"].max(initial=0) < 2**network.config.pod.time_width for program in network.rows)
