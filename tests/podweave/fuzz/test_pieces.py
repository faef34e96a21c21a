"""Pieces of random ONNX files, each alone: the images that they say they give are what onnxruntime computes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="random files need the extra podweave[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="random files need the extra podweave[onnx]")
from podweave.fuzz import onnx_functions, onnx_joins, onnx_layers, onnx_moves  # noqa: E402
from podweave.fuzz.choices import Choices  # noqa: E402
from podweave.fuzz.onnx_graph import Image, OnnxGraph  # noqa: E402

Floats = NDArray[np.float32]
SEEDS = range(16)


def computed(
    piece: Callable[[OnnxGraph], None], seed: int, channels: int, sizes: tuple[int, ...]
) -> tuple[OnnxGraph, Floats, Floats]:
    """A graph of that piece alone, numbers that it reads, and what onnxruntime makes of them."""
    graph = OnnxGraph(Choices([seed, 5]), 2, 17 + seed % 2)
    graph.give(Image("x", channels, sizes))
    piece(graph)
    if graph.at.name == "x":
        return graph, np.zeros(0, np.float32), np.zeros(0, np.float32)
    given = graph.shape(Image("x", channels, sizes))
    model = graph.model(given, [(graph.at.name, graph.shape(graph.at))])
    x = np.random.default_rng(seed).normal(size=given).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert found.shape == graph.shape(graph.at)
    assert np.isfinite(found).all()
    return graph, x, found


@pytest.mark.parametrize("channels", [1, 2, 5, 8])
@pytest.mark.parametrize("piece", [onnx_moves.split, onnx_moves.cut, onnx_layers.pooling, onnx_joins.skip])
def test_pieces_give_what_they_say(piece: Callable[[OnnxGraph], None], channels: int) -> None:
    """Whatever is drawn; of one channel, nothing can be split."""
    made = [computed(piece, seed, channels, (6, 7))[0] for seed in SEEDS]
    assert any(graph.at.name != "x" for graph in made) == (piece is not onnx_moves.split or channels > 1)


def test_a_skip_that_would_have_too_many_channels_is_none() -> None:
    graph, _, _ = computed(onnx_joins.skip, 1, onnx_joins.MOST_CHANNELS, (3, 3))
    assert graph.nodes == []


def test_shuffled_channels_are_all_there() -> None:
    seen = set()
    for seed in SEEDS:
        graph, x, found = computed(onnx_moves.shuffle, seed, 8, (3, 4))
        rows = {channel.tobytes(): number for number, channel in enumerate(x[0])}
        order = [rows[channel.tobytes()] for channel in found[0]]
        assert sorted(order) == list(range(8))
        assert order[0] == 0
        seen.add(order[1])
    assert seen == {2, 4}
    # Of an odd number of channels, or of few, a convolution makes others before.
    for channels in (2, 7):
        graph, _, _ = computed(onnx_moves.shuffle, 1, channels, (3, 4))
        assert graph.nodes[0].op_type == "Conv"
        assert graph.at.channels % 2 == 0


def test_functions_in_other_views_are_those_of_the_image() -> None:
    for sizes in ((3, 4), (6,)):
        seen = set()
        for seed in SEEDS:
            graph, x, found = computed(onnx_moves.other_views, seed, 3, sizes)
            kinds = [node.op_type for node in graph.nodes]
            expected = np.maximum(x, 0) if "Relu" in kinds else 1 / (1 + np.exp(-x))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            seen.add(kinds[0])
        assert seen == {"Reshape", "Transpose", "Unsqueeze"}


def test_activations_in_pieces() -> None:
    """Each is one of five functions, by another way to write it, and all five are drawn."""
    erf = np.vectorize(math.erf)
    formulas: dict[str, Callable[[Floats], Floats]] = {
        "SiLU": lambda x: x / (1 + np.exp(-x)),
        "HardSwish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "gated HardSigmoid": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        "GELU": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        "Softsign": lambda x: x / (1 + np.abs(x)),
    }
    seen = set()
    for seed in range(30):
        _, x, found = computed(onnx_functions.written_out, seed, 3, (4, 4))
        near = {name for name, formula in formulas.items() if np.allclose(found, formula(x), rtol=1e-4, atol=1e-5)}
        # HardSwish is a gated HardSigmoid.
        assert near, seed
        seen |= near
    assert seen == formulas.keys()


def test_all_numbers_in_a_row() -> None:
    """By any of the ways that there are: as many as it says, and those of the image where nothing is computed before."""
    seen = set()
    for seed in range(40):
        graph = OnnxGraph(Choices([seed, 6]), 2, 17)
        graph.give(Image("x", 3, (2, 4)))
        name, count = onnx_layers.flat(graph)
        kinds = {node.op_type for node in graph.nodes}
        model = graph.model((2, 3, 2, 4), [(name, (2, count))])
        x = np.random.default_rng(seed).normal(size=(2, 3, 2, 4)).astype(np.float32)
        (found,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        assert found.shape == (2, count)
        if count == 24:
            np.testing.assert_array_equal(found, x.reshape(2, 24))
        seen |= kinds
    assert {"Flatten", "Reshape", "Shape", "Slice", "Gather", "Squeeze", "ReduceMean"} <= seen
