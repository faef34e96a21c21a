"""Local response normalisation: a table, a product with ones, another table, and a product of two tensors.

After A. Krizhevsky, I. Sutskever, G. E. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, NIPS 2012,
section 3.3.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...layers import Layer
from .convolution import summed
from .emit import emit
from .network import QuantisedTensor
from .products import product
from .reader import Call, Operators, image
from .values import Function, Mapped, Pending, Real, RefusedError, Tensor, Value
from .views import CHANNELS

_STEPS = 255


def _between(call: Call, name: str, found: Pending, largest: float) -> Real:
    """A tensor in the midst of the operator, which the file does not have: uint8 of numbers between 0 and ``largest``."""
    to = QuantisedTensor(f"{call.name}.{name}", found.view, True, np.float32(largest / _STEPS), -128)
    made: Tensor = emit(call, found, to)
    del call.reader.tensors[made.sources[0]]
    return Real(made)


def local_response(call: Call) -> Value:
    """On chips that multiply tensors; over an odd number of channels, in steps of a 255th of what there may be."""
    real, size = image(call), call.attribute("size", 0)
    alpha, beta, bias = float(call.number("alpha", 1e-4)), float(call.number("beta", 0.75)), float(call.number("bias", 1.0))
    channels = real.view.shape[CHANNELS]
    if size < 1 or size % 2 == 0:
        raise RefusedError(f"it goes over {size} channels", "an odd number, those on both sides of a channel")
    if alpha < 0 or beta < 0 or bias <= 0:
        raise RefusedError(f"its alpha, beta and bias are {alpha:g}, {beta:g} and {bias:g}", "0 or more, and a bias above 0")
    zero = real.tensor.zero_point
    largest = float(real.scale) * max(127 - zero, 128 + zero)
    square = Mapped(f"{call.name}.squares", call.operator, real, (Function("Mul", lambda x: x * x),))
    squares = _between(call, "squares", square, largest**2)
    batch, height, width, _ = real.view.shape
    name = call.reader.names.unique(f"{call.name}.sums")
    layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=channels)
    apart = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    ones = (apart <= size // 2).astype(np.int8).reshape(layer.weight_shape)
    unit, nothing = np.full(channels, squares.scale, np.float32), np.zeros(channels, np.int64)
    window = replace(summed(call, squares, layer, ones, nothing, unit, real.view), name=name)
    most = min(size, channels) * largest**2
    sums = _between(call, "sums", window, most)
    slope = alpha / size

    def response(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.power(np.float32(bias) + np.float32(slope) * x, np.float32(-beta))
        return found

    gain = Mapped(f"{call.name}.gains", call.operator, sums, (Function("Pow", response),))
    gains = _between(call, "gains", gain, bias**-beta)
    # By how much squares, sums and gains may be off that are rounded.
    off_sums = (size * float(squares.scale) + float(sums.scale)) / 2
    off = slope * beta * bias ** (-beta - 1) * off_sums + float(gains.scale) / 2
    return replace(product(call, real, gains), off=largest * off)


OPERATORS: Operators = {"LRN": local_response}
