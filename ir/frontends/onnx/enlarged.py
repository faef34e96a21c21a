"""Enlarged images: nearest neighbours, which readers see in the place of a smaller tensor, and transposed convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...operations import AS_IT_IS, Upsampling
from ...transposed import TransposedConvolution
from .convolution import integer_bias, pair, sides, summed, units
from .emit import in_one_piece
from .reader import Call, Operators, image, require_image
from .values import Real, RefusedError, Tensor, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH

_INTEGERS = "nearest neighbours, enlarged by integers"


def _positions(call: Call, size: int, scale: float, outputs: int) -> NDArray[np.float64]:
    """Where each output of an axis is in the input, by the coordinate_transformation_mode of ONNX."""
    at = np.arange(outputs, dtype=np.float64)
    mode = call.node.attributes.get("coordinate_transformation_mode", "half_pixel" if call.reader.opset > 10 else "asymmetric")
    if mode == "asymmetric":
        return at / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and outputs > 1):
        return (at + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.zeros(1)
    if mode == "half_pixel_symmetric":
        return size / 2 * (1 - outputs / (scale * size)) + (at + 0.5) / scale - 0.5
    if mode == "align_corners":
        return at * (size - 1) / (outputs - 1) if outputs > 1 else np.zeros(1)
    raise RefusedError(f"its coordinate_transformation_mode is {mode}", _INTEGERS)


def _nearest(call: Call, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    mode = call.node.attributes.get("nearest_mode", "round_prefer_floor" if call.reader.opset > 10 else "floor")
    ways: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if mode not in ways:
        raise RefusedError(f"its nearest_mode is {mode}", _INTEGERS)
    found: NDArray[np.int64] = ways[mode](positions).astype(np.int64)
    return found


def _factor(call: Call, axis: int, size: int, scale: float, outputs: int) -> int:
    """By which whole number an axis is enlarged; raises `RefusedError` if it is none, or if other neighbours are taken."""
    factor = outputs // size
    which = np.clip(_nearest(call, _positions(call, size, scale, outputs)), 0, size - 1)
    if outputs != factor * size or not (which == np.arange(outputs) // factor).all():
        raise RefusedError(
            f"its axis {axis} has {size} positions and gets {outputs}, which are not those of a whole factor", _INTEGERS
        )
    return factor


def _numbers(call: Call, index: int) -> list[float] | None:
    values = call.constant(index).ravel() if call.has(index) else np.zeros(0)
    return [float(each) for each in values] if values.size else None


def _sizes(call: Call, before: Sequence[int], scales: list[float] | None, sizes: list[float] | None) -> list[tuple[float, int]]:
    """Of each dimension, its scale and its new size."""
    axes = [axis % len(before) for axis in call.node.attributes.get("axes", range(len(before)))]
    given = sizes or scales
    if given is None or len(given) != len(axes):
        raise RefusedError(f"it has {len(given or ())} scales or sizes for {len(axes)} dimensions")
    if sizes and call.node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RefusedError("it keeps the aspect ratio of images", "sizes as they are")
    found = [(1.0, size) for size in before]
    for axis, value in zip(axes, given, strict=True):
        found[axis] = (value / before[axis], int(value)) if sizes else (value, int(np.floor(before[axis] * value)))
    return found


def _enlarged(call: Call, scales: list[float] | None, sizes: list[float] | None) -> Value:
    value = call.value(0)
    mode = call.node.attributes.get("mode", "nearest")
    if mode != "nearest":
        raise RefusedError(f"its mode is {mode}", _INTEGERS)
    if not isinstance(value, (Real, Tensor)):
        raise RefusedError("it enlarges what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    tensor = value.tensor if isinstance(value, Real) else value
    require_image(tensor.view)
    before = tensor.view.sizes
    factors = [
        1 if size == old else _factor(call, axis, old, scale, size)
        for axis, (old, (scale, size)) in enumerate(zip(before, _sizes(call, before, scales, sizes), strict=True))
    ]
    if factors[0] != 1 or factors[1] != 1:
        raise RefusedError(f"it enlarges batch and channels by {factors[:2]}", "height and width alone")
    rows, columns = pair(factors[2:])
    if (rows, columns) == (1, 1):
        return value
    if tensor.is_cut or any(seen.interleaved for seen in tensor.seen):
        tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    already = tensor.seen or (AS_IT_IS,) * len(tensor.sources)
    batch, height, width, channels = tensor.view.shape
    view = tensor.view.like_image((batch, height * rows, width * columns, channels))
    seen = tuple(Upsampling(each.rows * rows, each.columns * columns) for each in already)
    found = replace(tensor, view=view, seen=seen)
    return Real(found) if isinstance(value, Real) else found


def resize(call: Call) -> Value:
    """Nearest neighbours, height and width by whole factors."""
    if call.reader.opset < 11:
        return _enlarged(call, _numbers(call, 1), None)
    return _enlarged(call, _numbers(call, 2), _numbers(call, 3))


def upsample(call: Call) -> Value:
    """As `Resize`."""
    given = call.node.attributes.get("scales")
    return _enlarged(call, [float(each) for each in given] if given is not None else _numbers(call, 1), None)


def conv_transpose(call: Call) -> Value:
    """Constant weights of int8, one scale or one for each output; strides, pads, output_padding, dilations, groups, 1-D and 2-D."""
    real, weights = image(call), call.weights(1)
    shape, rank, w = real.view.shape, len(real.view.dims) - 2, weights.integers
    if w.ndim != rank + 2:
        raise RefusedError(f"its weights have {w.ndim} dimensions, its input {rank + 2}")
    if w.shape[0] != shape[CHANNELS]:
        raise RefusedError(f"its weights are for {w.shape[0]} channels, its input has {shape[CHANNELS]}")
    w = _dilated(w, call.each("dilations", rank, 1))
    groups = call.attribute("group", 1)
    if groups < 1 or w.shape[0] % groups:
        raise RefusedError(f"it has {groups} groups of {w.shape[0]} channels")
    kernel, outputs = [int(each) for each in w.shape[2:]], w.shape[1] * groups
    stride, extra = call.each("strides", rank, 1), call.each("output_padding", rank, 0)
    sizes = shape[HEIGHT : HEIGHT + 2] if rank == 2 else shape[WIDTH : WIDTH + 1]
    pads = _pads(call, sizes, kernel, stride, extra)
    transposed = TransposedConvolution(call.name, shape, outputs, pair(kernel), pair(stride), sides(pads), _extra(extra))
    # Outputs of all groups share the scales of the first.
    unit = np.tile(units(real, weights, 1, w.shape[1]), groups)
    bias = integer_bias(call, 2, unit, outputs)
    held = _all_channels(w.reshape(*w.shape[:2], *transposed.kernel), groups).transpose(2, 3, 0, 1)
    parts = transposed.upsampling.positions
    view = real.view.like_image((shape[BATCH], *transposed.output, outputs))
    layer = transposed.layer
    found = summed(
        call, real, layer, transposed.weights(np.ascontiguousarray(held)), np.tile(bias, parts), np.tile(unit, parts), view
    )
    return replace(found, seen=transposed.upsampling)


def _dilated(weights: NDArray[np.integer], dilations: Sequence[int]) -> NDArray[np.integer]:
    """Weights with zeros between those of neighbours."""
    if min(dilations) < 1:
        raise RefusedError(f"its dilations are {list(dilations)}", "1 or more, for each axis of its kernel")
    sizes = [(size - 1) * dilation + 1 for size, dilation in zip(weights.shape[2:], dilations, strict=True)]
    found = np.zeros((*weights.shape[:2], *sizes), weights.dtype)
    at: tuple[slice, ...] = tuple(slice(None, None, dilation) for dilation in (1, 1, *dilations))
    found[at] = weights
    return found


def _all_channels(weights: NDArray[np.integer], groups: int) -> NDArray[np.integer]:
    """Weights (C, O / groups, KH, KW) of groups as (C, O, KH, KW), 0 from each channel to outputs of other groups."""
    channels, each, *kernel = weights.shape
    found = np.zeros((groups, channels // groups, groups, each, *kernel), weights.dtype)
    at = np.arange(groups)
    found[at, :, at] = weights.reshape(groups, channels // groups, each, *kernel)
    return found.reshape(channels, groups * each, *kernel)


def _extra(extra: Sequence[int]) -> tuple[int, int]:
    return (0, extra[0]) if len(extra) == 1 else (extra[0], extra[1])


def _pads(call: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], extra: Sequence[int]) -> list[int]:
    """Rows and columns that are left out of the whole result: in front of each axis, then behind each."""
    attributes = call.node.attributes
    wanted, auto = attributes.get("output_shape"), attributes.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("NOTSET", "", "VALID"):
        pads = call.each("pads", 2 * len(sizes), 0) if auto != "VALID" else [0] * (2 * len(sizes))
        if min(pads) < 0:
            raise RefusedError(f"its pads are {pads}", "pads of 0 or more")
        return pads
    if auto not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise RefusedError(f"its auto_pad is {auto}")
    goals = [int(each) for each in wanted[-len(sizes) :]] if wanted else [n * s for n, s in zip(sizes, stride, strict=True)]
    totals = [(n - 1) * s + k + more - goal for n, s, k, more, goal in zip(sizes, stride, kernel, extra, goals, strict=True)]
    if min(totals) < 0:
        raise RefusedError(f"its result would have {goals} positions, more than there are", "output_padding")
    fewer, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return fewer + more if auto == "SAME_UPPER" else more + fewer


OPERATORS: Operators = {"Resize": resize, "Upsample": upsample, "ConvTranspose": conv_transpose}
