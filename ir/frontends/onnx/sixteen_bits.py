"""Tensors of 16 bits: products that read them or give them, as operations on rows.

Rows stream through arrays in two planes of int8, so integers end at 32,639. Zero points are taken off what is read, and added to
what is given, in biases; functions that limit are where integers end.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...row_operations import Format, RowLinear
from .emit import FINE_ENOUGH, limiting, limits, scaled
from .movement import OPERATORS as MOVEMENT
from .network import LIMITS, QuantisedTensor
from .on_rows import Rows, from_rows, rows_name
from .reader import Call, given_as
from .values import Heads, Pending, Real, RefusedError, Sum, Tensor
from .views import CHANNELS, View

PRODUCTS = "Gemm, MatMul by a constant, and Conv 1x1 without groups or strides"
READERS = f"16 bits in front of {PRODUCTS}, of one image; int8 or uint8 elsewhere"
GIVERS = (
    f"16 bits of inputs, and behind {PRODUCTS}, LayerNormalization and attention, of one image, and means of whole images; "
    "int8 or uint8 elsewhere"
)
_READ = {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm", "MatMul", *MOVEMENT}
_MOST_SUM = (1 << 31) - 1
_PARTS = 127
"""The largest weight."""
_FLOAT_BITS = 24
"""Of a float32, in which onnxruntime sums up what has 16 bits."""


def require_8_bits(call: Call) -> None:
    """Raises `RefusedError` for an operator that reads 16 bits, and is none that can."""
    if call.operator in _READ:
        return
    for name, value in zip(call.node.inputs, call.given, strict=True):
        tensor = value.tensor if isinstance(value, (Real, Heads)) else value
        if isinstance(tensor, Tensor) and tensor.form is not Format.INT8:
            raise RefusedError(f"its input {name} has 16 bits", READERS)


def product(call: Call, found: Sum, to: QuantisedTensor) -> Tensor:
    """Rows times a matrix, from int8 or 16 bits to int8 or 16 bits."""
    assert found.rows is not None
    (weights,) = found.weights
    return _product(call, found, found.rows, weights.reshape(weights.shape[2:]), to)


def requantised(call: Call, tensor: Tensor, to: QuantisedTensor) -> Tensor:
    """The same numbers in other steps."""
    if tensor.sums:
        raise RefusedError("it quantises a mean of 16 bits once more to 16 bits", READERS)
    channels, zero = tensor.view.shape[CHANNELS], tensor.zero_point
    if tensor.view.shape[0] > 1:
        raise RefusedError(f"it is of {tensor.view.shape[0]} images, and has 16 bits", "a batch of 1 (--size)")
    assert tensor.scale is not None
    assert to.scale is not None
    # The zero point of the result is part of the bias, which is rounded to a part of a step of what is read.
    ratio = float(tensor.scale) / float(to.scale)
    moved = to.zero_point / ratio
    parts = 1 if abs(moved - np.rint(moved)) * ratio <= FINE_ENOUGH else min(_PARTS, int(np.ceil(ratio / (2 * FINE_ENOUGH))))
    bias = np.full(channels, -zero * parts, np.int64)
    found = Sum(call.name, call.operator, to.view, (), (), bias, np.full(channels, float(tensor.scale) / parts))
    return _product(call, found, tensor, parts * np.eye(channels, dtype=np.int8), to)


def of_16_bits(found: Pending, to: QuantisedTensor) -> Tensor:
    """What layers give in 16 bits: the mean of whole images, of which nothing is computed until somebody reads it."""
    if isinstance(found, Sum) and found.is_mean:
        return replace(given_as("", to), sources=(), sums=found)
    what = f"it quantises what {found.operator} {found.name} gives to {to.dtype}"
    if isinstance(found, Sum) and found.window and not found.identity:
        raise RefusedError(f"{what}, and that reads a mean of 16 bits", "int8 or uint8 for one of the two")
    raise RefusedError(what, GIVERS)


def of_mean(
    call: Call,
    tensor: Tensor,
    found: Sum,
    weights: NDArray[np.int8],
    bias: NDArray[np.int64],
    unit: NDArray[np.float32],
    view: View,
) -> Sum:
    """A product with a mean is the mean of products: of int8, of each position, and nothing is rounded in between."""
    assert tensor.scale is not None
    assert found.window is not None
    (operand,) = found.operands
    outputs = weights.shape[3]
    layer = replace(operand.layer, name=call.name, outputs=outputs, groups=1)
    matrix = weights.astype(np.int64).sum(axis=(0, 1))
    magnitudes = np.abs(matrix).sum(axis=0)
    count = prod(found.window.kernel)
    _require_sums(magnitudes * count * 128, f"a mean over {count} positions in 8 bits")
    # From 16 bits to units of the sums.
    ratio = float(tensor.scale) / float(found.unit)
    moved = bias * ratio
    whole = np.rint(moved).astype(np.int64)
    own = unit.astype(np.float64) / ratio
    off = (np.abs(whole - moved) * own + magnitudes * unit.astype(np.float64) / 2).max()
    less = found.bias @ matrix
    reads = (replace(operand, layer=layer),)
    return Sum(call.name, call.operator, view, reads, (weights,), whole + less, own, found.window, off=float(off))


def _require_sums(largest: NDArray[np.int64], helps: str) -> None:
    """Raises `RefusedError` for sums that are not int32. ``largest``: of each output, the largest magnitude."""
    if largest.max() > _MOST_SUM:
        raise RefusedError(
            f"sums of output {int(largest.argmax())} may be {largest.max():,}, more than 32 bits hold ({_MOST_SUM:,})", helps
        )


def _product(call: Call, found: Sum, tensor: Tensor, weights: NDArray[np.int8], to: QuantisedTensor) -> Tensor:
    assert to.scale is not None
    width, outputs = weights.shape
    sums = np.abs(weights.astype(np.int64)).sum(axis=0)
    largest = sums * (1 << (15 if tensor.form is Format.INT16 else 7))
    _require_sums(largest, "int8 or uint8 for what it reads: weights of an output have magnitudes of 65,535 together at most")
    table = None
    if to.form is Format.INT8:
        table = limiting(found.functions, to)
    elif within := limits(found.functions, to):
        (low, high), (least, most) = within, LIMITS[to.form]
        moved = to.offset
        raise RefusedError(
            f"it quantises what {found.operator} {found.name} gives to {to.dtype}, of which {found.functions[-1].name} leaves "
            f"{low + moved:,} to {high + moved:,}",
            f"a scale and a zero point with which that is {least + moved:,} to {most + moved:,} or more",
        )
    ratio = np.broadcast_to(found.unit / found.unit.dtype.type(to.scale), (outputs,))
    multiplier, shift = scaled(ratio)
    exact = found.bias + to.zero_point / ratio.astype(np.float64)
    if (np.abs(exact) > _MOST_SUM).any():
        raise RefusedError(f"its bias, with its zero points, is {np.abs(exact).max():,.0f}, which is no int32")
    bias = np.rint(exact).astype(np.int64)
    name, made = call.reader.names.unique(found.name), Rows(call, found.operator)
    source, rows = made.of(tensor, f"{name}.copy")
    given = RowLinear(rows_name(name, to, table), rows, source=source, width=width, outputs=outputs, form=to.form)
    call.reader.add(given, Parameters((weights,), bias.astype(np.int32), multiplier, shift), found.operator)
    # A bias is rounded to units of the sums; onnxruntime sums up in float32.
    off = np.abs(bias - exact) + largest.astype(np.float64) * 2.0 ** (1 - _FLOAT_BITS)
    call.reader.bounds[given.name] = float((off * ratio).max())
    return from_rows(call, name, given.name, found.operator, to, table)
