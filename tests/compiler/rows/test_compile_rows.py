"""compiler.rows.compile_rows: which operations are computed where a product reads them."""

from __future__ import annotations

import dataclasses

import pytest

from podweave.compiler.rows.compile_rows import RowCompiler
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import Format, RowLinear, SiluProduct
from tests.podweave.runs.row_jobs import small_chip

LINEARS = tuple(RowLinear(name, 2, source="x", width=8, outputs=12) for name in ("gate", "up"))
PRODUCT = SiluProduct("product", 2, gate="gate", up="up", width=12, fraction=11)
OTHER = RowLinear("other", 2, source="up", width=12, outputs=4)
BESIDE = RowLinear("beside", 2, source="x", width=8, outputs=4)
GRAPH = RowGraph("g", {"x": (1, 1, 2, 8)}, (*LINEARS, PRODUCT), formats={"x": Format.INT16})

GRAPHS = {
    "only the product": (GRAPH, True),
    "an output": (dataclasses.replace(GRAPH, outputs=("up", "product")), False),
    "another reader": (dataclasses.replace(GRAPH, operations=(*LINEARS, PRODUCT, OTHER), outputs=("product", "other")), False),
    "something that comes after": (
        dataclasses.replace(
            GRAPH,
            operations=(*LINEARS, dataclasses.replace(BESIDE, after=("up",)), PRODUCT),
            outputs=("beside", "product"),
        ),
        False,
    ),
    "something beside": (
        dataclasses.replace(GRAPH, operations=(*LINEARS, BESIDE, PRODUCT), outputs=("beside", "product")),
        True,
    ),
    "an input as gate": (
        RowGraph(
            "g",
            {"x": (1, 1, 2, 8), "gate": (1, 1, 2, 12)},
            (LINEARS[1], PRODUCT),
            formats={"x": Format.INT16, "gate": Format.INT16},
        ),
        False,
    ),
    "the same twice": (
        dataclasses.replace(GRAPH, operations=(LINEARS[0], dataclasses.replace(PRODUCT, up="gate"))),
        False,
    ),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_what_waits_for_a_product(what: str) -> None:
    graph, waits = GRAPHS[what]
    compiler = RowCompiler(verify_rows(graph), Constants(random_row_parameters(graph)), small_chip())
    linears = [each for each in graph.operations if each.name in ("gate", "up") and isinstance(each, RowLinear)]
    assert linears
    assert [compiler.waits_for_product(each) for each in linears] == [waits] * len(linears)
