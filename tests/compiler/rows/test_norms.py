"""compiler.rows.norms: as many rows at a time as leave room for what is computed between."""

from __future__ import annotations

import pytest

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import Format, LayerNorm
from tests.podweave.runs.row_jobs import small_chip


@pytest.mark.parametrize(("width", "rows", "words"), [(64, 8, 96), (64, 11, 128), (96, 11, 160), (96, 12, 224)])
def test_wide_rows_fit_beside_what_they_need_on_the_way(width: int, rows: int, words: int) -> None:
    """Banks hold what is normalised and a few rows more; each of those takes twice its words for a while."""
    norm = LayerNorm("n", rows, source="x", width=width, scale_shift=7)
    graph = verify_rows(RowGraph("g", {"x": (1, 1, rows, width)}, (norm,), formats={"x": Format.WIDE}))
    constants = Constants(random_row_parameters(graph))
    options = CompileOptions(from_memory=True, check="always")
    few, all_at_once = (compile_network(graph, small_chip().replace(p_words=each), constants, options) for each in (words, 4096))
    assert few.checked
    passes, least = (sum(len(program.posts["start"]) for program in network.rows) for network in (few, all_at_once))
    assert passes > 2 * least
