"""Graphs of operations on rows in exact integers, over whole tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import (
    Append,
    Argmax,
    Attention,
    Format,
    Gelu,
    KeyValues,
    LayerNorm,
    Product,
    RmsNorm,
    Rope,
    RowLinear,
    RowOperation,
    SiluProduct,
)

from .layers.attention import attention
from .layers.fixed_point import Rounding, Width, from_planes, to_planes
from .layers.gemm import exact_product
from .layers.norm import layer_norm, rms_norm
from .layers.product import NORMAL, gate, product, silu_product
from .layers.requant import requantize_wide
from .layers.residual import argmax, residual_add
from .layers.rope import rope
from .layers.softmax import visible_keys

WIDTHS: dict[Format, Width] = {Format.INT8: "int8", Format.INT16: "int16", Format.WIDE: "int32"}


def evaluate_rows(
    graph: RowGraph,
    parameters: Mapping[str, Parameters],
    inputs: Mapping[str, NDArray],
    psum_width: int = 32,
    rounding: Rounding = "half_away",
) -> dict[str, NDArray]:
    """Every tensor of a graph by its name, the inputs first, each (1, 1, rows, channels).

    ``rounding``: where a half goes, as `golden.layers.fixed_point.round_shift` has it.
    """
    tensors = {name: tensor[0, 0] for name, tensor in checked_inputs(graph, inputs).items()}
    for operation in graph.operations:
        tensors[operation.name] = evaluate_row_operation(operation, parameters, tensors, psum_width, rounding)
    return {name: tensor[None, None] for name, tensor in tensors.items()}


def checked_inputs(graph: RowGraph, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Inputs by name, as they are; raises `WorkloadError` for one that is missing, too many, or not as the graph says."""
    if set(inputs) != set(graph.inputs):
        raise WorkloadError(f"{graph.name}: inputs must be those of {sorted(graph.inputs)}, got {sorted(inputs)}")
    for name, shape in graph.inputs.items():
        dtype = graph.format(name).dtype
        if inputs[name].shape != shape or inputs[name].dtype != dtype:
            found = f"{inputs[name].dtype} {inputs[name].shape}"
            raise WorkloadError(f"{graph.name}: {name} must be {dtype} {shape}, got {found}")
    return {name: inputs[name] for name in graph.inputs}


def evaluate_row_operation(
    operation: RowOperation,
    parameters: Mapping[str, Parameters],
    tensors: Mapping[str, NDArray],
    psum_width: int = 32,
    rounding: Rounding = "half_away",
) -> NDArray:
    """What an operation makes of ``tensors`` (rows, channels)."""
    if isinstance(operation, Append):
        first = operation.position + _offset(operation, tensors)
        cache = tensors[operation.cache].copy()
        cache[first : first + operation.rows] = tensors[operation.source][operation.first_row :][: operation.rows]
        return cache
    if isinstance(operation, Argmax):
        return argmax(tensors[operation.source])[:, None].astype(np.int32)
    return _evaluated(operation, parameters[operation.name], tensors, psum_width, rounding)


def _offset(operation: Append, tensors: Mapping[str, NDArray]) -> int:
    """By how many rows what is appended goes further."""
    if operation.offset is None:
        return 0
    offset, most = int(tensors[operation.offset][0, 0]), operation.span - operation.rows
    if not 0 <= offset <= most:
        raise WorkloadError(f"{operation.name}: {operation.offset} must be between 0 and {most}, got {offset}")
    return offset


def _seen(operation: Attention, own: KeyValues, tensors: Mapping[str, NDArray]) -> tuple[NDArray, NDArray]:
    """Keys and values of a sequence: those that are shared in front."""
    shared = operation.shared
    if shared is None:
        return tensors[own.key], tensors[own.value]
    key, value = (
        np.concatenate([tensors[first][: shared.count], tensors[rest][shared.count :]])
        for first, rest in ((shared.key, own.key), (shared.value, own.value))
    )
    return key, value


def linear_sums(operation: RowLinear, held: Parameters, source: NDArray) -> tuple[NDArray[np.int32], ...]:
    """Rows times weights, of each plane, the high one first."""
    if source.dtype == np.int8:
        return (exact_product(source, held.weights[0]),)
    # Both planes at once: weights, of which there are most, are read once.
    planes = np.concatenate(to_planes(source))
    return tuple(np.split(exact_product(planes, held.weights[0]), 2))


def scaled_sums(
    operation: RowLinear,
    held: Parameters,
    sums: tuple[NDArray[np.integer], ...],
    tensors: Mapping[str, NDArray],
    psum_width: int = 32,
    rounding: Rounding = "half_away",
) -> NDArray:
    """What becomes of the sums of each plane."""
    total = (from_planes(*sums) if len(sums) == 2 else sums[0]).astype(np.int64) + held.bias
    result = requantize_wide(total, held.multiplier, held.shift, WIDTHS[operation.format], rounding)
    return residual_add(tensors[operation.add].astype(np.int32), result, psum_width) if operation.add else result


def _evaluated(
    operation: RowOperation, held: Parameters, tensors: Mapping[str, NDArray], psum_width: int, rounding: Rounding
) -> NDArray:
    match operation:
        case RowLinear():
            if operation.reduced:
                raise WorkloadError(f"{operation.name}: its sums are added over several chips, and this is one")
            return scaled_sums(
                operation, held, linear_sums(operation, held, tensors[operation.source]), tensors, psum_width, rounding
            )
        case RmsNorm():
            return rms_norm(tensors[operation.source], operation.scale_shift, operation.epsilon, held.shift, rounding)
        case LayerNorm():
            gain = held.bias, held.multiplier, held.shift
            return layer_norm(tensors[operation.source], operation.scale_shift, operation.epsilon, *gain, rounding)
        case Rope():
            angles = tensors[operation.angles]
            turned = rope(tensors[operation.source], angles[:, ::2], angles[:, 1::2])
            return requantize_wide(
                turned.astype(np.int64) + held.bias, held.multiplier, held.shift, WIDTHS[operation.format], rounding
            )
        case SiluProduct():
            return silu_product(
                tensors[operation.gate], tensors[operation.up], operation.fraction, held.multiplier, held.shift, rounding
            )
        case Product():
            right = tensors[operation.right]
            return product(
                tensors[operation.left], right[0] if len(right) == 1 else right, held.multiplier, held.shift, rounding=rounding
            )
        case Gelu():
            return gate(tensors[operation.gate], operation.fraction, NORMAL, held.multiplier, held.shift, rounding)
        case Attention():
            query = tensors[operation.query].reshape(operation.rows, operation.heads, -1)
            assert held.wide_table is not None
            table = held.wide_table.astype(np.uint16)
            found, first = [], 0
            for each in operation.sequences:
                rows = slice(first, first + each.rows)
                key, value = (tensor.reshape(each.context, operation.kv_heads, -1) for tensor in _seen(operation, each, tensors))
                visible = visible_keys(tensors[operation.lengths][0, rows], each.context) if operation.lengths else None
                found.append(attention(query[rows], key, value, held.multiplier, held.shift, visible, table, rounding))
                first += each.rows
            return np.concatenate(found).reshape(operation.rows, -1)
    raise AssertionError(f"no golden function for {operation}")
