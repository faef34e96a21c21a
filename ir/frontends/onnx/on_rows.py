"""Norms and attention as operations on rows, from int8 to int8 or to 16 bits.

In between there are 16 bits, in which nothing but norms, softmax and what they divide is rounded: zero points are taken off
what is read, and added to what is given, in the biases of products with ones.
"""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters, identity_parameters
from ...mean_norms import channel_bits
from ...operations import Linear
from ...quantise import exp_table, quantize_scale
from ...row_operations import Append, Attention, Format, LayerNorm, RowLinear
from .attention import head_channels
from .emit import materialised
from .network import QuantisedTensor
from .reader import Call, diagonal, given_as
from .values import Attended, Heads, Normed, RefusedError, Tensor
from .views import CHANNELS, HEIGHT

MULTIPLIER_BITS = 16
"""Of scales: what chips with row functions have."""
_MORE_BITS = 6
"""Bits that 16-bit rows have beyond int8: 255 steps are less than 2**15 then."""
_STEP = 1 / 16
"""Nats of an entry of the table of a softmax."""
_MOST_EPSILON = 2**30 - 1
_MOST_BIAS = 2.0**30


def on_rows(call: Call, found: Normed | Attended, to: QuantisedTensor) -> Tensor:
    """The operations of a norm or an attention that is quantised."""
    name = call.reader.names.unique(found.name)
    given = _normed(call, name, found, to) if isinstance(found, Normed) else _attended(call, name, found, to)
    return from_rows(call, name, given, found.operator, to)


def rows_name(name: str, to: QuantisedTensor, table: NDArray[np.int8] | None = None) -> str:
    """Of the last operation on rows: that of the tensor, unless a layer takes over from it."""
    # Rows of int8 are the positions of an image in one line.
    copied = to.form is Format.INT8 and (to.view.shape[HEIGHT] > 1 or table is not None)
    return f"{name}.rows" if copied else name


def from_rows(
    call: Call, name: str, given: str, operator: str, to: QuantisedTensor, table: NDArray[np.int8] | None = None
) -> Tensor:
    """The tensor of the file that the last operation on rows, ``given``, gives; ``table``: behind it, of int8."""
    call.reader.operators[given] = operator
    if given == name:
        call.reader.tensors[given] = to
        return given_as(name, to)
    copy = Linear(name, (Tensor((given,), to.view, to.unsigned).operand(diagonal(name, to.view.shape)),), identity=True)
    call.reader.add(copy, replace(identity_parameters(copy), table=table), operator, to)
    return given_as(name, to)


class Rows:
    """Products with ones, of rows of a tensor."""

    def __init__(self, call: Call, operator: str):
        self.call, self.operator = call, operator

    def unique(self, name: str) -> str:
        return self.call.reader.names.unique(name)

    def of(self, tensor: Tensor, name: str) -> tuple[str, int]:
        """The tensor as rows, and how many."""
        _, height, width, _ = tensor.view.shape
        return materialised(self.call, tensor, name), height * width

    def chosen(
        self,
        name: str,
        source: tuple[str, int],
        width: int,
        which: NDArray[np.int64],
        form: Format,
        bias: NDArray[np.int64] | int = 0,
        scale: float = 1.0,
    ) -> str:
        """Some of ``width`` channels, ``scale`` times what they are with a ``bias``."""
        weights = np.zeros((width, len(which)), np.int8)
        weights[which, np.arange(len(which))] = 1
        multiplier, shift = quantize_scale(scale, MULTIPLIER_BITS)
        # Powers of two as they are.
        less = min((multiplier & -multiplier).bit_length() - 1, shift)
        held = self.held(len(which), multiplier >> less, shift - less, bias, (weights,))
        rows = RowLinear(name, source[1], source=source[0], width=width, outputs=len(which), form=form)
        self.call.reader.add(rows, held, self.operator)
        return name

    @staticmethod
    def held(
        channels: int,
        multiplier: NDArray[np.int32] | int,
        shift: NDArray[np.int32] | int,
        bias: NDArray[np.int64] | int = 0,
        weights: tuple[NDArray[np.int8], ...] = (),
        table: NDArray[np.int16] | None = None,
    ) -> Parameters:
        def each(values: NDArray | int) -> NDArray[np.int32]:
            return np.broadcast_to(np.asarray(values), (channels,)).astype(np.int32)

        return Parameters(weights, each(bias), each(multiplier), each(shift), wide_table=table)


