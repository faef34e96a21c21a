"""What the operations of a graph hold beside their layers: weights, biases, scales, tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, WorkloadError
from .operations import Linear
from .quantise import quantize_scale


@dataclass(frozen=True)
class Parameters:
    """What an operation holds beside its layers.

    ``weights``: of each operand, int8 in the ``weight_shape`` of its layer. ``bias``, ``multiplier``, ``shift``: int32 (O,).
    ``table``: int8 (256,), the activation function by ``value & 0xff``, or None. ``wide_table``: int16 (256,), that of an
    operation on rows, or None. ``border_scales``: of windows that leave pads out, by how many positions they have, if they are
    fewer than all: multiplier and shift. ``zero_point``: an int8, what a result has for 0; added to it when it is rounded, before
    it is saturated.
    """

    weights: tuple[NDArray[np.int8], ...]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    table: NDArray[np.int8] | None = None
    wide_table: NDArray[np.int16] | None = None
    border_scales: Mapping[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=dict)
    zero_point: int = 0

    def outputs(self, begin: int, end: int) -> Parameters:
        """Those of the outputs [begin, end)."""

        def part(values: NDArray[np.int32]) -> NDArray[np.int32]:
            # One multiplier or shift may be that of all channels.
            return values[begin:end] if values.ndim else values

        weights = tuple(each[..., begin:end] for each in self.weights)
        shares = part(self.bias), part(self.multiplier), part(self.shift)
        borders = {count: (part(m), part(s)) for count, (m, s) in self.border_scales.items()}
        return Parameters(weights, *shares, table=self.table, border_scales=borders, zero_point=self.zero_point)


class Constants(Mapping[str, Parameters]):
    """What all operations of a graph hold, by their names; it does not change.

    Members
    -------
    tables : tuple of ndarray of int8, shape (256,)
        Activation tables, each once, in the order in which operations first use them. One of int16 is two of them, an even one with
        the low bytes and the next one with the high ones.
    table_of : dict
        For each operation that has a table, which of ``tables`` it is, or begins at.
    """

    def __init__(self, parameters: Mapping[str, Parameters]):
        self._of = dict(parameters)
        known: dict[bytes, int] = {}
        tables: list[NDArray[np.int8]] = []
        self.table_of: dict[str, int] = {}
        for name, held in self._of.items():
            if held.table is not None:
                key = held.table.astype(np.int8).tobytes()
            elif held.wide_table is not None:
                key = held.wide_table.astype("<i2").tobytes()
            else:
                continue
            if key not in known:
                halves = np.frombuffer(key, np.int8).reshape(256, -1)
                if halves.shape[1] == 2 and len(tables) % 2:
                    tables.append(np.zeros(256, np.int8))
                known[key] = len(tables)
                tables += [np.ascontiguousarray(halves[:, i]) for i in range(halves.shape[1])]
            self.table_of[name] = known[key]
        self.tables = tuple(tables)

    def __getitem__(self, name: str) -> Parameters:
        return self._of[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def first_tables(self, names: Iterable[str]) -> int:
        """How many of the first of ``tables`` hold all those that operations of these names have."""
        ends = (self.table_of[name] + 1 + (self._of[name].wide_table is not None) for name in names if name in self.table_of)
        return max(ends, default=0)

    @cached_property
    def digest(self) -> str:
        """A hash of every value: networks of equal graphs and digests are the same network."""
        total = hashlib.sha256()
        for name in sorted(self._of):
            held = self._of[name]
            tables = [table for table in (held.table, held.wide_table) if table is not None]
            arrays: list[NDArray] = [*held.weights, held.bias, held.multiplier, held.shift, *tables]
            # Nothing of what there may not be: files hold hashes from before it.
            arrays += [array for n, scale in sorted(held.border_scales.items()) for array in (np.array(n), *scale)]
            arrays += [np.array(held.zero_point)] if held.zero_point else []
            total.update(f"{name} {[(array.dtype.str, array.shape) for array in arrays]}\n".encode())
            for array in arrays:
                total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()


def with_scale_bits(constants: Mapping[str, Parameters], bits: int) -> Constants:
    """The same constants with the multipliers of all scales rounded to ``bits`` bits (``scale_bits`` of a chip).

    A scale changes by at most 2**-bits of itself, where it has a multiplier of more bits; elsewhere by nothing.
    """

    def rounded(held: Parameters) -> Parameters:
        borders = {count: _rounded(scale, bits) for count, scale in held.border_scales.items()}
        multiplier, shift = _rounded((held.multiplier, held.shift), bits)
        if multiplier is held.multiplier and all(borders[count] is scale for count, scale in held.border_scales.items()):
            return held
        return replace(held, multiplier=multiplier, shift=shift, border_scales=borders)

    return Constants({name: rounded(held) for name, held in constants.items()})


def without_zero_points(constants: Mapping[str, Parameters]) -> Constants:
    """The same constants with the zero points of results in their biases: for chips that add none behind their rounding.

    A bias is off by at most half a unit of the sums, so a result by at most half of its scale before it is rounded.
    """

    def folded(held: Parameters) -> Parameters:
        if not held.zero_point:
            return held
        if held.border_scales:
            raise WorkloadError(f"the zero point {held.zero_point} of an average that leaves pads out fits no bias: borders differ")
        multiplier, shift = np.broadcast_arrays(held.multiplier, held.shift)
        units = np.rint(held.zero_point * np.ldexp(1.0, shift) / np.maximum(multiplier, 1))
        bias = held.bias.astype(np.float64) + units
        for value in bias[(np.abs(bias) >= 1 << 31) | (multiplier == 0)][:1]:
            raise WorkloadError(f"the zero point {held.zero_point} does not fit a bias: it would be {value:,.0f}")
        return replace(held, bias=bias.astype(np.int32), zero_point=0)

    return Constants({name: folded(held) for name, held in constants.items()})


def _rounded(scale: tuple[NDArray[np.int32], NDArray[np.int32]], bits: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Multiplier and shift with at most so many bits of a multiplier."""
    multiplier, shift = np.broadcast_arrays(*scale)
    size = np.abs(multiplier.astype(np.int64))
    wide = size >= 1 << bits
    if not wide.any():
        return scale
    # An int32 over a power of two is a float64.
    fewer = quantize_scale(np.where(wide, np.ldexp(size.astype(np.float64), -shift), 1.0), bits)
    return np.where(wide, np.sign(multiplier) * fewer[0], multiplier).astype(np.int32), np.where(wide, fewer[1], shift).astype(
        np.int32
    )


