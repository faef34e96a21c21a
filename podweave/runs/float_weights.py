"""Weights of ONNX files in floating point, made ready for integers: scales moved from layer to layer, biases corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx.files import onnx_package
from podweave.ir.layers import WorkloadError

from .calibration import Arrays, FloatFile

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"})
"""Operators that give as many times more as they are given, channel by channel."""
ROUNDS = 20
MOST = 127
"""The largest weight in integers."""


@dataclass(frozen=True)
class Pair:
    """Two convolutions, one behind the other, with nothing between them that knows how large numbers are."""

    first: Any
    second: Any


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


def pairs_of(weights: Weights) -> tuple[list[Pair], int]:
    """Pairs whose scales may move; and how many have a `Clip` with an upper limit between them, which would move, too."""
    found, clipped = [], 0
    for node in weights.model.graph.node:
        if not weights.is_layer(node):
            continue
        reader = weights.only_reader(node.output[0])
        limited = False
        while reader is not None and (reader.op_type in HOMOGENEOUS or reader.op_type == "Clip"):
            limited |= reader.op_type == "Clip"
            reader = weights.only_reader(reader.output[0])
        if reader is None or not weights.is_layer(reader) or reader.input[1] == node.input[1]:
            continue
        if limited:
            clipped += 1
        else:
            found.append(Pair(node, reader))
    return found, clipped


def equalise(model: Any, batches: Sequence[Arrays]) -> dict[str, Any]:
    """Scale channels between layers so that weights on both sides are as large as each other (Nagel et al., 2019).

    Factors are powers of two: sums in floating point are then the same numbers, with other exponents, and what leaves the model
    is equal bit for bit, which is held against onnxruntime on the first batch.

    Raises
    ------
    WorkloadError
        If a result changes.
    """
    weights = Weights(model)
    before = FloatFile(model, ())
    pairs, clipped = pairs_of(weights)
    for _ in range(ROUNDS):
        moved = [_equalise_pair(weights, pair) for pair in pairs]
        if not any(moved):
            break
    exact, after = before(batches[0]), FloatFile(model, ())(batches[0])
    for name, values in exact.items():
        if not np.array_equal(values, after[name]):
            off = float(np.abs(values - after[name]).max())
            raise WorkloadError(
                f"equalisation has changed {name} by up to {off:g}: float32 does not hold its weights times powers of 2"
            )
    return {"pairs": len(pairs), "clipped_pairs": clipped}


def _equalise_pair(weights: Weights, pair: Pair) -> bool:
    """Whether a factor was not 1."""
    first, second = weights[pair.first.input[1]], weights[pair.second.input[1]]
    groups, channels = _groups(pair.second), first.shape[0]
    # Channels as the second one reads them: those of a group are read by its outputs alone.
    read = second.reshape(groups, second.shape[0] // groups, channels // groups, -1)
    ahead = np.abs(first.reshape(channels, -1)).max(axis=1)
    behind = np.abs(read).max(axis=(1, 3)).reshape(channels)
    both = (ahead > 0) & (behind > 0)
    ratio = np.divide(ahead, behind, where=both, out=np.ones(channels, np.float64))
    factors = np.exp2(np.rint(np.log2(ratio) / 2))
    weights[pair.first.input[1]] = first / factors.reshape(-1, *[1] * (first.ndim - 1))
    if len(pair.first.input) > 2 and pair.first.input[2]:
        weights[pair.first.input[2]] = weights[pair.first.input[2]] / factors
    weights[pair.second.input[1]] = (read * factors.reshape(groups, 1, -1, 1)).reshape(second.shape)
    return bool((factors != 1).any())


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
