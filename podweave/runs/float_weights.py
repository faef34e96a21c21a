"""Weights of ONNX files in floating point, made ready for integers: scales moved from layer to layer, biases corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx.files import onnx_package
from podweave.ir.layers import WorkloadError

from .calibration import Arrays, FloatFile

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"})
"""Operators that give as many times more as they are given, channel by channel."""
MOST = 127
"""The largest weight in integers."""
SMALLEST = 2.0**-8
"""Of the largest channel: smaller ones count as that large."""


@dataclass
class Channels:
    """Tensors whose channels may be scaled together: those that convolutions write, what is added to them, and what others read.

    ``limited``: a `Clip` reads them. ``closed``: something else that knows how large they are; or they enter or leave the file.
    """

    tensors: list[str] = field(default_factory=list)
    writers: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)
    limited: bool = False
    closed: bool = False


class Weights:
    """The constants of a model, to be read and written by name."""

    def __init__(self, model: Any):
        self.model = model
        self._held = {each.name: each for each in model.graph.initializer}
        self._readers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._ends = {each.name for each in model.graph.output}

    def has(self, name: str) -> bool:
        return name in self._held

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = onnx_package().numpy_helper.to_array(self._held[name])
        return found

    def __setitem__(self, name: str, values: NDArray) -> None:
        kept = onnx_package().numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        if name in self._held:
            self._held[name].CopyFrom(kept)
        else:
            self.model.graph.initializer.append(kept)
            self._held[name] = self.model.graph.initializer[-1]

    def only_reader(self, name: str) -> Any | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._ends else None

    def is_layer(self, node: Any) -> bool:
        """A convolution whose constants nobody else reads."""
        held = list(node.input[1:])
        return node.op_type == "Conv" and all(self.has(name) and self.only_reader(name) is not None for name in held if name)


def channels_of(weights: Weights) -> tuple[list[Channels], int]:
    """Sets of tensors whose scales may move; and how many could not, for nothing but the upper limit of a `Clip` behind them."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    def joins(node: Any) -> bool:
        return node.op_type in HOMOGENEOUS or (node.op_type == "Add" and not any(map(weights.has, node.input)))

    graph = weights.model.graph
    for node in filter(joins, graph.node):
        for name in node.input:
            above[top(name)] = top(node.output[0])
    found: dict[str, Channels] = {}

    def of(name: str) -> Channels:
        held = found.setdefault(top(name), Channels())
        if name not in held.tensors:
            held.tensors.append(name)
        return held

    for name in (each.name for each in (*graph.input, *graph.output)):
        of(name).closed = True
    for node in graph.node:
        if weights.is_layer(node):
            of(node.input[0]).readers.append(node)
            of(node.output[0]).writers.append(node)
            continue
        for name in (name for name in (*node.input, *node.output) if name and not weights.has(name)):
            held = of(name)
            held.limited |= node.op_type == "Clip"
            held.closed |= node.op_type != "Clip" and not joins(node)
    whole = [held for held in found.values() if held.writers and not held.closed]
    return [held for held in whole if held.readers and not held.limited], sum(held.limited for held in whole)


def equalise(model: Any, batches: Sequence[Arrays], progress: Callable[[str], None]) -> dict[str, Any]:
    """Scale channels so that each takes as much of the range of its tensor as it can without taking that of its weights.

    Weights have a scale for each output: of a convolution that reads one channel for each output, they have nothing to lose, and
    channels become as large as each other. Of others, a channel becomes as large as its weights are beside the largest of theirs
    (as Nagel et al. (2019) balance two layers). Factors are powers of two: sums in floating point are then the same numbers, with
    other exponents, and what leaves the model is equal bit for bit, which is held against onnxruntime on the first batch.

    Raises
    ------
    WorkloadError
        If a result changes.
    """
    weights = Weights(model)
    before = FloatFile(model, ())
    sets, limited = channels_of(weights)
    sizes = _sizes(model, sets, batches, progress)
    for held in sets:
        _scale(weights, held, np.max([sizes[name] for name in held.tensors], axis=0))
    exact, after = before(batches[0]), FloatFile(model, ())(batches[0])
    for name, values in exact.items():
        if not np.array_equal(values, after[name]):
            off = float(np.abs(values - after[name]).max())
            raise WorkloadError(
                f"equalisation has changed {name} by up to {off:g}: float32 does not hold its weights times powers of 2"
            )
    return {"tensors": sum(len(held.tensors) for held in sets), "sets": len(sets), "limited": limited}


