"""Operators that only look at data in another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .pieces import PiecesView
from .reader import Call, Operators
from .values import (
    Affine,
    Attended,
    Constant,
    Heads,
    Known,
    Mapped,
    Pending,
    Raw,
    Real,
    RefusedError,
    Scores,
    Sum,
    Tensor,
    Value,
    not_quantised,
)
from .views import LayoutError


def put_together(heads: Heads) -> Value:
    """The tensor, where its channels are no longer apart."""
    view = heads.lying.whole
    return heads if view is None or heads.factor != 1 else Real(replace(heads.tensor, view=view))


def moved(call: Call, change: Callable[[Any], Any]) -> Value:
    """``change``: of a `View`, or of a `PiecesView`."""
    found = call.value(0)
    try:
        if isinstance(found, Heads):
            return put_together(replace(found, lying=change(found.lying)))
        if isinstance(found, Attended):
            return replace(found, lying=change(found.lying))
        if isinstance(found, Real):
            return Real(replace(found.tensor, view=change(found.view)))
        if isinstance(found, (Mapped, Affine)):
            return replace(found, real=Real(replace(found.real.tensor, view=change(found.view))))
        if isinstance(found, Sum) and found.scaled:
            scaled = replace(found.scaled, lying=change(found.scaled.lying))
            return replace(found, view=change(found.view), scaled=scaled)
        if isinstance(found, (Tensor, Raw, Sum)):
            return replace(found, view=change(found.view))
    except LayoutError as error:
        raise RefusedError(str(error)) from error
    if isinstance(found, Scores):
        raise RefusedError("scores of attention must stay as they are")
    if isinstance(found, Pending):
        raise not_quantised(found)
    raise RefusedError("its input is a constant that is quantised")


def sizes_of(call: Call) -> tuple[int, ...]:
    found = call.value(0)
    if isinstance(found, Constant):
        return found.values.shape
    if isinstance(found, Scores):
        return found.sizes
    if isinstance(found, Attended):
        return found.lying.sizes
    return found.integers.shape if isinstance(found, Known) else found.view.sizes


def to_sizes(call: Call, sizes: tuple[int, ...]) -> Value:
    found = call.value(0)
    if isinstance(found, Constant):
        return Constant(found.values.reshape(sizes))
    if isinstance(found, Known) and found.scales.size == 1:
        return replace(found, integers=found.integers.reshape(sizes))
    try:
        return moved(call, lambda view: view.reshaped(sizes))
    except RefusedError:
        if not isinstance(found, Real):
            raise
        try:
            # As heads, or as queries, keys and values.
            return put_together(Heads(found.tensor, PiecesView.of(found.view).reshaped(sizes)))
        except LayoutError as error:
            raise RefusedError(str(error)) from error


def reshape(call: Call) -> Value:
    """Where no axis of the image is cut in two; or as a part of a shuffle of channels (Reshape, Transpose, Reshape)."""
    wanted, before = call.integers(1, "shape") or [], sizes_of(call)
    if not call.attribute("allowzero", 0):
        wanted = [before[i] if size == 0 and i < len(before) else size for i, size in enumerate(wanted)]
    rest = prod(size for size in wanted if size != -1)
    return to_sizes(call, tuple(prod(before) // max(rest, 1) if size == -1 else size for size in wanted))


def flatten(call: Call) -> Value:
    """As `Reshape`."""
    before = sizes_of(call)
    axis = call.attribute("axis", 1)
    if axis < 0:
        axis += len(before)
    return to_sizes(call, (prod(before[:axis]), prod(before[axis:])))


def squeeze(call: Call) -> Value:
    """As `Reshape`."""
    before, axes = sizes_of(call), call.integers(1, "axes")
    gone = {axis % len(before) for axis in axes} if axes is not None else {i for i, size in enumerate(before) if size == 1}
    return to_sizes(call, tuple(size for i, size in enumerate(before) if i not in gone))


def unsqueeze(call: Call) -> Value:
    """As `Reshape`."""
    before, axes = sizes_of(call), call.integers(1, "axes") or []
    rank = len(before) + len(axes)
    new, rest = {axis % rank for axis in axes}, iter(before)
    return to_sizes(call, tuple(1 if i in new else next(rest) for i in range(rank)))


def transpose(call: Call) -> Value:
    """Where what reads it, or leaves, takes the axes in that order."""
    found = call.value(0)
    order = [int(each) for each in call.node.attributes.get("perm", range(len(sizes_of(call)))[::-1])]
    if isinstance(found, Constant):
        return Constant(found.values.transpose(order))
    if isinstance(found, Known):
        return Known(found.integers.transpose(order), found.scales, order.index(found.axis % len(order)))
    return moved(call, lambda view: view.transposed(order))


def same(call: Call) -> Value:
    """Nothing happens."""
    return call.value(0)


def dropout(call: Call) -> Value:
    """Nothing happens; not in training."""
    if call.has(2) and call.constant(2).any():
        raise RefusedError("it leaves out numbers by chance (training_mode)", "training_mode=0, as for inference")
    return call.value(0)


def shape(call: Call) -> Value:
    """Of anything: a constant."""
    sizes = sizes_of(call)
    return Constant(np.array(sizes[slice(call.attribute("start", 0), call.node.attributes.get("end"))], np.int64))


OPERATORS: Operators = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Identity": same,
    "Dropout": dropout,
    "Shape": shape,
}
