"""Products of two computed tensors: both side by side in one tensor, of which windows of two positions are multiplied."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters, identity_parameters, identity_weights
from ...layers import Layer
from ...operations import AS_IT_IS, Linear, Operand, Upsampling, Window
from .emit import in_one_piece
from .reader import Call, diagonal
from .values import Function, Mapped, Real, RefusedError, Sum, Tensor, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH, View

_PAIR = Upsampling(1, 2, interleaved=True)
"""How a tensor is seen that has both factors of each position."""


def multiplied(call: Call) -> Value:
    """A tensor times another one of its shape, or of its images in one row, one column or one channel of all."""
    one, other = call.real(0), call.real(1)
    if one.tensor == other.tensor:
        return Mapped(call.name, call.operator, one, (Function("Mul", lambda x: x * x),))
    return product(call, *((other, one) if prod(one.view.shape) < prod(other.view.shape) else (one, other)))


def product(call: Call, one: Real, other: Real) -> Sum:
    view, channels = one.view, one.view.shape[CHANNELS]
    factors = (one.tensor, _spread(call, view, other.tensor))
    zeros = tuple(tensor.zero_point for tensor in factors)
    pair, wide = _side_by_side(call, factors, zeros)
    batch, height, width, _ = view.shape
    layer = diagonal(call.name, (batch, height, 2 * width, channels))
    operands = [Operand((pair,), layer, channels=(0, channels) if wide > channels else None, upsampled=(_PAIR,))]
    weights = [identity_weights(layer)]
    if any(zeros):
        # Behind the channels of each position stands its zero point.
        less = replace(layer, channels=1, groups=1)
        operands.append(Operand((pair,), less, channels=(channels, 1), upsampled=(_PAIR,)))
        weights.append(np.full(less.weight_shape, -1, np.int8))
    bias, window = np.zeros(channels, np.int64), Window("product", (1, 2), (1, 2))
    unit = np.asarray(one.scale * other.scale)
    return Sum(call.name, call.operator, view, tuple(operands), tuple(weights), bias, unit, window)


def _spread(call: Call, view: View, tensor: Tensor) -> Tensor:
    """A tensor as it is multiplied by one of that ``view``: enlarged where it has one row, column or channel."""
    dims = ((),) * (len(view.dims) - len(tensor.view.dims)) + tensor.view.dims
    fits = len(dims) == len(view.dims) and all(dim in ((), axes) for dim, axes in zip(dims, view.dims, strict=True))
    shape, whole = tensor.view.shape, view.shape
    if not fits or any(size not in (1, most) for size, most in zip(shape, whole, strict=True)) or shape[BATCH] != whole[BATCH]:
        raise RefusedError(
            f"it multiplies {list(view.sizes)} and {list(tensor.view.sizes)}",
            "tensors of one shape, or one of them with 1 in the place of height, width or channels",
        )
    if shape == whole:
        return replace(tensor, view=view)
    if shape[CHANNELS] != whole[CHANNELS]:
        tensor = _in_all_channels(call, tensor, whole[CHANNELS])
    rows, columns = whole[HEIGHT] // shape[HEIGHT], whole[WIDTH] // shape[WIDTH]
    if (rows, columns) == (1, 1):
        return replace(tensor, view=view)
    if tensor.is_cut or any(seen.interleaved for seen in tensor.seen):
        tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    already = tensor.seen or (AS_IT_IS,) * len(tensor.sources)
    seen = tuple(Upsampling(each.rows * rows, each.columns * columns) for each in already)
    return replace(tensor, view=view, seen=seen)


def _in_all_channels(call: Call, tensor: Tensor, channels: int) -> Tensor:
    """A tensor of one channel with so many that are equal."""
    batch, height, width, _ = tensor.view.shape
    name = call.reader.names.unique(f"{call.name}.channels")
    layer = Layer(name=name, batch=batch, height=height, width=width, channels=1, outputs=channels)
    ones = (np.ones(layer.weight_shape, np.int8),)
    call.reader.add(Linear(name, (tensor.operand(layer),)), _as_it_is(ones, channels), call.operator)
    return replace(tensor, sources=(name,), view=View((batch, height, width, channels), ()), seen=(), is_cut=False)


def _as_it_is(weights: tuple[NDArray[np.int8], ...], channels: int, bias: int = 0) -> Parameters:
    """Sums that are not scaled."""
    each = np.ones(channels, np.int32)
    return Parameters(weights, bias * each, each, 0 * each)


def _side_by_side(call: Call, factors: tuple[Tensor, Tensor], zeros: tuple[int, ...]) -> tuple[str, int]:
    """A tensor with the channels of both factors, and how many of each: behind its own it has its zero point, if one of them has
    any."""
    batch, height, width, channels = factors[0].view.shape
    wide = channels + any(zeros)
    first, second = factors
    if set(first.sources) & set(second.sources) and (first.seen, first.is_cut) != (second.seen, second.is_cut):
        # One tensor is seen in one way.
        first, second = (in_one_piece(call, each, f"{call.name}.joined") for each in (first, second))
    apart = (each.is_cut or any(seen.interleaved for seen in each.seen) for each in (first, second))
    first, second = (
        in_one_piece(call, each, f"{call.name}.joined") if is_apart else each
        for each, is_apart in zip((first, second), apart, strict=True)
    )
    known: dict[int, str] = {}
    sources, seen = list[str](), list[Upsampling]()
    for tensor, zero in zip((first, second), zeros, strict=True):
        sources += tensor.sources
        seen += tensor.seen or (AS_IT_IS,) * len(tensor.sources)
        if wide > channels:
            if zero not in known:
                known[zero] = _constant(call, second.sources[0], zero)
            sources.append(known[zero])
            seen.append(Upsampling(height, width))
    name = call.reader.names.unique(f"{call.name}.factors")
    views = tuple(seen) if any(each != AS_IT_IS for each in seen) else ()
    pair = Linear(
        name, (Operand(tuple(sources), diagonal(name, (batch, height, width, 2 * wide)), upsampled=views),), identity=True
    )
    call.reader.add(pair, identity_parameters(pair), call.operator)
    return name, wide


def _constant(call: Call, source: str, value: int) -> str:
    """A tensor of one number, ``value``: one of ``source``, times 0, with a bias."""
    batch = call.reader.shape(source)[BATCH]
    name = call.reader.names.unique(f"{call.name}.zero")
    layer = Layer(name=name, batch=batch, height=1, width=1, channels=1, outputs=1)
    operand = Operand((source,), layer, channels=(0, 1), corners=((0, 0),))
    held = _as_it_is((np.zeros(layer.weight_shape, np.int8),), 1, value)
    call.reader.add(Linear(name, (operand,)), held, call.operator)
    return name
