"""Attention among layers, and norms of positions: what becomes operations on rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...row_operations import Format
from .pieces import Piece, PiecesView
from .reader import Call, Operators
from .values import Attended, Constant, Heads, Known, Normed, Real, RefusedError, Scores, Sum, Value
from .views import BATCH, CHANNELS

_COMPUTED = "it multiplies two computed tensors"
_ATTENTION = "queries times keys, and their softmax times values, as docs/onnx.md has them"


def _heads(call: Call, index: int) -> Heads:
    """Queries, keys or values, of one image."""
    found = call.value(index)
    if isinstance(found, Real):
        found = Heads(found.tensor, PiecesView.of(found.view))
    elif isinstance(found, Sum) and found.scaled:
        found = found.scaled
    if not isinstance(found, Heads):
        raise RefusedError(_COMPUTED, _ATTENTION)
    if found.tensor.form is not Format.INT8:
        raise RefusedError(f"its input {call.node.inputs[index]} has 16 bits", "int8 or uint8 for queries, keys and values")
    if found.lying.shape[BATCH] != 1:
        raise RefusedError(f"it multiplies computed tensors of {found.lying.shape[BATCH]} images", "a batch of 1 (--size)")
    if len(found.lying.dims) < 2:
        raise RefusedError(_COMPUTED, _ATTENTION)
    return found


def _lead(heads: Heads) -> Piece | None:
    """The heads, of the dimensions in front of the last two; None if they are no heads."""
    lying = heads.lying
    dims = [dim for dim, size in enumerate(lying.sizes[:-2]) if size > 1]
    if not dims:
        return Piece(CHANNELS, 1, 0)
    return lying.only(dims[0]) if len(dims) == 1 else None


def head_channels(heads: Heads, *, keys: bool) -> NDArray[np.int64]:
    """(heads, channels of one): which channels of the tensor they are. ``keys``: channels stand in front of positions."""
    lead, size = _lead(heads), heads.lying.only(-2 if keys else -1)
    assert lead is not None
    assert size is not None
    return heads.lying.channels((lead, size)).reshape(lead.size, size.size)


def _require(heads: Heads, what: str, *, keys: bool = False) -> None:
    channels, positions = (-2, -1) if keys else (-1, -2)
    if _lead(heads) is None or heads.lying.only(channels) is None or not heads.lying.has_positions(positions):
        order = "channels, positions" if keys else "positions, channels"
        raise RefusedError(f"{_COMPUTED}, and {what} are not (heads, {order})", _ATTENTION)


def attention_product(call: Call) -> Value:
    """Queries times keys, or what a softmax gives times values."""
    one = call.value(0)
    if not isinstance(one, Scores):
        query, key = _heads(call, 0), _heads(call, 1)
        _require(query, "queries")
        _require(key, "keys", keys=True)
        if head_channels(query, keys=False).shape != head_channels(key, keys=True).shape:
            raise RefusedError(f"it multiplies {list(query.lying.sizes)} by {list(key.lying.sizes)}", _ATTENTION)
        return Scores(query, key, query.factor * key.factor)
    if not one.weights:
        raise RefusedError(_COMPUTED, "a Softmax in between")
    values = _heads(call, 1)
    _require(values, "values")
    channels = head_channels(values, keys=False)
    fits = channels.shape[0] == head_channels(one.query, keys=False).shape[0]
    if not fits or channels.shape != head_channels(one.key, keys=True).shape or values.lying.sizes[-2] != one.sizes[-1]:
        raise RefusedError(f"it multiplies {list(one.sizes)} by {list(values.lying.sizes)}", _ATTENTION)
    count, size = channels.shape
    batch, height, width, _ = one.query.lying.shape
    lead = tuple((Piece(CHANNELS, count, size),) if dim > 1 else () for dim in one.sizes[:-2])
    dims = (*lead, one.query.lying.dims[-2], (Piece(CHANNELS, size),))
    return Attended(call.name, call.operator, one, values, PiecesView((batch, height, width, count * size), dims))


def softmax(call: Call) -> Value:
    """Of queries times keys, over keys."""
    found = call.value(0)
    if not isinstance(found, Scores) or found.weights:
        raise RefusedError("it is of what is no product of queries and keys", "--host-ops, which leaves it to the host")
    axis = call.attribute("axis", -1 if call.reader.opset >= 13 else 1)
    if axis % len(found.sizes) != len(found.sizes) - 1:
        raise RefusedError(f"its axis is {axis}", "the last one, of keys")
    return Scores(found.query, found.key, found.factor, weights=True)


def _numbers(call: Call, index: int, channels: int) -> NDArray[np.float64]:
    """Constants of each channel, quantised or not."""
    found = call.value(index)
    if not isinstance(found, (Constant, Known)):
        raise RefusedError(f"its input {call.node.inputs[index]} is computed, and must be a constant")
    real = (found.real if isinstance(found, Known) else found.values).astype(np.float64).ravel()
    if real.size not in (1, channels):
        raise RefusedError(f"its input {call.node.inputs[index]} has {real.size} numbers for {channels} channels")
    if not np.isfinite(real).all():
        raise RefusedError(f"its input {call.node.inputs[index]} is not finite")
    return np.broadcast_to(real, (channels,)).copy()


def layer_normalization(call: Call) -> Value:
    """Over the channels of each position, of one image."""
    real = call.real(0)
    view, axis = real.view, call.attribute("axis", -1)
    if axis % len(view.dims) != len(view.dims) - 1 or view.dims[-1] != (CHANNELS,):
        raise RefusedError("it is not over channels alone, as the last dimension", "a Transpose that puts them there")
    if view.shape[BATCH] != 1:
        raise RefusedError(f"it is of {view.shape[BATCH]} images", "a batch of 1 (--size)")
    channels = view.shape[CHANNELS]
    gain = _numbers(call, 1, channels)
    bias = _numbers(call, 2, channels) if call.has(2) else np.zeros(channels)
    return Normed(call.name, call.operator, real, gain, bias, float(call.number("epsilon", 1e-5)))


OPERATORS: Operators = {"LayerNormalization": layer_normalization, "Softmax": softmax}