def _sizes(
    model: Any, sets: Sequence[Channels], batches: Sequence[Arrays], progress: Callable[[str], None]
) -> dict[str, NDArray[np.float64]]:
    """The largest magnitude of each channel, of all tensors of sets."""
    wanted = [name for held in sets for name in held.tensors]
    run, found = FloatFile(model, wanted), dict.fromkeys(wanted, np.zeros(1))
    for number, batch in enumerate(batches, 1):
        progress(f"sizes of channels: batch {number} of {len(batches)}")
        seen = run(batch)
        for name in wanted:
            values = np.abs(seen[name])
            found[name] = np.maximum(found[name], values.max(axis=(0, *range(2, values.ndim))))
    return found


def _scale(weights: Weights, held: Channels, sizes: NDArray[np.float64]) -> None:
    ahead = np.maximum(sizes, max(SMALLEST * sizes.max(), np.finfo(np.float32).tiny))
    behind = np.zeros(len(ahead))
    alone = True
    for node in held.readers:
        read = _read(weights, node, len(ahead))
        alone &= read.shape[2] == 1
        shares = read.max(axis=3) / np.maximum(read.max(axis=(2, 3)), np.finfo(np.float32).tiny)[:, :, None]
        behind = np.maximum(behind, shares.max(axis=1).reshape(-1))
    factors = np.exp2(np.rint(np.log2(ahead if alone else np.sqrt(ahead / np.maximum(behind, SMALLEST)))))
    for node in held.writers:
        first = weights[node.input[1]]
        weights[node.input[1]] = first / factors.reshape(-1, *[1] * (first.ndim - 1))
        if len(node.input) > 2 and node.input[2]:
            weights[node.input[2]] = weights[node.input[2]] / factors
    for node in held.readers:
        second, groups = weights[node.input[1]], _groups(node)
        split = second.reshape(groups, second.shape[0] // groups, len(factors) // groups, -1)
        weights[node.input[1]] = (split * factors.reshape(groups, 1, -1, 1)).reshape(second.shape)


def _read(weights: Weights, node: Any, channels: int) -> NDArray[np.float32]:
    """Magnitudes (groups, outputs of a group, channels of a group, positions) of the weights of a convolution."""
    held, groups = weights[node.input[1]], _groups(node)
    magnitudes: NDArray[np.float32] = np.abs(held.reshape(groups, held.shape[0] // groups, channels // groups, -1))
    return magnitudes


def _groups(node: Any) -> int:
    return next((int(each.i) for each in node.attribute if each.name == "group"), 1)


def correct_biases(model: Any, batches: Sequence[Arrays], progress: Callable[[str], None]) -> int:
    """Add to biases of convolutions what rounding of weights takes from sums on average, on the inputs that are seen.

    Returns how many were corrected. Pads count as inputs of an average size.
    """
    weights = Weights(model)
    nodes = [node for node in model.graph.node if weights.is_layer(node)]
    run = FloatFile(model, {node.input[0] for node in nodes} - {each.name for each in model.graph.input})
    means: dict[str, NDArray[np.float64]] = {}
    for number, batch in enumerate(batches, 1):
        progress(f"means: batch {number} of {len(batches)}")
        seen = batch | run(batch)
        for name in {node.input[0] for node in nodes}:
            values = seen[name].astype(np.float64)
            means[name] = means.get(name, 0) + values.mean(axis=(0, *range(2, values.ndim))) / len(batches)
    for node in nodes:
        held = weights[node.input[1]].astype(np.float64)
        outputs, groups = len(held), _groups(node)
        flat = held.reshape(outputs, -1)
        steps = np.maximum(np.abs(flat).max(axis=1, keepdims=True) / MOST, np.finfo(np.float32).tiny)
        lost = (flat - np.rint(flat / steps) * steps).reshape(*held.shape[:2], -1).sum(axis=2)
        read = np.repeat(means[node.input[0]].reshape(groups, -1), outputs // groups, axis=0)
        more = (lost * read).sum(axis=1)
        if len(node.input) > 2 and node.input[2]:
            weights[node.input[2]] = weights[node.input[2]] + more
        else:
            name = f"{node.output[0]}_corrected_bias"
            weights[name] = more
            del node.input[2:]
            node.input.append(name)
    return len(nodes)
