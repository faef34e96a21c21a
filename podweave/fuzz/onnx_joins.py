"""Pieces of random ONNX files in which tensors meet: residual blocks, branches, gates, skips, responses of neighbours."""

from __future__ import annotations

import numpy as np

from .onnx_graph import Image, OnnxGraph
from .onnx_layers import limited, same, squeezed

MOST_CHANNELS = 24


def residual(graph: OnnxGraph) -> None:
    """What a convolution makes of a tensor, and the tensor, added or taken off; or more of them."""
    rng, at = graph.rng, graph.at
    other = limited(graph, same(graph, at, at.channels, int(rng.choice([1, 3]))))
    kind = graph.one_of("Add", "Sub", "Sum", integer=1)
    terms = graph.ordered(at.name, other.name)
    if kind == "Sum":
        terms += [same(graph, other, at.channels, 1).name for _ in rng.several(0, 3, 0)]
    graph.give(limited(graph, at.named(graph.add(kind, terms))))


def branches(graph: OnnxGraph) -> None:
    """Two or three, side by side."""
    rng, at = graph.rng, graph.at
    parts = [at] if rng.random() < 0.3 else []
    for _ in rng.several(1, 3):
        parts.append(limited(graph, same(graph, at, int(rng.integers(1, 6)), int(rng.choice([1, 3])))))
    name = graph.add("Concat", graph.ordered(*(each.name for each in parts)), axis=int(rng.choice([1, -1 - len(at.sizes)])))
    graph.give(Image(name, sum(each.channels for each in parts), at.sizes))


def skip(graph: OnnxGraph) -> None:
    """A tensor of long before, of as many positions, joined or added."""
    rng, at = graph.rng, graph.at
    known = [each for each in graph.images if each.sizes == at.sizes and each.name != at.name] or [at]
    other = known[int(rng.integers(len(known)))]
    if other.channels == at.channels and other.name != at.name and rng.random() < 0.6:
        graph.give(limited(graph, at.named(graph.add(graph.one_of("Add", "Sub", integer=1), graph.ordered(at.name, other.name)))))
    elif at.channels + other.channels <= MOST_CHANNELS:
        name = graph.add("Concat", graph.ordered(at.name, other.name), axis=1)
        graph.give(Image(name, at.channels + other.channels, at.sizes))


def squeeze_excite(graph: OnnxGraph) -> None:
    """By convolutions or dense layers over the means of all positions."""
    rng, at = graph.rng, graph.at
    between, rank = int(rng.integers(2, 6)), len(at.sizes)
    one = squeezed(graph, at)
    if rng.random() < 0.3:
        axes = graph.whole(list(range(2, 2 + rank)))
        name = graph.add("Squeeze", [one.name, axes])
        for count, outputs in ((at.channels, between), (between, at.channels)):
            weights = rng.normal((count, outputs)) / np.sqrt(count)
            name = graph.add("Gemm", [name, graph.numbers(weights), graph.numbers(rng.normal(outputs) * 0.3)])
            name = graph.add("Relu", [name]) if outputs == between and count != between else name
        one = one.named(graph.add("Unsqueeze", [name, axes]))
    else:
        one = same(graph, limited(graph, same(graph, one, between, 1)), at.channels, 1)
    gate = graph.add(graph.one_of("Sigmoid", "HardSigmoid", integer=1), [one.name])
    graph.give(at.named(graph.add("Mul", graph.ordered(at.name, gate))))


def gate(graph: OnnxGraph) -> None:
    """A product with a branch: of all channels, of one, or of one row or column of each."""
    rng, at = graph.rng, graph.at
    kind = str(rng.choice(["branch", "channel", "row"]))
    other = same(graph, at, 1 if kind == "channel" else at.channels, int(rng.choice([1, 3])))
    if kind == "row":
        axis = int(rng.integers(len(at.sizes)))
        kernel = [n if number == axis else 1 for number, n in enumerate(at.sizes)]
        name = graph.add(str(rng.choice(["MaxPool", "AveragePool"])), [other.name], kernel_shape=kernel)
        other = other.named(name)
    if rng.random() < 0.6:
        other = other.named(graph.add(graph.one_of("Sigmoid", "HardSigmoid", "Tanh", integer=1), [other.name]))
    graph.give(limited(graph, at.named(graph.add("Mul", graph.ordered(at.name, other.name)))))


def square(graph: OnnxGraph) -> None:
    """A tensor times itself."""
    at = graph.at
    graph.give(at.named(graph.add("Mul", [at.name, at.name])))


def responses(graph: OnnxGraph) -> None:
    """Local response normalisation."""
    at, rng = graph.at, graph.rng
    ways = {"alpha": float(rng.choice([1e-4, 0.1])), "beta": float(rng.choice([0.75, 0.5])), "bias": float(rng.choice([1.0, 2.0]))}
    graph.give(at.named(graph.add("LRN", [at.name], size=int(rng.choice([1, 3, 5])), **ways)))
