"""compiler.rows.spread: how tensors lie, and copies of those that cannot lie as all of their readers need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from podweave.compiler.rows.spread import Heads, Spreads, with_copies
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.row_operations import (
    Append,
    Attention,
    Format,
    Gelu,
    LayerNorm,
    Product,
    RmsNorm,
    Rope,
    RowLinear,
    RowOperation,
    SiluProduct,
)

ROWS = 3
INPUTS = {
    "x": (Format.INT16, ROWS, 8),
    "all": (Format.INT16, 7, 8),
    "row": (Format.INT8, ROWS, 4),
    "one": (Format.INT16, 1, 8),
    "w": (Format.WIDE, ROWS, 8),
    "angles": (Format.ANGLES, ROWS, 4),
    "k": (Format.INT8, 7, 4),
    "v": (Format.INT8, 7, 4),
    "k2": (Format.INT8, 7, 8),
    "v2": (Format.INT8, 7, 8),
    "n": (Format.LENGTHS, 1, ROWS),
}


def linear(name: str, source: str = "x", outputs: int = 8, form: Format = Format.INT16, add: str | None = None) -> RowLinear:
    return RowLinear(name, ROWS, source=source, width=8, outputs=outputs, form=form, add=add)


def added(name: str, to: str, source: str = "x") -> RowLinear:
    return linear(name, source, form=Format.WIDE, add=to)


def rope(name: str, source: str, heads: int = 2, form: Format = Format.INT16) -> Rope:
    return Rope(name, ROWS, source=source, angles="angles", heads=heads, head_size=4, form=form)


def product(name: str, gate: str, up: str) -> SiluProduct:
    return SiluProduct(name, ROWS, gate=gate, up=up, width=8, fraction=11)


def attention(name: str, query: str, key: str = "k", value: str = "v") -> Attention:
    """Two heads of four channels that share keys, or with eight channels of keys one."""
    one = key in ("k2", "keys_8")
    sizes = {"heads": 1 if one else 2, "kv_heads": 1, "head_size": 8 if one else 4}
    return Attention(name, ROWS, query=query, key=key, value=value, lengths="n", context=7, **sizes)


def append(name: str, source: str, cache: str, width: int = 4) -> Append:
    return Append(name, ROWS, source=source, cache=cache, width=width, context=7, position=2)


def multiplied(name: str, left: str, right: str, rows: int = ROWS) -> Product:
    return Product(name, ROWS, left=left, right=right, width=8, right_rows=rows)


def one_row(name: str) -> RowLinear:
    return RowLinear(name, 1, source="one", width=8, outputs=8)


def gelu(name: str, gate: str) -> Gelu:
    return Gelu(name, ROWS, gate=gate, width=8, fraction=11)


def norm(name: str) -> RmsNorm:
    return RmsNorm(name, ROWS, source="w", width=8, scale_shift=7)


def layer_norm(name: str, source: str = "w") -> LayerNorm:
    return LayerNorm(name, ROWS, source=source, width=8, scale_shift=7)


def graph(*operations: RowOperation) -> RowGraph:
    """Of those inputs that are read."""
    read = {source for operation in operations for source in operation.sources}
    inputs = {name: (1, 1, rows, channels) for name, (_, rows, channels) in INPUTS.items() if name in read}
    return verify_rows(RowGraph("g", inputs, operations, formats={name: INPUTS[name][0] for name in inputs}))


QUERIES = Heads(1, 2, 4, later=True)


def test_tensors_lie_as_attentions_need_them() -> None:
    spreads = Spreads(
        graph(
            linear("q"),
            rope("r", "q"),
            linear("k_new", outputs=4, form=Format.INT8),
            append("keys", "k_new", "k"),
            linear("v_new", outputs=4, form=Format.INT8),
            append("values", "v_new", "v"),
            attention("o", "r", "keys", "values"),
            linear("other"),
        )
    )
    assert {spreads.of(name) for name in ("q", "r", "o")} == {QUERIES}
    assert spreads.of("k_new") == Heads(1, 1, 4, later=False)
    assert spreads.of("v_new") == Heads(1, 1, 4, later=True)
    assert spreads.of("other") is None


NO_COPIES: dict[str, tuple[RowOperation, ...]] = {
    "a query, rotated": (linear("q"), rope("r", "q"), attention("o", "r")),
    "a query that is also streamed": (linear("q"), attention("o", "q"), linear("y", "q")),
    "an input": (attention("o", "x"), linear("y", "x")),
    "a product": (linear("a"), linear("b"), product("p", "a", "b"), linear("y", "p")),
    "products of norms": (norm("a"), linear("b", "a"), product("p", "a", "b"), product("p2", "p", "p")),
    "a residual of 16 bits": (layer_norm("a"), linear("b", "a"), gelu("g", "b"), added("c", "a", "g"), layer_norm("d", "c")),
    "added to what a product is of": (linear("a"), gelu("g", "a"), added("b", "a", "g")),
    "a product of queries": (linear("q"), attention("o", "q"), multiplied("p", "q", "o")),
    "a square": (linear("a"), multiplied("p", "a", "a")),
    "all rows by one": (linear("a"), one_row("b"), multiplied("p", "a", "b", 1)),
    "a rotation of a norm": (norm("a"), rope("r", "a"), linear("y", "r")),
}
COPIES: dict[str, tuple[tuple[RowOperation, ...], Sequence[str]]] = {
    "a norm as a query": ((norm("a"), attention("o", "a")), ["a/copy"]),
    "a product as a query": ((linear("a"), product("p", "a", "a"), attention("o", "p")), ["p/copy"]),
    "a query of other heads": ((linear("q"), attention("o", "q"), attention("o2", "q", "k2", "v2")), ["q/copy"]),
    "a rotated norm as a query": ((norm("a"), rope("r", "a"), attention("o", "r")), ["a/copy"]),
    "a query in a product": ((linear("q"), attention("o", "q"), linear("b"), product("p", "q", "b")), ["q/copy"]),
    "an attention in a product": ((linear("q"), attention("o", "q"), linear("b"), product("p", "b", "o")), ["o/copy"]),
    "an input in a product": ((linear("b"), product("p", "x", "b")), ["x/copy"]),
    "an input twice": ((product("p", "x", "x"),), ["x/copy", "x/copy'"]),
    "a query by a row": ((linear("q"), attention("o", "q"), one_row("b"), multiplied("p", "q", "b", 1)), ["q/copy"]),
    "a row by which all are multiplied, as an input": ((linear("a"), multiplied("p", "a", "one", 1)), ["one/copy"]),
    "an input squared": ((multiplied("p", "x", "x"),), ["x/copy", "x/copy'"]),
    "an input in GELU": ((gelu("g", "x"), linear("y", "g")), ["x/copy"]),
    "an input of 16 bits to which something is added": ((linear("a"), added("b", "x", "a")), ["x/copy"]),
    "added to what is multiplied": ((linear("a"), added("b", "a", "a")), ["a/copy"]),
    "added to a query": ((linear("a"), attention("o", "a"), added("b", "a", "o")), ["a/copy"]),
    "an input, rotated": ((rope("r", "x"), linear("y", "r")), ["x/copy"]),
    "rows of two caches": (
        (
            linear("both", form=Format.INT8),
            append("keys_8", "both", "k2", 8),
            append("values", "both", "v2", 8),
            attention("o", "x", "keys_8", "values"),
        ),
        ["both/copy"],
    ),
    "rows that are an input": ((append("keys", "row", "k"), attention("o", "x", "keys")), ["row/copy"]),
}


@pytest.mark.parametrize("name", NO_COPIES)
def test_no_copies(name: str) -> None:
    before = graph(*NO_COPIES[name])
    constants = Constants(random_row_parameters(before))
    assert with_copies(before, constants) == (before, constants)


@pytest.mark.parametrize("name", COPIES)
def test_copies_change_nothing(name: str) -> None:
    operations, copies = COPIES[name]
    before = graph(*operations)
    constants = Constants(random_row_parameters(before))
    after, held = with_copies(before, constants)
    assert sorted(each.name for each in after.operations if each.name not in constants) == sorted(copies)
    assert after.outputs == before.outputs
    verify_row_constants(verify_rows(after), held)
    inputs = random_row_inputs(before)
    expected, found = evaluate(before, constants, inputs), evaluate(after, held, inputs)
    for output in before.outputs:
        np.testing.assert_array_equal(found[output], expected[output])


REFUSED: dict[str, tuple[tuple[RowOperation, ...], str]] = {
    "keys without a cache": (
        (
            RowLinear("k_all", 7, source="all", width=8, outputs=4, form=Format.INT8),
            attention("o", "x", "k_all"),
        ),
        "^o: keys are an input, or what was appended to one, but k_all is computed$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    operations, sentence = REFUSED[name]
    before = graph(*operations)
    with pytest.raises(WorkloadError, match=sentence):
        with_copies(before, Constants({}))
