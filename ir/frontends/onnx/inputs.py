"""Real numbers from outside that other operators read before they are quantised: as if they had been quantised at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .files import File, Node
from .quantised import Target, target_of
from .shuffles import SHUFFLE

_VIEWS = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
_AS_GOOD_BEHIND = {
    *("Slice", "Split", "Gather", "Pad", "Resize", "Upsample", "SpaceToDepth", "DepthToSpace", SHUFFLE),
    *("Relu", "Clip", "MaxPool", "GlobalMaxPool"),
}
"""Operators that only move numbers, limit them, or take the largest: rounding does not change which that is."""


def quantised_behind(file: File, name: str) -> Target | None:
    """The one scale and zero point that all readers of an input end in, if operators stand between that move numbers; else None."""
    constants = dict(file.constants)
    readers: dict[str, list[Node]] = {}
    for node in file.nodes:
        if node.operator == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
            constants[node.outputs[0]] = node.attributes["value"]
        for source in dict.fromkeys(node.inputs):
            readers.setdefault(source, []).append(node)
    left, between, found = [name], False, dict[tuple[bytes, ...], tuple[NDArray, NDArray | None]]()
    while left:
        edge = left.pop()
        for node in readers.get(edge, []):
            if node.operator == "QuantizeLinear" and node.inputs[0] == edge:
                scale, zero = _numbers(constants, node, 1), _numbers(constants, node, 2)
                if scale is None or (zero is None and len(node.inputs) > 2):
                    return None
                known = (scale.tobytes(), b"" if zero is None else zero.tobytes() + zero.dtype.char.encode())
                found[known] = scale, zero
            elif node.operator in _VIEWS | _AS_GOOD_BEHIND and node.inputs[0] == edge:
                between |= node.operator in _AS_GOOD_BEHIND
                left += node.outputs
            elif node.operator != "Shape":
                return None
    if not between or len(found) != 1:
        return None
    return target_of(*next(iter(found.values())))


def _numbers(constants: Mapping[str, NDArray], node: Node, at: int) -> NDArray | None:
    return constants.get(node.inputs[at]) if at < len(node.inputs) else None
