"""Operations of what is pending: multipliers and shifts, zero points, factors of sums, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters, border_scales, identity_parameters, identity_weights
from ...operations import AS_IT_IS, Linear, Operand, Upsampling
from ...quantise import quantize_scale
from ...row_operations import Format
from .network import LIMITS, QuantisedTensor
from .reader import Call, Padded, Padding, diagonal, given_as
from .values import Affine, Bordered, Floats, Function, Joined, Mapped, Real, RefusedError, Sum, Tensor, Value, Weighted

FINE_ENOUGH = 2.0**-7
"""By how much of a step the sum of two tensors may be off before it is rounded, if more operands can help it: a few in a thousand
results are one step off then. Finer sums take more operands, which are streams of the pods like any layer."""
_PARTS = 127
"""Weights of a tensor to which a constant is added: with one operand, that is rounded to so many parts of the tensor's step."""
_ENOUGH = 2.0**-3
"""By how much of a step of the result such a constant may be off, if more operands can help it."""
_BEYOND = 512
"""Steps of a result, more than twice as many as int8 has."""
_NOTHING = 2.0**-62
"""A scale below it leaves nothing of any sum."""
MOST_OPERANDS = 8
"""Of one tensor, in a sum of tensors."""
MOST_OFF = 1.0
"""Steps of its result by which a sum may be off. A result that is much finer than what is added is what numbers that are nearly
equal leave of each other."""


def emit(call: Call, found: Value, to: QuantisedTensor) -> Tensor:
    """The operation of real numbers that are quantised."""
    if isinstance(found, Sum):
        return _sum(call, found, to)
    if isinstance(found, Real):
        found = Mapped(call.name, call.operator, found, ())
    if isinstance(found, Mapped):
        return _mapped(call, found, to)
    if isinstance(found, Affine):
        assert to.scale is not None
        return _sum(call, _affine(call, found, float(to.scale)), to)
    if isinstance(found, Weighted):
        return _weighted(call, found, to)
    if isinstance(found, Bordered):
        return _bordered(call, found, to)
    assert isinstance(found, Joined)
    return _joined(call, found, to)


def _made(call: Call, operation: Linear, held: Parameters, operator: str, to: QuantisedTensor) -> Tensor:
    call.reader.add(operation, held, operator, to)
    found = given_as(operation.name, to)
    if to.seen == AS_IT_IS:
        return found
    return replace(found, seen=(to.seen,), is_cut=to.seen.of(operation.output) != to.view.shape)


