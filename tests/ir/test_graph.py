"""compiler.graph: shapes by hand, refusals with their numbers, and pools that are stored once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.golden.graph import evaluate
from podweave.ir.constants import identity_parameters
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph, Node, Operand, Window
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.rewrites import with_stored_pools

SHAPE = (2, 6, 5, 4)


def layer(name: str, outputs: int = 4, shape: tuple[int, int, int, int] = SHAPE, **options: Any) -> Layer:
    batch, height, width, channels = shape
    return Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=outputs, **options)


def node(name: str, source: str = "in", outputs: int = 4, **options: Any) -> Node:
    return Node(name, (Operand((source,), layer(name, outputs)),), **options)


def test_shapes_by_hand() -> None:
    """6 x 5, padded to 8 x 7, under 3 x 3: 6 x 5; windows of 2 x 3 at every 2 x 1: 3 x 3."""
    conv = Operand(("in",), layer("a", 7, kernel=(3, 3), padding=((1, 1), (1, 1))))
    pooled = Node("a", (conv,), Window("max", (2, 3), (2, 1)))
    assert pooled.accumulated == (2, 6, 5, 7)
    assert pooled.output == (2, 3, 3, 7)
    graph = Graph("g", {"in": SHAPE}, (pooled,))
    assert (graph.shape("in"), graph.shape("a")) == (SHAPE, (2, 3, 3, 7))


def test_macs_are_those_of_the_network() -> None:
    """2 * 30 positions of 4 channels into 4 outputs; two operands count twice, a diagonal (of a residual or a pool) not at all."""
    two = Node("b", (Operand(("a",), layer("b")), Operand(("in",), layer("side")), Operand(("in",), layer("more", groups=4))))
    ones = Node("c", (Operand(("b",), layer("c", groups=4)),), identity=True)
    graph = Graph("g", {"in": SHAPE}, (node("a"), two, ones))
    assert [n.macs for n in graph.nodes] == [960, 960 + 960, 0]
    assert graph.macs == 3 * 960


@pytest.mark.parametrize(
    ("channels", "sources", "sentence"),
    [
        ((0, 2), ("in", "in"), "x: channels are taken of one source, got 2"),
        ((-1, 2), ("in",), r"x: channels must be (first, count) with at least one, got (-1, 2)"),
        ((0, 0), ("in",), r"x: channels must be (first, count) with at least one, got (0, 0)"),
    ],
)
def test_channels_of_an_operand(channels: tuple[int, int], sources: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        Operand(sources, layer("x"), channels=channels)
    assert str(caught.value) == sentence


def test_a_node_needs_an_operand() -> None:
    with pytest.raises(WorkloadError, match=r"^x: a node needs at least one operand$"):
        Node("x", ())


@pytest.mark.parametrize("options", [{"outputs": 5}, {"stride": (2, 1)}, {"shape": (1, 6, 5, 4)}])
def test_operands_give_the_same_output(options: dict[str, Any]) -> None:
    with pytest.raises(WorkloadError, match=r"^x: operands must give the same output, got \(2, 6, 5, 4\) and \("):
        Node("x", (Operand(("in",), layer("x")), Operand(("in",), layer("y", **options))))


@pytest.mark.parametrize(("kernel", "axis", "have"), [((7, 1), "height", 6), ((1, 6), "width", 5)])
def test_a_window_fits(kernel: tuple[int, int], axis: str, have: int) -> None:
    with pytest.raises(WorkloadError, match=f"^x: the window spans {max(kernel)} in {axis}, but there are {have} positions$"):
        node("x", window=Window("max", kernel, (1, 1)))


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([node("in")], "g: two tensors are named in"),
        ([node("a"), node("a")], "g: two tensors are named a"),
        ([node("a", "b"), node("b")], "g: a reads b, which no earlier node gives"),
        ([node("a", "a")], "g: a reads a, which no earlier node gives"),
        ([node("a", after=("b",))], "g: a comes after b, which no earlier node gives"),
        ([node("a", outputs=3), node("b", "a")], "g: b expects 4 channels, its sources have 3"),
        ([Node("a", (Operand(("in", "in"), layer("a")),))], "g: a expects 4 channels, its sources have 8"),
        (
            [Node("a", (Operand(("in",), layer("a", shape=(2, 5, 6, 4))),))],
            "g: a expects images of (2, 5, 6), but in is (2, 6, 5)",
        ),
        (
            [Node("a", (Operand(("in",), layer("a", shape=(2, 6, 5, 2)), channels=(3, 2)),))],
            "g: a reads channels 3 to 4 of in, which has 4",
        ),
        (
            [Node("a", (Operand(("in",), layer("a"), channels=(1, 3)),))],
            "g: a expects 4 channels, its sources have 3",
        ),
    ],
)
def test_graphs_are_refused(nodes: list[Node], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        Graph("g", {"in": SHAPE}, tuple(nodes))
    assert str(caught.value) == sentence


def test_channels_of_a_source() -> None:
    part = Node("a", (Operand(("in",), layer("a", shape=(2, 6, 5, 2)), channels=(2, 2)),), after=("in",))
    assert Graph("g", {"in": SHAPE}, (part,)).shape("a") == SHAPE


def pooled(kernel: tuple[int, int], name: str = "pool") -> Node:
    return Node(name, (Operand(("in",), layer(name, groups=4)),), Window("max", kernel, (1, 1)), identity=True)


def test_pools_are_stored_where_they_are_read() -> None:
    reader = Node("a", (Operand(("pool", "pool"), layer("a", shape=(2, 5, 4, 8))),))
    graph = Graph("g", {"in": SHAPE}, (pooled((2, 2)), reader))
    stored = with_stored_pools(graph)
    assert [n.name for n in stored.nodes] == ["pool", "pool/stored", "a"]
    assert stored.nodes[1].operands[0].sources == ("pool",)
    assert stored.nodes[1].identity
    assert stored.nodes[1].window is None
    assert stored.nodes[2].operands[0].sources == ("pool/stored",) * 2
    parameters = random_parameters(graph)
    inputs = {"in": np.random.default_rng(0).integers(-128, 128, SHAPE, dtype=np.int8)}
    expected = evaluate(graph, parameters, inputs)
    more = {**parameters, "pool/stored": identity_parameters(stored.nodes[1])}
    found = evaluate(stored, more, inputs)
    assert_array_equal(found["pool/stored"], expected["pool"])
    assert_array_equal(found["a"], expected["a"])


@pytest.mark.parametrize(
    "nodes",
    [
        # Nobody reads it; its windows are single positions; there is one window.
        (pooled((2, 2)),),
        (pooled((1, 1)), node("a", "pool")),
        (pooled((6, 5)), Node("a", (Operand(("pool",), layer("a", shape=(2, 1, 1, 4))),))),
        (node("a"), node("b", "a")),
    ],
)
def test_other_nodes_stay_as_they_are(nodes: tuple[Node, ...]) -> None:
    graph = Graph("g", {"in": SHAPE}, nodes)
    assert with_stored_pools(graph) == graph


def test_nodes_after_a_stored_pool_stay_after_it() -> None:
    reader = Node("a", (Operand(("pool",), layer("a", shape=(2, 5, 4, 4))),))
    late = dataclasses.replace(node("b"), after=("pool",))
    stored = with_stored_pools(Graph("g", {"in": SHAPE}, (pooled((2, 2)), reader, late)))
    assert stored.nodes[-1].after == ("pool",)
