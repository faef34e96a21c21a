"""Constants and inputs of graphs of rows of which only the sizes are known: random, spread as those of real models are.

Weights are normal, with channels that are larger than others; a few channels of the residual are many times as large as the rest.
Scales are such that queries, keys, values and what is gated take the sizes they have in a trained model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..constants import Parameters
from ..quantise import exp_table, normal_distribution, quantize_scale, rope_tables, sigmoid, wide_table
from ..row_graph import RowGraph
from ..row_operations import (
    Append,
    Attention,
    Format,
    Gelu,
    LayerNorm,
    Product,
    RmsNorm,
    Rope,
    RowLinear,
    RowOperation,
    SiluProduct,
)

_WEIGHT_RMS = 30.0
_RESIDUAL_RMS, _OUTLIER = 20_000.0, 30.0
_UPDATE_RMS = 5_000.0
_RMS = {Format.INT16: 3_000.0, Format.INT8: 40.0}
"""That results are scaled to."""
_NATS = 1.5
"""Spread of the scores of a row of attention."""


def random_row_parameters(graph: RowGraph, seed: int = 0, *, with_weights: bool = True) -> dict[str, Parameters]:
    """Parameters of every operation of a graph of rows. Without weights, those are zeros that take no memory."""
    rng = np.random.default_rng(seed)
    drawn = np.random.default_rng([seed, 2]) if with_weights else None
    rms: dict[str, float] = {name: input_rms(graph.format(name)) for name in graph.inputs}
    found: dict[str, Parameters] = {}
    for operation in graph.operations:
        found[operation.name], rms[operation.name] = row_parameters(operation, rms, rng, drawn)
    return found


def row_parameters(
    operation: RowOperation, rms: Mapping[str, float], rng: np.random.Generator, drawn: np.random.Generator | None
) -> tuple[Parameters, float]:
    """Those of an operation, and the root mean square of what it gives. ``rms``: of what it reads. ``drawn``: for weights, if they
    are not to be zeros."""
    return _parameters(operation, rms, rng, drawn), _rms_of(operation, rms)


def random_row_inputs(graph: RowGraph, seed: int = 0) -> dict[str, NDArray]:
    """Inputs of a graph of rows: residuals with outliers, angles of the last positions, causal lengths, caches as if filled."""
    rng = np.random.default_rng([seed, 1])
    found: dict[str, NDArray] = {}
    for name, shape in graph.inputs.items():
        rows, channels = shape[2:]
        match graph.format(name):
            case Format.WIDE:
                x = rng.normal(0, _RESIDUAL_RMS, shape)
                x[..., rng.permutation(channels)[: max(1, channels // 200)]] *= _OUTLIER
                found[name] = np.rint(x).astype(np.int32)
            case Format.INT16:
                found[name] = np.clip(np.rint(rng.normal(0, _RMS[Format.INT16], shape)), -32768, 32639).astype(np.int16)
            case Format.INT8:
                found[name] = np.clip(np.rint(rng.normal(0, _RMS[Format.INT8], shape)), -128, 127).astype(np.int8)
            case Format.LENGTHS:
                found[name] = (_positions(graph, channels) + 1).astype(np.int32).reshape(shape)
            case Format.OFFSET:
                moved = [each for each in graph.operations if isinstance(each, Append) and each.offset == name]
                most = min(each.span - each.rows for each in moved)
                found[name] = rng.integers(0, most + 1, shape, dtype=np.int32)
            case Format.ANGLES:
                tables = rope_tables(_positions(graph, rows), channels, 100_000.0)
                found[name] = np.stack(tables, axis=-1).reshape(shape).astype(np.int16)
    return found


def _positions(graph: RowGraph, rows: int) -> NDArray[np.int64]:
    """The last ones that so many rows may have: of each sequence, those of its keys."""
    attentions = [each for each in graph.operations if isinstance(each, Attention) and each.lengths and each.rows == rows]
    if not attentions:
        return np.arange(rows)
    sequences = max(attentions, key=lambda each: each.context).sequences
    return np.concatenate([each.context - each.rows + np.arange(each.rows) for each in sequences])


def input_rms(form: Format) -> float:
    """The root mean square of random inputs."""
    return _RMS.get(form, _RESIDUAL_RMS)


def _rms_of(operation: RowOperation, rms: Mapping[str, float]) -> float:
    match operation:
        case RmsNorm():
            return 2**15 / np.sqrt(operation.width)
        case Attention():
            return 256 * rms[operation.value] * 0.4
        case Append():
            return rms[operation.source]
        case RowLinear() if operation.add:
            return rms[operation.add]
    return _RMS.get(operation.format, _UPDATE_RMS)


def _weights(operation: RowLinear, rng: np.random.Generator | None) -> NDArray[np.int8]:
    """Normal, some outputs larger than others; zeros, all of them one, without a generator."""
    if rng is None:
        return np.broadcast_to(np.int8(0), (operation.width, operation.outputs))
    sizes = np.minimum(rng.lognormal(0, 0.4, operation.outputs), 3)
    normal = rng.standard_normal((operation.width, operation.outputs), np.float32)
    normal *= (_WEIGHT_RMS * sizes).astype(np.float32)
    return np.clip(np.rint(normal, out=normal), -127, 127, out=normal).astype(np.int8)


def _parameters(
    operation: RowOperation, rms: Mapping[str, float], rng: np.random.Generator, drawn: np.random.Generator | None
) -> Parameters:
    none = np.zeros(operation.scales, np.int32)

    def scaled(
        scale: float | NDArray[np.float64],
        *,
        bias: NDArray[np.int32] = none,
        weights: tuple[NDArray[np.int8], ...] = (),
        table: NDArray[np.int16] | None = None,
    ) -> Parameters:
        multiplier, shift = quantize_scale(scale * rng.uniform(0.8, 1.25, operation.scales))
        return Parameters(weights, bias, multiplier, shift, wide_table=table)

    match operation:
        case RowLinear():
            weights = _weights(operation, drawn)
            deviation = (
                np.std(weights, axis=0, dtype=np.float32).astype(float) if drawn else np.full(operation.outputs, _WEIGHT_RMS)
            )
            spread = rms[operation.source] * np.sqrt(operation.width) * np.maximum(1.0, deviation)
            target = _RMS.get(operation.format, _UPDATE_RMS)
            bias = np.rint(spread * rng.normal(0, 0.05, operation.outputs)).astype(np.int32)
            return scaled(target / spread, bias=bias, weights=(weights,))
        case RmsNorm():
            return Parameters((), none, none + 1, rng.integers(0, 2, operation.scales).astype(np.int32))
        case LayerNorm():
            unit = 2**15 / np.sqrt(operation.width)
            bias = np.rint(unit * rng.normal(0, 0.1, operation.scales)).astype(np.int32)
            return scaled(_RMS[Format.INT16] / unit, bias=bias)
        case Rope():
            return scaled(_RMS[operation.format] / (rms[operation.source] * 2.0**14))
        case Gelu():
            table = wide_table(normal_distribution, 1 / 16, 2**-15)
            return scaled(_RMS[Format.INT16] / (rms[operation.gate] * 0.6 * 2**15), table=table)
        case SiluProduct():
            table = wide_table(sigmoid, 1 / 16, 2**-15)
            half = rms[operation.gate] * 0.5 * rms[operation.up]
            return scaled(_RMS[Format.INT16] / half, table=table)
        case Attention():
            spread = rms[operation.query] * rms[operation.key] * np.sqrt(operation.head_size)
            return scaled(16 * _NATS / spread, table=exp_table().astype(np.int16))
        case Product():
            factors = rms[operation.left] * rms[operation.right]
            return scaled(_RMS[Format.INT16] / factors)
        case _ if not operation.scales:
            return Parameters((), none, none, none)
    raise AssertionError(f"no constants for {operation}")
