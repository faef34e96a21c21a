"""ir.graph, ir.verify and ir.rewrites: shapes by hand, refusals with their numbers, and pools that are stored once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, Parameters, without_zero_points
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from podweave.ir.rewrites import with_constants, with_stored_pools, without_unused
from podweave.ir.verify import verify, verify_constants

SHAPE = (2, 6, 5, 4)


def layer(name: str, outputs: int = 4, shape: tuple[int, int, int, int] = SHAPE, **options: Any) -> Layer:
    batch, height, width, channels = shape
    return Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=outputs, **options)


def node(name: str, source: str = "in", outputs: int = 4, shape: tuple[int, int, int, int] = SHAPE, **options: Any) -> Linear:
    return Linear(name, (Operand((source,), layer(name, outputs, shape)),), **options)


def test_shapes_by_hand() -> None:
    """6 x 5, padded to 8 x 7, under 3 x 3: 6 x 5; windows of 2 x 3 at every 2 x 1: 3 x 3."""
    conv = Operand(("in",), layer("a", 7, kernel=(3, 3), padding=((1, 1), (1, 1))))
    pooled = Linear("a", (conv,), Window("max", (2, 3), (2, 1)))
    assert pooled.accumulated == (2, 6, 5, 7)
    assert pooled.output == (2, 3, 3, 7)
    graph = Graph("g", {"in": SHAPE}, (pooled,))
    assert (graph.shape("in"), graph.shape("a")) == (SHAPE, (2, 3, 3, 7))


def test_macs_are_those_of_the_network() -> None:
    """2 * 30 positions of 4 channels into 4 outputs; two operands count twice, a residual or a pool not at all."""
    residual = Operand(("in",), layer("more", groups=4), residual=True)
    two = Linear("b", (Operand(("a",), layer("b")), Operand(("in",), layer("side")), residual))
    ones = Linear("c", (Operand(("b",), layer("c", groups=4)),), identity=True)
    graph = Graph("g", {"in": SHAPE}, (node("a"), two, ones))
    assert [n.macs for n in graph.operations] == [960, 960 + 960, 0]
    assert graph.macs == 3 * 960
    assert [n.weights for n in graph.operations] == [16, 16 + 16, 0]
    assert graph.weights == 48


def test_a_trained_depthwise_layer_of_one_tap_counts() -> None:
    """2 * 30 positions of 4 channels, each times its own weight."""
    depthwise = Linear("a", (Operand(("in",), layer("a", groups=4)),))
    assert depthwise.macs == 240
    with pytest.raises(WorkloadError, match=r"^a: a residual multiplies each channel by one weight, 1x1, stride 1$"):
        Operand(("in",), layer("a", groups=2), residual=True)


def test_outputs_are_those_that_nothing_reads_or_as_given() -> None:
    nodes = (node("a"), node("b", "a"), node("c", "a"))
    assert Graph("g", {"in": SHAPE}, nodes).outputs == ("b", "c")
    assert Graph("g", {"in": SHAPE}, nodes, ("a", "c")).outputs == ("a", "c")


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ((), "g: a graph needs at least one output"),
        (("in",), "g: output in is an input, which nothing computes"),
        (("x",), "g: output x is no tensor of the graph; there are in, a"),
        (("a", "a"), "g: output a is named more than once"),
    ],
)
def test_outputs_are_refused(outputs: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        verify(Graph("g", {"in": SHAPE}, (node("a"),), outputs))
    assert str(caught.value) == sentence


def test_empty_graphs_and_inputs_are_refused() -> None:
    with pytest.raises(WorkloadError, match=r"^g: a graph needs at least one operation$"):
        verify(Graph("g", {"in": SHAPE}, ()))
    with pytest.raises(WorkloadError, match=r"^g: input in must have four sizes \(batch, height, width, channels\), got \(6, 5\)$"):
        verify(Graph("g", {"in": (6, 5)}, (node("a"),)))  # type: ignore[dict-item]


def test_what_no_output_needs_is_dropped() -> None:
    late = node("d", "a", after=("b", "c"))
    graph = Graph("g", {"in": SHAPE}, (node("a"), node("b", "a"), node("c", "b"), late), ("d", "b"))
    kept = without_unused(graph)
    assert [(n.name, n.after) for n in kept.operations] == [("a", ()), ("b", ()), ("d", ("b",))]
    assert without_unused(kept) is kept


def test_tensors_of_which_no_channel_is_read_are_dropped() -> None:
    """With the operations that give them."""
    first, second = node("a"), node("b")
    count = first.output[3]
    layer = dataclasses.replace(node("c", "a").operands[0].layer, channels=count - 1)
    reader = Linear("c", (Operand(("a", "b"), layer, channels=(count, count - 1), corners=((0, 0), (0, 0))),))
    kept = without_unused(verify(Graph("g", {"in": SHAPE}, (first, second, reader))))
    assert [n.name for n in verify(kept).operations] == ["b", "c"]
    assert kept.operations[1].operands[0] == Operand(("b",), layer, channels=(0, count - 1), corners=((0, 0),))
    assert without_unused(kept) is kept


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.pop("b"), "g: constants must be those of its operations; there are none for b"),
        (lambda c: c.update(x=c["a"]), "g: constants must be those of its operations; there are some for x, which is no operation"),
        (
            lambda c: c.update(a=dataclasses.replace(c["a"], weights=(np.zeros((1, 1, 4, 3), np.int8),))),
            "g: a takes weights of [(1, 1, 4, 4)], got [(1, 1, 4, 3)]",
        ),
        (lambda c: c.update(a=dataclasses.replace(c["a"], bias=np.int32(3))), "g: a takes a bias of (4,), got ()"),
        (
            lambda c: c.update(a=dataclasses.replace(c["a"], shift=np.zeros(3, np.int32))),
            "g: a takes a shift of (4,), got (3,)",
        ),
        (
            lambda c: c.update(a=dataclasses.replace(c["a"], table=np.zeros(255, np.int8))),
            "g: a takes a table of (256,), got (255,)",
        ),
    ],
)
def test_constants_are_refused(change: Callable[[dict[str, Parameters]], object], sentence: str) -> None:
    graph = Graph("g", {"in": SHAPE}, (node("a"), node("b", "a")))
    constants = random_parameters(graph)
    verify_constants(graph, constants)
    change(constants)
    with pytest.raises(WorkloadError) as caught:
        verify_constants(graph, constants)
    assert str(caught.value) == sentence


def test_constants_know_their_tables_and_whether_they_are_the_same() -> None:
    graph = Graph("g", {"in": SHAPE}, tuple(node(name) for name in "abcd"))
    parameters = random_parameters(graph)
    other = dataclasses.replace(parameters["c"], table=np.arange(256).astype(np.int8))
    constants = Constants(parameters | {"b": other})
    assert constants.table_of == {"a": 0, "b": 1, "c": 0}
    assert_array_equal(constants.tables, [parameters["a"].table, other.table])
    assert constants.digest == Constants(dict(constants)).digest
    for field in ("bias", "multiplier", "shift", "table"):
        changed = getattr(other, field).copy()
        changed[1] += 1
        assert Constants({**constants, "b": dataclasses.replace(other, **{field: changed})}).digest != constants.digest


@pytest.mark.parametrize(
    ("channels", "sources", "sentence"),
    [
        ((-1, 2), ("in",), r"x: channels must be (first, count) with at least one, got (-1, 2)"),
        ((0, 0), ("in",), r"x: channels must be (first, count) with at least one, got (0, 0)"),
    ],
)
def test_channels_of_an_operand(channels: tuple[int, int], sources: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        Operand(sources, layer("x"), channels=channels)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("sources", "upsampled", "sentence"),
    [
        (("in", "b"), (Upsampling(2, 2),), "x: every source has an upsampling, got 1 for 2 sources"),
        (("in",), (Upsampling(2, 0),), "x: in is upsampled by integers of at least 1, got 2 rows and 0 columns"),
        (("in", "in"), (Upsampling(2, 2), Upsampling(1, 4)), "x: in is read twice, and not upsampled alike"),
    ],
)
def test_upsampling_of_an_operand(sources: tuple[str, ...], upsampled: tuple[Upsampling, ...], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        Operand(sources, layer("x"), upsampled=upsampled)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("corners", [((0, 0), (0, 0)), ((-1, 0),), ((0, -1),)])
def test_corners_of_an_operand(corners: tuple[tuple[int, int], ...]) -> None:
    sentence = re.escape(f"a: every source has a row and a column to begin at, got {corners}")
    with pytest.raises(WorkloadError, match=f"^{sentence}$"):
        Operand(("in",), layer("a"), corners=corners)


def test_zero_points_of_averages_with_borders_fit_no_bias() -> None:
    """Which are divided by other counts there."""
    one = np.ones(2, np.int32)
    plain = Parameters((), 0 * one, one, 3 * one, zero_point=5)
    assert without_zero_points({"a": plain})["a"].bias.tolist() == [40, 40]
    sentence = "the zero point 5 of an average that leaves pads out fits no bias: borders differ"
    with pytest.raises(WorkloadError, match=f"^{sentence}$"):
        without_zero_points({"a": dataclasses.replace(plain, border_scales={4: (one, one)})})


def test_a_node_needs_an_operand() -> None:
    with pytest.raises(WorkloadError, match=r"^x: an operation needs at least one operand$"):
        Linear("x", ())


@pytest.mark.parametrize("options", [{"outputs": 5}, {"stride": (2, 1)}, {"shape": (1, 6, 5, 4)}])
def test_operands_give_the_same_output(options: dict[str, Any]) -> None:
    with pytest.raises(WorkloadError, match=r"^x: operands must give the same output, got \(2, 6, 5, 4\) and \("):
        Linear("x", (Operand(("in",), layer("x")), Operand(("in",), layer("y", **options))))


@pytest.mark.parametrize(("kernel", "axis", "have"), [((7, 1), "height", 6), ((1, 6), "width", 5)])
def test_a_window_fits(kernel: tuple[int, int], axis: str, have: int) -> None:
    with pytest.raises(WorkloadError, match=f"^x: the window spans {max(kernel)} in {axis}, but there are {have} positions$"):
        node("x", window=Window("max", kernel, (1, 1)))


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([node("in")], "g: two tensors are named in"),
        ([node("a"), node("a")], "g: two tensors are named a"),
        ([node("a", "b"), node("b")], "g: a reads b, which no earlier operation gives"),
        ([node("a", "a")], "g: a reads a, which no earlier operation gives"),
        ([node("a", after=("b",))], "g: a comes after b, which no earlier operation gives"),
        ([node("a", outputs=3), node("b", "a")], "g: b expects 4 channels, its sources have 3"),
        ([Linear("a", (Operand(("in", "in"), layer("a")),))], "g: a expects 4 channels, its sources have 8"),
        (
            [Linear("a", (Operand(("in",), layer("a", shape=(2, 5, 6, 4))),))],
            "g: a expects images of (2, 5, 6), but in is (2, 6, 5)",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a", shape=(2, 6, 5, 2)), channels=(3, 2)),))],
            "g: a reads channels 3 to 4 of in, which has 4",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a"), channels=(1, 3)),))],
            "g: a expects 4 channels, its sources have 3",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a"), upsampled=(Upsampling(1, 2),)),))],
            "g: a expects images of (2, 6, 5), but in is (2, 6, 10)",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a"), upsampled=(Upsampling(3, 1, True),)),))],
            "g: a reads in interleaved by 3 x 1, which do not divide its 4 channels",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a", shape=(2, 4, 5, 4)), corners=((3, 0),)),))],
            "g: a reads (2, 4, 5) from (3, 0) on, but in is (2, 6, 5)",
        ),
        (
            [Linear("a", (Operand(("in",), layer("a", shape=(1, 4, 5, 4)), corners=((0, 0),)),))],
            "g: a reads (1, 4, 5) from (0, 0) on, but in is (2, 6, 5)",
        ),
    ],
)
def test_graphs_are_refused(nodes: list[Linear], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        verify(Graph("g", {"in": SHAPE}, tuple(nodes)))
    assert str(caught.value) == sentence


def test_channels_of_a_source() -> None:
    part = Linear("a", (Operand(("in",), layer("a", shape=(2, 6, 5, 2)), channels=(2, 2)),), after=("in",))
    assert Graph("g", {"in": SHAPE}, (part,)).shape("a") == SHAPE


def pooled(kernel: tuple[int, int], name: str = "pool", stride: tuple[int, int] = (1, 1)) -> Linear:
    return Linear(name, (Operand(("in",), layer(name, groups=4)),), Window("max", kernel, stride), identity=True)


def test_pools_are_stored_where_they_are_read() -> None:
    reader = Linear("a", (Operand(("pool", "pool"), layer("a", shape=(2, 5, 4, 8))),))
    graph = Graph("g", {"in": SHAPE}, (pooled((2, 2)), reader))
    stored = with_stored_pools(graph)
    assert [n.name for n in stored.operations] == ["pool", "pool/stored", "a"]
    assert stored.operations[1].operands[0].sources == ("pool",)
    assert stored.operations[1].identity
    assert stored.operations[1].window is None
    assert stored.operations[2].operands[0].sources == ("pool/stored",) * 2
    parameters = random_parameters(graph)
    inputs = {"in": np.random.default_rng(0).integers(-128, 128, SHAPE, dtype=np.int8)}
    expected = evaluate(graph, parameters, inputs)
    found = evaluate(stored, with_constants(stored, parameters), inputs)
    assert_array_equal(found["pool/stored"], expected["pool"])
    assert_array_equal(found["a"], expected["a"])


@pytest.mark.parametrize(
    "nodes",
    [
        # Nobody reads it; one reads it, and it does not overlap; its windows are single positions; there is one window.
        (pooled((2, 2)),),
        (pooled((2, 2), stride=(2, 2)), node("a", "pool", shape=(2, 3, 2, 4))),
        (pooled((1, 1)), node("a", "pool")),
        (pooled((6, 5)), Linear("a", (Operand(("pool",), layer("a", shape=(2, 1, 1, 4))),))),
        (node("a"), node("b", "a")),
    ],
)
def test_other_nodes_stay_as_they_are(nodes: tuple[Linear, ...]) -> None:
    graph = Graph("g", {"in": SHAPE}, nodes)
    assert with_stored_pools(graph) == graph


def test_nodes_after_a_stored_pool_stay_after_it() -> None:
    reader = Linear("a", (Operand(("pool",), layer("a", shape=(2, 5, 4, 4))),))
    late = dataclasses.replace(node("b"), after=("pool",))
    stored = with_stored_pools(Graph("g", {"in": SHAPE}, (pooled((2, 2)), reader, late)))
    assert stored.operations[-1].after == ("pool",)


def test_a_pool_without_overlap_that_two_read_is_stored() -> None:
    readers = tuple(node(name, "pool", shape=(2, 3, 2, 4)) for name in "ab")
    stored = with_stored_pools(Graph("g", {"in": SHAPE}, (pooled((2, 2), stride=(2, 2)), *readers)))
    assert [n.name for n in stored.operations] == ["pool", "pool/stored", "a", "b"]


def test_names_of_copies_are_none_of_the_users() -> None:
    reader = Linear("pool/stored", (Operand(("pool",), layer("a", shape=(2, 5, 4, 4))),))
    graph = Graph("g", {"in": SHAPE}, (pooled((2, 2)), reader), ("pool", "pool/stored"))
    stored = verify(with_stored_pools(graph))
    assert [n.name for n in stored.operations] == ["pool", "pool/stored'", "pool/stored"]
    assert stored.operations[2].operands[0].sources == ("pool/stored'",)
    assert stored.outputs == graph.outputs