def identity_weights(layer: Layer) -> NDArray[np.int8]:
    """A diagonal of ones: output channel o is channel o."""
    if layer.kernel != (1, 1) or layer.channels != layer.outputs:
        raise WorkloadError(
            f"{layer.name}: an identity takes a 1x1 kernel and as many outputs as channels, got kernel {layer.kernel}, "
            f"{layer.channels} channels and {layer.outputs} outputs"
        )
    weights = np.zeros(layer.weight_shape, dtype=np.int8)
    outputs = np.arange(layer.outputs)
    weights[0, 0, outputs % (layer.channels // layer.groups), outputs] = 1
    return weights


def identity_parameters(operation: Linear, scale: float | None = None) -> Parameters:
    """Those of an operation of ones on the diagonal: of a maximum or of no window as it is, of a sum the mean over the window.

    ``scale``: another factor from accumulators to outputs.
    """
    outputs, window = operation.output[3], operation.window
    if scale is None and window is not None and window.reduce == "sum":
        scale = 1 / prod(window.kernel)
    # 1 as 1 / 2**0: exact either way, but a person who reads it sees that nothing happens.
    multiplier, shift = (1, 0) if scale is None else quantize_scale(scale)
    return Parameters(
        weights=tuple(identity_weights(operand.layer) for operand in operation.operands),
        bias=np.zeros(outputs, dtype=np.int32),
        multiplier=np.full(outputs, multiplier, dtype=np.int32),
        shift=np.full(outputs, shift, dtype=np.int32),
        border_scales=border_scales(operation, np.full(outputs, 1.0 if scale is None else scale)),
    )


def border_scales(operation: Linear, scale: NDArray[np.floating]) -> dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Those of windows that leave pads out. ``scale``: (O,), of windows with all positions; of fewer, each counts for more."""
    window = operation.window
    return {count: quantize_scale(scale * prod(window.kernel) / count) for count in operation.border_counts} if window else {}
