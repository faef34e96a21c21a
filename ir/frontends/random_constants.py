"""Constants of networks of which only the layers are known: random, and scaled so that tensors spread over int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..constants import Parameters, border_scales, identity_parameters
from ..graph import Graph
from ..operations import Linear
from ..quantise import activation_table, quantize_scale, relu

# Root mean square of uniform int8, and that at which `random_parameters` holds the outputs: with ReLU it is that of the
# positive half of a distribution 1.4 times as wide, so that few of them saturate and many values are taken.
UNIFORM_RMS = 74.0
_TARGET_RMS = 40.0


def random_parameters(graph: Graph, seed: int = 0) -> dict[str, Parameters]:
    """Parameters with which every tensor of a graph spreads over int8, if its inputs are uniform.

    Weights are uniform, biases a few steps of the output, scales differ from channel to channel. Operations of an even index have
    a ReLU, others no table; those with ``identity`` are as `identity_parameters` has them.
    """
    rng = np.random.default_rng(seed)
    rms, channels = dict.fromkeys(graph.inputs, UNIFORM_RMS), {name: shape[3] for name, shape in graph.inputs.items()}
    found: dict[str, Parameters] = {}
    for index, operation in enumerate(graph.operations):
        found[operation.name], rms[operation.name] = layer_parameters(operation, rms, channels, rng, with_relu=index % 2 == 0)
        channels[operation.name] = operation.output[3]
    return found


def layer_parameters(
    operation: Linear, rms: Mapping[str, float], channels: Mapping[str, int], rng: np.random.Generator, *, with_relu: bool
) -> tuple[Parameters, float]:
    """Those of an operation, and the root mean square of what it gives. ``rms``, ``channels``: of what it reads."""
    # Of independent terms the squares add up; channels of a concatenation count by their share.
    square = 0.0
    for operand in operation.operands:
        counts = np.array([operand.upsampling(source).of((1, 1, 1, channels[source]))[3] for source in operand.sources])
        mean_square = np.average(np.square([rms[source] for source in operand.sources]), weights=counts)
        weight_rms = 1.0 if operation.identity else UNIFORM_RMS
        square += operand.layer.reduction * mean_square * weight_rms**2
    spread = float(np.sqrt(square))
    positions = float(np.prod(operation.window.kernel)) if operation.window else 1.0
    summed = operation.window is not None and operation.window.reduce == "sum"
    if operation.is_product:
        # Of independent factors; one that does not change, as a gate may not, makes no difference.
        first, *others = operation.operands
        held = identity_parameters(replace(operation, operands=(first,)), _TARGET_RMS / spread**2)
        # Others are what is taken off of all channels: zero points.
        less = (np.full(operand.layer.weight_shape, -1, np.int8) for operand in others)
        return replace(held, weights=(*held.weights, *less)), _TARGET_RMS
    if operation.identity:
        # The positions of a channel resemble each other behind a ReLU, so that a mean keeps most of the size. The maximum
        # is a fit to that of 4 and of 9 Gaussians behind a ReLU.
        size = 0.7 * spread if summed else min(spread * np.sqrt(1 + 1.7 * np.log(positions)), 127.0)
        return identity_parameters(operation), size
    target = _TARGET_RMS * (np.sqrt(2) if with_relu else 1)
    spread *= np.sqrt(positions) if summed else 1
    outputs = operation.output[3]
    scale = target / spread * rng.uniform(0.7, 1.3, outputs)
    multiplier, shift = quantize_scale(scale)
    held = Parameters(
        weights=tuple(rng.integers(-128, 128, operand.layer.weight_shape, dtype=np.int8) for operand in operation.operands),
        bias=np.rint(rng.uniform(-8, 8, outputs) / scale).astype(np.int32),
        multiplier=multiplier,
        shift=shift,
        table=activation_table(relu) if with_relu else None,
        border_scales=border_scales(operation, scale),
    )
    return held, _TARGET_RMS
