"""Positions of images, taken out, or put into channels and back; channels in another order: copies, by ones and zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...layers import Layer
from ...operations import Linear, Upsampling
from .emit import in_one_piece
from .reader import Call, Operators, require_image
from .values import Heads, Real, RefusedError, Tensor, Value
from .views import CHANNELS, HEIGHT, WIDTH, LayoutError

_MOST_TAPS = 1024
"""Positions of the kernel of a copy: all but one are multiplied by 0."""


def integers_of(value: Value, what: str) -> Tensor:
    """The tensor of integers that a value is, or stands for."""
    tensor = value.tensor if isinstance(value, Real) else value
    if not isinstance(tensor, Tensor):
        raise RefusedError(f"it {what} what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    return tensor


def part_of_heads(value: Heads, axis: int, first: int, count: int) -> Heads:
    """Queries, keys or values of all of them; or some of the heads."""
    try:
        return replace(value, lying=value.lying.part(axis, first, count))
    except LayoutError as error:
        raise RefusedError(str(error)) from error


def like(value: Value, tensor: Tensor) -> Value:
    return Real(tensor) if isinstance(value, Real) else tensor


def _copied(call: Call, tensor: Tensor, layer: Layer, weights: NDArray[np.int8]) -> Tensor:
    """What a layer of ones and zeros gives, one of them for each output."""
    outputs = layer.outputs
    ones, zeros = np.ones(outputs, np.int32), np.zeros(outputs, np.int32)
    operation = Linear(layer.name, (tensor.operand(layer),))
    call.reader.add(operation, Parameters((weights,), zeros, ones, zeros), call.operator)
    view = tensor.view.like_image(operation.output)
    return replace(tensor, sources=(layer.name,), view=view, seen=(), is_cut=False)


def _layer(call: Call, tensor: Tensor, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], groups: int = 1) -> Layer:
    batch, height, width, channels = tensor.view.shape
    return Layer(
        name=call.reader.names.unique(call.name),
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        outputs=outputs,
        kernel=kernel,
        stride=stride,
        groups=groups,
    )


def some_positions(call: Call, value: Value, taken: Mapping[int, range]) -> Value:
    """Rows and columns of an image; ``taken``: by axis (height, width), which, in steps of 1 or more."""
    tensor = integers_of(value, "takes a part of")
    require_image(tensor.view)
    shape = tensor.view.shape
    tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    rows, columns = (taken.get(axis, range(shape[axis])) for axis in (HEIGHT, WIDTH))
    # The smallest kernel with as many outputs that begins at position 0; what is taken is the one that begins it.
    kernel = [
        max(each.start + 1, size - len(each) * each.step + 1) for each, size in ((rows, shape[HEIGHT]), (columns, shape[WIDTH]))
    ]
    if kernel[0] * kernel[1] > _MOST_TAPS:
        what = f"{len(rows)} x {len(columns)} of {shape[HEIGHT]} x {shape[WIDTH]} positions"
        raise RefusedError(
            f"it takes {what}, for which a copy has a kernel of {kernel}", f"kernels of up to {_MOST_TAPS} positions"
        )
    layer = _layer(call, tensor, shape[CHANNELS], (kernel[0], kernel[1]), (rows.step, columns.step), shape[CHANNELS])
    weights = np.zeros(layer.weight_shape, np.int8)
    weights[rows.start, columns.start] = 1
    return like(value, _copied(call, tensor, layer, weights))


def _block(call: Call) -> int:
    size = call.attribute("blocksize", 0)
    if size < 1:
        raise RefusedError(f"its blocksize is {size}", "1 or more")
    return size


def _mode(call: Call) -> str:
    mode: str = call.node.attributes.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise RefusedError(f"its mode is {mode}", "DCR or CRD")
    return mode


def space_to_depth(call: Call) -> Value:
    """Blocks of positions become channels, in both modes (DCR and CRD)."""
    value, size = call.value(0), _block(call)
    tensor = integers_of(value, "takes apart")
    require_image(tensor.view)
    _, height, width, channels = tensor.view.shape
    if len(tensor.view.dims) != 4 or height % size or width % size:
        raise RefusedError(f"its blocks of {size} x {size} do not divide {height} x {width} positions")
    tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    layer = _layer(call, tensor, size * size * channels, (size, size), (size, size))
    weights = np.zeros(layer.weight_shape, np.int8)
    block = weights.reshape(size * size, channels, size * size, channels)
    each, channel = np.indices((size * size, channels))
    if _mode(call) == "CRD":
        block = weights.reshape(size * size, channels, channels, size * size).transpose(0, 1, 3, 2)
    block[each, channel, each, channel] = 1
    return like(value, _copied(call, tensor, layer, weights))


def gather(call: Call) -> Value:
    """Of the channels of an image, in any order, some of them or all; or of constants."""
    value = call.value(0)
    if isinstance(value, Heads):
        return _one_of(call, value)
    tensor = integers_of(value, "takes channels of")
    require_image(tensor.view)
    axis, which = call.attribute("axis", 0) % len(tensor.view.dims), call.constant(1)
    channels = tensor.view.shape[CHANNELS]
    if axis != 1:
        raise RefusedError(f"it takes some of axis {axis}", "axis 1, that of the channels")
    if which.ndim != 1 or not which.size or (which < -channels).any() or (which >= channels).any():
        raise RefusedError(f"its indices are {which.tolist()}", f"a list of numbers in [{-channels}, {channels})")
    tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    return like(value, _chosen(call, tensor, which.astype(np.int64) % channels))


def _one_of(call: Call, value: Heads) -> Value:
    """One position along an axis of heads, which is gone."""
    which, sizes = call.constant(1), value.lying.sizes
    axis = call.attribute("axis", 0) % len(sizes)
    if which.size != 1 or not -sizes[axis] <= int(which.ravel()[0]) < sizes[axis]:
        raise RefusedError(f"its indices are {which.tolist()}", f"one number in [{-sizes[axis]}, {sizes[axis]})")
    taken = part_of_heads(value, axis, int(which.ravel()[0]) % sizes[axis], 1)
    if which.ndim:
        return taken
    return replace(taken, lying=taken.lying.reshaped((*sizes[:axis], *sizes[axis + 1 :])))


def _chosen(call: Call, tensor: Tensor, which: NDArray[np.int64]) -> Tensor:
    """These channels, one after the other."""
    layer = _layer(call, tensor, len(which), (1, 1), (1, 1))
    weights = np.zeros(layer.weight_shape, np.int8)
    weights[0, 0, which, np.arange(len(which))] = 1
    return _copied(call, tensor, layer, weights)


def depth_to_space(call: Call) -> Value:
    """Channels become blocks of positions, in both modes (DCR and CRD)."""
    value, size = call.value(0), _block(call)
    tensor = integers_of(value, "puts together")
    require_image(tensor.view)
    batch, height, width, channels = tensor.view.shape
    if len(tensor.view.dims) != 4 or channels % (size * size):
        raise RefusedError(f"its blocks of {size} x {size} do not divide {channels} channels")
    mode = _mode(call)
    tensor, rest = in_one_piece(call, tensor, f"{call.name}.joined"), channels // (size * size)
    # The positions of a block one after the other, each with all of its channels.
    order = np.arange(channels)
    order = order.reshape(rest, size * size).T.ravel() if mode == "CRD" else order
    if (order != np.arange(channels)).any() or tensor.sources[0] in call.reader.inputs:
        tensor = _chosen(call, tensor, order)
    view = tensor.view.like_image((batch, height * size, width * size, rest))
    return like(value, replace(tensor, view=view, seen=(Upsampling(size, size, interleaved=True),)))


OPERATORS: Operators = {"SpaceToDepth": space_to_depth, "DepthToSpace": depth_to_space, "Gather": gather}
