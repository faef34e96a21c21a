"""Graphs in exact integers: parameters of their operations, and evaluation by the golden models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.operations import Linear, Operation
from podweave.ir.operations import Operand as GraphOperand
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import RowOperation

from .layers.fixed_point import Rounding
from .layers.linear import Operand, accumulate
from .layers.pool import pad, reduce_windows
from .layers.post import post_process
from .layers.upsample import upsample
from .rows import checked_inputs, evaluate_row_operation, evaluate_rows


def operand_input(operand: GraphOperand, tensors: Mapping[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    """What an operand reads: its sources one after the other along the channels, or some of their channels.

    Rows, (1, 1, rows, channels), are the positions of an image.
    """
    layer, found = operand.layer, [tensors[source] for source in operand.sources]
    if operand.upsampled:
        found = [
            upsample(each, seen.rows, seen.columns, seen.interleaved) for each, seen in zip(found, operand.upsampled, strict=True)
        ]
    if operand.corners:
        ends = [(row + layer.height, column + layer.width) for row, column in operand.corners]
        found = [each[:, r:r_end, c:c_end] for each, (r, c), (r_end, c_end) in zip(found, operand.corners, ends, strict=True)]
    images = (layer.batch, layer.height, layer.width, -1)
    whole = np.concatenate([each.reshape(images) if each.shape[:2] == (1, 1) else each for each in found], axis=3)
    if operand.channels is None:
        return whole
    first, count = operand.channels
    return whole[..., first : first + count]


def evaluate(
    graph: Graph, parameters: Mapping[str, Parameters], inputs: Mapping[str, NDArray[np.int8]], rounding: Rounding = "half_away"
) -> dict[str, NDArray[np.int8]]:
    """Every tensor of a graph by its name, the inputs first, then the outputs of the operations in their order.

    ``rounding``: where a half goes, as `golden.layers.fixed_point.round_shift` has it.
    """
    if isinstance(graph, MixedGraph):
        return _evaluate_mixed(graph, parameters, inputs, rounding)
    if isinstance(graph, RowGraph):
        return evaluate_rows(graph, parameters, inputs, rounding=rounding)
    _require_names(f"{graph.name}: inputs", set(graph.inputs), set(inputs))
    _require_names(f"{graph.name}: parameters", {operation.name for operation in graph.operations}, set(parameters))
    tensors: dict[str, NDArray[np.int8]] = {}
    for name, shape in graph.inputs.items():
        if inputs[name].shape != shape or inputs[name].dtype != np.int8:
            raise WorkloadError(f"{graph.name}: {name} must be int8 {shape}, got {inputs[name].dtype} {inputs[name].shape}")
        tensors[name] = inputs[name]
    sums = _added_to(graph.operations)
    for operation in graph.operations:
        _evaluate_linear(operation, parameters[operation.name], tensors, sums, rounding)
    return tensors


def _added_to(operations: Sequence[Operation]) -> dict[str, NDArray[np.int32] | None]:
    """A place for the sums of every operation to which another one adds."""
    return {operation.adds_to: None for operation in operations if operation.adds_to}


def _evaluate_linear(
    operation: Linear,
    held: Parameters,
    tensors: dict[str, NDArray],
    sums: dict[str, NDArray[np.int32] | None],
    rounding: Rounding = "half_away",
) -> None:
    """Put what an operation gives beside the tensors, or, if another one adds to it, beside the sums."""
    own, tensor = evaluate_operation(operation, held, tensors, rounding, sums.get(operation.adds_to))
    if operation.name in sums:
        sums[operation.name] = own
    else:
        tensors[operation.name] = tensor


def _evaluate_mixed(
    graph: MixedGraph, parameters: Mapping[str, Parameters], inputs: Mapping[str, NDArray], rounding: Rounding
) -> dict[str, NDArray]:
    """Positions of images are rows, and rows positions of images, in C order."""
    tensors, sums = checked_inputs(graph, inputs), _added_to(graph.operations)
    for operation in graph.operations:
        if isinstance(operation, Linear):
            _evaluate_linear(operation, parameters[operation.name], tensors, sums, rounding)
        else:
            tensors[operation.name] = evaluate_rows_of_images(operation, parameters, tensors, rounding)
    return tensors


def evaluate_rows_of_images(
    operation: RowOperation, parameters: Mapping[str, Parameters], tensors: Mapping[str, NDArray], rounding: Rounding = "half_away"
) -> NDArray:
    """What an operation on rows, (1, 1, rows, channels), makes of ``tensors``, whose positions are rows."""
    read = {source: tensors[source].reshape(-1, tensors[source].shape[3]) for source in operation.sources}
    return evaluate_row_operation(operation, parameters, read, rounding=rounding)[None, None]


def evaluate_operation(
    operation: Linear,
    held: Parameters,
    tensors: Mapping[str, NDArray[np.int8]],
    rounding: Rounding = "half_away",
    before: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Accumulators (before any reduction) and output of an operation that reads ``tensors``.

    ``before``: accumulators of the one that it adds to, if there is one.
    """
    shapes = [weights.shape for weights in held.weights]
    expected = [operand.layer.weight_shape for operand in operation.operands]
    if shapes != expected:
        raise WorkloadError(f"{operation.name} takes weights of {expected}, got {shapes}")
    operands = [
        Operand(
            x=operand_input(operand, tensors),
            w=weights,
            stride=operand.layer.stride,
            padding=operand.layer.padding,
            dilation=operand.layer.dilation,
            groups=operand.layer.groups,
            pad_value=operand.pad_value,
        )
        for operand, weights in zip(operation.operands, held.weights, strict=True)
    ]
    acc = reduced = accumulate(operands, before)
    if operation.window:
        reduced = reduce_windows(acc, operation.window.reduce, operation.window.kernel, operation.window.stride)
    finish = partial(post_process, rounding=rounding, zero_point=held.zero_point)
    result = finish(reduced, held.bias, held.multiplier, held.shift, held.table)
    if operation.window and operation.window.leaves_pads_out:
        layer, window = operation.operands[0].layer, operation.window
        inside = pad(np.ones((1, layer.height, layer.width, 1), np.int8), layer.padding, 0)
        counts = reduce_windows(inside.astype(np.int32), "sum", window.kernel, window.stride)[0, :, :, 0]
        for count, (multiplier, shift) in held.border_scales.items():
            there = counts == count
            result[:, there] = finish(reduced[:, there], held.bias, multiplier, shift, held.table)
    return acc, result


def _require_names(what: str, expected: set[str], got: set[str]) -> None:
    if expected != got:
        raise WorkloadError(f"{what} must be those of {sorted(expected)}, got {sorted(got)}")
