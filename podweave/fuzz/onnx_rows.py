"""Pieces of random ONNX files of rows, which are positions of an image: norms, attention in any form, feed-forward layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .onnx_graph import Image, OnnxGraph


@dataclass(frozen=True)
class Rows:
    """A tensor (1, count, channels) of a graph. ``sizes``: (height, width) of the image whose positions they are."""

    name: str
    channels: int
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(np.prod(self.sizes))

    def named(self, name: str) -> Rows:
        """Another tensor of that shape."""
        return Rows(name, self.channels, self.sizes)


def rows_of(graph: OnnxGraph, image: Image) -> Rows:
    """Positions as rows: channels go behind before or after positions are put in one line."""
    kind = str(graph.rng.choice(["reshape", "transpose", *(["squeeze"] if image.sizes[0] == 1 else [])]))
    if kind == "transpose":
        last = graph.add("Transpose", [image.name], perm=[0, 2, 3, 1])
        name = graph.add("Reshape", [last, graph.whole([1, -1, image.channels])])
    else:
        if kind == "squeeze":
            flat = graph.add("Squeeze", [image.name, graph.whole([2])])
        else:
            flat = graph.add("Reshape", [image.name, graph.whole([1, image.channels, -1])])
        name = graph.add("Transpose", [flat], perm=[0, 2, 1])
    return Rows(name, image.channels, image.sizes)


def image_of(graph: OnnxGraph, rows: Rows) -> Image:
    """The image again."""
    if graph.rng.integers(2):
        lying = graph.add("Reshape", [rows.name, graph.whole([1, *rows.sizes, rows.channels])])
        return Image(graph.add("Transpose", [lying], perm=[0, 3, 1, 2]), rows.channels, rows.sizes)
    turned = graph.add("Transpose", [rows.name], perm=[0, 2, 1])
    return Image(graph.add("Reshape", [turned, graph.whole([1, rows.channels, *rows.sizes])]), rows.channels, rows.sizes)


def linear(graph: OnnxGraph, rows: Rows, outputs: int) -> Rows:
    """A product with a constant matrix, with a bias or without."""
    weights = graph.rng.normal((rows.channels, outputs)) / np.sqrt(rows.channels)
    name = graph.add("MatMul", [rows.name, graph.numbers(weights)])
    if graph.rng.random() < 0.8:
        name = graph.add("Add", graph.ordered(name, graph.numbers(graph.rng.normal(outputs) * 0.2)))
    return Rows(name, outputs, rows.sizes)


def norm(graph: OnnxGraph, rows: Rows) -> Rows:
    """Over channels, with gains of any sign, and a bias or none."""
    rng = graph.rng
    inputs = [rows.name, graph.numbers(rng.uniform(0.5, 1.5, rows.channels) * np.where(rng.normal(rows.channels) < -1, -1, 1))]
    if rng.random() < 0.8:
        inputs.append(graph.numbers(rng.normal(rows.channels) * 0.3))
    return rows.named(
        graph.add("LayerNormalization", inputs, axis=int(rng.choice([-1, 2])), epsilon=float(rng.choice([1e-5, 1e-3])))
    )


def feed_forward(graph: OnnxGraph, rows: Rows) -> Rows:
    """Two products, and a function between."""
    rng = graph.rng
    inner = linear(graph, rows, int(rng.integers(2, 2 * rows.channels + 1)))
    kind = str(rng.choice(["SiLU", "Relu", "Sigmoid", "Tanh", ""]))
    if kind == "SiLU":
        inner = inner.named(graph.add("Mul", graph.ordered(inner.name, graph.add("Sigmoid", [inner.name]))))
    elif kind:
        inner = inner.named(graph.add(kind, [inner.name]))
    return linear(graph, inner, rows.channels)


def residual(graph: OnnxGraph, rows: Rows, other: Rows) -> Rows:
    return rows.named(graph.add("Add", graph.ordered(rows.name, other.name)))


@dataclass(frozen=True)
class _Heads:
    """Queries, keys or values (heads, rows, channels of one), or with a batch of 1 in front; or only (1, rows, channels)."""

    name: str
    rank: int

    def turned(self, graph: OnnxGraph) -> str:
        """(..., channels, rows)."""
        order = [*range(self.rank - 2), self.rank - 1, self.rank - 2]
        return graph.add("Transpose", [self.name], perm=order)


def _looked_at(graph: OnnxGraph, name: str) -> str:
    """Now and then, a node that changes nothing."""
    if graph.rng.random() < 0.15:
        return graph.add(str(graph.rng.choice(["Identity", "Dropout"])), [name])
    return name


def _apart(graph: OnnxGraph, rows: Rows, heads: int, rank: int) -> _Heads:
    """Heads of a tensor of which all channels are theirs: head by head, or a channel of each after the other."""
    rng, size = graph.rng, rows.channels // heads
    name = _looked_at(graph, rows.name)
    if heads == 1 and rank == 3:
        return _Heads(name, 3)
    lead = [1] if rank == 4 else []
    first = bool(rng.integers(4))
    sizes = [*lead, rows.count, *((heads, size) if first else (size, heads))]
    at, head, channel = (len(lead) + each for each in ((0, 1, 2) if first else (0, 2, 1)))
    split = graph.add("Reshape", [name, graph.whole(sizes)])
    return _Heads(_looked_at(graph, graph.add("Transpose", [split], perm=[*range(len(lead)), head, at, channel])), rank)


def _cut(graph: OnnxGraph, name: str, axis: int, count: int, size: int) -> list[str]:
    """Equal parts along an axis, each of ``size``; the axis stays."""
    kind = str(graph.rng.choice(["Split", "Slice"]))
    if kind == "Split":
        return graph.parts("Split", [name, graph.whole([size] * count)], count, axis=axis)
    ends = [[part * size, (part + 1) * size, axis] for part in range(count)]
    return [graph.add("Slice", [name, *(graph.whole([each]) for each in end)]) for end in ends]


def _one_product(graph: OnnxGraph, rows: Rows, heads: int) -> list[_Heads]:
    """Queries, keys and values of one product, whose channels are cut in some order."""
    rng, size = graph.rng, rows.channels // heads
    whole = linear(graph, rows, 3 * rows.channels)
    if rng.integers(3) == 0:
        parts = _cut(graph, whole.name, 2, 3, rows.channels)
        return [_apart(graph, rows.named(part), heads, 4) for part in parts]
    order = [("part", "head", "channel"), ("head", "part", "channel"), ("head", "channel", "part")][int(rng.integers(3))]
    counts = {"part": 3, "head": heads, "channel": size, "row": rows.count}
    apart = graph.add("Reshape", [whole.name, graph.whole([1, rows.count, *(counts[each] for each in order)])])
    axes = ("batch", "row", *order)
    turned = ("part", "batch", "head", "row", "channel") if rng.integers(2) else ("batch", "part", "head", "row", "channel")
    moved = _looked_at(graph, graph.add("Transpose", [apart], perm=[axes.index(each) for each in turned]))
    axis = turned.index("part")
    if rng.integers(2):
        return [_Heads(graph.add("Gather", [moved, graph.one(part)], axis=axis), 4) for part in range(3)]
    parts = _cut(graph, moved, axis, 3, 1)
    return [_Heads(graph.add("Squeeze", [part, graph.whole([axis])]), 4) for part in parts]


def attention(graph: OnnxGraph, rows: Rows, heads: int, seen: Rows) -> Rows:
    """Of ``rows``, which attend to those of ``seen``; and a product of what all heads give."""
    rng, size = graph.rng, rows.channels // heads
    if seen is rows and rng.random() < 0.6:
        query, key, value = _one_product(graph, rows, heads)
    else:
        rank = int(rng.choice([3, 4]))
        query, key, value = (_apart(graph, linear(graph, source, rows.channels), heads, rank) for source in (rows, seen, seen))
    factor = float((1 + 3 * rng.random()) / np.sqrt(size))
    scaled = str(rng.choice(["queries", "keys", "both", "scores", "divided", ""]))
    queries, keys = query.name, key.turned(graph)
    if scaled in ("queries", "both"):
        queries = graph.add("Mul", graph.ordered(queries, graph.numbers(np.sqrt(factor) if scaled == "both" else factor)))
    if scaled in ("keys", "both"):
        keys = graph.add("Mul", graph.ordered(keys, graph.numbers(np.sqrt(factor) if scaled == "both" else factor)))
    scores = graph.add("MatMul", [queries, keys])
    if scaled == "scores":
        scores = graph.add("Mul", graph.ordered(scores, graph.numbers(factor)))
    elif scaled == "divided":
        scores = graph.add("Div", [scores, graph.numbers(1 / factor)])
    weights = graph.add("Softmax", [scores], axis=int(rng.choice([-1, query.rank - 1])))
    name = graph.add("MatMul", [weights, value.name])
    if heads > 1 or query.rank == 4:
        order = [0, 2, 1, 3] if query.rank == 4 else [1, 0, 2]
        name = graph.add("Reshape", [graph.add("Transpose", [name], perm=order), graph.whole([1, rows.count, rows.channels])])
    return linear(graph, rows.named(name), rows.channels)
