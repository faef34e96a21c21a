"""golden.rows: whole encoders in exact integers beside the same in float64, and rules of graphs of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.quantise import gelu
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.row_operations import Append, Argmax, Attention, Format, Gelu, LayerNorm, Product, RowLinear

Floats = NDArray[np.float64]


def real(operation: Any, held: Parameters, found: Mapping[str, Floats]) -> Floats:
    """An operation as frameworks have it, with the real numbers that its constants stand for; nothing is rounded, and only 8 bits
    saturate."""
    scale, bias = held.multiplier / 2.0**held.shift, held.bias.astype(np.float64)
    match operation:
        case RowLinear():
            y = (found[operation.source] @ held.weights[0].astype(np.float64) + bias) * scale
            y = np.clip(y, -128, 127) if operation.format is Format.INT8 else y
            return y + found[operation.add] if operation.add else y
        case LayerNorm():
            x = found[operation.source]
            n = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
            return (n * 2**15 / np.sqrt(operation.width) + bias) * scale
        case Gelu():
            unit = 2.0**operation.fraction
            return gelu(found[operation.gate] / unit) * unit * 2**15 * scale
        case Append():
            return found[operation.source]
        case Attention():
            names = operation.query, operation.key, operation.value
            q, k, v = (found[name].reshape(len(found[name]), operation.heads, -1) for name in names)
            # A step of the table is a sixteenth of a nat.
            a = np.einsum("qhc,khc->hqk", q, k) * scale[:, None, None] / 16
            e = np.exp(a - a.max(axis=2, keepdims=True))
            return 256 * np.einsum("hqk,khc->qhc", e / e.sum(axis=2, keepdims=True), v).reshape(len(q), -1)
    raise AssertionError(operation)


def distance(found: NDArray, expected: Floats) -> float:
    """Root mean square of the difference, by that of what is expected."""
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


BOUNDS = {"int8": 0.01, "int16": 0.0005, "int32": 0.0005, LayerNorm: 0.004, Gelu: 0.009, Append: 1e-9, Attention: 0.012}
"""Of each operation by itself: rounding; the table of roots; tables of functions."""


@pytest.mark.parametrize(("name", "rows"), [("bert_tiny", 1), ("bert_tiny", 24), ("encoder_96_3_200_5", 40)])
def test_an_encoder_is_near_that_of_real_numbers(name: str, rows: int) -> None:
    graph = load_graph(f"{name},rows={rows}")
    assert isinstance(graph, RowGraph)
    constants, inputs = random_row_parameters(graph, 2), random_row_inputs(graph, 2)
    exact = evaluate(graph, constants, inputs)
    here: dict[str, Floats] = {tensor: values[0, 0].astype(np.float64) for tensor, values in exact.items()}
    whole: dict[str, Floats] = {tensor: values[0, 0].astype(np.float64) for tensor, values in inputs.items()}
    for each in graph.operations:
        held = constants[each.name]
        whole[each.name] = real(each, held, whole)
        bound = BOUNDS[each.form.value if isinstance(each, RowLinear) else type(each)]
        assert distance(here[each.name], real(each, held, here)) < bound, each.name
    # All of them, one after the other.
    (last,) = graph.outputs
    assert 0.001 < distance(here[last], whole[last]) < 0.06
    # Not so if the gains belong to other channels, or if a layer does not see the last row.
    held = constants[last]
    moved = replace(held, multiplier=np.roll(held.multiplier, 1), shift=np.roll(held.shift, 1))
    assert distance(evaluate(graph, constants | {last: moved}, inputs)[last][0, 0], whole[last]) > 0.1
    if rows > 1:
        blind = [replace(each, lengths="n") if isinstance(each, Attention) else each for each in graph.operations]
        shape, form = {"n": (1, 1, 1, rows)}, {"n": Format.LENGTHS}
        fewer = replace(graph, inputs=graph.inputs | shape, formats=graph.formats | form, operations=tuple(blind))
        lengths = np.full((1, 1, 1, rows), rows - 1, np.int32)
        assert distance(evaluate(fewer, constants, inputs | {"n": lengths})[last][0, 0], whole[last]) > 0.06


def norm(name: str = "n", source: str = "x", width: int = 6) -> LayerNorm:
    return LayerNorm(name, 2, source=source, width=width, scale_shift=0)


def linear(name: str, source: str, form: Format = Format.INT16, add: str | None = None) -> RowLinear:
    return RowLinear(name, 2, source=source, width=6, outputs=6, form=form, add=add)


RULES: dict[str, tuple[tuple[Any, ...], str]] = {
    "a norm of 16 bits": ((norm(), norm("m", "n")), "g: m expects 2 rows of 6 int32, but n has 2 of 6 int16"),
    "added to 8 bits": (
        (norm(), linear("a", "n", Format.INT8), linear("b", "n", Format.WIDE, "a")),
        "g: b expects 2 rows of 6 int32 or int16, but a has 2 of 6 int8",
    ),
    "read after an addition": (
        (norm(), linear("a", "n"), linear("b", "a", Format.WIDE, "n"), linear("c", "n")),
        "g: c reads n, to which b has added",
    ),
    "lengths of other rows": (
        (norm(), Attention("o", 2, query="n", key="k", value="k", lengths="x", context=3, heads=1, kv_heads=1, head_size=6)),
        "g: o expects 1 rows of 2 lengths, but x has 2 of 6 int32",
    ),
}


@pytest.mark.parametrize("what", RULES)
def test_rules_of_graphs(what: str) -> None:
    operations, sentence = RULES[what]
    inputs = {"x": (1, 1, 2, 6), "k": (1, 1, 3, 6)}
    with pytest.raises(WorkloadError, match=f"^{sentence}$"):
        verify_rows(RowGraph("g", inputs, operations, formats={"x": Format.WIDE}))


def test_rules_of_operations() -> None:
    with pytest.raises(WorkloadError, match=r"^n: of less than 2 channels nothing is left without their mean, got 1$"):
        norm(width=1)
    with pytest.raises(WorkloadError, match=r"^p: rows are multiplied by as many, or by one, got 3 and 2$"):
        Product("p", 3, left="a", right="b", width=6, right_rows=2)
    with pytest.raises(WorkloadError, match=r"^p: a tensor times itself has all of its rows$"):
        Product("p", 3, left="a", right="a", width=6, right_rows=1)
    with pytest.raises(WorkloadError, match=r"^g: fraction must be between 4 and 15, got 3$"):
        Gelu("g", 2, gate="a", width=6, fraction=3)


def test_rules_of_constants() -> None:
    graph = RowGraph("g", {"x": (1, 1, 2, 6)}, (norm(), Gelu("y", 2, gate="n", width=6, fraction=8)), formats={"x": Format.WIDE})
    constants = random_row_parameters(verify_rows(graph))
    verify_row_constants(graph, constants)
    biased = replace(constants["y"], bias=np.arange(6, dtype=np.int32))
    with pytest.raises(WorkloadError, match=r"^g: y has no bias, got 1$"):
        verify_row_constants(graph, constants | {"y": biased})
    short = replace(constants["n"], bias=np.zeros(5, np.int32))
    with pytest.raises(WorkloadError, match=r"^g: n takes a bias of \(6,\), got \(5,\)$"):
        verify_row_constants(graph, constants | {"n": short})


def test_products_and_largest_channels_by_hand() -> None:
    """3 * 5 / 2 is 7.5, and 8; of equal channels, the lowest."""
    inputs = {"x": (1, 1, 2, 3), "row": (1, 1, 1, 3), "w": (1, 1, 2, 3)}
    operations = (
        Product("all", 2, left="x", right="x", width=3, right_rows=2),
        Product("by", 2, left="x", right="row", width=3, right_rows=1),
        Argmax("top", 2, source="w", width=3),
    )
    formats = {"x": Format.INT16, "row": Format.INT16, "w": Format.WIDE}
    graph = verify_rows(RowGraph("g", inputs, operations, formats=formats))
    halves = Parameters((), np.zeros(3, np.int32), np.ones(3, np.int32), np.ones(3, np.int32))
    constants = {"all": halves, "by": halves}
    verify_row_constants(graph, constants)
    values = {
        "x": np.array([[3, -4, 300], [1, 0, -32768]], np.int16),
        "row": np.array([[5, 2, -7]], np.int16),
        "w": np.array([[-9, 7, 7], [-1, -2, -3]], np.int32),
    }
    found = evaluate(graph, constants, {name: each[None, None] for name, each in values.items()})
    assert found["all"][0, 0].tolist() == [[5, 8, 32639], [1, 0, 32639]]
    assert found["by"][0, 0].tolist() == [[8, -4, -1050], [3, 0, 32639]]
    assert (found["top"].dtype, found["top"][0, 0].tolist()) == (np.int32, [[1], [0]])