def _normed(call: Call, name: str, found: Normed, to: QuantisedTensor) -> str:
    assert to.scale is not None
    tensor, made = found.real.tensor, Rows(call, found.operator)
    channels = tensor.view.shape[CHANNELS]
    squares = channels * (channels / (1 << channel_bits(channels)) / float(found.real.scale)) ** 2
    # As fine as epsilon lets it be, in units of squares as they are summed up (`ir.mean_norms.layer_norm_epsilon`).
    room = log2(_MOST_EPSILON / (found.epsilon * squares)) / 2 if found.epsilon > 0 else _MORE_BITS
    bits = min(_MORE_BITS, int(np.floor(room)))
    if bits < 0:
        raise RefusedError(f"its epsilon {found.epsilon} is too large for numbers in steps of {found.real.scale}")
    source = made.of(tensor, f"{name}.copy")
    every = np.arange(channels)
    # Its zero point goes with the mean.
    wide = made.chosen(made.unique(f"{name}.wide"), source, channels, every, Format.WIDE, 0, 2.0**bits)
    epsilon = round(found.epsilon * squares * 4.0**bits)
    norm = LayerNorm(
        name if to.form is Format.INT16 else made.unique(f"{name}.norm"),
        source[1],
        source=wide,
        width=channels,
        scale_shift=0,
        epsilon=epsilon,
    )
    # 2**15 stands for the root of the sum of squares.
    deviation = 2.0**15 / np.sqrt(channels)
    bias = found.bias * deviation
    least = np.maximum(np.abs(bias) / _MOST_BIAS, 2.0**-40)
    gain = np.where(found.gain < 0, -1.0, 1.0) * np.maximum(np.abs(found.gain), least)
    # Of 16 bits already, they are what is given.
    more = _MORE_BITS if to.form is Format.INT8 else 0
    if not more:
        bias = bias + to.zero_point * float(to.scale) * deviation
        least = np.maximum(np.abs(bias) / _MOST_BIAS, 2.0**-40)
        gain = np.sign(gain) * np.maximum(np.abs(gain), least)
    factors = gain / deviation / float(to.scale) * 2.0**more
    multiplier, shift = quantize_scale(np.maximum(np.abs(factors), 2.0**-60), MULTIPLIER_BITS)
    signed = np.where(factors < 0, -multiplier, multiplier)
    call.reader.add(norm, made.held(channels, signed, shift, np.rint(bias / gain).astype(np.int64)), found.operator)
    if not more:
        return norm.name
    added = to.zero_point << _MORE_BITS
    return made.chosen(rows_name(name, to), (norm.name, source[1]), channels, every, Format.INT8, added, 2.0**-_MORE_BITS)


def _attended(call: Call, name: str, found: Attended, to: QuantisedTensor) -> str:
    assert to.scale is not None
    made, query, key, values = Rows(call, found.operator), found.scores.query, found.scores.key, found.values
    heads, size = head_channels(query, keys=False).shape

    def rows_of(what: str, part: Heads, form: Format, *, keys: bool = False, bias: int = 0, bits: int = 0) -> tuple[str, int]:
        source = made.of(part.tensor, f"{name}.{what}.copy")
        which = head_channels(part, keys=keys).ravel()
        width = part.tensor.view.shape[CHANNELS]
        return made.chosen(made.unique(f"{name}.{what}"), source, width, which, form, bias, 2.0**bits), source[1]

    queries = rows_of("query", query, Format.INT16, bias=-query.tensor.zero_point, bits=_MORE_BITS)
    cached = []
    # Softmax does not see the zero point of keys, which all scores of a query have in common.
    for what, part in (("key", key), ("value", values)):
        source, context = rows_of(what, part, Format.INT8, keys=what == "key")
        cache = made.unique(f"{name}.{what}s")
        call.reader.inputs[cache], call.reader.formats[cache] = (1, 1, context, heads * size), Format.INT8
        append = Append(
            made.unique(f"{cache}_now"), context, source=source, cache=cache, width=heads * size, context=context, position=0
        )
        call.reader.add(append, None, found.operator)
        cached.append(append.name)
    attention = Attention(
        made.unique(f"{name}.attention"),
        queries[1],
        query=queries[0],
        key=cached[0],
        value=cached[1],
        context=context,
        heads=heads,
        kv_heads=heads,
        head_size=size,
    )
    assert query.tensor.scale is not None
    assert key.tensor.scale is not None
    assert values.tensor.scale is not None
    nats = found.scores.factor * float(query.tensor.scale) * float(key.tensor.scale) * 2.0**-_MORE_BITS
    multiplier, shift = quantize_scale(nats / _STEP, MULTIPLIER_BITS)
    held = made.held(heads, multiplier, shift, table=exp_table().astype(np.int16))
    call.reader.add(attention, held, found.operator)
    # It gives 256ths of values, whose zero point weights of a softmax, which sum up to 1, leave as it is.
    ratio = values.factor * float(values.tensor.scale) / float(to.scale) / 256
    bias = round(to.zero_point / ratio) - 256 * values.tensor.zero_point
    every = np.arange(heads * size)
    return made.chosen(rows_name(name, to), (attention.name, queries[1]), heads * size, every, to.form, bias, ratio)
