"""Ranges of activations of an ONNX file in floating point, on inputs of the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx.functions import OPERATORS as FUNCTIONS
from podweave.ir.layers import WorkloadError

from ..program import CANNOT_COMPUTE, by_others, extra
from .float_affine import LIMITS

Arrays = dict[str, NDArray]
BINS = 4096
"""Of a histogram: all that is kept of a tensor, however many numbers it has over all batches."""
SHRINKS = np.linspace(1.0, 0.2, 161)
"""Parts of the whole range that are tried for the least squares."""
STEPS = 255
_SAME = 0.25
"""Of a step: what changes by less does not change."""
_PERCENTILE = re.compile(r"percentile=([0-9]+(\.[0-9]*)?)")


@dataclass(frozen=True)
class Method:
    """How a range is chosen. ``name``: absmax, all that was seen; percentile, so many ``percent`` of it; mse, the least error."""

    name: str = "absmax"
    percent: float = 100.0

    @classmethod
    def of(cls, text: str) -> Method:
        """Of what was typed; raises `WorkloadError` if it is none."""
        if text in ("absmax", "mse"):
            return cls(text)
        found = _PERCENTILE.fullmatch(text)
        if not found or not 50 < float(found[1]) <= 100:
            raise WorkloadError(f"{text!r} is no method: absmax, mse, or percentile=P with P above 50 and at most 100")
        return cls("percentile", float(found[1]))

    def __str__(self) -> str:
        return f"percentile={self.percent:g}" if self.name == "percentile" else self.name


class FloatFile:
    """A file in floating point in onnxruntime, with tensors inside of it as outputs, on one core.

    Parameters
    ----------
    model : ModelProto
    wanted : names of tensors, optional
        By default everything that a node gives.
    """

    def __init__(self, model: Any, wanted: Iterable[str] | None = None):
        with extra("onnx", "running ONNX files in floating point"):
            import onnx
            import onnxruntime
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        there = {each.name for each in shown.graph.output}
        names = wanted if wanted is not None else (name for node in shown.graph.node for name in node.output)
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted({*names} - there - {""}))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        with by_others(CANNOT_COMPUTE):
            self._session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self._session.get_outputs()]

    def __call__(self, batch: Arrays) -> Arrays:
        """All of it that is float32, for one batch."""
        with by_others(CANNOT_COMPUTE):
            computed = self._session.run(self.names, batch)
        found = zip(self.names, computed, strict=True)
        return {name: values for name, values in found if values.dtype == np.float32}


@dataclass(frozen=True)
class Ranges:
    """Of tensors by name: the lowest and the highest number.

    Members
    -------
    chosen : dict
        That a tensor shall have, 0 among them.
    needed : dict
        Of tensors that only functions read: what makes a difference of it.
    """

    chosen: dict[str, tuple[float, float]]
    needed: dict[str, tuple[float, float]]


def ranges_of(
    model: Any, batches: Sequence[Arrays], method: Method, progress: Callable[[str], None], whole: Container[str] = ()
) -> Ranges:
    """Those of a method, of every tensor; of ``whole`` all that was seen.

    What only functions read that do not change any more beyond a number has no more than that (`needed`). Two passes: the ends of
    what is there, then histograms between them; so memory holds the activations of one batch.

    Raises
    ------
    WorkloadError
        For tensors that are infinite, or no number.
    """
    run = FloatFile(model)
    ends: dict[str, tuple[float, float]] = {}
    for number, batch in enumerate(batches, 1):
        progress(f"ranges: batch {number} of {len(batches)}")
        for name, values in _seen(run, batch):
            if not np.isfinite(values).all():
                raise WorkloadError(f"{name} is infinite, or no number, in batch {number} of calibration: no range holds it")
            low, high = ends.get(name, (0.0, 0.0))
            ends[name] = min(low, float(values.min(initial=0))), max(high, float(values.max(initial=0)))
    limits = needed(model, ends)
    ends |= limits
    if method.name == "absmax":
        return Ranges(ends, limits)
    counts = {name: np.zeros(BINS, np.int64) for name in ends}
    for number, batch in enumerate(batches, 1):
        progress(f"histograms: batch {number} of {len(batches)}")
        for name, values in _seen(run, batch):
            if ends[name] != (0.0, 0.0):
                counts[name] += np.histogram(np.clip(values, *ends[name]), BINS, ends[name])[0]
    return Ranges({name: ends[name] if name in whole else _chosen(counts[name], ends[name], method) for name in ends}, limits)


def needed(model: Any, ends: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Ranges of tensors that nothing but functions of one number read: without what is beyond the points from which on each of
    those changes by less than a quarter of a step of what it gives.

    HardSwish, for one, is 0 below -3, however far below its input goes.
    """
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    outputs = {each.name for each in model.graph.output}
    for name, nodes in readers.items():
        if name in ends and name not in outputs and all(_is_function(node) for node in nodes) and ends[name] != (0.0, 0.0):
            parts = [_changes(model, node, ends[name], ends[node.output[0]]) for node in nodes]
            found[name] = min(0.0, *(low for low, _ in parts)), max(0.0, *(high for _, high in parts))
    return found


