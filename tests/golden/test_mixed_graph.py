"""golden.graph on layers and operations on rows."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph, verify_mixed
from podweave.ir.row_operations import Format
from tests.mixed_graphs import conv, linear


def plain(weights: np.ndarray) -> Parameters:
    """Sums as they are."""
    outputs = weights.shape[-1]
    zero, one = np.zeros(outputs, np.int32), np.ones(outputs, np.int32)
    return Parameters((weights.astype(np.int8),), zero, one, zero)


GRAPH = MixedGraph(
    "g",
    {"image": (1, 2, 3, 1)},
    (
        conv("twice", "image", (2, 3), 1, 1),
        linear("pair", 6, "twice", 1, 2, Format.INT8),
        conv("below", "pair", (3, 2), 2, 1, padding=((0, 0), (0, 0)), kernel=(2, 1)),
        linear("wide", 4, "below", 1, 1, Format.WIDE),
    ),
    ("twice", "pair", "below", "wide"),
)
PARAMETERS = {
    "twice": plain(np.array([[[[2]]]])),
    "pair": plain(np.array([[1, -3]])),
    # The first channel of a position, and the second of the one below.
    "below": plain(np.array([[[[1], [0]]], [[[0], [1]]]])),
    "wide": plain(np.array([[100]])),
}
INPUTS = {"image": np.array([[1, -2, 3], [4, 5, -6]], np.int8).reshape(1, 2, 3, 1)}


def test_by_hand() -> None:
    found = evaluate(verify_mixed(GRAPH), PARAMETERS, INPUTS)
    assert list(found) == ["image", "twice", "pair", "below", "wide"]
    assert found["twice"].tolist() == [[[[2], [-4], [6]], [[8], [10], [-12]]]]
    assert found["pair"].tolist() == [[[[2, -6], [-4, 12], [6, -18], [8, -24], [10, -30], [-12, 36]]]]
    # Rows are the positions of an image of 3 by 2.
    assert found["below"].tolist() == [[[[2 - 18], [-4 - 24]], [[6 - 30], [8 + 36]]]]
    assert found["wide"].tolist() == [[[[-1600], [-2800], [-2400], [4400]]]]
    assert [found[name].dtype.name for name in GRAPH.outputs] == ["int8", "int8", "int8", "int32"]


def test_int8_rows_are_those_of_16_bits() -> None:
    """A linear operation of int8 gives what it gives of the same numbers in two planes."""
    rng = np.random.default_rng(3)
    graphs = {}
    for form, dtype in ((Format.INT8, np.int8), (Format.INT16, np.int16)):
        operations = (linear("y", 5, "x", 9, 4, Format.WIDE), conv("a", "image", (1, 1), 1, 1))
        graphs[dtype] = verify_mixed(MixedGraph("g", {"x": (1, 1, 5, 9), "image": (1, 1, 1, 1)}, operations, formats={"x": form}))
    weights = rng.integers(-128, 128, (9, 4))
    held = {"y": plain(weights), "a": plain(np.ones((1, 1, 1, 1)))}
    x = np.append(rng.integers(-128, 128, 43), [-128, 127]).reshape(1, 1, 5, 9)
    image = np.zeros((1, 1, 1, 1), np.int8)
    for dtype, graph in graphs.items():
        found = evaluate(graph, held, {"x": x.astype(dtype), "image": image})
        np.testing.assert_array_equal(found["y"][0, 0], x[0, 0] @ weights)


def test_inputs_are_those_of_the_graph() -> None:
    with pytest.raises(WorkloadError, match=r"^g: image must be int8 \(1, 2, 3, 1\), got int16 \(1, 2, 3, 1\)$"):
        evaluate(GRAPH, PARAMETERS, {"image": INPUTS["image"].astype(np.int16)})
    with pytest.raises(WorkloadError, match=r"^g: inputs must be those of \['image'\], got \[\]$"):
        evaluate(GRAPH, PARAMETERS, {})
