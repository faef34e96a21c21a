"""Some channels of a tensor: a copy of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...constants import identity_parameters
from ...operations import Linear
from .emit import in_one_piece
from .pieces import PiecesView
from .positions import integers_of, part_of_heads, some_positions
from .reader import Call, Operators, diagonal
from .values import Heads, Real, RefusedError, Tensor, Value
from .views import CHANNELS, HEIGHT, WIDTH, View


def _part(call: Call, value: Value, axis: int, first: int, count: int, number: int) -> Value:
    """Channels [first, first + count) along dimension ``axis`` of the file."""
    if isinstance(value, Heads):
        return part_of_heads(value, axis, first, count)
    tensor = value.tensor if isinstance(value, Real) else value
    if not isinstance(tensor, Tensor):
        raise RefusedError("it takes a part of what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    view = tensor.view
    if view.sizes[axis] == count:
        return value
    if view.dims[axis] != (CHANNELS,):
        raise RefusedError(f"it takes a part along axis {axis}, which is not that of the channels")
    name = call.reader.names.unique(call.name if number == 0 else f"{call.name}.{number}")
    # Several are read in one piece; one may be seen in any way.
    whole_tensor = tensor if len(tensor.sources) == 1 else in_one_piece(call, tensor, f"{call.name}.joined")
    shape = (*view.shape[:CHANNELS], count)
    whole = (shape[0], shape[1], shape[2], shape[3])
    operand = replace(whole_tensor.operand(diagonal(name, whole)), channels=(first, count))
    operation = Linear(name, (operand,), identity=True)
    call.reader.add(operation, identity_parameters(operation), call.operator)
    dims = tuple(() if dim == (CHANNELS,) and count == 1 else dim for dim in view.dims)
    taken = replace(tensor, sources=(name,), view=View(whole, dims), seen=(), is_cut=False)
    return Real(taken) if isinstance(value, Real) else taken


def _parts_of(value: Value) -> View | PiecesView:
    """How that lies of which parts are taken."""
    return value.lying if isinstance(value, Heads) else integers_of(value, "takes a part of").view


def split(call: Call) -> Value | tuple[Value, ...]:
    """Along the channels."""
    value = call.value(0)
    view = value.view if isinstance(value, (Real, Tensor, Heads)) else None
    if view is None:
        raise RefusedError("it takes parts of what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    axis = call.attribute("axis", 0) % len(view.dims)
    size, outputs = view.sizes[axis], len(call.node.outputs)
    each = -(-size // outputs)
    counts = call.integers(1, "split") or [min(each, size - each * part) for part in range(outputs)]
    if len(counts) != outputs or sum(counts) != size or min(counts) < 1:
        raise RefusedError(f"its parts are {counts} of {size}, for {outputs} outputs")
    begins = np.cumsum([0, *counts])
    return tuple(_part(call, value, axis, int(begins[part]), count, part) for part, count in enumerate(counts))


def slice_of(call: Call) -> Value:
    """Along the channels, one after the other; rows and columns, also every second, third, ...; or of constants."""
    value = call.value(0)
    _parts_of(value)
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4, "steps") or [1] * len(starts)
    positions: dict[int, range] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        view = _parts_of(value)
        where = axis % len(view.dims)
        size = view.sizes[where]
        taken = range(size)[slice(start, end, step)] if step > 0 else range(0)
        if step < 1:
            raise RefusedError(f"its step is {step}", "a step of 1 or more")
        if not taken:
            raise RefusedError(f"it takes nothing: {start} to {end} of {size}")
        if len(taken) == size:
            continue
        if isinstance(view, View) and view.dims[where] in ((HEIGHT,), (WIDTH,)):
            positions[view.dims[where][0]] = taken
        elif step != 1:
            raise RefusedError(f"its step is {step} along axis {axis}", "a step of 1, or rows and columns of an image")
        else:
            value = _part(call, value, where, taken.start, len(taken), 0)
    return some_positions(call, value, positions) if positions else value


OPERATORS: Operators = {"Split": split, "Slice": slice_of}
