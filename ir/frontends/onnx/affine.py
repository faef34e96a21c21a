"""Products with constants, and constants that are added, one for a tensor or for each channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...constants import identity_weights
from .functions import gated
from .pieces import PiecesView
from .products import multiplied
from .reader import Call, Operators, diagonal, image
from .sums import add as add_tensors
from .sums import subtract as subtract_tensors
from .values import Affine, Constant, Floats, Function, Heads, Known, Mapped, Real, RefusedError, Scores, Sum, Value
from .views import CHANNELS, View


def is_constant(value: Value) -> bool:
    return isinstance(value, (Constant, Known))


def per_channel(call: Call, value: Value, view: View) -> NDArray[np.float64]:
    """Constant numbers as one for each channel; raises `RefusedError` if they differ along another axis."""
    if not isinstance(value, (Constant, Known)):
        raise RefusedError("one of its inputs must be a constant")
    real = (value.values if isinstance(value, Constant) else value.real).astype(np.float64)
    if real.ndim > len(view.dims):
        raise RefusedError(f"its constant has {real.ndim} dimensions, and what it is for {len(view.dims)}")
    sizes = (1,) * (len(view.dims) - real.ndim) + real.shape
    channels = view.shape[CHANNELS]
    for dim, size in zip(view.dims, sizes, strict=True):
        if size != 1 and dim != (CHANNELS,):
            raise RefusedError(f"its constant {list(real.shape)} differs along another axis than channels")
    if real.size not in (1, channels):
        raise RefusedError(f"its constant has {real.size} numbers for {channels} channels")
    return np.broadcast_to(real.ravel(), (channels,))


def scaled_and_moved(call: Call, real: Real, factor: NDArray[np.float64], added: NDArray[np.float64]) -> Value:
    """``real * factor + added``, for each channel."""
    if not (np.isfinite(factor).all() and np.isfinite(added).all()):
        raise RefusedError("one of its constants is not finite")
    if added.any():
        return Affine(call.name, call.operator, real, factor, added)
    layer, by = diagonal(call.name, real.view.shape), float(factor[0])
    weights = (identity_weights(layer) * np.sign(factor)).astype(np.int8)
    # Where the factor is 0 any unit does: the weight is 0 as well.
    unit = float(real.scale) * np.where(factor == 0, 1.0, np.abs(factor))
    bias = -np.sign(factor).astype(np.int64) * real.tensor.zero_point
    scaled = Heads(real.tensor, PiecesView.of(real.view), by) if by > 0 and (factor == by).all() else None
    operand = real.tensor.operand(layer, residual=True)
    return Sum(call.name, call.operator, real.view, (operand,), (weights,), bias, unit, scaled=scaled)


def _one_number(call: Call, index: int) -> float:
    found = _numbers(call, index)
    if found.size != 1:
        raise RefusedError(f"its constant has {found.size} numbers, in the midst of attention", "one number for all")
    return float(found.ravel()[0])


def _in_front(call: Call, one: int, constant: int) -> Mapped | None:
    """A function of one number, if an input is that and not quantised yet, and the constant is one number: they are one table."""
    found = call.value(one)
    return found if isinstance(found, Mapped) and _numbers(call, constant).size == 1 else None


def _applied(operator: str, constant: float) -> Callable[[Floats], Floats]:
    """A number and a constant, in float32."""
    other = np.float32(constant)
    of: Callable[..., Floats] = {"Mul": np.multiply, "Div": np.divide, "Add": np.add, "Sub": np.subtract}[operator]
    return lambda x: of(x, other)


def _by_one_number(call: Call, value: Value, factor: float) -> Value:
    """Queries, keys or their scores, times a number."""
    if not (np.isfinite(factor) and factor > 0):
        raise RefusedError("it multiplies scores of attention by what is not above 0")
    assert isinstance(value, (Heads, Scores))
    if isinstance(value, Scores) and value.weights:
        raise RefusedError("it multiplies what a softmax gives")
    return replace(value, factor=value.factor * factor)


def mul(call: Call) -> Value:
    """By a constant, one or one for each channel; two tensors of one shape, or one with 1 for height, width or channels."""
    for one, other in ((0, 1), (1, 0)):
        if is_constant(call.value(other)) and not is_constant(call.value(one)):
            if isinstance(call.value(one), (Heads, Scores)):
                return _by_one_number(call, call.value(one), _one_number(call, other))
            if function := _in_front(call, one, other):
                return function.then(Function("Mul", _applied("Mul", _one_number(call, other))))
            real = call.real(one)
            factor = per_channel(call, call.value(other), real.view)
            return scaled_and_moved(call, real, factor, np.zeros_like(factor))
    return gated(call) or multiplied(call)


def div(call: Call) -> Value:
    """By a constant, one or one for each channel."""
    if isinstance(call.value(0), (Heads, Scores)):
        by_number = _one_number(call, 1)
        return _by_one_number(call, call.value(0), 1 / by_number if by_number else 0.0)
    if function := _in_front(call, 0, 1):
        return function.then(Function("Div", _applied("Div", _one_number(call, 1))))
    real = call.real(0)
    by = per_channel(call, call.value(1), real.view)
    if not by.all():
        raise RefusedError("it divides by 0")
    return scaled_and_moved(call, real, 1 / by, np.zeros_like(by))


def add(call: Call) -> Value:
    """Two tensors of one shape, of any scales; or a constant, one or one for each channel."""
    for one, other in ((0, 1), (1, 0)):
        if is_constant(call.value(other)) and not is_constant(call.value(one)):
            if isinstance(call.value(one), (Heads, Scores)) and not _numbers(call, other).any():
                return call.value(one)
            if function := _in_front(call, one, other):
                return function.then(Function("Add", _applied("Add", _one_number(call, other))))
            real = call.real(one)
            added = per_channel(call, call.value(other), real.view)
            return scaled_and_moved(call, real, np.ones_like(added), added)
    return add_tensors(call)


def sub(call: Call) -> Value:
    """As `Add`."""
    if is_constant(call.value(1)):
        if function := _in_front(call, 0, 1):
            return function.then(Function("Sub", _applied("Sub", _one_number(call, 1))))
        real = call.real(0)
        taken = per_channel(call, call.value(1), real.view)
        return scaled_and_moved(call, real, np.ones_like(taken), -taken)
    if is_constant(call.value(0)):
        real = call.real(1)
        added = per_channel(call, call.value(0), real.view)
        return scaled_and_moved(call, real, -np.ones_like(added), added)
    return subtract_tensors(call)


def _numbers(call: Call, index: int) -> NDArray[np.float64]:
    """Of a constant, quantised or not."""
    found = call.value(index)
    return (found.real if isinstance(found, Known) else call.constant(index)).astype(np.float64)


def batch_normalization(call: Call) -> Value:
    """Of a quantised tensor, with constant statistics."""
    real = image(call)
    scale, bias, mean, variance = (_numbers(call, index) for index in range(1, 5))
    factor = scale / np.sqrt(variance + float(call.number("epsilon", 1e-5)))
    return scaled_and_moved(call, real, factor, bias - mean * factor)


OPERATORS: Operators = {"Add": add, "Sub": sub, "Mul": mul, "Div": div, "BatchNormalization": batch_normalization}
