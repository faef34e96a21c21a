"""Poolings."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TypeAlias

import numpy as np

from ...constants import identity_weights
from ...operations import Window
from .convolution import padding_of, pair, sides
from .emit import emit, in_one_piece
from .network import QuantisedTensor
from .reader import Call, Operators, Padding, diagonal, image, require_image, without_border
from .values import Real, RefusedError, Sum, Tensor, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH, View

Pair: TypeAlias = tuple[int, int]
_LEAST = -128
"""No int8 is below it: in the padding of a maximum it never wins."""
_MOST_TOGETHER = 16
"""Positions of a window over several tensors: the parts of a sum wait for each other in accumulators, of which small arrays have as
many. Larger windows read a copy in one piece."""


def _windows(call: Call, view: View) -> tuple[Pair, Pair, Padding]:
    """Kernel, stride and padding; of windows that overhang (ceil_mode), with as much padding behind as they need."""
    rank = len(view.dims) - 2
    if "kernel_shape" not in call.node.attributes:
        raise RefusedError("it has no kernel_shape")
    kernel, stride, dilation = (call.each(name, rank, 1) for name in ("kernel_shape", "strides", "dilations"))
    if set(dilation) != {1}:
        raise RefusedError(f"its windows are dilated by {dilation}")
    sizes = view.shape[HEIGHT : HEIGHT + 2] if rank == 2 else view.shape[WIDTH : WIDTH + 1]
    pads = padding_of(call, sizes, kernel, stride, dilation)
    if call.attribute("ceil_mode", 0):
        for axis, size in enumerate(sizes):
            whole = size + pads[axis] + pads[rank + axis]
            count = -(-(whole - kernel[axis]) // stride[axis]) + 1
            if (count - 1) * stride[axis] >= size + pads[axis]:
                # It would begin in the padding behind.
                count -= 1
            pads[rank + axis] = max(pads[rank + axis], (count - 1) * stride[axis] + kernel[axis] - size - pads[axis])
    return pair(kernel), pair(stride), sides(pads)


def _pooled(
    call: Call,
    real: Real,
    reduce: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    *,
    leaves_pads_out: bool = False,
) -> Sum:
    if len(real.tensor.sources) > 1 and prod(kernel) > _MOST_TOGETHER:
        real = Real(in_one_piece(call, real.tensor, f"{call.name}.joined"))
    zero, largest = real.tensor.zero_point, reduce == "max"
    pad_value = _LEAST if largest else zero
    if not leaves_pads_out:
        real, padding, pad_value = without_border(call, real, padding, pad_value)
    view = real.view
    layer = diagonal(call.name, view.shape, padding)
    window = Window("max" if largest else "sum", kernel, stride, leaves_pads_out)
    height, width = ((size - k) // s + 1 for size, k, s in zip(layer.output_size, kernel, stride, strict=True))
    shape = (view.shape[BATCH], height, width, view.shape[CHANNELS])
    operand = real.tensor.operand(layer, pad_value)
    count = 1 if largest else prod(kernel)
    # A mean is a sum whose division is part of the scale.
    unit = np.asarray(real.scale) if largest else np.asarray(float(real.scale) / count)
    bias = np.full(shape[CHANNELS], -zero * count, np.int64)
    return Sum(
        call.name, call.operator, view.like_image(shape), (operand,), (identity_weights(layer),), bias, unit, window, identity=True
    )


def max_pool(call: Call) -> Value:
    """Asymmetric pads, ceil_mode; no dilations, no indices. Of integers, too."""
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise RefusedError("its indices are read")
    found = call.value(0)
    if not isinstance(found, Tensor):
        return _pooled(call, image(call), "max", *_windows(call, image(call).view))
    require_image(found.view)
    # The largest integer is that of the largest number, whatever the scale.
    real = Real(replace(found, scale=found.scale or np.float32(1)))
    pooled = _pooled(call, real, "max", *_windows(call, found.view))
    to = QuantisedTensor(call.node.outputs[0], pooled.view, found.unsigned, real.scale, found.zero_point)
    return replace(emit(call, pooled, to), scale=found.scale)


def average_pool(call: Call) -> Value:
    """Asymmetric pads, which count (count_include_pad) or do not; ceil_mode, unless pads count."""
    kernel, stride, padding = _windows(call, image(call).view)
    if not any(map(any, padding)):
        return _pooled(call, image(call), "mean", kernel, stride, padding)
    counts = bool(call.attribute("count_include_pad", 0))
    if counts and call.attribute("ceil_mode", 0):
        raise RefusedError("pads count, but not what lies behind them (ceil_mode)", "ceil_mode=0, or count_include_pad=0")
    return _pooled(call, image(call), "mean", kernel, stride, padding, leaves_pads_out=not counts)


def global_average_pool(call: Call) -> Value:
    """Over the whole image."""
    height, width = image(call).view.shape[HEIGHT : WIDTH + 1]
    return _pooled(call, image(call), "mean", (height, width), (1, 1), ((0, 0), (0, 0)))


def global_max_pool(call: Call) -> Value:
    """Over the whole image."""
    height, width = image(call).view.shape[HEIGHT : WIDTH + 1]
    return _pooled(call, image(call), "max", (height, width), (1, 1), ((0, 0), (0, 0)))


def reduce_mean(call: Call) -> Value:
    """Over height and width."""
    real = image(call)
    axes = call.integers(1, "axes")
    rank = len(real.view.dims)
    if axes is None or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        raise RefusedError(f"it is a mean over {axes or 'all axes'}, not over height and width")
    found = global_average_pool(call)
    assert isinstance(found, Sum)
    if call.attribute("keepdims", 1):
        return found
    view = found.view.reshaped(found.view.sizes[:2])
    return Sum(found.name, found.operator, view, found.operands, found.weights, found.bias, found.unit, found.window, identity=True)


OPERATORS: Operators = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "ReduceMean": reduce_mean,
}
