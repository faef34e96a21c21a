"""ir.interleaved: with whole words for each position, a network computes the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.golden.graph import evaluate
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.interleaved import with_whole_words
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from podweave.ir.verify import verify, verify_constants

APART = Upsampling(2, 3, interleaved=True)


def layer(name: str, size: tuple[int, int], channels: int, outputs: int, **options: object) -> Layer:
    return Layer(name=name, height=size[0], width=size[1], channels=channels, outputs=outputs, **options)  # type: ignore[arg-type]


def network(outputs: tuple[str, ...] = ("alone", "among", "some")) -> Graph:
    """Six positions of five channels: read alone, between others, and some channels of them; and behind a window."""
    small, large = (3, 2), (6, 6)
    pads = ((1, 1), (1, 1))
    averaged = Window("sum", (3, 3), (1, 1), leaves_pads_out=True)
    operations = (
        Linear("parts", (Operand(("in",), layer("parts", small, 4, 30, padding=pads)),), averaged),
        Linear("beside", (Operand(("large",), layer("beside", large, 3, 4)),)),
        Linear("alone", (Operand(("parts",), layer("alone", large, 5, 3, kernel=(3, 3), padding=pads), upsampled=(APART,)),)),
        Linear(
            "among",
            (
                Operand(("beside",), layer("side", large, 4, 6)),
                Operand(
                    ("beside", "parts", "large"),
                    layer("among", large, 12, 6, kernel=(3, 3), padding=pads),
                    upsampled=(Upsampling(), APART, Upsampling()),
                ),
            ),
        ),
        Linear("some", (Operand(("parts",), layer("some", large, 2, 3), channels=(2, 2), upsampled=(APART,)),)),
    )
    return Graph("g", {"in": (1, *small, 4), "large": (1, *large, 3)}, operations, outputs)


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_the_same_is_computed(lanes: int) -> None:
    graph = verify(network())
    made = require_same(graph, lanes)
    assert made.shape("parts")[3] == 6 * -(-5 // lanes) * lanes
    assert [len(operation.operands) for operation in made.operations] == [1, 1, 1, 2 if lanes == 1 else 4, 1]
    assert with_whole_words(graph, None, lanes) == (made, None)


def test_what_leaves_stays_as_it_is() -> None:
    """And so does what is read otherwise, or has groups; a copy of it is seen interleaved, and of that groups of several tensors
    see a copy."""
    graph, half = network(("alone", "among", "some", "parts")), Upsampling(1, 2, interleaved=True)
    more = (
        Linear("both", (Operand(("parts", "in"), layer("both", (3, 2), 34, 6)),)),
        Linear("each", (Operand(("both",), layer("each", (3, 2), 6, 6, groups=6)),), Window("max", (1, 1), (1, 1)), identity=True),
        Linear("wide", (Operand(("each",), layer("wide", (3, 4), 3, 4), upsampled=(half,)),)),
        Linear(
            "deep",
            (Operand(("parts", "large"), layer("deep", (6, 6), 8, 8, groups=8), upsampled=(APART, Upsampling())),),
        ),
    )
    graph = verify(replace(graph, operations=(*graph.operations, *more), outputs=(*graph.outputs, "wide", "deep")))
    made = require_same(graph, 4)
    assert [operation.name for operation in made.operations if "/" in operation.name] == [
        "parts/apart",
        "each/apart",
        "parts/apart/seen",
    ]
    assert [made.shape(name)[3] for name in ("parts", "parts/apart", "each", "each/apart")] == [30, 48, 6, 8]


@pytest.mark.parametrize("channels", [(0, 3), (0, 4), (1, 9), (2, 10), (4, 5), (4, 3), (5, 4), (9, 3), (10, 2)])
@pytest.mark.parametrize("lanes", [1, 4])
def test_some_channels_of_several(channels: tuple[int, int], lanes: int) -> None:
    """Four of one, five of what is seen interleaved, three of another; of parts of the images."""
    graph, pads = network(), ((1, 1), (1, 1))
    views = (Upsampling(), APART, Upsampling())
    reader = Operand(
        ("beside", "parts", "large"),
        layer("taken", (4, 5), channels[1], 6, kernel=(3, 3), padding=pads),
        pad_value=7,
        channels=channels,
        corners=((1, 0), (2, 1), (0, 1)),
        upsampled=views,
    )
    graph = replace(graph, operations=(*graph.operations[:2], Linear("taken", (reader,))), outputs=("taken",))
    require_same(graph, lanes)


def test_two_that_see_one_interleaved_in_their_own_ways() -> None:
    """Each reads a copy of its own, in which its positions have whole words."""
    views = {"pairs": Upsampling(1, 2, interleaved=True), "sixes": APART}
    operations = list(network().operations[:1])
    for name, view in views.items():
        read = layer(name, (3 * view.rows, 2 * view.columns), 30 // view.positions, 4)
        operations.append(Linear(name, (Operand(("parts",), read, upsampled=(view,)),)))
    graph = Graph("g", {"in": (1, 3, 2, 4)}, tuple(operations), tuple(views))
    made = require_same(graph, 4)
    assert [made.shape(name)[3] for name in ("parts", "parts/apart", "parts/apart'")] == [30, 32, 48]


def require_same(graph: Graph, lanes: int) -> Graph:
    """The graph with whole words, which gives what the graph gives."""
    constants = random_parameters(verify(graph))
    made, held = with_whole_words(graph, constants, lanes)
    assert held is not None
    verify_constants(verify(made), held)
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    found, expected = evaluate(made, held, inputs), evaluate(graph, constants, inputs)
    for name in graph.outputs:
        assert len(np.unique(expected[name])) > 2
        assert_array_equal(found[name], expected[name], err_msg=name, strict=True)
    return made


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_a_copy_that_is_seen_interleaved(lanes: int) -> None:
    """Of two tensors of five channels, one of them enlarged: behind each come zeros."""
    size, pair = (3, 4), Upsampling(1, 2, interleaved=True)
    copy = layer("pair", size, 10, 10, groups=10)
    operations = (
        Linear("gate", (Operand(("small",), layer("gate", (1, 1), 2, 5)),)),
        Linear("pair", (Operand(("in", "gate"), copy, upsampled=(Upsampling(), Upsampling(*size))),), identity=True),
        Linear(
            "product",
            (Operand(("pair",), layer("product", (3, 8), 5, 5, groups=5), upsampled=(pair,)),),
            Window("product", (1, 2), (1, 2)),
            identity=True,
        ),
    )
    graph = verify(Graph("g", {"in": (1, *size, 5), "small": (1, 1, 1, 2)}, operations, ("product",)))
    constants = random_parameters(graph)
    made, held = with_whole_words(graph, constants, lanes)
    assert held is not None
    verify_constants(verify(made), held)
    assert made.shape("pair")[3] == 2 * -(-5 // lanes) * lanes
    assert ("pair/fill" in {operation.name for operation in made.operations}) == (lanes > 1)
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    expected = evaluate(graph, constants, inputs)["product"]
    assert len(np.unique(expected)) > 10
    assert_array_equal(evaluate(made, held, inputs)["product"], expected, strict=True)
    assert with_whole_words(graph, None, lanes) == (made, None)
