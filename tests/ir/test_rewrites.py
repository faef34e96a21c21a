"""ir.rewrites: averages in steps give the same sums; what is read upsampled has a copy before each reader; batches."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.constants import identity_parameters
from podweave.ir.frontends.builder import Builder
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from podweave.ir.rewrites import copy_of, with_averages_in_steps, with_batch, with_constants, with_copies_to_upsample
from podweave.ir.verify import verify


@pytest.mark.parametrize(
    ("size", "window", "kernel", "left"),
    [
        # 144 positions in rows of 12; 65, of which 13 in a column are too many to be left; windows side by side; few enough.
        ((12, 12), ((12, 12), (1, 1)), (1, 12), (12, 1)),
        ((13, 5), ((13, 5), (1, 1)), (13, 1), (1, 5)),
        ((12, 24), ((6, 12), (6, 12)), (1, 6), (6, 2)),
        ((4, 4), ((4, 4), (1, 1)), (1, 1), (4, 4)),
        # Windows that overlap, and begin at every position.
        ((12, 12), ((7, 7), (1, 1)), (1, 1), (7, 7)),
    ],
)
def test_averages_in_steps(
    size: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]], kernel: tuple[int, int], left: tuple[int, int]
) -> None:
    """At most 40 positions, or 12 of those whose sums take several steps."""
    layer = Layer(name="mean", batch=2, height=size[0], width=size[1], channels=6, outputs=6, groups=6)
    graph = Graph("g", {"in": (2, *size, 6)}, (Linear("mean", (Operand(("in",), layer),), Window("sum", *window), identity=True),))
    stepped = with_averages_in_steps(graph, 40, 12, 16)
    (operation,) = stepped.operations
    assert (operation.operands[0].layer.kernel, operation.window.kernel) == (kernel, left)
    assert (stepped is graph) == (kernel == (1, 1))
    rng = np.random.default_rng(4)
    inputs = {"in": rng.integers(-128, 128, (2, *size, 6), dtype=np.int8)}
    held = {"mean": identity_parameters(graph.operations[0])}
    found = evaluate(stepped, with_constants(verify(stepped), held), inputs)["mean"]
    np.testing.assert_array_equal(found, evaluate(graph, held, inputs)["mean"], strict=True)


def test_means_of_products_in_steps() -> None:
    """With weights, 16 positions are more than 12: what multiplied one multiplies each of two."""
    layer = Layer(name="mean", height=4, width=4, channels=6, outputs=5)
    graph = Graph("g", {"in": (1, 4, 4, 6)}, (Linear("mean", (Operand(("in",), layer),), Window("sum", (4, 4), (1, 1))),))
    stepped = with_averages_in_steps(graph, 40, 12, 16)
    (operation,) = stepped.operations
    assert (operation.operands[0].layer.kernel, operation.window.kernel) == ((1, 2), (4, 2))
    x, held = {"in": np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 6), dtype=np.int8)}, random_parameters(graph)
    found = evaluate(stepped, with_constants(verify(stepped), held), x)["mean"]
    np.testing.assert_array_equal(found, evaluate(graph, held, x)["mean"], strict=True)
    assert len(np.unique(found)) > 2


def test_copies_to_upsample() -> None:
    """For each reader one, directly before it; not of an input."""
    seen = (Upsampling(2, 2),)

    def reading(name: str, source: str, size: int, upsampled: tuple[Upsampling, ...] = ()) -> Linear:
        layer = Layer(name=name, height=size, width=size, channels=3, outputs=3)
        return Linear(name, (Operand((source,), layer, upsampled=upsampled),))

    operations = (reading("a", "in", 4, seen), reading("b", "a", 4), reading("c", "a", 8, seen), reading("d", "a", 8, seen))
    graph = Graph("g", {"in": (1, 2, 2, 3)}, operations)
    copied = with_copies_to_upsample(verify(graph), 1)
    assert [operation.name for operation in verify(copied).operations] == ["a", "b", "c/a", "c", "d/a", "d"]
    assert [operation.sources for operation in copied.operations[3:]] == [("c/a",), ("a",), ("d/a",)]
    assert copied.outputs == graph.outputs
    x = {"in": np.random.default_rng(0).integers(-128, 128, (1, 2, 2, 3), dtype=np.int8)}
    held = random_parameters(graph)
    found, expected = evaluate(copied, with_constants(copied, held), x), evaluate(graph, held, x)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], expected[name], strict=True)
    # A copy that stands there, for nobody else, is one.
    stands = Graph("g", {"in": (1, 2, 2, 3)}, (operations[0], copy_of("e", ("a",), (1, 4, 4, 3)), reading("f", "e", 8, seen)))
    assert with_copies_to_upsample(verify(stands), 1) is stands
    only_inputs = Graph("g", {"in": (1, 2, 2, 3)}, operations[:1])
    assert with_copies_to_upsample(only_inputs, 1) is only_inputs


def test_copies_of_what_is_seen_in_part() -> None:
    """Those of one copy have the same size, and are read from the same row and column on."""
    shapes = {"a": (3, 4, 2), "b": (3, 4, 3), "c": (3, 4, 1), "d": (5, 6, 2)}
    made = []
    for name, (high, wide, channels) in shapes.items():
        layer = Layer(name=name, height=high, width=wide, channels=3, outputs=channels)
        made.append(Linear(name, (Operand(("in",), layer, corners=((0, 0),)),)))
    corners = {"a": (1, 2), "b": (1, 2), "c": (0, 2), "d": (0, 2)}
    layer = Layer(name="e", height=4, width=5, channels=8, outputs=3)
    seen = (Upsampling(2, 2),) * 4
    reader = Linear("e", (Operand(tuple(corners), layer, corners=tuple(corners.values()), upsampled=seen),))
    graph = verify(Graph("g", {"in": (1, 5, 6, 3)}, (*made, reader)))
    copied = verify(with_copies_to_upsample(graph, 1))
    assert [operation.sources for operation in copied.operations[4:7]] == [("a", "b"), ("c",), ("d",)]
    assert copied.operations[-1].operands[0].corners == ((1, 2), (0, 2), (0, 2))
    x = {"in": np.random.default_rng(0).integers(-128, 128, (1, 5, 6, 3), dtype=np.int8)}
    held = random_parameters(graph)
    found, expected = evaluate(copied, with_constants(copied, held), x), evaluate(graph, held, x)
    np.testing.assert_array_equal(found["e"], expected["e"], strict=True)


def test_batches() -> None:
    """Every layer, pooling and residual sees more images, and each of them gives what it gives alone."""
    net = Builder("net", {"in": (1, 6, 6, 3)})
    x = net.pool("pool", net.conv("conv", ("in",), 5, kernel=3, padding="same"), "max", kernel=2, stride=2)
    net.dense("classes", net.global_pool("mean", net.conv("more", x, 5, residual=x)), 4)
    graph = net.graph()
    batch = verify(with_batch(graph, 3))
    assert with_batch(graph, 1) is graph
    assert with_batch(batch, 1) == graph
    assert {operation.output[0] for operation in batch.operations} == {3}
    assert (batch.macs, batch.weights) == (3 * graph.macs, graph.weights)
    held = random_parameters(graph, 5)
    images = np.random.default_rng(5).integers(-128, 128, (3, 6, 6, 3), dtype=np.int8)
    found = evaluate(batch, held, {"in": images})["classes"]
    alone = [evaluate(graph, held, {"in": image[None]})["classes"] for image in images]
    np.testing.assert_array_equal(found, np.concatenate(alone), strict=True)


def test_inputs_of_several_batches() -> None:
    def copied(name: str, batch: int) -> Linear:
        return Linear(name, (Operand((f"{name}_in",), Layer(name=name, batch=batch, height=2, width=2, channels=3, outputs=3)),))

    graph = Graph("two", {"a_in": (1, 2, 2, 3), "b_in": (4, 2, 2, 3)}, (copied("a", 1), copied("b", 4)))
    with pytest.raises(WorkloadError, match=r"^two has inputs of 1 and 4 images: a batch is of one number of them$"):
        with_batch(graph, 2)
