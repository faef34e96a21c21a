"""Sums of tensors, and tensors one after the other."""

from __future__ import annotations

import numpy as np

from .reader import Call, Operators
from .values import Joined, Real, RefusedError, Value, Weighted
from .views import CHANNELS, View


def _terms(call: Call, signs: tuple[int, ...]) -> Weighted:
    reals = []
    for index in range(len(signs)):
        reals.append(call.real(index))
    for real in reals[1:]:
        if (real.view.shape, real.view.dims) != (reals[0].view.shape, reals[0].view.dims):
            raise RefusedError(f"it adds {list(reals[0].view.sizes)} and {list(real.view.sizes)}", "tensors of one shape")
    return Weighted(
        call.name, call.operator, tuple((real, np.asarray(float(sign))) for real, sign in zip(reals, signs, strict=True))
    )


def add(call: Call) -> Value:
    """Two tensors of one shape."""
    return _terms(call, (1, 1))


def subtract(call: Call) -> Value:
    """Two tensors of one shape."""
    return _terms(call, (1, -1))


def total(call: Call) -> Value:
    """Tensors of one shape."""
    return _terms(call, (1,) * len(call.given))


def concat(call: Call) -> Value:
    """Along the channels."""
    parts = [call.real(index) for index in range(len(call.given))]
    return Joined(call.name, call.operator, tuple(parts), joined_view(call, parts))


def joined_view(call: Call, parts: list[Real]) -> View:
    first = parts[0].view
    axis = call.attribute("axis", 1) % len(first.dims)
    for part in parts:
        if part.view.dims[axis] not in ((CHANNELS,), ()) or any(
            CHANNELS in dim for i, dim in enumerate(part.view.dims) if i != axis
        ):
            raise RefusedError(f"it joins along axis {axis}, which is not that of the channels")
        if part.view.shape[:CHANNELS] != first.shape[:CHANNELS]:
            raise RefusedError("it joins images of different sizes")
    channels = sum(int(np.prod(part.view.sizes[axis])) for part in parts)
    joined = (CHANNELS,) if channels > 1 else ()
    dims = tuple(joined if i == axis else dim for i, dim in enumerate(first.dims))
    batch, height, width, _ = first.shape
    return View((batch, height, width, channels), dims)


OPERATORS: Operators = {"Sum": total, "Concat": concat}
