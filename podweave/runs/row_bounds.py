"""How far norms and attention of ONNX files may be from real numbers, by what they are computed with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network
from podweave.ir.mean_norms import channel_bits
from podweave.ir.operations import Linear
from podweave.ir.row_operations import Append, Attention, LayerNorm, RowLinear, RowOperation

_ENTRY = float(np.expm1(1 / 32))
"""By how much of itself a weight of a softmax is off: its table has an entry for each 16th of a nat."""
_PARTS = 4095
"""In which a table of a softmax has 1."""
_ROOT = 2.0**-8
"""By how much of itself the root of a sum of squares is off."""
_ROUNDED = 0.05
"""Of a step: scales of 16 bits, and what is rounded to a 64th or a 256th."""


def row_bound(
    network: Network, name: str, constants: Mapping[str, Parameters], tensors: Mapping[str, NDArray]
) -> NDArray[np.float64] | None:
    """By how many steps each result of a norm or an attention may be off before it is rounded.

    A weight of a softmax is off by d of itself, at most: half an entry of its table, and half a part of it; so a result is off by
    d / (1 - d) times the spread of values over keys. A norm is off by a part of itself: that of its root.

    Parameters
    ----------
    name : str
        An operation of the graph that is a tensor of the file.
    tensors : mapping
        All that it is computed of, on its way too.

    Returns
    -------
    ndarray of float64, shape of the tensor, or None
        None of what is no norm, and no attention.
    """
    operations = {operation.name: operation for operation in network.graph.operations}
    found = operations[name]
    if isinstance(found, Linear) and found.identity:
        found = operations.get(found.operands[0].sources[0], found)
    inner: Linear | RowOperation | None = None
    step = np.ones(1)
    if isinstance(found, LayerNorm):
        # Of 16 bits, it is what the file has.
        inner = found
    elif isinstance(found, RowLinear) and found.source not in network.tensors:
        inner, step = operations.get(found.source), _scale(constants[found.name])
    if isinstance(inner, Attention):
        values = operations[inner.value]
        assert isinstance(values, Append)
        seen = tensors[values.source].astype(np.float64)
        d = _ENTRY + inner.context / (2 * _PARTS)
        bound = np.ptp(seen, axis=2, keepdims=True) * d / (1 - d) * 256 * step
    elif isinstance(inner, LayerNorm):
        rows = tensors[inner.source].astype(np.float64)
        channels = rows.shape[-1]
        centred = (rows - rows.mean(axis=-1, keepdims=True)) * channels / (1 << channel_bits(channels))
        size = np.sqrt(np.square(centred).sum(axis=-1, keepdims=True) + inner.epsilon)
        # What is squared may be rounded, by up to a half.
        less = np.minimum(np.sqrt(channels) / 2 / size, 0.99)
        off = 2.0**15 * np.abs(centred) / size * ((1 + _ROOT) / (1 - less) - 1) + 1.5
        bound = off * np.abs(_scale(constants[inner.name])) * step
    else:
        return None
    held = np.broadcast_to(bound + _ROUNDED, tensors[found.name].shape)
    return np.ascontiguousarray(held.reshape(tensors[name].shape))


def _scale(held: Parameters) -> NDArray[np.float64]:
    """Of each channel."""
    return np.ldexp(held.multiplier.astype(np.float64), -held.shift.astype(np.int64))
