"""Pads of their own: taken over by the convolutions and poolings behind them, or a copy with a border."""

from __future__ import annotations

import numpy as np

from .convolution import sides
from .emit import with_border
from .reader import Call, Operators, require_image
from .values import Bordered, Constant, Known, Real, RefusedError, Tensor, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH


def _value(call: Call) -> float:
    """What stands in the border."""
    given = call.value(2) if call.has(2) else None
    if isinstance(given, Known):
        given = Constant(given.real)
    elif given is not None and not isinstance(given, Constant):
        raise RefusedError("what it pads with is computed", "a constant")
    return float(call.number("value", 0.0)) if given is None else float(given.values.ravel()[0])


def pad(call: Call) -> Value:
    """Height and width, by a constant; taken over by what reads it, where that is possible."""
    found = call.value(0)
    if not isinstance(found, (Real, Tensor)):
        raise RefusedError("it pads what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    tensor = found.tensor if isinstance(found, Real) else found
    mode = call.node.attributes.get("mode", "constant")
    if mode != "constant":
        raise RefusedError(f"its mode is {mode}", "constant")
    require_image(tensor.view)
    rank = len(tensor.view.dims)
    pads, axes = call.integers(1, "pads") or [], call.integers(3, "axes") or list(range(rank))
    if len(pads) != 2 * len(axes):
        raise RefusedError(f"it has {len(pads)} pads for {len(axes)} dimensions")
    whole = [0] * (2 * rank)
    for number, axis in enumerate(axes):
        whole[axis % rank], whole[rank + axis % rank] = pads[number], pads[len(axes) + number]
    if min(whole) < 0:
        raise RefusedError(f"its pads {pads} take something off", "a Slice")
    if any(whole[at] for at in (0, 1, rank, rank + 1)):
        raise RefusedError(f"its pads {pads} add to batch or channels", "height and width alone")
    if not any(whole):
        return found
    padding = sides([*whole[2:rank], *whole[rank + 2 :]])
    value = _value(call)
    if isinstance(found, Tensor):
        return with_border(call, call.name, tensor, padding, int(value) - (128 if tensor.unsigned else 0))
    integer = np.clip(np.rint(np.float32(value) / found.scale) + tensor.zero_point, -128, 127)
    if (integer - tensor.zero_point) * found.scale == np.float32(value):
        return Real(with_border(call, call.name, tensor, padding, int(integer)))
    shape = tensor.view.shape
    rows, columns = (shape[axis] + sum(padding[axis - HEIGHT]) for axis in (HEIGHT, WIDTH))
    view = tensor.view.like_image((shape[BATCH], rows, columns, shape[CHANNELS]))
    return Bordered(call.name, call.operator, found, view, padding, np.float32(value))


OPERATORS: Operators = {"Pad": pad}
