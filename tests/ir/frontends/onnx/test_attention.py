"""ir.frontends.onnx: channels that are taken apart, norms, and attention as it is not taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import read_network
from podweave.ir.frontends.onnx.pieces import PiecesView
from podweave.ir.frontends.onnx.transformers import is_transformer
from podweave.ir.frontends.onnx.views import LayoutError, View
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.test_read import Graph


@pytest.mark.parametrize("seed", range(40))
def test_pieces_are_where_numpy_has_them(seed: int) -> None:
    """Any reshaping of channels, with any order of axes and parts of them: each number is in the channel that the view says."""
    rng = np.random.default_rng(seed)
    factors = rng.permutation([2, 3, 2]).tolist()
    rows = int(rng.integers(2, 6))
    view = PiecesView.of(View.of((1, rows, 12), (0, 2, 3)))
    # Each number is its row, and its channel.
    held = np.stack(np.indices((rows, 12)), axis=-1)[None]
    sizes = (1, rows, *factors)
    view, held = view.reshaped(sizes), held.reshape(*sizes, 2)
    order = rng.permutation(5).tolist()
    view, held = view.transposed(order), held.transpose(*order, 5)
    axis = order.index(2 + int(rng.integers(3)))
    first = int(rng.integers(view.sizes[axis]))
    view, held = view.part(axis, first, 1), held.take([first], axis)
    assert view.sizes == held.shape[:-1]
    pieces = [(dim, view.only(dim)) for dim in range(5) if held.shape[dim] > 1 and view.only(dim)]
    where = view.channels([piece for _, piece in pieces if piece])
    (at,) = (dim for dim in range(5) if view.has_positions(dim) and held.shape[dim] == rows and not view.only(dim))
    moved = np.moveaxis(held, [at, *(dim for dim, _ in pieces)], range(len(pieces) + 1)).reshape(rows, len(where), 2)
    assert (moved[..., 1] == where).all()
    assert (moved[..., 0] == np.arange(rows)[:, None]).all()


def test_what_is_put_together_again_is_whole() -> None:
    view = View.of((1, 6, 4, 5), (0, 3, 1, 2))
    apart = PiecesView.of(view).reshaped((1, 2, 3, 4, 5))
    assert apart.whole is None
    assert apart.reshaped((1, 6, 4, 5)).whole == view
    assert apart.transposed((0, 2, 1, 3, 4)).reshaped((1, 6, 4, 5)).whole is None
    with pytest.raises(LayoutError, match=r"\[1, 6, 4, 5\] as \[1, 6, 2, 10\] cuts an axis of the image in two"):
        PiecesView.of(view).reshaped((1, 6, 2, 10))
    with pytest.raises(LayoutError, match=r"takes a part along axis 2 of .*, which is not that of the channels"):
        PiecesView.of(view).part(2, 0, 1)


Part = Callable[[Graph, str], str]


def attending(graph: Graph, scored: Part = lambda graph, scores: scores, weighed: Part = lambda graph, weights: weights) -> str:
    """Attention of two heads of four channels, of x (1, 5, 8), which is queries, keys and values."""
    heads = graph.add("Reshape", graph.quantised("x"), graph.constant("sizes", np.array([1, 5, 2, 4])))
    queries, keys = (graph.add("Transpose", heads, perm=perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1]))
    weights = weighed(graph, graph.add("Softmax", scored(graph, graph.add("MatMul", queries, keys)), output="soft", axis=-1))
    found = graph.add("Transpose", graph.add("MatMul", weights, queries, output="o"), perm=[0, 2, 1, 3])
    return graph.quantised(graph.add("Reshape", found, graph.constant("whole", np.array([1, 5, 8])), output="y"))


def with_weights(graph: Graph) -> None:
    """x is rows: what reads it first is a product."""
    graph.quantised(graph.add("MatMul", graph.quantised("x"), graph.weights("w", np.ones((8, 2)), 1.0)))


def test_attention_beside_numpy(tmp_path: Path) -> None:
    """All in units of 1/4, with zero points of 3: within a step of real numbers."""
    graph = Graph(1, 5, 8)
    with_weights(graph)
    y = attending(graph, lambda graph, scores: graph.add("Mul", scores, graph.constant("by", np.float32(0.25))))
    network = read_network(graph.save(tmp_path / "attending.onnx", y))
    x = np.random.default_rng(3).integers(-12, 18, (1, 1, 5, 8)).astype(np.int8)
    tensors = evaluate(network.graph, network.constants, network.with_caches({"x": x}), "half_even")
    real = ((x[0, 0].astype(float) - 3) / 4).reshape(5, 2, 4).transpose(1, 0, 2)
    scores = real @ real.transpose(0, 2, 1) / 4
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted = (weights / weights.sum(axis=-1, keepdims=True) @ real).transpose(1, 0, 2).reshape(5, 8) * 4 + 3
    (name,) = network.graph.outputs
    assert np.abs(tensors[name][0, 0] - wanted).max() < 0.7
    assert len(np.unique(tensors[name])) > 8


def added_mask(graph: Graph, scores: str) -> str:
    return graph.add("Add", scores, graph.constant("mask", np.tril(np.ones((5, 5), np.float32))), output="masked")


def quantised_scores(graph: Graph, scores: str) -> str:
    return graph.add("QuantizeLinear", scores, "scale", "zero", output="inside")


def negative(graph: Graph, scores: str) -> str:
    return graph.add("Mul", scores, graph.constant("by", np.float32(-1)), output="turned")


def turned(graph: Graph, weights: str) -> str:
    return graph.add("Transpose", weights, perm=[0, 1, 3, 2], output="other")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"scored": added_mask},
            "Add node_masked: its input .* is scores of attention (what helps: attention as docs/onnx.md has it)",
        ),
        (
            {"scored": quantised_scores},
            "QuantizeLinear node_inside: it quantises in the midst of attention (what helps: real numbers",
        ),
        ({"scored": negative}, "Mul node_turned: it multiplies scores of attention by what is not above 0"),
        ({"weighed": turned}, "Transpose node_other: scores of attention must stay as they are"),
    ],
)
def test_attention_that_is_not_taken(tmp_path: Path, options: dict[str, Part], sentence: str) -> None:
    graph = Graph(1, 5, 8)
    with_weights(graph)
    with pytest.raises(WorkloadError, match=re.escape(sentence).replace(r"\.\*", ".*")):
        read_network(graph.save(tmp_path / "refused.onnx", attending(graph, **options)))


@pytest.mark.parametrize(
    ("shape", "attributes", "sentence"),
    [
        (
            (1, 5, 8),
            {"axis": 1},
            "LayerNormalization node_norm: it is not over channels alone, as the last dimension (what helps: a",
        ),
        ((2, 5, 8), {"axis": -1}, "LayerNormalization node_norm: it is of 2 images (what helps: a batch of 1 (--size))"),
        ((1, 5, 8), {"axis": -1, "epsilon": 1e9}, "is too large for numbers in steps of 0.25"),
    ],
)
def test_norms_that_are_not_taken(tmp_path: Path, shape: tuple[int, ...], attributes: dict[str, float], sentence: str) -> None:
    graph = Graph(*shape)
    with_weights(graph)
    rows = graph.quantised(graph.add("MatMul", graph.quantised("x"), graph.weights("v", np.eye(8), 1.0)))
    gain = graph.constant("gain", np.ones(8, np.float32))
    y = graph.quantised(graph.add("LayerNormalization", rows, gain, output="norm", **attributes))
    with pytest.raises(WorkloadError, match=re.escape(sentence)):
        read_network(graph.save(tmp_path / "refused.onnx", y))


def test_which_files_are_transformers() -> None:
    """Attention behind two convolutions is in a network of layers; behind one, which makes patches, or none, it is not."""
    attention = [("MatMul", ("x", "w"), ("a",)), ("Softmax", ("a",), ("s",)), ("MatMul", ("s", "a"), ("y",))]
    convolutions = [("Conv", ("x", "w"), ("x1",)), ("Conv", ("x1", "w"), ("x2",))]
    assert is_transformer(attention, ["x"])
    assert is_transformer([*convolutions[:1], *attention], ["x"])
    assert not is_transformer([*convolutions, *attention], ["x"])
    assert not is_transformer(attention[:2], ["x"])
