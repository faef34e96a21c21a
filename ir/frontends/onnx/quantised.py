"""Between integers and real numbers: where operations of the graph are made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...row_operations import Format
from .emit import emit
from .network import HALF, QuantisedTensor
from .on_rows import on_rows
from .reader import Call, Operators, Reader
from .sixteen_bits import of_16_bits, product, requantised
from .values import Attended, Constant, Heads, Known, Normed, Pending, Raw, Real, RefusedError, Scores, Sum, Tensor, Value
from .views import View


@dataclass(frozen=True)
class Target:
    """What real numbers become: float32 scale, zero point of the graph's integers, and whether the file has unsigned ones."""

    scale: np.float32
    zero_point: int
    unsigned: bool
    form: Format = Format.INT8

    def tensor(self, name: str, view: View) -> QuantisedTensor:
        """One of the file that becomes this."""
        return QuantisedTensor(name, view, self.unsigned, self.scale, self.zero_point, form=self.form)


def target(call: Call, scale_at: int, zero_at: int) -> Target:
    """Of the inputs of a node that quantises: one scale and one zero point."""
    zero = call.constant(zero_at) if call.has(zero_at) else None
    return target_of(call.constant(scale_at), zero)


def target_of(scale: NDArray, zero: NDArray | None) -> Target:
    """Of a scale and a zero point, which may be left out; raises `RefusedError` for what is none."""
    if scale.size != 1:
        raise RefusedError(f"what is computed has {scale.size} scales", "one scale for each tensor (per channel is for weights)")
    value = np.float32(scale.ravel()[0])
    if not (np.isfinite(value) and value > 0):
        raise RefusedError(f"its scale is {value}")
    if zero is not None:
        if zero.dtype not in (np.int8, np.uint8, np.int16, np.uint16):
            raise RefusedError(f"it quantises to {zero.dtype}", "int8, uint8, int16 or uint16")
        if zero.size != 1:
            raise RefusedError(f"what is computed has {zero.size} zero points", "one zero point for each tensor")
        form = Format.INT16 if zero.dtype.itemsize == 2 else Format.INT8
        unsigned, point = zero.dtype.kind == "u", int(zero.ravel()[0])
    else:
        unsigned, point, form = True, 0, Format.INT8
    return Target(value, point - HALF[form] if unsigned else point, unsigned, form)


def given(reader: Reader, found: Raw, to: Target) -> Tensor:
    """What comes from outside, quantised on the way in."""
    reader.real_inputs.add(found.name)
    return reader.given(reader.names.unique(found.name), to.tensor(found.name, found.given))


def quantised(call: Call, found: Value, to: Target, name: str) -> Value:
    """The tensor that real numbers become; ``name``: of the file."""
    if isinstance(found, Constant):
        return _constant(found, to)
    if isinstance(found, Raw):
        known = call.reader.values.get(f"\0{found.name}")
        if isinstance(known, Tensor):
            if Target(np.float32(known.scale or 0), known.zero_point, known.unsigned, known.form) != to:
                raise RefusedError(f"input {found.name} is quantised twice, in different ways")
            return replace(known, view=found.view)
        made = given(call.reader, found, to)
        call.reader.values[f"\0{found.name}"] = made
        return replace(made, view=found.view)
    if isinstance(found, Real):
        if (found.scale, found.tensor.zero_point, found.tensor.form) == (to.scale, to.zero_point, to.form):
            return replace(found.tensor, unsigned=to.unsigned, scale=to.scale, zero_point=to.zero_point)
    elif isinstance(found, (Heads, Scores)):
        raise RefusedError("it quantises in the midst of attention", "real numbers there, as podweave quantise leaves them")
    elif not isinstance(found, Pending):
        raise RefusedError("it quantises integers")
    tensor = to.tensor(name, found.view)
    if isinstance(found, (Normed, Attended)):
        return on_rows(call, found, tensor)
    if isinstance(found, Real):
        if found.tensor.sums and to.form is Format.INT8:
            return emit(call, found.tensor.sums, tensor)
        return (
            requantised(call, found.tensor, tensor) if Format.INT16 in (to.form, found.tensor.form) else emit(call, found, tensor)
        )
    if isinstance(found, Sum) and found.rows and Format.INT16 in (to.form, found.rows.form):
        return product(call, found, tensor)
    if to.form is Format.INT16:
        return of_16_bits(found, tensor)
    return emit(call, found, tensor)


def _constant(found: Constant, to: Target) -> Constant:
    if to.form is not Format.INT8:
        raise RefusedError("it quantises constants to 16 bits", "weights of int8")
    scaled = np.rint(found.values.astype(np.float32) / to.scale) + to.zero_point
    values = np.clip(scaled, -128, 127).astype(np.int16) + (128 if to.unsigned else 0)
    return Constant(values.astype(np.uint8 if to.unsigned else np.int8))


def quantize_linear(call: Call) -> Value:
    """To int8 or uint8, one scale for a tensor; to int16 or uint16 in front of some products."""
    return quantised(call, call.value(0), target(call, 1, 2), call.node.outputs[0])


def dequantize_linear(call: Call) -> Value:
    """Of tensors with one scale; of constants also with one for each position along an axis."""
    found = call.value(0)
    if isinstance(found, Constant):
        return known(call, found.values, 1, 2, call.attribute("axis", 1))
    if not isinstance(found, Tensor):
        raise RefusedError("it reads real numbers")
    scale = call.constant(1)
    if scale.size != 1:
        raise RefusedError(f"what is computed has {scale.size} scales", "one scale for each tensor (per channel is for weights)")
    zero = int(call.constant(2).ravel()[0]) if call.has(2) else 0
    point = zero - HALF[found.form] if found.unsigned else zero
    return Real(replace(found, scale=np.float32(scale.ravel()[0]), zero_point=point))


def known(call: Call, values: NDArray, scale_at: int, zero_at: int, axis: int) -> Known:
    """Constant integers less their zero point, of a node that has their scale and zero point as inputs."""
    if not np.issubdtype(values.dtype, np.integer):
        raise RefusedError(f"it dequantises {values.dtype}")
    zero = call.constant(zero_at) if call.has(zero_at) else np.zeros(1, values.dtype)
    scales = call.constant(scale_at).astype(np.float32).ravel()
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise RefusedError(f"a scale of it is {scales[~(np.isfinite(scales) & (scales > 0))][0]}")
    if values.dtype == np.uint8:
        # Of the int8 that are 128 less.
        values, zero = (values.astype(np.int16) - 128).astype(np.int8), zero.astype(np.int16) - 128
    if values.dtype not in (np.int8, np.int32):
        raise RefusedError(f"it dequantises {values.dtype} constants", "int8 weights and int32 biases")
    if zero.any():
        shape = [1] * values.ndim
        if zero.size > 1:
            shape[axis] = zero.size
        values = values.astype(np.int16) - zero.astype(np.int16).reshape(shape)
    return Known(values, scales, axis)


OPERATORS: Operators = {"QuantizeLinear": quantize_linear, "DequantizeLinear": dequantize_linear}
