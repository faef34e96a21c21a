"""Convolutions, and products with constant matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...layers import Layer
from ...row_operations import Format
from .attention import attention_product
from .reader import Call, Operators, image, without_border
from .sixteen_bits import READERS, of_mean
from .values import Constant, Known, Real, RefusedError, Sum, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH, View

_SAME_SCALE = 1e-5
"""Relative: products of the same scales in float32 and float64 are nearer."""


def padding_of(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Of an operator with a window: in front of each axis, then behind each."""
    auto = call.node.attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = call.each("pads", 2 * len(sizes), 0)
        if min(pads) < 0:
            raise RefusedError(f"its pads {pads} take something off", "a Slice")
        return pads
    if auto == "VALID":
        return [0] * (2 * len(sizes))
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise RefusedError(f"its auto_pad is {auto}")
    totals = [
        max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    fewer, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return fewer + more if auto == "SAME_UPPER" else more + fewer


def pair(values: Sequence[int]) -> tuple[int, int]:
    """(height, width) of the sizes of one or two axes; a single one is the width."""
    return (1, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def sides(pads: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of the pads of a file."""
    if len(pads) == 2:
        return (0, 0), (int(pads[0]), int(pads[1]))
    return (int(pads[0]), int(pads[2])), (int(pads[1]), int(pads[3]))


def integer_bias(call: Call, index: int, unit: NDArray[np.float32], outputs: int) -> NDArray[np.int64]:
    """A bias in units of the sums, whose integers are kept if it has some; zeros if it is left out."""
    if not call.has(index):
        return np.zeros(outputs, np.int64)
    found = call.value(index)
    if not isinstance(found, (Known, Constant)):
        raise RefusedError(f"its bias {call.node.inputs[index]} is computed", "a constant")
    held = found.integers if isinstance(found, Known) else found.values
    if held.size not in (1, outputs) or held.shape[-1:] not in ((), (held.size,)):
        raise RefusedError(f"its bias {list(held.shape)} is not one number for each of {outputs} outputs")
    if isinstance(found, Known):
        # A quantiser gives it that scale; where one did not, it is rounded once more.
        same = np.allclose(found.scales, unit, rtol=_SAME_SCALE, atol=0)
        values = held if same else np.rint(found.real.astype(np.float64).ravel() / unit)
    elif np.issubdtype(held.dtype, np.integer):
        values = held
    else:
        values = np.rint(held.astype(np.float64).ravel() / unit.astype(np.float64))
    return np.broadcast_to(values.astype(np.int64).ravel(), (outputs,)).copy()


def units(real: Real, weights: Known, axis: int, outputs: int) -> NDArray[np.float32]:
    """What 1 is worth in the sums of each output, as onnxruntime computes it: a product in float32."""
    if weights.scales.size > 1 and (weights.axis % weights.integers.ndim != axis or weights.scales.size != outputs):
        raise RefusedError(f"the scales of its weights differ along axis {weights.axis}, not along the outputs, {axis}")
    return np.broadcast_to(real.scale * weights.scales.ravel(), (outputs,))


def convolve(call: Call, real: Real, weights: Known, bias_at: int) -> Value:
    """``weights``: (O, C / groups, KH, KW), or without KH."""
    shape, rank = real.view.shape, len(real.view.dims) - 2
    w = weights.integers
    if w.ndim != rank + 2:
        raise RefusedError(f"its weights have {w.ndim} dimensions, its input {rank + 2}")
    kernel = [int(each) for each in w.shape[2:]]
    given = call.node.attributes.get("kernel_shape", kernel)
    if list(given) != kernel:
        raise RefusedError(f"its kernel_shape is {list(given)}, and its weights have {kernel}")
    stride, dilation = call.each("strides", rank, 1), call.each("dilations", rank, 1)
    sizes = shape[HEIGHT : HEIGHT + 2] if rank == 2 else shape[WIDTH : WIDTH + 1]
    pads = sides(padding_of(call, sizes, kernel, stride, dilation))
    inner, padding, value = without_border(call, real, pads, real.tensor.zero_point)
    if value == real.tensor.zero_point:
        real, pads = inner, padding
        shape = real.view.shape
    outputs, unit = w.shape[0], units(real, weights, 0, w.shape[0])
    layer = Layer(
        name=call.name,
        batch=shape[BATCH],
        height=shape[HEIGHT],
        width=shape[WIDTH],
        channels=shape[CHANNELS],
        outputs=outputs,
        kernel=pair(kernel),
        stride=pair(stride),
        dilation=pair(dilation),
        padding=pads,
        groups=call.attribute("group", 1),
    )
    if w.shape[1] * layer.groups != shape[CHANNELS]:
        raise RefusedError(f"its weights are for {w.shape[1] * layer.groups} channels, its input has {shape[CHANNELS]}")
    held = np.ascontiguousarray(w.reshape(outputs, w.shape[1], *layer.kernel).transpose(2, 3, 1, 0))
    view = real.view.like_image((shape[BATCH], *layer.output_size, outputs))
    return summed(call, real, layer, held, integer_bias(call, bias_at, unit, outputs), unit, view)


def summed(
    call: Call,
    real: Real,
    layer: Layer,
    weights: NDArray[np.int8],
    bias: NDArray[np.int64],
    unit: NDArray[np.float32],
    view: View,
) -> Sum:
    """The zero point of what is read is in the padding, and folded into the bias."""
    if real.tensor.sums:
        return of_mean(call, real.tensor, real.tensor.sums, weights, bias, unit, view)
    zero = real.tensor.zero_point
    operand = real.tensor.operand(layer, zero)
    less = zero * weights.astype(np.int64).sum(axis=(0, 1, 2))
    plain = (layer.kernel, layer.stride, layer.padding) == ((1, 1), (1, 1), ((0, 0), (0, 0)))
    rows = real.tensor if plain and layer.batch == layer.groups == 1 else None
    if rows is None and real.tensor.form is not Format.INT8:
        raise RefusedError("it reads 16 bits, and is no product of single positions of one image", READERS)
    return Sum(call.name, call.operator, view, (operand,), (weights,), bias - less, unit, rows=rows)


def conv(call: Call) -> Value:
    """Constant weights of int8, one scale or one for each output; groups, strides, dilations, asymmetric pads, 1-D and 2-D."""
    return convolve(call, image(call), call.weights(1), 2)


def multiply(call: Call, real: Real, matrix: Known, axis: int, bias_at: int | None) -> Value:
    """Rows times a constant (K, N); ``axis``: that of the file's matrix along which outputs are."""
    view, w = real.view, matrix.integers
    k, n = w.shape
    if view.sizes[-1] != k:
        raise RefusedError(f"its matrix has {k} rows, and its input {view.sizes[-1]} columns")
    unit = units(real, matrix, axis, n)
    batch, height, width, channels = view.shape
    within = view.dims[-1]
    if within in ((), (CHANNELS,)):
        kernel, held, shape = (1, 1), w.reshape(1, 1, k, n), (batch, height, width, n)
        dims = (*view.dims[:-1], (CHANNELS,) if n > 1 else ())
    elif BATCH not in within and all(axis in within for axis in (HEIGHT, WIDTH, CHANNELS) if view.shape[axis] > 1):
        # All of an image at once: a window as large as it is.
        apart = w.reshape(*(view.shape[axis] for axis in within), n)
        order = [within.index(axis) for axis in (HEIGHT, WIDTH, CHANNELS) if axis in within]
        held = apart.transpose(*order, len(within)).reshape(height, width, channels, n)
        kernel, shape = (height, width), (batch, 1, 1, n)
        dims = (*view.dims[:-1], (CHANNELS,) if n > 1 else ())
    else:
        raise RefusedError("it multiplies along other axes than channels, or all of an image", "a Transpose less")
    layer = Layer(name=call.name, batch=batch, height=height, width=width, channels=channels, outputs=n, kernel=kernel)
    bias = np.zeros(n, np.int64) if bias_at is None else integer_bias(call, bias_at, unit, n)
    return summed(call, real, layer, np.ascontiguousarray(held), bias, unit, View(shape, dims))


def transposed(matrix: Known) -> Known:
    return Known(matrix.integers.T, matrix.scales, 1 - matrix.axis % 2)


def gemm(call: Call) -> Value:
    """A times a constant B, and a constant C; transB; alpha and beta 1."""
    if call.number("alpha", 1.0) != 1 or (call.has(2) and call.number("beta", 1.0) != 1):
        raise RefusedError("its alpha or beta is not 1")
    if call.attribute("transA", 0):
        raise RefusedError("it transposes what is computed (transA)")
    matrix = call.weights(1)
    if matrix.integers.ndim != 2:
        raise RefusedError(f"its B has {matrix.integers.ndim} dimensions")
    if call.attribute("transB", 0):
        return multiply(call, call.real(0), transposed(matrix), 1, 2)
    return multiply(call, call.real(0), matrix, 1, 2)


def matmul(call: Call) -> Value:
    """By a constant matrix of two dimensions, which stands behind; queries by keys, and what a softmax gives of that by values."""
    if not isinstance(call.value(1), (Known, Constant)):
        return attention_product(call)
    matrix = call.weights(1)
    if matrix.integers.ndim != 2 or prod(matrix.integers.shape[:-2]) != 1:
        raise RefusedError(f"its matrix has {matrix.integers.ndim} dimensions")
    return multiply(call, call.real(0), matrix, 1, None)


OPERATORS: Operators = {"Conv": conv, "Gemm": gemm, "MatMul": matmul}
