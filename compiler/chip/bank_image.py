"""What the host loads into a chip before an epoch, and what it reads back: words of banks, parameters, tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError

from ..jobs import Place
from ..lower.layer import unit_words
from ..lower.node import unit_source
from .epoch_program import ChipProgram, ConstantSet


class Values(Protocol):
    """The constants of a node: int8 weights per operand, and what its post-processing takes per channel."""

    @property
    def weights(self) -> tuple[NDArray[np.int8], ...]: ...
    @property
    def bias(self) -> NDArray[np.int32]: ...
    @property
    def multiplier(self) -> NDArray[np.int32]: ...
    @property
    def shift(self) -> NDArray[np.int32]: ...
    @property
    def table(self) -> NDArray[np.int8] | None: ...


def tables_of(parameters: Mapping[str, Values], limit: int) -> tuple[dict[str, int], list[NDArray[np.int8]]]:
    """Which activation table each node uses, and the tables; equal ones are one. At most ``limit``."""
    tables: list[NDArray[np.int8]] = []
    chosen: dict[str, int] = {}
    for name, values in parameters.items():
        if values.table is None:
            continue
        same = [i for i, table in enumerate(tables) if np.array_equal(table, values.table)]
        if not same:
            tables.append(values.table)
        chosen[name] = same[0] if same else len(tables) - 1
    if len(tables) > limit:
        raise WorkloadError(f"the network has {len(tables)} activation tables, {len(tables) - limit} more than tables ({limit})")
    return chosen, tables


def x_image(
    program: ChipProgram, inputs: Mapping[str, NDArray[Any]], pad_value: int | None = None
) -> Iterator[tuple[Place, NDArray[Any]]]:
    """Words (n, rows) for the X banks: inputs of the graph, with their padding.

    ``inputs``: int8 activations, or numbers of activations, of any type. ``pad_value``: instead of that of each operand.
    """
    rows = program.config.array.rows
    for item in program.host_units:
        operand = program.node(item.node).operands[item.operand]
        activations = np.concatenate([inputs[source] for source in operand.sources], axis=3)
        if operand.channels:
            first, count = operand.channels
            activations = activations[..., first : first + count]
        unit = program.lowerings[item.node].operands[item.operand].units[item.unit]
        pad = operand.pad_value if pad_value is None else pad_value
        yield item.place, unit_words(operand.layer, unit, activations, item.region, rows, pad)


def w_image(program: ChipProgram, parameters: Mapping[str, Values]) -> Iterator[tuple[Place, NDArray[np.int8]]]:
    """Words (n, cols) for the W banks."""
    array, graph = program.config.array, program.graph
    for item in program.weights:
        node = program.node(item.node)
        operand, lowered = node.operands[item.operand], program.lowerings[item.node].operands[item.operand]
        words = lowered.weight_tile(parameters[node.name].weights[item.operand], lowered.tiles[item.tile], item.step, array.cols)
        if not all(source in graph.inputs for source in operand.sources):
            # A word holds a whole block of channels of its tensor, wherever in it the operand's begin.
            _, channel = unit_source(graph, operand, int(lowered.units[item.step.unit].channel[0]))
            block = np.zeros((array.rows, array.cols), np.int8)
            block[channel % array.rows : channel % array.rows + len(words)] = words
            words = block
        yield item.place, words


def parameter_image(
    program: ChipProgram, parameters: Mapping[str, Values]
) -> Iterator[tuple[int, int, NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]]:
    """(bank, set, bias, multiplier, shift) for the post-processors, ``cols`` lanes each."""
    cols = program.config.array.cols
    for item in program.parameters:
        if isinstance(item, ConstantSet):
            bias, one, zero = (np.full(cols, value, np.int32) for value in (item.value, 1, 0))
            yield item.bank, item.index, bias, one, zero
            continue
        values = parameters[program.node(item.node).name]
        outputs = program.lowerings[item.node].tiles[item.tile].outputs
        lanes = np.zeros((3, cols), np.int32)
        for row, part in enumerate((values.bias, values.multiplier, values.shift)):
            lanes[row, : len(outputs)] = np.broadcast_to(part, (program.node(item.node).output[3],))[outputs]
        yield item.bank, item.index, lanes[0], lanes[1], lanes[2]


def accumulators(program: ChipProgram, p_banks: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    """Accumulators (B, H, W, C) of every node from P banks (banks, words, cols); what no reduction needs is 0."""
    result: dict[str, NDArray[np.int32]] = {node.name: np.zeros(node.accumulated, np.int32) for node in program.graph.nodes}
    for item in program.accumulated:
        outputs = program.lowerings[item.node].tiles[item.tile].outputs
        (i, i_end), (r, r_end), (c, c_end) = item.box
        size = (i_end - i) * (r_end - r) * (c_end - c)
        words = p_banks[item.place.bank, item.place.base : item.place.base + size, : len(outputs)]
        result[program.node(item.node).name][i:i_end, r:r_end, c:c_end, outputs] = words.reshape(
            i_end - i, r_end - r, c_end - c, len(outputs)
        )
    return result


def outputs(program: ChipProgram, x_banks: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The outputs (B, H, W, C) that no node reads, from X banks (banks, words, rows) of int8, or of numbers of any type."""
    lanes, cols = program.config.post_lanes, program.config.array.cols
    result: dict[str, NDArray[Any]] = {}
    for item in program.stored:
        node = program.node(item.node)
        tensor = result.setdefault(node.name, np.zeros(node.output, x_banks.dtype))
        (i, i_end), (r, r_end), (c, c_end) = item.box
        size = (i_end - i) * (r_end - r) * (c_end - c)
        channel = item.tile * cols + item.slice * lanes
        count = min(lanes, node.output[3] - channel)
        words = x_banks[item.place.bank, item.place.base : item.place.base + size, item.slot * lanes : item.slot * lanes + count]
        tensor[i:i_end, r:r_end, c:c_end, channel : channel + count] = words.reshape(i_end - i, r_end - r, c_end - c, count)
    return result


def needed_accumulators(program: ChipProgram) -> dict[str, NDArray[np.bool_]]:
    """Per node, which positions (B, H, W) of `accumulators` the program computes: all, unless strided windows skip some."""
    result = {node.name: np.zeros(node.accumulated[:3], bool) for node in program.graph.nodes}
    for item in program.accumulated:
        (i, i_end), (r, r_end), (c, c_end) = item.box
        result[program.node(item.node).name][i:i_end, r:r_end, c:c_end] = True
    return result
