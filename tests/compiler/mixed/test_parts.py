"""compiler.mixed.parts: both kinds of a graph, and the order in which parts of them run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.chip.split_outputs import SplitGraph, split_outputs
from podweave.compiler.mixed.parts import Joined, by_kinds, join
from podweave.fuzz.random_mixed import random_mixed
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_mixed import random_mixed_parameters
from podweave.ir.mixed_graph import MixedGraph, verify_mixed
from podweave.ir.operations import Linear, Shape
from podweave.ir.row_operations import Format, RmsNorm, RowOperation
from tests.mixed_graphs import conv, linear
from tests.podweave.runs.row_jobs import small_chip

SIZE = (2, 3)


def layer(name: str, source: str | tuple[str, ...], channels: int = 4, outputs: int = 4, **more: object) -> Linear:
    return conv(name, source, SIZE, channels, outputs, **more)  # type: ignore[arg-type]


def row(name: str, source: str, form: Format = Format.INT8, width: int = 4, outputs: int = 4, **more: object) -> RowOperation:
    return linear(name, 6, source, width, outputs, form, **more)  # type: ignore[arg-type]


def joined(
    *operations: Linear | RowOperation, outputs: tuple[str, ...] | None = None, share: float | None = None, **inputs: Shape
) -> tuple[MixedGraph, Joined, SplitGraph, Constants]:
    """``inputs``: of 32 bits. ``share``: of small W banks that an operation may take without being split."""
    formats = dict.fromkeys(inputs, Format.WIDE)
    graph = verify_mixed(MixedGraph("g", {"image": (1, 2, 3, 4)} | inputs, operations, outputs, formats=formats))  # type: ignore[arg-type]
    constants = Constants(random_mixed_parameters(graph))
    kinds = by_kinds(graph, constants)
    split = SplitGraph(kinds.layers, {})
    if share:
        split = split_outputs(kinds.layers, small_chip().replace(w_words=64), BankPolicy(bank_share=share))
    held = split.constants({layer.name: constants[layer.name] for layer in kinds.layers.operations})
    return (graph, *join(kinds, split, held))


def test_layers_read_images_of_rows() -> None:
    """An operation of ones that nobody runs stands for them."""
    _, found, split, constants = joined(
        layer("a", "image"), row("r", "a"), layer("b", "r"), layer("c", ("r", "a"), 8), row("s", "c")
    )
    assert found.images == {"r/image": "r"}
    image, a, b, c = found.layers.operations
    assert (image.name, image.sources, image.identity, image.output) == ("r/image", ("r/image/rows",), True, (1, 2, 3, 4))
    assert (a.sources, b.sources, c.sources) == (("image",), ("r/image",), ("r/image", "a"))
    assert found.layers.inputs == {"image": (1, 2, 3, 4), "r/image/rows": (1, 2, 3, 4)}
    assert found.layers.outputs == ("b",)
    assert found.rows.inputs == {"a": (1, 1, 6, 4), "c": (1, 1, 6, 4)}
    assert found.rows.outputs == ("s",)
    assert found.exports == {"a": (("a", 0),), "c": (("c", 0),)}
    assert found.parts == (("a",), ("r",), ("b", "c"), ("s",))
    assert [each.name for each in split.graph.operations] == ["a", "r", "b", "c", "s"]
    assert set(constants) == {"a", "r", "b", "c", "s", "r/image"}


def test_rows_are_images_of_several_shapes() -> None:
    _, found, *_ = joined(
        row("r", "image"), layer("a", "r"), conv("b", "r", (1, 6), 4, 4), conv("c", "r", (3, 2), 4, 4), layer("d", "r")
    )
    assert found.images == {"r/image": "r", "r/image'": "r", "r/image''": "r"}
    shapes = [found.layers.inputs[f"{name}/rows"][1:3] for name in found.images]
    assert shapes == [(2, 3), (1, 6), (3, 2)]


def test_names_of_images_are_free() -> None:
    _, found, *_ = joined(row("r", "image"), layer("r/image", "r"), row("r/image'/rows", "r/image"))
    assert found.images == {"r/image'": "r"}
    assert "r/image'/rows'" in found.layers.inputs


ORDERS: dict[str, tuple[tuple[Linear | RowOperation, ...], Mapping[str, Shape], tuple[tuple[str, ...], ...]]] = {
    "by turns, as few as can be": (
        (layer("a", "image"), row("r", "a"), layer("b", "image"), row("s", "b"), layer("c", "a"), layer("d", "r")),
        {},
        (("a", "b", "c"), ("r", "s"), ("d",)),
    ),
    "rows first": ((row("r", "image"), layer("a", "image"), layer("b", "r")), {}, (("r",), ("a", "b"))),
    "layers first, though rows could": (
        (row("r", "image"), layer("a", "image"), row("s", "a"), row("t", "s")),
        {},
        (("a",), ("r", "s", "t")),
    ),
    "what comes after another kind": (
        (layer("a", "image"), row("r", "image", after=("a",)), layer("b", "image", after=("r",)), row("s", "b")),
        {},
        (("a",), ("r",), ("b",), ("s",)),
    ),
    "a residual is read before something is added": (
        (
            row("x", "image", Format.WIDE),
            layer("a", "image"),
            row("early", "a", Format.WIDE, add="x"),
            layer("b", "image"),
            row("late", "b", Format.WIDE, add="early"),
        ),
        {},
        (("a", "b"), ("x", "early", "late")),
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order(name: str) -> None:
    operations, inputs, parts = ORDERS[name]
    assert joined(*operations, **inputs)[1].parts == parts


def test_a_residual_waits_for_its_readers() -> None:
    """A norm of the residual comes behind a layer that the addition does not need."""
    operations = (
        layer("a", "image"),
        RmsNorm("n", 6, source="x", width=4, scale_shift=7, after=("a",)),
        row("y", "image", Format.WIDE, add="x"),
        row("z", "n"),
        layer("b", "z"),
    )
    _, found, *_ = joined(*operations, x=(1, 1, 6, 4))
    assert found.parts == (("a",), ("n", "y", "z"), ("b",))
    # Rows could begin, but for the norm.
    assert [each.name for each in found.rows.operations] == ["n", "y", "z"]


def test_parts_of_a_layer_that_rows_read() -> None:
    """Each has some of the tensor's channels."""
    _, found, split, constants = joined(layer("a", "image", 4, 40), row("r", "a", width=40), outputs=("a", "r"), share=0.1)
    pieces = found.exports["a"]
    assert len(pieces) > 1
    assert [first for _, first in pieces] == [begin for _, begin, _ in split.parts["a"]]
    assert split.graph.outputs == (*(name for name, _ in pieces), "r")
    assert found.layers.outputs == tuple(name for name, _ in pieces)
    assert set(constants) == {*(name for name, _ in pieces), "r"}
    assert found.parts == (tuple(name for name, _ in pieces), ("r",))


@pytest.mark.parametrize("seed", range(40))
def test_random_orders_give_what_is_read_before_it_is(seed: int) -> None:
    graph = random_mixed(seed).graph
    assert isinstance(graph, MixedGraph)
    constants = Constants(random_mixed_parameters(graph, with_weights=False))
    kinds = by_kinds(graph, constants)
    found, split, _ = join(
        kinds, SplitGraph(kinds.layers, {}), Constants({each.name: constants[each.name] for each in graph.layers})
    )
    assert sorted(name for part in found.parts for name in part) == sorted(each.name for each in graph.operations)
    kind = {each.name: isinstance(each, Linear) for each in graph.operations}
    flags = [{kind[name] for name in part} for part in found.parts]
    assert all(len(each) == 1 for each in flags)
    assert all(one != other for one, other in itertools.pairwise(flags))
    # In this order, the same graph obeys all rules; those on residuals too.
    by_name = {each.name: each for each in graph.operations}
    operations = tuple(by_name[name] for part in found.parts for name in part)
    verify_mixed(MixedGraph("g", graph.inputs, operations, graph.outputs, formats=graph.formats))
    assert split.graph.outputs == graph.outputs
