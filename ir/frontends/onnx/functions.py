"""Functions of one number: limits come behind a rounding, all others become tables of 256 entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from .reader import Call, Handler, Operators
from .values import Floats, Function, Known, Mapped, Pending, Real, RefusedError, Value


def applied(call: Call, function: Function) -> Value:
    """A function behind what is pending, or of a tensor."""
    found = call.value(0)
    if isinstance(found, Pending):
        return found.then(function)
    return Mapped(call.name, call.operator, call.real(0), (function,))


def relu(call: Call) -> Value:
    """Behind what is quantised next, or of a tensor."""
    return applied(call, Function("Relu", lambda x: np.maximum(x, np.float32(0)), clips=True))


def clip(call: Call) -> Value:
    """By constants."""
    limits = []
    for index, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        if call.has(index):
            limits.append(np.float32(call.constant(index).ravel()[0]))
        else:
            limits.append(call.number(name, default))
    low, high = limits
    return applied(call, Function("Clip", lambda x: np.minimum(np.maximum(x, low), high), clips=True))


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, np.float32(1)) / (np.float32(1) + small)


def _erf(x: Floats) -> Floats:
    return np.vectorize(erf, otypes=[np.float64])(x).astype(np.float32)


def _gelu(call: Call) -> Callable[[Floats], Floats]:
    if call.node.attributes.get("approximate", "none") == "tanh":
        root, cube = np.float32(sqrt(2 / np.pi)), np.float32(0.044715)
        return lambda x: np.float32(0.5) * x * (np.float32(1) + np.tanh(root * (x + cube * x * x * x)))
    return lambda x: np.float32(0.5) * x * (np.float32(1) + _erf(x / np.float32(sqrt(2))))


def _hard_sigmoid(call: Call, alpha: float, beta: float) -> Callable[[Floats], Floats]:
    a, b = call.number("alpha", alpha), call.number("beta", beta)
    return lambda x: np.clip(a * x + b, np.float32(0), np.float32(1))


def _hard_swish(call: Call) -> Callable[[Floats], Floats]:
    inner = _hard_sigmoid(call, 1 / 6, 0.5)
    return lambda x: x * inner(x)


def _leaky(call: Call) -> Callable[[Floats], Floats]:
    alpha = call.number("alpha", 0.01)
    return lambda x: np.where(x < 0, alpha * x, x)


def _elu(call: Call) -> Callable[[Floats], Floats]:
    alpha = call.number("alpha", 1.0)
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, np.float32(0))), x)


def _selu(call: Call) -> Callable[[Floats], Floats]:
    alpha, gamma = call.number("alpha", 1.67326319217681884765625), call.number("gamma", 1.05070102214813232421875)
    return lambda x: gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, np.float32(0))), x)


def _celu(call: Call) -> Callable[[Floats], Floats]:
    alpha = call.number("alpha", 1.0)
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, np.float32(0)) / alpha), x)


def _thresholded(call: Call) -> Callable[[Floats], Floats]:
    alpha = call.number("alpha", 1.0)
    return lambda x: np.where(x > alpha, x, np.float32(0))


def _softplus(x: Floats) -> Floats:
    return np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))


_MADE: dict[str, Callable[[Call], Callable[[Floats], Floats]]] = {
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Sigmoid": lambda _: _sigmoid,
    "HardSigmoid": lambda call: _hard_sigmoid(call, 0.2, 0.5),
    "HardSwish": _hard_swish,
    "Tanh": lambda _: np.tanh,
    "Softplus": lambda _: _softplus,
    "Softsign": lambda _: lambda x: x / (np.float32(1) + np.abs(x)),
    "Gelu": _gelu,
    "Erf": lambda _: _erf,
    "Mish": lambda _: lambda x: x * np.tanh(_softplus(x)),
    "Abs": lambda _: np.abs,
    "Neg": lambda _: np.negative,
    "Selu": _selu,
    "Celu": _celu,
    "ThresholdedRelu": _thresholded,
    "Exp": lambda _: np.exp,
    "Log": lambda _: np.log,
    "Sqrt": lambda _: np.sqrt,
    "Reciprocal": lambda _: np.reciprocal,
    "Sin": lambda _: np.sin,
    "Cos": lambda _: np.cos,
    "Sign": lambda _: np.sign,
    "Round": lambda _: np.rint,
    "Floor": lambda _: np.floor,
    "Ceil": lambda _: np.ceil,
}


def _one_number(call: Call, index: int, what: str) -> np.float32:
    """A constant of one number."""
    found = call.value(index)
    values = found.real if isinstance(found, Known) else call.constant(index)
    if values.size != 1:
        raise RefusedError(f"its {what} has {values.size} numbers", "one number for all")
    return np.float32(values.ravel()[0])


def prelu(call: Call) -> Value:
    """With one slope for all."""
    slope = _one_number(call, 1, "slope")
    return applied(call, Function("PRelu", lambda x: np.where(x < 0, slope * x, x)))


def power(call: Call) -> Value:
    """To a constant power, one for all."""
    exponent = _one_number(call, 1, "exponent")
    return applied(call, Function("Pow", lambda x: np.power(x, exponent)))


def _handler(operator: str) -> Handler:
    def handle(call: Call) -> Value:
        return applied(call, Function(operator, _MADE[operator](call)))

    handle.__doc__ = "Of a quantised tensor: a table of 256 entries."
    return handle


def _times(functions: Sequence[Function]) -> Callable[[Floats], Floats]:
    """A number times functions of it."""

    def product(x: Floats) -> Floats:
        y = x
        for function in functions:
            y = function.of(y)
        return x * y

    return product


def gated(call: Call) -> Value | None:
    """A product of a number with a function of itself, as SiLU and HardSwish are written out; None if it is none."""
    for one, other in ((0, 1), (1, 0)):
        plain, mapped = call.value(one), call.value(other)
        if not isinstance(plain, Real):
            continue
        if isinstance(mapped, Mapped) and mapped.real.tensor == plain.tensor:
            return Mapped(call.name, call.operator, plain, (Function("Mul", _times(mapped.functions)),))
        if isinstance(mapped, Real) and len(mapped.tensor.sources) == 1 and mapped.tensor.is_plain:
            table = call.reader.tables.get((mapped.tensor.sources[0], plain.tensor.origin))
            if table is not None and mapped.view == plain.view:
                return Mapped(call.name, call.operator, plain, (Function("Mul", _times([_looked_up(plain, mapped, table)])),))
    return None


def _looked_up(plain: Real, mapped: Real, table: NDArray[np.int8]) -> Function:
    """What a tensor is that was made of another one by a table."""
    scale, zero = plain.scale, np.float32(plain.tensor.zero_point)

    def of(x: Floats) -> Floats:
        integers = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
        found = table[integers.view(np.uint8)].astype(np.float32)
        real: Floats = (found - np.float32(mapped.tensor.zero_point)) * mapped.scale
        return real

    return Function("table", of)


OPERATORS: Operators = {
    "Relu": relu,
    "Clip": clip,
    "Pow": power,
    **{operator: _handler(operator) for operator in _MADE},
    "com.microsoft.Gelu": _handler("Gelu"),
}