def _is_function(node: Any) -> bool:
    operator = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return operator in FUNCTIONS and operator not in LIMITS and len(node.input) == 1


def _changes(model: Any, node: Any, ends: tuple[float, float], given: tuple[float, float]) -> tuple[float, float]:
    """Where a function changes, of a range; ``given``: that of its results."""
    with extra("onnx", "running ONNX files in floating point"):
        from onnx import TensorProto, helper

    x = np.linspace(*ends, BINS + 1, dtype=np.float32)
    sides = [helper.make_tensor_value_info(each, TensorProto.FLOAT, x.shape) for each in (node.input[0], node.output[0])]
    graph = helper.make_graph([node], node.op_type, sides[:1], sides[1:])
    alone = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    (y,) = FloatFile(alone, ())({node.input[0]: x}).values()
    least = (given[1] - given[0]) / STEPS * _SAME

    def flat(values: NDArray) -> int:
        """How many at the beginning are as good as the last of them."""
        far = np.maximum(np.maximum.accumulate(values) - values, values - np.minimum.accumulate(values))
        count = int(np.argmin(far <= least))
        # What is less than a step of the input is no gain.
        return count if count > BINS / STEPS else 1

    return float(x[flat(y) - 1]), float(x[::-1][flat(y[::-1]) - 1])


def _seen(run: FloatFile, batch: Arrays) -> Iterable[tuple[str, NDArray]]:
    yield from batch.items()
    yield from run(batch).items()


def _chosen(counts: NDArray[np.int64], ends: tuple[float, float], method: Method) -> tuple[float, float]:
    low, high = ends
    if low == high:
        return ends
    edges = np.linspace(low, high, BINS + 1)
    if method.name == "percentile":
        return _percentile(counts, edges, method.percent)
    return least_squares(counts, edges)


def _percentile(counts: NDArray[np.int64], edges: NDArray[np.float64], percent: float) -> tuple[float, float]:
    """Of both ends together: what is left out are the numbers of the largest magnitude."""
    magnitudes = np.maximum(np.abs(edges[1:]), np.abs(edges[:-1]))
    order = np.argsort(magnitudes, kind="stable")
    within = np.cumsum(counts[order])
    limit = magnitudes[order[np.searchsorted(within, percent / 100 * within[-1])]]
    return max(float(edges[0]), -limit), min(float(edges[-1]), limit)


def least_squares(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> tuple[float, float]:
    """The part of a range in which 256 steps are off least: what is outside counts as far as it is from the end.

    Both ends shrink alike, then each by itself.
    """
    low, high = float(edges[0]), float(edges[-1])
    middles = (edges[:-1] + edges[1:]) / 2

    def best(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> tuple[float, float]:
        scales = (highs - lows)[:, None] / STEPS
        zeros = np.rint(-lows[:, None] / scales)
        steps = np.clip(np.rint(middles / scales), -zeros, STEPS - zeros)
        errors = np.square(steps * scales - middles) @ counts
        at = int(errors.argmin())
        return float(lows[at]), float(highs[at])

    low, high = best(SHRINKS * low, SHRINKS * high)
    if edges[0] < 0 < edges[-1]:
        low, high = best(SHRINKS * low, np.full(len(SHRINKS), high))
        low, high = best(np.full(len(SHRINKS), low), SHRINKS * high)
    return low, high
