"""ir.row_graph: rules of graphs of rows, each broken once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from podweave.ir.constants import Parameters
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.row_operations import Append, Attention, Format, LayerNorm, RowLinear, RowOperation

ROWS, WIDTH = 3, 8


def linear(name: str, source: str, **options: object) -> RowLinear:
    return RowLinear(name, ROWS, source=source, width=WIDTH, outputs=WIDTH, **options)  # type: ignore[arg-type]


def append(name: str, source: str) -> Append:
    return Append(f"{name}s", ROWS, source=source, cache=f"{name}_cache", width=WIDTH, context=ROWS, position=0)


def decoder() -> RowGraph:
    """Norm, queries, keys and values, attention of what is in caches, and a product that is added to what was in front."""
    operations = (
        linear("first", "x", form=Format.WIDE),
        LayerNorm("norm", ROWS, source="first", width=WIDTH, scale_shift=2),
        linear("query", "norm"),
        *(linear(name, "norm", form=Format.INT8) for name in ("key", "value")),
        append("key", "key"),
        append("value", "value"),
        Attention("attended", ROWS, query="query", key="keys", value="values", context=ROWS, heads=1, kv_heads=1, head_size=WIDTH),
        linear("sum", "attended", form=Format.WIDE, add="first"),
    )
    caches = {f"{name}_cache": (1, 1, ROWS, WIDTH) for name in ("key", "value")}
    return RowGraph("rows", {"x": (1, 1, ROWS, WIDTH), **caches}, operations, ("sum",))


def with_inputs(**inputs: tuple[int, ...]) -> Callable[[RowGraph], RowGraph]:
    return lambda graph: replace(graph, inputs=graph.inputs | inputs)  # type: ignore[arg-type]


def without(name: str) -> Callable[[RowGraph], RowGraph]:
    return lambda graph: replace(graph, inputs={each: shape for each, shape in graph.inputs.items() if each != name})


def with_operation(name: str, **changes: object) -> Callable[[RowGraph], RowGraph]:
    def change(graph: RowGraph) -> RowGraph:
        changed = [replace(each, **changes) if each.name == name else each for each in graph.operations]  # type: ignore[arg-type]
        return replace(graph, operations=tuple(changed))

    return change


def more(operation: RowOperation) -> Callable[[RowGraph], RowGraph]:
    return lambda graph: replace(graph, operations=(*graph.operations, operation))


def test_the_graph_obeys_all_rules() -> None:
    graph = decoder()
    assert verify_rows(graph) is graph
    verify_row_constants(graph, random_row_parameters(graph, 1))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda graph: RowGraph("rows", graph.inputs, ()), "rows: a graph needs at least one operation"),
        (with_inputs(x=(1, 2, 3, 8)), "rows: input x must be (1, 1, rows, channels), got (1, 2, 3, 8)"),
        (with_inputs(x=(1, 1, 0, 8)), "rows: input x must be (1, 1, rows, channels), got (1, 1, 0, 8)"),
        (with_inputs(x=(1, 3, 8)), "rows: input x must be (1, 1, rows, channels), got (1, 3, 8)"),
        (lambda graph: replace(graph, formats={"y": Format.WIDE}), "rows: there is a format for y, which is no input"),
        (without("x"), "rows: first reads x, which no earlier operation gives"),
        (with_inputs(x=(1, 1, 4, 8)), "rows: first expects 3 rows of 8 int16 or int8, but x has 4 of 8 int8"),
        (
            lambda graph: replace(graph, formats={"x": Format.WIDE}),
            "rows: first expects 3 rows of 8 int16 or int8, but x has 3 of 8 int32",
        ),
        (with_operation("query", source="keys"), "rows: query reads keys, which no earlier operation gives"),
        (more(linear("last", "keys")), "rows: last reads keys, which is a cache: only attentions read those"),
        (
            more(LayerNorm("last", ROWS, source="first", width=WIDTH, scale_shift=2)),
            "rows: last reads first, to which sum has added",
        ),
        (lambda graph: replace(graph, outputs=("x",)), "rows: output x is nothing that an operation gives"),
        (lambda graph: replace(graph, outputs=("nothing",)), "rows: output nothing is nothing that an operation gives"),
        (
            lambda graph: replace(graph, outputs=("sum", "first")),
            "rows: output first is a residual to which sum has added",
        ),
        (lambda graph: replace(graph, outputs=("sum", "keys")), "rows: output keys is a cache, which is in memory"),
        (with_operation("keys", cache="value"), "rows: keys appends to value, which is no input"),
        (
            with_operation("attended", value="key_cache"),
            "rows: attended reads key_cache, to which keys appends: it must read keys",
        ),
    ],
)
def test_rules_that_are_broken(change: Callable[[RowGraph], RowGraph], sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        verify_rows(change(decoder()))


Held = dict[str, Parameters]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda held: held.pop("query"), "rows: there are no constants for query"),
        (
            lambda held: held.update(query=replace(held["query"], weights=())),
            "rows: query takes weights of [(8, 8)], got []",
        ),
        (
            lambda held: held.update(norm=replace(held["norm"], weights=held["query"].weights)),
            "rows: norm takes weights of [], got [(8, 8)]",
        ),
        (
            lambda held: held.update(query=replace(held["query"], shift=np.zeros(7, np.int32))),
            "rows: query takes a shift of (8,), got (7,)",
        ),
    ],
)
def test_constants_that_do_not_fit(change: Callable[[Held], object], sentence: str) -> None:
    graph = decoder()
    held = dict(random_row_parameters(graph, 1))
    change(held)
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        verify_row_constants(graph, held)
