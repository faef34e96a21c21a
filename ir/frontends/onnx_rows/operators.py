"""What each operator is to rows: one function for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..onnx.files import Node
from ..onnx.values import RefusedError
from .floats import FloatAttention, FloatGelu, FloatLinear, FloatNorm, Mask
from .patterns import GELU, NORM
from .reader import RowsReader
from .values import Host, NotANumber, Scores, Value
from .views import CHANNELS, HEADS, ONE, PARTS, ROWS, SIZE, RowsView

FAR = -1e3
"""What is added to scores of keys that are not seen, at most."""


def matmul(reader: RowsReader, node: Node) -> Value:
    """Rows times a constant matrix, also as `DynamicQuantizeLinear` and `MatMulInteger`; queries times keys; what a softmax gives
    times values."""
    left, right = reader.values[node.inputs[0]], reader.values[node.inputs[1]]
    matrix = reader.constant(node.inputs[1])
    if matrix is not None:
        return _linear(reader, node, matrix, None)
    if isinstance(left, Scores) and isinstance(right, RowsView):
        return _attention(reader, node, left, right)
    if not isinstance(left, RowsView) or not isinstance(right, RowsView):
        raise RefusedError("it multiplies what is neither rows by a constant, nor queries by keys, nor weights by values")
    if left.order not in ((HEADS, ROWS, SIZE), (ROWS, CHANNELS)) or right.order not in ((HEADS, SIZE, ROWS), (CHANNELS, ROWS)):
        raise RefusedError(f"queries lie as {', '.join(left.order)}, keys as {', '.join(right.order)}")
    return Scores(left, right, left.factor * right.factor)


def _linear(reader: RowsReader, node: Node, matrix: NDArray, bias: NDArray | None) -> RowsView:
    source = reader.view(node.inputs[0])
    if matrix.ndim != 2 or matrix.dtype != np.float32:
        raise RefusedError(f"its constant must be float32 of two dimensions, got {matrix.dtype} {matrix.shape}")
    outputs = matrix.shape[1]
    zero = np.zeros(outputs, np.float32)
    # A bias of several rows, or one for each row, would be another for each of them.
    if bias is not None and (bias.size not in (1, outputs) or bias.shape[-1:] not in ((), (bias.size,))):
        raise RefusedError(f"its bias must be one number for each of {outputs} outputs, got {bias.shape}")
    added = zero if bias is None else np.broadcast_to(bias.astype(np.float32).reshape(-1), (outputs,))
    name = source.require_rows().name
    return reader.put(FloatLinear(node.outputs[0], name, matrix, added), outputs, source)


def gemm(reader: RowsReader, node: Node) -> RowsView:
    """Rows times a constant, plus a constant; transB; alpha and beta 1."""
    matrix = reader.constant(node.inputs[1])
    bias = reader.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    plain = all(float(node.attributes.get(name, 1)) == 1 for name in ("alpha", "beta"))
    if matrix is None or not plain or node.attributes.get("transA") or (bias is None and len(node.inputs) > 2):
        raise RefusedError("it must be rows times a constant, plus a constant")
    return _linear(reader, node, matrix.T if node.attributes.get("transB") else matrix, bias)


def add(reader: RowsReader, node: Node) -> Value:
    """A constant to a product; rows to a product (residuals); a mask of the host to scores, 0 where a key is seen."""
    first, second = (reader.values[name] for name in node.inputs)
    for index, found in enumerate((first, second)):
        name = node.inputs[1 - index]
        if isinstance(found, Scores):
            return _masked(reader, found, name, "added")
        constant = reader.constant(name)
        if isinstance(found, RowsView) and constant is not None:
            return _with_bias(reader, node, found, constant)
    return _residual(reader, node)


def _masked(reader: RowsReader, scores: Scores, name: str, kind: str) -> Scores:
    mask = reader.values[name]
    if not isinstance(mask, Host) or scores.weights:
        raise RefusedError(f"what masks scores, {name}, must be computed by the host, in front of the softmax")
    shape = mask.values.shape
    # In front of rows and keys: texts, and heads, of which there may be as many as rows.
    if shape[-1:] != (reader.rows,) or not {*shape[-2:]} <= {1, reader.rows} or prod(shape[:-2]) != 1:
        raise RefusedError(f"the mask {name} must be (1, 1, 1, {reader.rows}), or for each row, got {shape}")
    return replace(scores, masks=(*scores.masks, Mask(reader.same.get(name, name), kind)))


def _with_bias(reader: RowsReader, node: Node, view: RowsView, constant: NDArray) -> RowsView:
    found = reader.alone(view)
    if not found:
        raise RefusedError("a constant is added to what is no product, or is read by others, too")
    if constant.size not in (1, view.width) or constant.shape[-1:] not in ((), (constant.size,)):
        raise RefusedError(f"the constant that is added must be one for each of {view.width} channels, got {constant.shape}")
    bias = found.bias + constant.reshape(-1).astype(np.float32)
    return reader.renamed(replace(found, bias=bias), node, view)


def _residual(reader: RowsReader, node: Node) -> RowsView:
    views = [reader.view(name) for name in node.inputs]
    if views[0].shape != views[1].shape:
        raise RefusedError(f"it adds {views[0].shape} and {views[1].shape}")
    order = list(reader.operations)
    # Of two products, the later one is added to the earlier one.
    candidates = [i for i in (0, 1) if reader.alone(views[i])]
    if not candidates:
        raise RefusedError("of two tensors that are added, one must be a product that nobody else reads")
    index = max(candidates, key=lambda i: order.index(views[i].name))
    found = reader.alone(views[index])
    assert found
    return reader.renamed(replace(found, add=views[1 - index].require_rows().name), node, views[index])


def scaled(reader: RowsReader, node: Node) -> Value:
    """Rows or scores by one number, in front of a softmax; `Mul` of a product also by one for each channel."""
    for index, name in enumerate(node.inputs):
        number, found = reader.number(node, 1 - index), reader.values[name]
        if number is None or (node.operator == "Div" and (index or not number)):
            continue
        factor = 1 / number if node.operator == "Div" else number
        if isinstance(found, RowsView):
            return found.times(factor)
        if isinstance(found, Scores) and not found.weights and not found.masks:
            return replace(found, factor=found.factor * factor)
    for index, name in enumerate(node.inputs):
        factors, found = reader.constant(node.inputs[1 - index]), reader.values[name]
        if node.operator == "Mul" and isinstance(found, RowsView) and factors is not None and factors.shape[-1:] == (factors.size,):
            return _by_channel(reader, node, found, factors.reshape(-1))
    raise RefusedError("it must multiply rows or scores by one number, or a product by one for each channel")


def _by_channel(reader: RowsReader, node: Node, view: RowsView, factors: NDArray) -> RowsView:
    found = reader.alone(view)
    if not found or factors.size != view.width:
        raise RefusedError(f"{factors.size} constants multiply what is no product of as many channels, or is read by others, too")
    return reader.renamed(replace(found, weights=found.weights * factors, bias=found.bias * factors), node, view)


def softmax(reader: RowsReader, node: Node) -> Scores:
    """Of queries times keys, over keys."""
    scores = reader.values[node.inputs[0]]
    if not isinstance(scores, Scores) or scores.weights:
        raise RefusedError("it must be of queries times keys")
    rank = len(scores.query.axes)
    if int(node.attributes.get("axis", -1 if reader.file.opset >= 13 else 1)) not in (-1, rank - 1):
        raise RefusedError("it must be over the last axis")
    return replace(scores, weights=True)


def not_a_number(reader: RowsReader, node: Node) -> NotANumber:
    """Of a softmax, as exporters guard it."""
    weights = reader.values[node.inputs[0]]
    if not isinstance(weights, Scores) or not weights.weights:
        raise RefusedError("it must be of a softmax")
    return NotANumber(weights)


def where(reader: RowsReader, node: Node) -> Scores:
    """A large negative number in place of scores of keys that are not seen; zeros in place of what is not a number in a
    softmax."""
    condition, *others = (reader.values[name] for name in node.inputs)
    if isinstance(condition, NotANumber) and others[1] == condition.weights and reader.number(node, 1) == 0:
        return condition.weights
    for index, found in enumerate(others):
        instead = reader.number(node, 2 - index)
        if isinstance(found, Scores) and instead is not None and instead <= FAR:
            return _masked(reader, found, node.inputs[0], "unseen" if index else "seen")
    raise RefusedError(f"it must replace scores by a number of at most {FAR:,.0f}, or what is not a number in a softmax by 0")


def _attention(reader: RowsReader, node: Node, scores: Scores, value: RowsView) -> RowsView:
    query, key = scores.query, scores.key
    heads = query.size(HEADS)
    if not scores.weights or value.factor != 1 or value.order not in ((HEADS, ROWS, SIZE), (ROWS, CHANNELS)):
        raise RefusedError("it must multiply a softmax by values")
    if len({(view.size(HEADS), view.size(ROWS), view.width) for view in (query, key, value)}) > 1:
        raise RefusedError("queries, keys and values must have the same heads, rows and channels")
    for view in (query, key, value):
        found = reader.operations.get(view.name)
        read = any(view.name in each.sources for each in reader.operations.values())
        if not isinstance(found, FloatLinear) or found.add or read or reader.uses[view.name] != 1:
            raise RefusedError(f"{view.name} must be a product with a constant, for this attention alone")
    if len({query.name, key.name, value.name}) < 3:
        raise RefusedError("queries, keys and values must be three products")
    masks = tuple(sorted(set(scores.masks), key=lambda mask: mask.name))
    if reader.masks not in (None, masks):
        raise RefusedError("its masks are others than those of the attention before")
    reader.masks = masks
    made = FloatAttention(node.outputs[0], query.name, key.name, value.name, heads, scores.factor)
    reader.operations[made.name], reader.widths[made.name], reader.layouts[made.name] = made, value.width, value.axes
    return RowsView(made.name, value.axes)


def _cut(reader: RowsReader, name: str, view: RowsView, begin: int, end: int, axes: tuple[tuple[str, int], ...]) -> RowsView:
    """A product of its own for outputs [begin, end) of one."""
    found = reader.cut.get(view.name) or reader.operations.get(view.name)
    if not isinstance(found, FloatLinear) or found.add or view.factor != 1 or reader.uses[view.name] != 1:
        raise RefusedError(f"only products that nobody else reads are cut, and {view.name} is none")
    reader.cut[view.name] = found
    reader.operations.pop(view.name, None)
    reader.operations[name] = FloatLinear(name, found.source, found.weights[:, begin:end], found.bias[begin:end])
    reader.widths[name], reader.layouts[name] = end - begin, axes
    return RowsView(name, axes)


def _part(reader: RowsReader, name: str, view: RowsView, part: int, axis: int, *, kept: bool) -> RowsView:
    """One of the parts of a product; ``kept``: as an axis of size 1."""
    width = view.width // view.size(PARTS)
    axes = (*view.axes[:axis], *(((ONE, 1),) if kept else ()), *view.axes[axis + 1 :])
    return _cut(reader, name, view, part * width, (part + 1) * width, axes)


def split(reader: RowsReader, node: Node) -> tuple[RowsView, ...]:
    """Of a product: along the channels, or into queries, keys and values."""
    view, count = reader.moved(node), len(node.outputs)
    axis = int(node.attributes.get("axis", 0)) % len(view.axes)
    kind, size = view.axes[axis]
    given = reader.constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("split")
    sizes = [size // count] * count if given is None else [int(each) for each in np.ravel(given)]
    if kind == PARTS and sizes == [1] * size:
        return tuple(_part(reader, name, view, part, axis, kept=True) for part, name in enumerate(node.outputs))
    if view.order != (ROWS, CHANNELS) or kind != CHANNELS or sum(sizes) != size:
        raise RefusedError(f"it cuts {size} {kind} into {', '.join(map(str, sizes))}")
    found, begin = [], 0
    for name, width in zip(node.outputs, sizes, strict=True):
        axes = (*view.axes[:axis], (CHANNELS, width), *view.axes[axis + 1 :])
        found.append(_cut(reader, name, view, begin, begin + width, axes))
        begin += width
    return tuple(found)


def gather(reader: RowsReader, node: Node) -> RowsView:
    """Queries, keys or values of a product that is all of them."""
    view, which = reader.moved(node), reader.constant(node.inputs[1])
    axis = int(node.attributes.get("axis", 0)) % len(view.axes)
    kind, size = view.axes[axis]
    if kind != PARTS or which is None or which.size != 1:
        raise RefusedError("it must take one of the parts of a product")
    return _part(reader, node.outputs[0], view, int(which.ravel()[0]) % size, axis, kept=which.ndim > 0)


def reshape(reader: RowsReader, node: Node) -> RowsView:
    """Channels to heads, and back."""
    sizes = reader.constant(node.inputs[1])
    if sizes is None:
        raise RefusedError("its sizes must be constant")
    return reader.moved(node).reshaped([int(size) for size in sizes.ravel()])


def unsqueeze(reader: RowsReader, node: Node) -> RowsView:
    """As `Reshape`."""
    view, axes = reader.moved(node), reader.axes(node)
    sizes = list(view.shape)
    for axis in sorted(axis % (len(sizes) + len(axes)) for axis in axes):
        sizes.insert(axis, 1)
    return view.reshaped(sizes)


def squeeze(reader: RowsReader, node: Node) -> RowsView:
    """As `Reshape`."""
    view, axes = reader.moved(node), reader.axes(node)
    gone = {axis % len(view.axes) for axis in axes}
    return view.reshaped([size for i, size in enumerate(view.shape) if i not in gone])


def transpose(reader: RowsReader, node: Node) -> RowsView:
    """Of rows, heads, and channels of a head."""
    view = reader.moved(node)
    return view.transposed(node.attributes.get("perm", range(len(view.axes))[::-1]))


def norm(reader: RowsReader, node: Node) -> RowsView:
    """Over channels, also written out in `ReduceMean`, `Sub`, `Pow` or `Mul`, `Sqrt`, `Div`, `Mul`, `Add`; of an input, a
    product or a sum."""
    view = reader.view(node.inputs[0]).require_rows()
    if int(node.attributes.get("axis", -1)) not in (-1, len(view.axes) - 1):
        raise RefusedError("it must be over the last axis")
    gain = reader.constant(node.inputs[1])
    bias = reader.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(view.width, np.float32)
    if gain is None or bias is None or {gain.shape, bias.shape} != {(view.width,)}:
        raise RefusedError("its gain and bias must be constants, one for each channel")
    made = reader.operations.get(view.name)
    if made is not None and not isinstance(made, FloatLinear):
        raise RefusedError("it must be of an input, a product, or a sum", "a residual in front of it")
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return reader.put(FloatNorm(node.outputs[0], view.name, gain, bias, epsilon), view.width, view)


def same(reader: RowsReader, node: Node) -> Value:
    """Nothing happens."""
    return reader.values[node.inputs[0]]


def gelu(reader: RowsReader, node: Node) -> RowsView:
    """Of a product, also written out with `Erf`, or with `Tanh`, which differs by less than 0.0005."""
    view = reader.view(node.inputs[0]).require_rows()
    found = reader.operations.get(view.name)
    if not isinstance(found, FloatLinear) or found.add:
        raise RefusedError("it must be of a product")
    return reader.put(FloatGelu(node.outputs[0], view.name), view.width, view)


OPERATORS: Mapping[str, Callable[[RowsReader, Node], Value | tuple[RowsView, ...]]] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Add": add,
    "Mul": scaled,
    "Div": scaled,
    "Softmax": softmax,
    "IsNaN": not_a_number,
    "Where": where,
    "Reshape": reshape,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Split": split,
    "Gather": gather,
    "Identity": same,
    "Dropout": same,
    NORM: norm,
    GELU: gelu,
}
"""What reads a node, by its operator."""


def operator_rows() -> list[tuple[str, str]]:
    """Each operator that is taken, and what of it."""
    return [(name, " ".join((handler.__doc__ or "").split())) for name, handler in OPERATORS.items()]
