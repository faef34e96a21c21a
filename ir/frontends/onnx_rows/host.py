"""What the host computes in front of a transformer: sizes, embeddings, masks; computed here once, so that sizes become known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...layers import WorkloadError
from ..onnx.files import Node, onnx_package
from ..onnx.values import RefusedError

MOST = 1 << 26
"""Numbers of what is computed on the host."""
_BROADCAST = {
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or", "Pow", "Sub"),
    "Where",
}
OPERATORS = {
    *("Add", "And", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "CumSum", "DequantizeLinear"),
    *("Div", "Equal", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual"),
    *("Identity", "Less", "LessOrEqual", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax"),
    *("ReduceMean", "ReduceSum", "Reshape", "Resize", "Shape", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose"),
    *("Unsqueeze", "Where"),
}


MULTIPLIES = {"Conv"}
"""Of them, those that are told in reports."""


def computed(node: Node, given: Sequence[NDArray | None], opset: int) -> list[NDArray]:
    """What a node gives; raises `RefusedError` for operators that are none of the host's, `WorkloadError` if it is too much."""
    if node.operator not in OPERATORS:
        raise RefusedError("it is none of the operators in front of a transformer")
    try:
        count = _count(node, [each for each in given if each is not None])
    except (ValueError, IndexError, OverflowError) as error:
        raise RefusedError(f"what it reads does not fit: {error}") from error
    if count > MOST:
        # Before memory is full.
        raise WorkloadError(f"{node.operator} {node.name}: it would give {count:,} numbers, more than {MOST:,}")
    onnx = onnx_package()
    from onnx.reference import ReferenceEvaluator

    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    names = [f"i{number}" if value is not None else "" for number, value in enumerate(given)]
    outputs = [f"o{number}" if name else "" for number, name in enumerate(node.outputs)]
    made = onnx.helper.make_node(node.operator, names, outputs, **attributes)
    feed = {name: value for name, value in zip(names, given, strict=True) if name}
    try:
        found = ReferenceEvaluator(made, opsets={"": opset}).run(None, feed)
    except Exception as error:  # Of whatever kind the package raises for what does not fit.
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise RefusedError(f"it cannot be computed: {told}") from error
    arrays = [np.asarray(each) for each in found]
    if sum(each.size for each in arrays) > MOST:
        raise RefusedError(f"it gives more than {MOST:,} numbers")
    return arrays


def computation(node: Node, inputs: Sequence[str]) -> Hashable:
    """The same for nodes that give the same. ``inputs``: what it reads, by one name for all that is the same."""

    def plain(value: object) -> Hashable:
        return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)

    return node.operator, tuple(inputs), tuple((name, plain(value)) for name, value in sorted(node.attributes.items()))


def _count(node: Node, given: list[NDArray]) -> int:
    """Numbers that a node gives, if that may be more than it reads; otherwise 0."""
    match node.operator:
        case "ConstantOfShape":
            return _product(given[0])
        case "Expand":
            return _product(np.broadcast_shapes(given[0].shape, tuple(int(size) for size in given[1].ravel())))
        case "Tile":
            return given[0].size * _product(given[1])
        case "Range":
            start, limit, delta = (np.ravel(each)[0] for each in given)
            return int((limit - start) / delta) if delta else MOST + 1
        case "Resize":
            # Sizes are integers, factors are not.
            last = given[-1]
            return _product(last) if np.issubdtype(last.dtype, np.integer) else int(given[0].size * np.prod(last))
        case "Gather":
            axis = int(node.attributes.get("axis", 0))
            return given[0].size // max(1, given[0].shape[axis]) * given[1].size
        case operator if operator in _BROADCAST:
            return _product(np.broadcast_shapes(*(each.shape for each in given)))
    return 0


def _product(sizes: Sequence[int] | NDArray) -> int:
    return prod(max(1, int(size)) for size in np.ravel(sizes))


def samples(name: str, inputs: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, NDArray]:
    """Ones for each input: tokens and masks that there are."""
    for each, (kind, shape) in inputs.items():
        if kind not in ("float32", "int64", "int32", "bool"):
            raise WorkloadError(f"{name}: input {each} is {kind}; inputs of transformers are float32, int64, int32 or bool")
        if np.prod(shape, dtype=object) > MOST:
            raise WorkloadError(f"{name}: input {each} has more than {MOST:,} numbers")
    return {each: np.ones(shape, np.dtype(kind)) for each, (kind, shape) in inputs.items()}
