"""Operators of constants: what shapes are computed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .reader import Call
from .values import Constant, RefusedError

MOST = 1 << 20
"""Numbers of a constant that is computed."""
_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}


def constant(call: Call) -> Constant:
    """Of any kind of numbers."""
    found = call.node.attributes
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in found:
            dtype = np.float32 if "float" in name else np.int64 if "int" in name else None
            return Constant(np.asarray(found[name], dtype))
    raise RefusedError(f"it has {', '.join(found) or 'no value'}")


def _slice(call: Call) -> NDArray:
    data, starts, ends = (call.constant(i) for i in range(3))
    axes = call.constant(3).ravel() if call.has(3) else np.arange(starts.size)
    steps = call.constant(4).ravel() if call.has(4) else np.ones(starts.size, np.int64)
    cuts = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts.ravel(), ends.ravel(), axes, steps, strict=True):
        stop = None if step < 0 and end < -data.shape[axis] else int(end)
        cuts[int(axis)] = slice(int(start), stop, int(step))
    return data[tuple(cuts)]


def _cast(call: Call) -> NDArray:
    kind = call.attribute("to", 0)
    if kind not in _TYPES:
        raise RefusedError(f"it casts to type {kind}")
    return call.constant(0).astype(_TYPES[kind])


def _divide(call: Call) -> NDArray:
    a, b = call.constant(0), call.constant(1)
    if not np.issubdtype(a.dtype, np.integer):
        return a / b
    if not b.all():
        raise RefusedError("it divides by 0")
    # Towards zero, as C does.
    return np.trunc(a / b).astype(a.dtype)


def _filled(call: Call) -> NDArray:
    sizes = [int(size) for size in call.constant(0).ravel()]
    if np.prod(sizes, dtype=object) > MOST:
        raise RefusedError(f"it fills {sizes}, more than {MOST:,} numbers")
    value = call.node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(sizes, value.ravel()[0], value.dtype)


_FOLDED: Mapping[str, Callable[[Call], NDArray]] = {
    "Gather": lambda call: np.take(call.constant(0), call.constant(1), axis=call.attribute("axis", 0)),
    "Concat": lambda call: np.concatenate([call.constant(i) for i in range(len(call.node.inputs))], axis=call.attribute("axis", 0)),
    "Slice": _slice,
    "Cast": _cast,
    "ConstantOfShape": _filled,
    "Add": lambda call: call.constant(0) + call.constant(1),
    "Sub": lambda call: call.constant(0) - call.constant(1),
    "Mul": lambda call: call.constant(0) * call.constant(1),
    "Div": _divide,
}
FOLDED = tuple(_FOLDED)
"""Operators that are computed when all that they read is constant."""


def folded(call: Call) -> Constant | None:
    """What a node of constants gives; None if it is none of those that are computed here."""
    if call.operator not in _FOLDED or not all(isinstance(value, Constant) for value in call.given if value is not None):
        return None
    try:
        found = np.asarray(_FOLDED[call.operator](call))
    except (IndexError, ValueError, TypeError) as error:
        raise RefusedError(f"its constants do not fit: {error}") from error
    if found.size > MOST:
        raise RefusedError(f"it gives {found.size:,} constants, more than {MOST:,}")
    return Constant(found)
