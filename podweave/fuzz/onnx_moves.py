"""Pieces of random ONNX files that move numbers, or only look at them in another way."""

from __future__ import annotations

from typing import Any

import numpy as np

from .onnx_graph import Image, OnnxGraph
from .onnx_layers import convolution, pooling, same

_SAME_NEIGHBOURS: list[dict[str, Any]] = [
    {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
    {},
]
"""Ways to say that each position becomes as many as the factor says."""


def split(graph: OnnxGraph) -> None:
    """Into parts of which the first goes on through a convolution, and all are joined again."""
    rng, at = graph.rng, graph.at
    if at.channels < 2:
        return
    equal = at.channels % 2 == 0 and rng.random() < 0.4
    cuts = [at.channels // 2] * 2 if equal else []
    if not equal:
        first = int(rng.integers(1, at.channels))
        cuts = [first, at.channels - first]
        if cuts[1] > 1 and rng.random() < 0.3:
            cuts[1:] = [1, cuts[1] - 1]
    if not equal:
        names = graph.parts("Split", [at.name, graph.whole(cuts)], len(cuts), axis=1)
    else:
        ways = {"num_outputs": 2} if graph.opset >= 18 else {}
        names = graph.parts("Split", [at.name], 2, axis=1, **ways)
    other = same(graph, Image(names[0], cuts[0], at.sizes), cuts[0], 1)
    joined = graph.add("Concat", [*names[1:], other.name], axis=1)
    graph.give(at.named(joined))


def cut(graph: OnnxGraph) -> None:
    """Some channels; some rows and columns, or every second of them; counted from either end."""
    rng, at = graph.rng, graph.at
    sizes = [at.channels, *at.sizes]
    taken: dict[int, range] = {}
    for axis, size in enumerate(sizes):
        if size < 3 or rng.random() < 0.4:
            continue
        step = int(rng.choice([1, 1, 2])) if axis else 1
        first = int(rng.integers(0, size // 2))
        taken[axis] = range(first, int(rng.integers(first + size // 2, size + 1)), step)
    if not taken:
        return
    starts = [each.start - (sizes[axis] if rng.random() < 0.3 else 0) for axis, each in taken.items()]
    ends = [each.stop if each.stop < sizes[axis] or rng.random() < 0.5 else (1 << 31) - 1 for axis, each in taken.items()]
    given = [starts, ends, [axis + 1 for axis in taken]]
    if any(each.step > 1 for each in taken.values()) or rng.random() < 0.5:
        given.append([each.step for each in taken.values()])
    name = graph.add("Slice", [at.name, *(graph.as_node(each) if rng.random() < 0.3 else graph.whole(each) for each in given)])
    left = [len(taken[axis]) if axis in taken else size for axis, size in enumerate(sizes)]
    graph.give(Image(name, left[0], tuple(left[1:])))


def border(graph: OnnxGraph) -> None:
    """Rows and columns of a constant, which a convolution or a pooling may take over."""
    rng, at = graph.rng, graph.at
    pads = [int(rng.integers(0, 3)) for _ in range(2 * len(at.sizes))]
    rank = len(at.sizes)
    inputs = [at.name, graph.whole([0, 0, *pads[:rank], 0, 0, *pads[rank:]])]
    if rng.random() < 0.3:
        inputs.append(graph.numbers(float(rng.choice([0.5, -1.0]))))
    name = graph.add("Pad", inputs)
    graph.give(Image(name, at.channels, tuple(n + pads[axis] + pads[rank + axis] for axis, n in enumerate(at.sizes))))
    behind = int(rng.integers(3))
    if behind:
        (convolution, pooling)[behind - 1](graph)


def enlarged(graph: OnnxGraph) -> None:
    """Each position several times; by factors, or to sizes."""
    rng, at = graph.rng, graph.at
    factors = [int(rng.integers(1, 3)) for _ in at.sizes]
    sizes = tuple(n * factor for n, factor in zip(at.sizes, factors, strict=True))
    ways = _SAME_NEIGHBOURS[int(rng.integers(len(_SAME_NEIGHBOURS)))]
    if rng.random() < 0.6:
        inputs = [at.name, "", graph.numbers(np.array([1, 1, *factors]))]
    else:
        inputs = [at.name, "", "", graph.whole([graph.batch, at.channels, *sizes])]
    graph.give(Image(graph.add("Resize", inputs, mode="nearest", **ways), at.channels, sizes))


def blocks_to_channels(graph: OnnxGraph) -> None:
    at = graph.at
    block = int(graph.rng.choice([each for each in (1, 2, 3) if all(n % each == 0 for n in at.sizes)]))
    name = graph.add("SpaceToDepth", [at.name], blocksize=block)
    graph.give(Image(name, at.channels * block**2, tuple(n // block for n in at.sizes)))


def channels_to_blocks(graph: OnnxGraph) -> None:
    """In both orders."""
    rng, at = graph.rng, graph.at
    outputs = int(rng.integers(1, 4))
    source = at if at.channels % 4 == 0 else same(graph, at, 4 * outputs, 1)
    name = graph.add("DepthToSpace", [source.name], blocksize=2, mode=str(rng.choice(["DCR", "CRD"])))
    graph.give(Image(name, source.channels // 4, tuple(2 * n for n in at.sizes)))


def shuffle(graph: OnnxGraph) -> None:
    """Channels of groups, the first of each, then the second: a Reshape, a Transpose, and a Reshape back."""
    rng, at = graph.rng, graph.at
    if at.channels < 4 or at.channels % 2:
        at = same(graph, at, 2 * int(rng.integers(2, 5)), 1)
    groups = int(rng.choice([each for each in range(2, at.channels) if at.channels % each == 0]))
    apart = graph.add("Reshape", [at.name, graph.whole([graph.batch, groups, at.channels // groups, *at.sizes])])
    turned = graph.add("Transpose", [apart], perm=[0, 2, 1, 3, 4])
    graph.give(at.named(graph.add("Reshape", [turned, graph.whole([graph.batch, -1, *at.sizes])])))


def chosen(graph: OnnxGraph) -> None:
    """Channels in any order, some of them twice."""
    rng, at = graph.rng, graph.at
    which = [int(each) for each in rng.integers(-at.channels, at.channels, int(rng.integers(1, 8)))]
    name = graph.add("Gather", [at.name, graph.whole(which)], axis=1)
    graph.give(Image(name, len(which), at.sizes))


def other_views(graph: OnnxGraph) -> None:
    """A function of numbers in another shape, and back: positions in a row, channels last, or an axis of one position more."""
    rng, at = graph.rng, graph.at
    rank = len(at.sizes)
    kind = str(rng.choice(["row", "last", "axis"]))
    operator = str(rng.choice(["Relu", "Sigmoid"]))
    if kind == "row":
        name = graph.add("Reshape", [at.name, graph.whole([0, 0, -1])])
        name = graph.add("Reshape", [graph.add(operator, [name]), graph.whole([graph.batch, at.channels, *at.sizes])])
    elif kind == "last":
        name = graph.add("Transpose", [at.name], perm=[0, *range(2, 2 + rank), 1])
        name = graph.add("Transpose", [graph.add(operator, [name])], perm=[0, 1 + rank, *range(1, 1 + rank)])
    else:
        axes = graph.whole([int(rng.choice([0, 2]))])
        name = graph.add("Squeeze", [graph.add(operator, [graph.add("Unsqueeze", [at.name, axes])]), axes])
    graph.give(at.named(name))


def as_rows(graph: OnnxGraph) -> None:
    """Of one dimension, as an image of one row, through a convolution."""
    rng, at = graph.rng, graph.at
    axes = graph.whole([2])
    wide = Image(graph.add("Unsqueeze", [at.name, axes]), at.channels, (1, *at.sizes))
    made = same(graph, wide, int(rng.integers(2, 6)), 3)
    graph.give(Image(graph.add("Squeeze", [made.name, axes]), made.channels, at.sizes))