def scaled(ratio: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Multipliers and shifts; those of powers of two are as small as they can be, and those of which nothing is left are 0."""
    # Of channels whose weights are next to nothing: sums have 33 bits, so that all of them round to 0.
    nothing = (ratio > 0) & (ratio < _NOTHING)
    try:
        multiplier, shift = quantize_scale(np.where(nothing, 1.0, ratio))
    except ValueError as error:
        raise RefusedError(str(error)) from error
    # Trailing zeros of a float32 say nothing, and chips take what fits their bits.
    trailing = np.frexp((multiplier & -multiplier).astype(np.float64))[1] - 1
    less = np.minimum(trailing, shift)
    return np.where(nothing, 0, multiplier >> less).astype(np.int32), np.where(nothing, 0, shift - less).astype(np.int32)


def _posted(
    weights: Sequence[NDArray[np.int8]], bias: NDArray[np.int64], ratio: NDArray[np.floating], zero: int, *, in_sum: bool = True
) -> Parameters:
    """``in_sum``: a zero point may be added to sums, as all of them are scaled alike."""
    multiplier, shift = scaled(np.broadcast_to(ratio, bias.shape))
    if in_sum and (multiplier == 1).all() and not shift.any():
        # Nothing is rounded: a zero point is as good in the sum.
        bias, zero = bias + zero, 0
    if (np.abs(bias) >= 1 << 31).any():
        raise RefusedError(f"its bias, with the zero point of its input, is {np.abs(bias).max():,}, which is no int32")
    return Parameters(tuple(weights), bias.astype(np.int32), multiplier, shift, zero_point=zero)


def limits(functions: Sequence[Function], to: QuantisedTensor) -> tuple[int, int] | None:
    """Between which integers functions that limit leave results; None if those are the limits of all integers."""
    assert to.scale is not None
    ends: Floats = np.array([-np.inf, np.inf], np.float32)
    for function in functions:
        ends = function.of(ends)
    with np.errstate(over="ignore"):
        low, high = np.clip(np.rint(ends / to.scale) + to.zero_point, *LIMITS[to.form]).astype(int)
    return None if (low, high) == LIMITS[to.form] else (int(low), int(high))


def limiting(functions: Sequence[Function], to: QuantisedTensor) -> NDArray[np.int8] | None:
    """The table of functions that limit int8; None if they limit nothing."""
    found = limits(functions, to)
    return None if found is None else np.clip(np.arange(256, dtype=np.uint8).view(np.int8), *found)


def _sum(call: Call, found: Sum, to: QuantisedTensor) -> Tensor:
    assert to.scale is not None
    # In float32 where the file's own scales are multiplied: as onnxruntime does it.
    ratio = found.unit / found.unit.dtype.type(to.scale)
    ratio = np.broadcast_to(ratio, found.bias.shape)
    in_sum = not (found.window and found.window.leaves_pads_out)
    held = _posted(found.weights, found.bias, ratio, to.zero_point, in_sum=in_sum)
    name = call.reader.names.unique(found.name)
    operation = Linear(name, _named(found.operands, name), found.window, identity=found.identity)
    if found.off:
        call.reader.bounds[name] = found.off / float(to.scale)
    held = replace(held, table=limiting(found.functions, to), border_scales=border_scales(operation, ratio))
    return _made(call, operation, held, found.operator, replace(to, seen=found.seen))


def _named(operands: Sequence[Operand], name: str) -> tuple[Operand, ...]:
    return tuple(replace(operand, layer=replace(operand.layer, name=name)) for operand in operands)


def _one(name: str, tensor: Tensor) -> Linear:
    operand = tensor.operand(diagonal(name, tensor.view.shape))
    return Linear(name, (operand,), identity=True)


def _mapped(call: Call, found: Mapped, to: QuantisedTensor) -> Tensor:
    tensor = found.real.tensor
    assert tensor.scale is not None
    assert to.scale is not None
    operation = _one(call.reader.names.unique(found.name), tensor)
    weights = (identity_weights(operation.operands[0].layer),)
    channels = operation.output[3]
    if not found.functions:
        ratio = np.asarray(float(tensor.scale) / float(to.scale))
        held = _posted(weights, np.full(channels, -tensor.zero_point, np.int64), ratio, to.zero_point)
        return _made(call, operation, held, found.operator, to)
    # Every int8 through the functions, in float32.
    integers = np.arange(256, dtype=np.uint8).view(np.int8)
    real: Floats = (integers.astype(np.float32) - np.float32(tensor.zero_point)) * tensor.scale
    # Where a function has no value, or an infinite one, no number of the file is.
    with np.errstate(all="ignore"):
        for function in found.functions:
            real = function.of(real)
        rounded = np.rint(real.astype(np.float32) / to.scale) + to.zero_point
        exact = real.astype(np.float64) / to.scale + to.zero_point
    table = np.clip(np.nan_to_num(rounded), -128, 127).astype(np.int8)
    call.reader.exact[operation.name] = exact
    held = replace(identity_parameters(operation), table=table)
    call.reader.tables[operation.name, tensor.origin] = table
    return _made(call, operation, held, found.operator, to)


def _affine(call: Call, found: Affine, step: float) -> Sum:
    """``step``: of the result. In as many operands as it takes to be off by no more than `_ENOUGH`."""
    tensor, factor, added = found.real.tensor, found.factor, found.added
    size = float(found.real.scale) * np.abs(factor)
    # An int8 less its zero point is at most 255.
    nothing = 255 * size <= FINE_ENOUGH * step
    lost = 255 * float(size[nothing].max(initial=0.0))
    # What one integer leads so far beyond the constant is at a limit of int8 already; so is a constant that far beyond all numbers.
    size = np.minimum(size, np.abs(added) + _BEYOND * step)
    most = 255 * size + _BEYOND * step
    added = np.clip(added, -most, most)
    operands = int(np.clip(np.ceil(size.max() / (2 * _PARTS * _ENOUGH * step)), 1, MOST_OPERANDS))
    # Where nothing is left of the tensor any unit does: the weight is 0 as well.
    unit = np.where(nothing, step, size) / (operands * _PARTS)
    rounded = np.rint(added / unit)
    off = float(np.abs(rounded * unit - added).max()) + lost
    if off > MOST_OFF * step:
        raise _too_fine(found.operator, found.name, float(size.max()) / step, off / step)
    each = np.where(nothing, 0, np.sign(factor)).astype(np.int64) * _PARTS
    bias = rounded.astype(np.int64) - operands * each * tensor.zero_point
    layer = diagonal(found.name, found.view.shape)
    weights = (identity_weights(layer) * each.astype(np.int8)).astype(np.int8)
    reads = (tensor.operand(layer, residual=True),) * operands
    return Sum(found.name, found.operator, found.view, reads, (weights,) * operands, bias, unit, functions=found.functions, off=off)


def factors(ratios: NDArray[np.float64]) -> tuple[list[int], float, float]:
    """Whole numbers in proportion to ``ratios``, what one of them is worth, and by how much a sum of int8 may be off.

    As small as it takes to be off by less than `FINE_ENOUGH`, or those of `MOST_OPERANDS` operands of up to 127.

    >>> factors(np.array([0.5, 0.5])), factors(np.array([0.3, -0.1]))[0]
    (([1, 1], 0.5, 0.0), [3, -1])
    """
    largest = int(np.argmax(np.abs(ratios)))
    first = np.arange(1, 127 * MOST_OPERANDS + 1)
    whole = np.rint(first[:, None] * ratios / np.abs(ratios[largest]))
    worth = np.abs(ratios[largest]) / first
    # An int8 less its zero point is at most 255.
    off = 255 * np.abs(whole * worth[:, None] - ratios).sum(axis=1)
    fine = np.flatnonzero(off <= FINE_ENOUGH)
    best = int(fine[0]) if len(fine) else int(np.argmin(off))
    return [int(each) for each in whole[best]], float(worth[best]), float(off[best])


def _too_fine(operator: str, name: str, finer: float, off: float) -> RefusedError:
    """Of a sum whose steps are so many times ``finer`` than those of what it adds. ``off``: by how many it may be off."""
    return RefusedError(
        f"{operator} {name} gives it steps {finer:,.0f} times finer than it adds, of which it is off by up to {off:,.0f}",
        "a scale of its result that is near to those of its inputs",
    )


def _weighted(call: Call, found: Weighted, to: QuantisedTensor) -> Tensor:
    """Each tensor by a diagonal of whole numbers, in as many operands as those take."""
    assert to.scale is not None
    name, shape = call.reader.names.unique(found.name), found.view.shape
    ratios = np.array([np.broadcast_to(by * np.float64(real.scale / to.scale), shape[3:]) for real, by in found.terms])
    # Of channels that are alike once.
    alike, which = np.unique(ratios, axis=1, return_inverse=True)
    each = [factors(column) for column in alike.T]
    whole = np.array([numbers for numbers, _, _ in each]).T[:, which]
    worth, off = np.array([worth for _, worth, _ in each])[which], max(off for _, _, off in each)
    if off > MOST_OFF:
        raise _too_fine(found.operator, found.name, float(np.abs(ratios).max()), off)
    operands, weights, bias = [], [], np.zeros(shape[3], np.int64)
    for (real, _), numbers in zip(found.terms, whole, strict=True):
        bias -= numbers * real.tensor.zero_point
        count = max(1, -(-int(np.abs(numbers).max()) // 127))
        for part in range(count):
            share = np.abs(numbers) * (part + 1) // count - np.abs(numbers) * part // count
            operand = real.tensor.operand(diagonal(name, shape), residual=True)
            operands.append(operand)
            weights.append((identity_weights(operand.layer) * np.sign(numbers) * share).astype(np.int8))
    held = _posted(weights, bias, worth, to.zero_point)
    if off:
        call.reader.bounds[name] = off
    return _made(call, Linear(name, tuple(operands)), replace(held, table=limiting(found.functions, to)), found.operator, to)


def _joined(call: Call, found: Joined, to: QuantisedTensor) -> Tensor:
    """Parts of other scales are requantised; nothing else moves."""
    begins = np.cumsum([0, *(part.view.shape[3] for part in found.parts)]).tolist()
    sources: list[str] = []
    seen: list[Upsampling] = []
    for number, part in enumerate(found.parts):
        tensor = part.tensor
        if (part.scale, tensor.zero_point) == (to.scale, to.zero_point) and not tensor.is_cut:
            sources += tensor.sources
            seen += tensor.seen or (AS_IT_IS,) * len(tensor.sources)
            continue
        mapped = Mapped(f"{found.name}.{number}", found.operator, part, ())
        made = _mapped(call, mapped, replace(to, view=part.view))
        height, width, channels = part.view.shape[1:]
        ends = (begins[number], begins[number] + channels)
        call.reader.tensors[made.sources[0]] = replace(to, part=((0, height), (0, width), ends))
        sources += made.sources
        seen += [AS_IT_IS]
    views = tuple(seen) if any(each != AS_IT_IS for each in seen) else ()
    return Tensor(tuple(sources), found.view, to.unsigned, to.scale, to.zero_point, views)


def _bordered(call: Call, found: Bordered, to: QuantisedTensor) -> Tensor:
    """What is inside is requantised, if it must be, before the border stands around it."""
    assert to.scale is not None
    tensor = found.real.tensor
    if (found.real.scale, tensor.zero_point) != (to.scale, to.zero_point):
        inner = Mapped(f"{found.name}.inner", found.operator, found.real, ())
        tensor = _mapped(call, inner, replace(to, view=found.real.view))
        rows, columns = ((before, before + size) for (before, _), size in zip(found.padding, tensor.view.shape[1:3], strict=True))
        call.reader.tensors[tensor.sources[0]] = replace(to, part=(rows, columns, (0, tensor.view.shape[3])))
    value = np.clip(np.rint(found.value / to.scale) + to.zero_point, -128, 127)
    return with_border(call, found.name, tensor, found.padding, int(value), to)


def with_border(call: Call, name: str, tensor: Tensor, padding: Padding, value: int, to: QuantisedTensor | None = None) -> Tensor:
    """A copy with the int8 ``value`` around it; ``to``: what it is in the file, where it is that."""
    made = call.reader.names.unique(name)
    operation = Linear(made, (tensor.operand(diagonal(made, tensor.view.shape, padding), value),), identity=True)
    call.reader.add(operation, identity_parameters(operation), call.operator, to)
    call.reader.padded[made] = Padded(tensor, padding, value)
    return replace(tensor, sources=(made,), view=tensor.view.like_image(operation.output), seen=(), is_cut=False)


def materialised(call: Call, tensor: Tensor, name: str) -> str:
    """A tensor that is one operation's: itself, or a copy of what lies apart, is seen otherwise, or comes from outside."""
    reader = call.reader
    if tensor.sums:
        raise RefusedError("it is a mean of 16 bits, which only products read", "int8 or uint8")
    if tensor.form is not Format.INT8 or (len(tensor.sources) == 1 and tensor.is_plain and tensor.sources[0] not in reader.inputs):
        return tensor.sources[0]
    operation = _one(reader.names.unique(name), tensor)
    reader.add(operation, identity_parameters(operation), "output")
    return operation.name


def in_one_piece(call: Call, tensor: Tensor, name: str) -> Tensor:
    """The same tensor as one of the graph that is seen as it is: itself, or a copy."""
    if len(tensor.sources) == 1 and tensor.is_plain:
        return tensor
    return replace(tensor, sources=(materialised(call, tensor, name),), seen=(), is_cut=False)
