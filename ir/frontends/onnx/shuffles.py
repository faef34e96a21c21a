"""Channel shuffles, as they are written out: a Reshape that takes the channels apart, a Transpose, and a Reshape back.

After X. Zhang, X. Zhou, M. Lin, J. Sun, *ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices*, CVPR
2018 (arXiv 1707.01083), section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...layers import Layer
from ...operations import Linear
from .emit import in_one_piece
from .files import File, Node
from .reader import Call, Operators, require_image
from .values import Real, RefusedError, Tensor, Value

SHUFFLE = "podweave.ChannelShuffle"
"""What the three nodes become; no file has it."""
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


class _Chains:
    """Nodes that follow each other, each read by the next alone."""

    def __init__(self, file: File):
        self.file = file
        self.readers: dict[str, list[Node]] = {}
        for node in file.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.constants = dict(file.constants)
        for node in file.nodes:
            if node.operator == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
                self.constants[node.outputs[0]] = node.attributes["value"]

    def sizes(self, node: Node, rank: int) -> list[int] | None:
        """Those of a Reshape to so many dimensions; None if it is none."""
        found = self.constants.get(node.inputs[1]) if node.operator == "Reshape" and len(node.inputs) > 1 else None
        return [int(each) for each in found.ravel()] if found is not None and found.size == rank else None

    def behind(self, node: Node) -> Iterator[Node]:
        while len(node.outputs) == 1 and node.outputs[0] not in self.file.outputs:
            readers = self.readers.get(node.outputs[0], [])
            if len(readers) != 1:
                return
            node = readers[0]
            yield node

    def shuffle(self, first: Node) -> tuple[list[Node], Node] | None:
        """The nodes that a shuffle takes the place of, and it; None if ``first`` does not begin one."""
        sizes = self.sizes(first, 5)
        if sizes is None:
            return None
        gone, transposed, scales = [first], False, set[tuple[bytes, bytes]]()
        for node in self.behind(first):
            gone.append(node)
            if node.operator in _QUANTISING:
                given = [self.constants.get(name) for name in node.inputs[1:]]
                scales.add((_bytes(given, 0), _bytes(given, 1)))
            elif node.operator == "Transpose" and not transposed and list(node.attributes.get("perm", ())) == [0, 2, 1, 3, 4]:
                transposed = True
            elif transposed and len(scales) <= 1 and self.sizes(node, 4) is not None:
                scale = np.frombuffer(next(iter(scales))[0], np.float32) if scales else None
                attributes = {"sizes": sizes, "scale": scale}
                return gone, Node(node.name, SHUFFLE, first.inputs[:1], node.outputs, attributes)
            else:
                return None
        return None


def _bytes(arrays: list[NDArray | None], at: int) -> bytes:
    found = arrays[at] if at < len(arrays) else None
    return b"" if found is None else found.tobytes()


def with_shuffles(file: File) -> File:
    """The file with one node for each shuffle of channels."""
    chains = _Chains(file)
    gone: set[int] = set()
    made: dict[int, Node] = {}
    for node in file.nodes:
        found = chains.shuffle(node)
        if found:
            gone.update(map(id, found[0]))
            made[id(node)] = found[1]
    if not made:
        return file
    nodes = [made.get(id(node), node) for node in file.nodes if id(node) in made or id(node) not in gone]
    return replace(file, nodes=tuple(nodes))


def shuffle(call: Call) -> Value:
    """Channels of so many groups, the first of each, then the second: a product with a matrix of ones and zeros."""
    found = call.value(0)
    if not isinstance(found, (Real, Tensor)):
        raise RefusedError("it shuffles what is not quantised yet", "QuantizeLinear and DequantizeLinear between them")
    tensor = found.tensor if isinstance(found, Real) else found
    require_image(tensor.view)
    scale = call.node.attributes["scale"]
    if scale is not None and (scale.size != 1 or scale[0] != tensor.scale):
        raise RefusedError("it is quantised otherwise in the midst of a shuffle", "one scale for all of it")
    before, sizes = tensor.view.sizes, call.node.attributes["sizes"]
    batch, groups, each, *image = [before[at] if size == 0 and at < 1 else size for at, size in enumerate(sizes)]
    groups, each = (before[1] // max(each, 1) if groups == -1 else groups), (before[1] // max(groups, 1) if each == -1 else each)
    whole = [old if new == -1 else new for old, new in zip((before[0], *before[2:]), (batch, *image), strict=True)]
    if groups * each != before[1] or whole != [before[0], *before[2:]]:
        raise RefusedError(f"{list(before)} as {sizes} cuts an axis of the image in two")
    tensor = in_one_piece(call, tensor, f"{call.name}.joined")
    name, channels = call.reader.names.unique(call.name), before[1]
    _, height, width, _ = shape = tensor.view.shape
    layer = Layer(name=name, batch=shape[0], height=height, width=width, channels=channels, outputs=channels)
    weights = np.zeros(layer.weight_shape, np.int8)
    weights[0, 0, np.arange(channels).reshape(groups, each).T.ravel(), np.arange(channels)] = 1
    ones, zeros = np.ones(channels, np.int32), np.zeros(channels, np.int32)
    call.reader.add(Linear(name, (tensor.operand(layer),)), Parameters((weights,), zeros, ones, zeros), call.operator)
    taken = replace(tensor, sources=(name,))
    return Real(taken) if isinstance(found, Real) else taken


OPERATORS: Operators = {SHUFFLE: shuffle}
