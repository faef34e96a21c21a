"""Pads of their own: taken over by the convolutions and poolings behind them, or a copy with a border."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...constants import identity_parameters
from ...operations import Linear
from .convolution import sides
from .reader import Call, Operators, Padded, diagonal, require_image
from .values import Constant, Known, Real, RefusedError, Tensor, Value


def _value(call: Call, tensor: Tensor, *, real: bool) -> int:
    """The integer that stands in the border."""
    given = call.value(2) if call.has(2) else None
    if isinstance(given, Known):
        given = Constant(given.real)
    elif given is not None and not isinstance(given, Constant):
        raise RefusedError("what it pads with is computed", "a constant")
    value = float(call.number("value", 0.0)) if given is None else float(given.values.ravel()[0])
    if not real:
        return int(value) - (128 if tensor.unsigned else 0)
    assert tensor.scale is not None
    return int(np.clip(np.rint(np.float32(value) / tensor.scale) + tensor.zero_point, -128, 127))


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
    value = _value(call, tensor, real=isinstance(found, Real))
    name = call.reader.names.unique(call.name)
    layer = diagonal(name, tensor.view.shape, padding)
    operation = Linear(name, (tensor.operand(layer, value),), identity=True)
    call.reader.add(operation, identity_parameters(operation), call.operator)
    call.reader.padded[name] = Padded(tensor, padding, value)
    taken = replace(tensor, sources=(name,), view=tensor.view.like_image(operation.output), seen=(), is_cut=False)
    return Real(taken) if isinstance(found, Real) else taken


OPERATORS: Operators = {"Pad": pad}
