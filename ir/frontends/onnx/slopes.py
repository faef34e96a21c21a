"""Parametric rectifiers: of one slope a table, of one for each channel a sum of what is above zero and what is below.

After K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
Classification*, ICCV 2015 (arXiv 1502.01852), section 2.1.
"""

from __future__ import annotations

import numpy as np

from .affine import is_constant, per_channel
from .emit import emit
from .functions import prelu as prelu_of_one
from .network import QuantisedTensor
from .reader import Call, Operators
from .values import Function, Known, Mapped, Real, RefusedError, Tensor, Value, Weighted


def _side(call: Call, real: Real, name: str, function: Function) -> Real:
    """What is on one side of zero, in the steps of the tensor; the file does not have it."""
    tensor = real.tensor
    to = QuantisedTensor(f"{call.name}.{name}", real.view, tensor.unsigned, real.scale, tensor.zero_point)
    made: Tensor = emit(call, Mapped(f"{call.name}.{name}", call.operator, real, (function,)), to)
    del call.reader.tensors[made.sources[0]]
    return Real(made)


def prelu(call: Call) -> Value:
    """With one slope for all, or one for each channel."""
    slope = call.value(1)
    if is_constant(slope) and (slope.integers if isinstance(slope, Known) else call.constant(1)).size == 1:
        return prelu_of_one(call)
    real = call.real(0)
    slopes = per_channel(call, slope, real.view)
    if not np.isfinite(slopes).all():
        raise RefusedError("one of its slopes is not finite")
    above = _side(call, real, "above", Function("Relu", lambda x: np.maximum(x, np.float32(0))))
    below = _side(call, real, "below", Function("Clip", lambda x: np.minimum(x, np.float32(0))))
    return Weighted(call.name, call.operator, ((above, np.ones_like(slopes)), (below, slopes)))


OPERATORS: Operators = {"PRelu": prelu}
