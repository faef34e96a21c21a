"""What the host loads into a chip before an epoch, and what it reads back: words of banks, parameters, tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.operations import Upsampling

from ..jobs import Place
from ..lower.layer import unit_words
from .epoch_program import ConstantSet, EpochProgram


def x_image(
    program: EpochProgram, inputs: Mapping[str, NDArray[Any]], pad_value: int | None = None
) -> Iterator[tuple[Place, NDArray[Any]]]:
    """Words (n, rows) for the X banks: inputs of the graph, with their padding, but for those that were stored as words.

    ``inputs``: int8 activations, or numbers of activations, of any type. ``pad_value``: instead of that of each operand.
    """
    rows = program.config.array.rows
    for item in program.external_units:
        operand = program.operation(item.operation).operands[item.operand]
        unit, layer = program.unit(item), operand.layer
        if unit.is_stored:
            continue
        # Of a concatenation with what operations compute, units of inputs read inputs alone.
        tensors = [
            inputs[source] if source in inputs else np.zeros(program.graph.shape(source), _dtype(inputs))
            for source in operand.sources
        ]
        if operand.upsampled:
            tensors = [_upsampled(each, seen) for each, seen in zip(tensors, operand.upsampled, strict=True)]
        if operand.corners:
            ends = [(row + layer.height, column + layer.width) for row, column in operand.corners]
            tensors = [
                each[:, r:r_end, c:c_end] for each, (r, c), (r_end, c_end) in zip(tensors, operand.corners, ends, strict=True)
            ]
        activations = np.concatenate(tensors, axis=3)
        if operand.channels:
            first, count = operand.channels
            activations = activations[..., first : first + count]
        pad = operand.pad_value if pad_value is None else pad_value
        yield item.place, unit_words(layer, unit, activations, item.region, rows, pad)


def _upsampled(tensor: NDArray[Any], seen: Upsampling) -> NDArray[Any]:
    """A tensor as an operand sees it."""
    batch, height, width, channels = seen.of(tensor.shape)
    if not seen.interleaved:
        return tensor.repeat(seen.rows, axis=1).repeat(seen.columns, axis=2)
    apart = tensor.reshape(batch, -1, tensor.shape[2], seen.rows, seen.columns, channels)
    return np.moveaxis(apart, 3, 2).reshape(batch, height, width, channels)


def w_image(program: EpochProgram, parameters: Mapping[str, Parameters]) -> Iterator[tuple[Place, NDArray[np.int8]]]:
    """Words (n, cols) for the W banks."""
    cols = program.config.array.cols
    for item in program.weights:
        lowered = program.lowered[item.operation].operands[item.operand]
        weights = parameters[program.operation(item.operation).name].weights[item.operand]
        yield item.place, lowered.weight_tile(weights, lowered.tiles[item.tile], item.step, cols)


def _dtype(tensors: Mapping[str, NDArray[Any]]) -> np.dtype:
    return next(iter(tensors.values())).dtype


def parameter_image(program: EpochProgram, parameters: Mapping[str, Parameters]) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """(bank, set, lanes) for the post-processors: bias, multiplier, shift and zero point of ``cols`` lanes, (4, cols)."""
    cols = program.config.array.cols
    for item in program.parameters:
        if isinstance(item, ConstantSet):
            yield item.bank, item.index, np.repeat(np.array([[item.value], [1], [0], [0]], np.int32), cols, axis=1)
            continue
        values = parameters[program.operation(item.operation).name]
        outputs = program.lowered[item.operation].tiles[item.tile].outputs
        lanes = np.zeros((4, cols), np.int32)
        scale = values.border_scales[item.positions] if item.positions else (values.multiplier, values.shift)
        for row, part in enumerate((values.bias, *scale, np.asarray(values.zero_point))):
            lanes[row, : len(outputs)] = np.broadcast_to(part, (program.operation(item.operation).output[3],))[outputs]
        yield item.bank, item.index, lanes


def accumulators(program: EpochProgram, p_banks: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    """Accumulators (B, H, W, C) of every operation from P banks (banks, words, cols); what no reduction needs is 0."""
    result: dict[str, NDArray[np.int32]] = {
        operation.name: np.zeros(operation.accumulated, np.int32) for operation in program.graph.operations
    }
    for item in program.accumulated:
        outputs = program.lowered[item.operation].tiles[item.tile].outputs
        (i, i_end), (r, r_end), (c, c_end) = item.box
        size = (i_end - i) * (r_end - r) * (c_end - c)
        words = p_banks[item.place.bank, item.place.base : item.place.base + size, : len(outputs)]
        result[program.operation(item.operation).name][i:i_end, r:r_end, c:c_end, outputs] = words.reshape(
            i_end - i, r_end - r, c_end - c, len(outputs)
        )
    return result


class XBanks(Protocol):
    """X banks (banks, words, rows), read a piece of a bank at a time."""

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, where: tuple[int, slice, slice], /) -> NDArray[Any]: ...


def outputs(program: EpochProgram, x_banks: XBanks) -> dict[str, NDArray[Any]]:
    """The outputs (B, H, W, C) of the graph, from X banks of int8, or of numbers of any type."""
    lanes, cols = program.config.post_lanes, program.config.array.cols
    result: dict[str, NDArray[Any]] = {}
    for item in program.stored:
        operation = program.operation(item.operation)
        tensor = result.setdefault(operation.name, np.zeros(operation.output, x_banks.dtype))
        (i, i_end), (r, r_end), (c, c_end) = item.box
        size = (i_end - i) * (r_end - r) * (c_end - c)
        channel = item.tile * cols + item.slice * lanes
        count = min(lanes, operation.output[3] - channel)
        words = x_banks[item.place.bank, item.place.base : item.place.base + size, item.slot * lanes : item.slot * lanes + count]
        tensor[i:i_end, r:r_end, c:c_end, channel : channel + count] = words.reshape(i_end - i, r_end - r, c_end - c, count)
    return result


def needed_accumulators(program: EpochProgram) -> dict[str, NDArray[np.bool_]]:
    """Per operation, which positions (B, H, W) of `accumulators` the program computes: all, unless strided windows skip some."""
    result = {operation.name: np.zeros(operation.accumulated[:3], bool) for operation in program.graph.operations}
    for item in program.accumulated:
        (i, i_end), (r, r_end), (c, c_end) = item.box
        result[program.operation(item.operation).name][i:i_end, r:r_end, c:c_end] = True
    return result
