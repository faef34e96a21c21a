"""Pieces of random ONNX files with windows and weights: convolutions, products with matrices, poolings, normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper

from .onnx_graph import Image, OnnxGraph

_AUTO = ("SAME_UPPER", "SAME_LOWER", "VALID")


def windows(
    graph: OnnxGraph, sizes: tuple[int, ...], kernel: list[int], stride: list[int], dilation: list[int]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Pads of a window, written out or left to ``auto_pad``, and how many positions it has; without any where it is too large."""
    rng, rank = graph.rng, len(sizes)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    # onnxruntime has no dilated windows of equal sizes.
    auto = str(rng.choice(["", "", "", *(_AUTO if max(dilation) == 1 else _AUTO[2:])]))
    if auto.startswith("SAME"):
        return {"auto_pad": auto}, tuple(-(-n // s) for n, s in zip(sizes, stride, strict=True))
    pads = [int(rng.integers(0, k)) if not auto else 0 for k in (*kernel, *kernel)]
    whole = [n + pads[axis] + pads[rank + axis] for axis, n in enumerate(sizes)]
    if any(n < e for n, e in zip(whole, extent, strict=True)):
        auto, pads = "", [e - 1 for e in (*extent, *extent)]
        whole = [n + 2 * (e - 1) for n, e in zip(sizes, extent, strict=True)]
    found = tuple((n - e) // s + 1 for n, e, s in zip(whole, extent, stride, strict=True))
    return ({"auto_pad": auto} if auto else {"pads": pads}), found


def limited(graph: OnnxGraph, image: Image) -> Image:
    """Behind a convolution or a sum: nothing, a Relu, or a Clip from either side or from both."""
    kind = str(graph.rng.choice(["", "Relu", "Relu", "Clip", "below", "above"]))
    if not kind:
        return image
    if kind == "Relu":
        return image.named(graph.add("Relu", [image.name]))
    low = graph.numbers(0.0 if kind == "Clip" else -0.75) if kind != "above" else ""
    inputs = [image.name, low] + ([graph.numbers(1.5)] if kind != "below" else [])
    return image.named(graph.add("Clip", inputs))


def same(graph: OnnxGraph, source: Image, outputs: int, kernel: int) -> Image:
    """A convolution that leaves sizes as they are, and nothing behind it."""
    weights = graph.rng.normal((outputs, source.channels, *[kernel] * len(source.sizes)))
    weights *= graph.rng.uniform(0.3, 2, (outputs, *[1] * (weights.ndim - 1))) / np.sqrt(weights[0].size)
    inputs = [source.name, graph.numbers(weights), graph.numbers(graph.rng.normal(outputs) * 0.3)]
    name = graph.add("Conv", inputs, pads=[(kernel - 1) // 2] * (2 * len(source.sizes)))
    return Image(name, outputs, source.sizes)


def convolution(graph: OnnxGraph) -> None:
    """Of any kernel, stride, dilation and padding; of all channels, of groups of them, or of each by itself."""
    rng, at = graph.rng, graph.at
    rank = len(at.sizes)
    kernel = [int(rng.choice([1, 2, 3, 3])) for _ in range(rank)]
    if rng.random() < 0.6:
        kernel = kernel[:1] * rank
    dilation = [int(rng.choice([1, 1, 1, 2])) if k > 1 else 1 for k in kernel]
    stride = [int(rng.choice([1, 1, 2])) if at.area > 20 else 1 for _ in range(rank)]
    ways, sizes = windows(graph, at.sizes, kernel, stride, dilation)
    kind, outputs, groups = str(rng.choice(["", "", "", "groups", "depthwise"])), int(rng.integers(2, 9)), 1
    if kind == "depthwise" and at.channels <= 12:
        groups, outputs = at.channels, at.channels * int(rng.choice([1, 1, 2]))
    elif kind == "groups":
        groups = int(rng.choice([each for each in (1, 2, 3, 4) if at.channels % each == 0]))
        outputs = groups * int(rng.integers(1, 4))
    weights = rng.normal((outputs, at.channels // groups, *kernel))
    weights *= rng.uniform(0.3, 2, (outputs, *[1] * (rank + 1))) / np.sqrt(weights[0].size)
    inputs = [at.name, graph.numbers(weights)]
    if rng.random() < 0.8:
        inputs.append(graph.numbers(rng.normal(outputs) * 0.3))
    name = graph.add("Conv", inputs, strides=stride, dilations=dilation, group=groups, **ways)
    graph.give(limited(graph, Image(name, outputs, sizes)))


def transposed_convolution(graph: OnnxGraph) -> None:
    """Of any kernel, stride, pads and output_padding; of all channels, or of groups of them."""
    rng, at = graph.rng, graph.at
    rank, each = len(at.sizes), int(rng.integers(2, 6))
    groups = int(rng.choice([1, 1, *(number for number in (2, 3, at.channels) if at.channels % number == 0 and at.channels < 9)]))
    each = each if groups == 1 else -(-each // groups)
    kernel, stride = ([int(rng.integers(1, 4)) for _ in range(rank)] for _ in range(2))
    pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    extra = [int(rng.integers(0, s)) if s > 1 and rng.random() < 0.3 else 0 for s in stride]
    sizes = tuple(
        (n - 1) * s + k + e - pads[axis] - pads[rank + axis]
        for axis, (n, s, k, e) in enumerate(zip(at.sizes, stride, kernel, extra, strict=True))
    )
    if min(sizes) < 2:
        return
    weights = rng.normal((at.channels, each, *kernel)) / np.sqrt(at.channels / groups)
    inputs = [at.name, graph.numbers(weights)]
    if groups == 1 and rng.random() < 0.8:
        # onnxruntime cannot quantise biases of groups whose weights have several scales.
        inputs.append(graph.numbers(rng.normal(each) * 0.3))
    name = graph.add("ConvTranspose", inputs, strides=stride, pads=pads, output_padding=extra, group=groups)
    graph.give(Image(name, each * groups, sizes))


def normalisation(graph: OnnxGraph) -> None:
    at, rng = graph.at, graph.rng
    made = [
        rng.uniform(0.5, 2, at.channels),
        rng.normal(at.channels) * 0.3,
        rng.normal(at.channels),
        rng.uniform(0.3, 2, at.channels),
    ]
    name = graph.add("BatchNormalization", [at.name, *map(graph.numbers, made)], epsilon=float(rng.choice([1e-5, 1e-3])))
    graph.give(at.named(name))


def pooling(graph: OnnxGraph) -> None:
    """The largest, or means, with pads that count or do not, and windows that overhang."""
    rng, at = graph.rng, graph.at
    rank, mean = len(at.sizes), rng.random() < 0.5
    kernel = [int(rng.choice([2, 3])) if n > 2 else 1 for n in at.sizes]
    stride = [int(rng.choice([1, 2])) if n > 3 else 1 for n in at.sizes]
    ways, sizes = windows(graph, at.sizes, kernel, stride, [1] * rank)
    counts = bool(rng.integers(2))
    if "pads" in ways and not (mean and counts) and rng.integers(2):
        whole = [n + a + b for n, a, b in zip(at.sizes, ways["pads"][:rank], ways["pads"][rank:], strict=True)]
        more = tuple(-(-(n - k) // s) + 1 for n, k, s in zip(whole, kernel, stride, strict=True))
        begins = [(count - 1) * s for count, s in zip(more, stride, strict=True)]
        if all(first < n + a for first, n, a in zip(begins, at.sizes, ways["pads"], strict=False)):
            # A window that begins in the padding behind is none for onnxruntime, and one where shapes are inferred.
            ways["ceil_mode"], sizes = 1, more
    if mean:
        ways["count_include_pad"] = int(counts)
    name = graph.add("AveragePool" if mean else "MaxPool", [at.name], kernel_shape=kernel, strides=stride, **ways)
    graph.give(Image(name, at.channels, sizes))


def squeezed(graph: OnnxGraph, source: Image) -> Image:
    """One position, of all."""
    kind = graph.one_of("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", integer=1)
    if kind != "ReduceMean":
        name = graph.add(kind, [source.name])
    else:
        name = reduced(graph, source, keepdims=1)
    return Image(name, source.channels, (1,) * len(source.sizes))


def reduced(graph: OnnxGraph, source: Image, *, keepdims: int) -> str:
    """A mean over all positions."""
    axes = list(range(2, 2 + len(source.sizes))) if graph.rng.random() < 0.5 else list(range(-len(source.sizes), 0))
    if graph.opset < 18:
        return graph.add("ReduceMean", [source.name], axes=axes, keepdims=keepdims)
    return graph.add("ReduceMean", [source.name, graph.whole(axes)], keepdims=keepdims)


def context(graph: OnnxGraph) -> None:
    """Of all positions, one number for each channel, beside every position (as DeepLab has it)."""
    at, rng = graph.at, graph.rng
    one = same(graph, squeezed(graph, at), int(rng.integers(2, 5)), 1)
    scales = graph.numbers(np.array([1, 1, *at.sizes]))
    spread = graph.add("Resize", [one.name, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric")
    name = graph.add("Concat", graph.ordered(at.name, spread), axis=1)
    graph.give(Image(name, at.channels + one.channels, at.sizes))


def each_position(graph: OnnxGraph) -> None:
    """A product with a matrix at every position, with channels last."""
    rng, at = graph.rng, graph.at
    rank, outputs = len(at.sizes), int(rng.integers(2, 9))
    source = graph.add("Transpose", [at.name], perm=[0, *range(2, 2 + rank), 1])
    weights = rng.normal((at.channels, outputs)) / np.sqrt(at.channels)
    name = graph.add("MatMul", [source, graph.numbers(weights)])
    if rng.random() < 0.5:
        name = graph.add("Add", graph.ordered(name, graph.numbers(rng.normal(outputs) * 0.3)))
    name = graph.add("Transpose", [name], perm=[0, 1 + rank, *range(1, 1 + rank)])
    graph.give(Image(name, outputs, at.sizes))


def flat(graph: OnnxGraph) -> tuple[str, int]:
    """All numbers of an image in a row, and how many: by any of the ways that exporters have."""
    rng, at = graph.rng, graph.at
    kind = graph.one_of("Flatten", "Reshape", "computed", "Squeeze", "ReduceMean", integer=4)
    if kind == "ReduceMean":
        return reduced(graph, at, keepdims=0), at.channels
    if rng.random() < 0.5 or kind == "Squeeze":
        at = squeezed(graph, at)
    if kind == "Squeeze":
        return graph.add("Squeeze", [at.name, graph.whole(list(range(2, 2 + len(at.sizes))))]), at.channels
    count = at.channels * at.area
    if kind == "Flatten":
        return graph.add("Flatten", [at.name], axis=int(rng.choice([1, -1 - len(at.sizes)]))), count
    if kind == "Reshape":
        return graph.add("Reshape", [at.name, graph.whole([int(rng.choice([0, graph.batch])), -1])]), count
    return graph.add("Reshape", [at.name, computed_sizes(graph, at.name)]), count


def computed_sizes(graph: OnnxGraph, source: str) -> str:
    """[batch, -1], as frameworks compute it from the sizes of a tensor."""
    # An axis of 0, as many as there are.
    axes = graph.add("ConstantOfShape", [graph.whole([1])], value=numpy_helper.from_array(np.zeros(1, np.int64)))
    whole = graph.add("Shape", [source])
    kind = str(graph.rng.choice(["Gather", "Slice"]))
    if kind == "Slice":
        batch = graph.add("Slice", [whole, graph.whole([0]), graph.as_node([1]), axes])
    else:
        batch = graph.add("Gather", [whole, graph.as_node([0])], axis=0)
    return graph.add("Concat", [graph.add("Cast", [batch], to=7), graph.as_node([-1])], axis=0)


def head(graph: OnnxGraph) -> tuple[str, int]:
    """Dense layers over all that there is; gives their result, and how many numbers it has."""
    rng = graph.rng
    source, count = flat(graph)
    for number in rng.several(1, 3):
        outputs = int(rng.integers(2, 12))
        weights = rng.normal((count, outputs)) / np.sqrt(count)
        if number:
            source = graph.add("Relu", [source])
        kind = str(rng.choice(["Gemm", "turned", "MatMul"]))
        if kind == "MatMul":
            source = graph.add("MatMul", [source, graph.numbers(weights)])
            if rng.random() < 0.5:
                source = graph.add("Add", [source, graph.numbers(rng.normal(outputs))])
        else:
            held = [graph.numbers(weights.T if kind == "turned" else weights)]
            if rng.random() < 0.8:
                held.append(graph.numbers(rng.normal(outputs)))
            source = graph.add("Gemm", [source, *held], transB=int(kind == "turned"))
        count = outputs
    return source, count
