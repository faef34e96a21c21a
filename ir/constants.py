"""What the nodes of a graph hold beside their layers: weights, biases, scales, tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Node
from .layers import Layer, WorkloadError
from .quantise import quantize_scale


@dataclass(frozen=True)
class Parameters:
    """What a node holds beside its layers.

    ``weights``: of each operand, int8 in the ``weight_shape`` of its layer. ``bias``, ``multiplier``, ``shift``: int32 (O,).
    ``table``: int8 (256,), the activation function by ``value & 0xff``, or None.
    """

    weights: tuple[NDArray[np.int8], ...]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    table: NDArray[np.int8] | None = None


def identity_weights(layer: Layer) -> NDArray[np.int8]:
    """A diagonal of ones: output channel o is channel o."""
    if layer.kernel != (1, 1) or layer.channels != layer.outputs:
        raise WorkloadError(
            f"{layer.name}: an identity takes a 1x1 kernel and as many outputs as channels, got kernel {layer.kernel}, "
            f"{layer.channels} channels and {layer.outputs} outputs"
        )
    weights = np.zeros(layer.weight_shape, dtype=np.int8)
    outputs = np.arange(layer.outputs)
    weights[0, 0, outputs % (layer.channels // layer.groups), outputs] = 1
    return weights


def identity_parameters(node: Node, scale: float | None = None) -> Parameters:
    """Those of a node of ones on the diagonal: of a maximum or of no window as it is, of a sum the mean over the window.

    ``scale``: another factor from accumulators to outputs.
    """
    outputs = node.output[3]
    if scale is None:
        # 1 as 1 / 2**0: exact either way, but a person who reads it sees that nothing happens.
        averaged = node.window is not None and node.window.reduce == "sum"
        multiplier, shift = quantize_scale(1 / np.prod(node.window.kernel)) if node.window and averaged else (1, 0)
    else:
        multiplier, shift = quantize_scale(scale)
    return Parameters(
        weights=tuple(identity_weights(operand.layer) for operand in node.operands),
        bias=np.zeros(outputs, dtype=np.int32),
        multiplier=np.full(outputs, multiplier, dtype=np.int32),
        shift=np.full(outputs, shift, dtype=np.int32),
    )
