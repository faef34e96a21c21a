"""Operators on integers: what a quantised file has instead of real operators between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .affine import add, mul
from .convolution import conv, gemm, matmul
from .functions import OPERATORS as FUNCTIONS
from .pooling import average_pool, global_average_pool
from .quantised import known, quantised, target
from .reader import Call, Handler, Operators
from .sums import concat
from .values import Constant, Real, RefusedError, Tensor, Value


def real_of(call: Call, at: int, *, axis: int = 1) -> Value:
    """The real numbers of input ``at``, whose scale and zero point are the next two; ``axis``: along which scales differ."""
    found = call.value(at)
    if isinstance(found, Constant):
        return known(call, found.values, at + 1, at + 2, axis)
    if not isinstance(found, Tensor):
        raise RefusedError(f"its input {call.node.inputs[at]} holds no integers")
    scale, zero = call.constant(at + 1), int(call.constant(at + 2).ravel()[0]) if call.has(at + 2) else 0
    if scale.size != 1:
        raise RefusedError(f"what is computed has {scale.size} scales", "one scale for each tensor")
    point = zero - 128 if found.unsigned else zero
    return Real(replace(found, scale=np.float32(scale.ravel()[0]), zero_point=point))


def _through(call: Call, inner: Handler, given: Sequence[Value | None], at: int) -> Value:
    """The operator on real numbers, quantised by the scale and zero point that are inputs ``at`` and the next."""
    made = inner(Call(call.reader, call.node, tuple(given)))
    assert not isinstance(made, tuple)
    return quantised(call, made, target(call, at, at + 1), call.node.outputs[0])


def _rest(call: Call, at: int) -> list[Value | None]:
    return [call.given[at]] if call.has(at) else []


def qlinear_conv(call: Call) -> Value:
    """As Conv."""
    return _through(call, conv, [real_of(call, 0), real_of(call, 3, axis=0), *_rest(call, 8)], 6)


def qlinear_matmul(call: Call) -> Value:
    """As MatMul."""
    return _through(call, matmul, [real_of(call, 0), real_of(call, 3, axis=1)], 6)


def qgemm(call: Call) -> Value:
    """As Gemm."""
    axis = 0 if call.attribute("transB", 0) else 1
    return _through(call, gemm, [real_of(call, 0), real_of(call, 3, axis=axis), *_rest(call, 6)], 7)


def qlinear_add(call: Call) -> Value:
    """As Add."""
    return _through(call, add, [real_of(call, 0), real_of(call, 3)], 6)


def qlinear_mul(call: Call) -> Value:
    """As Mul."""
    return _through(call, mul, [real_of(call, 0), real_of(call, 3)], 6)


def qlinear_concat(call: Call) -> Value:
    """As Concat."""
    count = (len(call.node.inputs) - 2) // 3
    return _through(call, concat, [real_of(call, 2 + 3 * part) for part in range(count)], 0)


def _pool(inner: Handler) -> Handler:
    def handle(call: Call) -> Value:
        if call.attribute("channels_last", 0):
            raise RefusedError("its channels are last (channels_last)")
        return _through(call, inner, [real_of(call, 0)], 3)

    handle.__doc__ = "As that of real numbers."
    return handle


def _function(operator: str) -> Handler:
    def handle(call: Call) -> Value:
        return _through(call, FUNCTIONS[operator], [real_of(call, 0)], 3)

    handle.__doc__ = f"As {operator}."
    return handle


_OURS = "com.microsoft."
OPERATORS: Operators = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    f"{_OURS}QGemm": qgemm,
    f"{_OURS}QLinearAdd": qlinear_add,
    f"{_OURS}QLinearMul": qlinear_mul,
    f"{_OURS}QLinearConcat": qlinear_concat,
    f"{_OURS}QLinearAveragePool": _pool(average_pool),
    f"{_OURS}QLinearGlobalAveragePool": _pool(global_average_pool),
    f"{_OURS}QLinearLeakyRelu": _function("LeakyRelu"),
    f"{_OURS}QLinearSigmoid": _function("Sigmoid"),
}
