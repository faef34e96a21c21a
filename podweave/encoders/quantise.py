"""From a transformer in floating point to one in integers.

Units: an integer i of unit u stands for i * u, plus an offset of its channel, if it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.onnx_rows import (
    FloatAttention,
    FloatGelu,
    FloatLinear,
    FloatNetwork,
    FloatNorm,
    FloatOperation,
    IntegerRows,
    RowTensor,
)
from podweave.ir.frontends.row_builder import RowBuilder
from podweave.ir.layers import WorkloadError
from podweave.ir.mean_norms import channel_bits
from podweave.ir.quantise import exp_table, normal_distribution, quantize_scale, wide_table
from podweave.ir.row_operations import Append, Attention, Format, Gelu, LayerNorm

from ..language.gptq import round_weights
from ..language.quantise import STATIONARY, STEP, STREAMED, Recipe
from .calibration import Doubles, Statistics
from .ends import ends_of

LENGTHS = "lengths"
_WIDE_SHIFT = 7
"""Bits that residuals have more than what streams through an array."""
_LEAST_RANGE = 2.0**-6
"""Of keys and values less the middle of their range, in units of the largest magnitude of a channel."""
_MAX_BIAS = 2.0**30
_MAX_EPSILON = 2**30 - 1


def quantise_rows(
    network: FloatNetwork,
    model: Any,
    seen: Statistics,
    recipe: Recipe | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> IntegerRows:
    """Make integers of a transformer.

    Parameters
    ----------
    network : FloatNetwork
    model : onnx.ModelProto
        The file that it was read from: what the host computes is taken out of it.
    seen : Statistics
        Of texts like those that will come.
    recipe : Recipe, optional
        How numbers are chosen; as for language models.
    progress : callable, optional
        Is told what is done.

    Raises
    ------
    WorkloadError
        For numbers that integers do not hold.
    """
    made = _Quantiser(network, seen, recipe or Recipe())
    for number, operation in enumerate(network.operations):
        progress(f"quantising: {number + 1} of {len(network.operations)} operations")
        made.add(operation)
    front, end = ends_of(model, network)
    names = made.names
    return IntegerRows(
        name=network.name,
        graph=made.graph(),
        constants=Constants(made.constants),
        tensors={names[name]: made.tensor(name) for name in made.units},
        masks=network.masks,
        given=network.given,
        file_outputs=network.file_outputs,
        on_host=network.on_host,
        front=front,
        end=end,
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names of the graph by those of the file: without folders that all share, and what exporters put behind.

    >>> short_names(["/model/layer.0/query/Add_output_0", "/model/layer.0/Softmax_output_0", "/model/norm_output_0"])
    {'/model/layer.0/query/Add_output_0': 'layer.0/query/Add', '/model/layer.0/Softmax_output_0': 'layer.0/Softmax', \
'/model/norm_output_0': 'norm'}
    """
    folders = [name.split("/")[:-1] for name in names if "/" in name]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    shared = "".join(f"{parts[0]}/" for parts in same)
    short = {name: name.removeprefix(shared).removesuffix("_output_0") for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


@dataclass(frozen=True)
class _Unit:
    """Of a tensor: one, or one for each channel; and an offset of each channel."""

    unit: Doubles
    offset: Doubles


class _Quantiser:
    """Turns operations into integers, one after the other."""

    def __init__(self, network: FloatNetwork, seen: Statistics, recipe: Recipe):
        self.network, self.seen, self.recipe = network, seen, recipe
        self.names = short_names([*network.inputs, *(each.name for each in network.operations)])
        self.builder = RowBuilder(network.rows)
        self.constants: dict[str, Parameters] = {}
        self.units: dict[str, _Unit] = {}
        self.by_name = {each.name: each for each in network.operations}
        self.heads: dict[str, tuple[Doubles, Doubles, Doubles, Doubles]] = {}
        self.fractions: dict[str, int] = {}
        for name in network.inputs:
            self._input(name)
        self.lengths = self.builder.input(LENGTHS, Format.LENGTHS, network.rows, 1) if network.masks else None

    def graph(self) -> Any:
        graph = self.builder.graph(self.network.name)
        outputs = tuple(self.names[name] for name in self.network.outputs)
        return type(graph)(graph.name, graph.inputs, graph.operations, outputs, formats=graph.formats)

    def tensor(self, name: str) -> RowTensor:
        found = self.units[name]
        return RowTensor(name, *(np.atleast_1d(np.asarray(each, np.float64)) for each in (found.unit, found.offset)))

    def add(self, operation: FloatOperation) -> None:
        match operation:
            case FloatLinear():
                self._linear(operation)
            case FloatNorm():
                self._norm(operation)
            case FloatGelu():
                self._gelu(operation)
            case FloatAttention():
                self._attention(operation)

    # Units.

    def _set(self, name: str, unit: float | Doubles, offset: float | Doubles = 0.0) -> None:
        self.units[name] = _Unit(np.asarray(unit, np.float64), np.asarray(offset, np.float64))

    def _scalar(self, name: str) -> float:
        found = self.units[name]
        if found.unit.ndim or found.offset.any():
            raise WorkloadError(f"{self.network.name}: {name} is added to, or normalised, and has a unit for each channel")
        return float(found.unit)

    def _peak(self, name: str) -> float:
        """With headroom, and without their mean too, if a norm reads the rows."""
        return self.recipe.headroom * max(float(self.seen.peak(name).max()), self.seen.centred.get(name, 0.0))

    def _input(self, name: str) -> None:
        readers = self.network.readers(name)
        if any(isinstance(each, FloatNorm) for each in readers):
            if any(isinstance(each, FloatLinear) and each.source == name for each in readers):
                raise WorkloadError(f"{self.network.name}: {name} is normalised, and multiplied as it is")
            form, unit = Format.WIDE, self._peak(name) / STREAMED / 2**_WIDE_SHIFT
        else:
            form, unit = Format.INT16, self._peak(name) / STREAMED
        self.builder.input(self.names[name], form, self.network.widths[name])
        self._set(name, unit)

    def _scaled(
        self,
        factors: float | Doubles,
        channels: int,
        bias: NDArray[np.int32] | None = None,
        weights: tuple[NDArray[np.int8], ...] = (),
        table: NDArray[np.int16] | None = None,
    ) -> Parameters:
        of_all = np.broadcast_to(np.asarray(factors, np.float64), channels)
        multiplier, shift = quantize_scale(np.maximum(np.abs(of_all), 2.0**-60), self.recipe.multiplier_bits)
        bias = np.zeros(channels, np.int32) if bias is None else bias
        return Parameters(weights, bias, np.where(of_all < 0, -multiplier, multiplier).astype(np.int32), shift, wide_table=table)

    # Operations.

    def _reader(self, name: str, kind: type) -> FloatOperation | None:
        return next((each for each in self.network.readers(name) if isinstance(each, kind)), None)

    def _linear(self, operation: FloatLinear) -> None:
        name = operation.name
        attention, gelu = self._reader(name, FloatAttention), self._reader(name, FloatGelu)
        form = Format.INT16
        if operation.add:
            form = Format.WIDE
            self._set(name, self._scalar(operation.add))
        elif isinstance(attention, FloatAttention):
            query, keys, values, centres = self._heads(attention)
            if name == attention.query:
                self._set(name, query)
            elif name == attention.key:
                form = Format.INT8
                # Softmax does not see what is subtracted from all keys.
                self._set(name, keys, centres[0])
            else:
                form = Format.INT8
                self._set(name, values, centres[1])
        elif gelu:
            self._set(name, 2.0 ** -self._fraction(name))
        elif self._reader(name, FloatNorm):
            form = Format.WIDE
            self._set(name, self._peak(name) / STREAMED / 2**_WIDE_SHIFT)
        else:
            self._set(name, self._peak(name) / STREAMED)
        source, unit = self.units[operation.source], self.units[name]
        factors = np.broadcast_to(source.unit, len(operation.weights))
        matrix = (operation.weights.T * factors).astype(np.float32)
        bias = operation.bias + operation.weights.T.astype(np.float64) @ np.broadcast_to(source.offset, len(factors)) - unit.offset
        hessian = None
        if self.recipe.damping is not None:
            offset = np.broadcast_to(source.offset, len(factors))
            hessian = self.seen.hessian(operation.source, offset) / np.outer(factors, factors)
        rounded, scales = round_weights(matrix, hessian, self.recipe.damping or 0)
        sums = scales.astype(np.float64)
        whole = np.rint(bias / sums)
        if (np.abs(whole) > _MAX_BIAS).any():
            raise WorkloadError(f"{self.network.name}: a bias of {name} is too large for its weights")
        weights = (np.ascontiguousarray(rounded.T),)
        held = self._scaled(sums / unit.unit, len(scales), whole.astype(np.int32), weights)
        added = self.names[operation.add] if operation.add else None
        sizes = operation.weights.shape
        short = self.builder.linear(self.names[name], self.names[operation.source], sizes[0], sizes[1], form, added)
        self.constants[short] = held

    def _fraction(self, name: str) -> int:
        fraction = min(15, int(np.floor(-np.log2(self._peak(name) / STREAMED))))
        if fraction < 4:
            raise WorkloadError(f"{self.network.name}: {name} reaches {self.seen.peak(name).max():.0f}, more than 16 bits hold")
        return fraction

    def _heads(self, attention: FloatAttention) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Units of queries, keys and values, one for each channel; and centres of keys and of values, (2, channels)."""
        if attention.name not in self.heads:
            seen, recipe, heads = self.seen, self.recipe, attention.heads
            tensors = (attention.key, attention.value)
            centres = np.stack([(seen.least[name] + seen.largest[name]) / 2 for name in tensors])
            # A channel that is next to constant is not divided by next to nothing.
            k, v = (np.maximum((seen.largest[name] - seen.least[name]) / 2, seen.peak(name) * _LEAST_RANGE) for name in tensors)
            q = seen.peak(attention.query)
            # Queries have bits to spare; of keys, channels that add less to a score have more room.
            weight = (k * q).reshape(heads, -1)
            room = (weight.max(axis=1, keepdims=True) / weight) ** recipe.key_balance
            keys = k * room.ravel() * recipe.key_headroom / STATIONARY
            tops = (q * keys).reshape(heads, -1).max(axis=1) * recipe.headroom / STREAMED
            query = np.repeat(tops, len(keys) // heads) / keys
            self.heads[attention.name] = query, keys, v * recipe.value_headroom / STATIONARY, centres
        return self.heads[attention.name]

    def _attention(self, operation: FloatAttention) -> None:
        builder, rows, width = self.builder, self.network.rows, self.network.widths[operation.name]
        query, keys, values, centres = self._heads(operation)
        short, cached = self.names[operation.name], []
        for source, what in ((operation.key, "keys"), (operation.value, "values")):
            cache = builder.input(f"{short}.{what}", Format.INT8, width)
            append = Append(
                f"{short}.{what}_now", rows, source=self.names[source], cache=cache, width=width, context=rows, position=0
            )
            cached.append(builder.add(append))
        heads = operation.heads
        shape: Mapping[str, Any] = {"context": rows, "heads": heads, "kv_heads": heads, "head_size": width // heads}
        name = self.names[operation.query]
        builder.add(Attention(short, rows, query=name, key=cached[0], value=cached[1], lengths=self.lengths, **shape))
        # Of each head, the unit of a query times that of a key.
        nats = (query * keys).reshape(heads, -1)[:, 0] * operation.scale
        self.constants[short] = self._scaled(nats / STEP, heads, table=exp_table().astype(np.int16))
        self._set(operation.name, values / 256, centres[1])

    def _gelu(self, operation: FloatGelu) -> None:
        fraction, width = self._fraction(operation.source), self.network.widths[operation.name]
        unit = self._peak(operation.name) / STREAMED
        short = self.names[operation.name]
        gate = self.names[operation.source]
        self.builder.add(Gelu(short, self.network.rows, gate=gate, width=width, fraction=fraction))
        table = wide_table(normal_distribution, STEP, 2.0**-15)
        self.constants[short] = self._scaled(2.0 ** -(fraction + 15) / unit, width, table=table)
        self._set(operation.name, unit)

    def _norm(self, operation: FloatNorm) -> None:
        width, source = self.network.widths[operation.name], operation.source
        fine, unit = self._scalar(source), self._peak(operation.name) / STREAMED
        shift = max(0, int(np.ceil(np.log2(self._peak(source) / fine / STREAMED))))
        # In units of squares as they are summed up (`ir.mean_norms.layer_norm_epsilon`, of any unit).
        squares = (width / (1 << channel_bits(width)) / fine / 2.0**shift) ** 2
        epsilon = round(operation.epsilon * width * squares)
        if epsilon > _MAX_EPSILON:
            raise WorkloadError(f"{self.network.name}: the epsilon of {operation.name} is too large for rows so small")
        short = self.builder.add(
            LayerNorm(
                self.names[operation.name],
                self.network.rows,
                source=self.names[source],
                width=width,
                scale_shift=shift,
                epsilon=epsilon,
            )
        )
        # 2**15 stands for the root of the sum of squares.
        deviation = 2.0**15 / np.sqrt(width)
        bias = operation.bias.astype(np.float64) * deviation
        # A gain that is next to nothing would make a bias by that gain endless.
        least = np.maximum(np.abs(bias) / _MAX_BIAS, 1e-30)
        gain = np.where(operation.gain < 0, -1.0, 1.0) * np.maximum(np.abs(operation.gain.astype(np.float64)), least)
        self.constants[short] = self._scaled(gain / deviation / unit, width, np.rint(bias / gain).astype(np.int32))
        self._set(operation.name, unit)
