"""Graphs in exact integers: parameters of their nodes, and evaluation by the golden models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.graph import Graph, Node
from podweave.compiler.graph import Operand as GraphOperand
from podweave.compiler.layers import Layer, WorkloadError
from podweave.golden.network import Operand, accumulate
from podweave.golden.pool import reduce_windows
from podweave.golden.post import activation_table, post_process, relu
from podweave.golden.requant import quantize_scale

# Root mean square of uniform int8, and that at which `random_parameters` holds the outputs: with ReLU it is that of the
# positive half of a distribution 1.4 times as wide, so that few of them saturate and many values are taken.
_UNIFORM_RMS = 74.0
_TARGET_RMS = 40.0


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


def random_parameters(graph: Graph, seed: int = 0) -> dict[str, Parameters]:
    """Parameters with which every tensor of a graph spreads over int8, if its inputs are uniform.

    Weights are uniform, biases a few steps of the output, scales differ from channel to channel. Nodes of an even index have
    a ReLU, others no table; those with ``identity`` are as `identity_parameters` has them.
    """
    rng = np.random.default_rng(seed)
    rms = dict.fromkeys(graph.inputs, _UNIFORM_RMS)
    found: dict[str, Parameters] = {}
    for index, node in enumerate(graph.nodes):
        # Of independent terms the squares add up; channels of a concatenation count by their share.
        square = 0.0
        for operand in node.operands:
            counts = np.array([graph.shape(source)[3] for source in operand.sources])
            mean_square = np.average(np.square([rms[source] for source in operand.sources]), weights=counts)
            weight_rms = 1.0 if node.identity else _UNIFORM_RMS
            square += operand.layer.reduction * mean_square * weight_rms**2
        spread = float(np.sqrt(square))
        positions = float(np.prod(node.window.kernel)) if node.window else 1.0
        summed = node.window is not None and node.window.reduce == "sum"
        if node.identity:
            found[node.name] = identity_parameters(node)
            # The positions of a channel resemble each other behind a ReLU, so that a mean keeps most of the size. The maximum
            # is a fit to that of 4 and of 9 Gaussians behind a ReLU.
            rms[node.name] = 0.7 * spread if summed else min(spread * np.sqrt(1 + 1.7 * np.log(positions)), 127.0)
            continue
        with_relu = index % 2 == 0
        target = _TARGET_RMS * (np.sqrt(2) if with_relu else 1)
        spread *= np.sqrt(positions) if summed else 1
        outputs = node.output[3]
        scale = target / spread * rng.uniform(0.7, 1.3, outputs)
        multiplier, shift = quantize_scale(scale)
        found[node.name] = Parameters(
            weights=tuple(rng.integers(-128, 128, operand.layer.weight_shape, dtype=np.int8) for operand in node.operands),
            bias=np.rint(rng.uniform(-8, 8, outputs) / scale).astype(np.int32),
            multiplier=multiplier,
            shift=shift,
            table=activation_table(relu) if with_relu else None,
        )
        rms[node.name] = _TARGET_RMS
    return found


def operand_input(operand: GraphOperand, tensors: Mapping[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    """What an operand reads: its sources one after the other along the channels, or some channels of its only source."""
    whole = np.concatenate([tensors[source] for source in operand.sources], axis=3)
    if operand.channels is None:
        return whole
    first, count = operand.channels
    return whole[..., first : first + count]


def evaluate(
    graph: Graph, parameters: Mapping[str, Parameters], inputs: Mapping[str, NDArray[np.int8]]
) -> dict[str, NDArray[np.int8]]:
    """Every tensor of a graph by its name, the inputs first, then the outputs of the nodes in their order."""
    _require_names(f"{graph.name}: inputs", set(graph.inputs), set(inputs))
    _require_names(f"{graph.name}: parameters", {node.name for node in graph.nodes}, set(parameters))
    tensors: dict[str, NDArray[np.int8]] = {}
    for name, shape in graph.inputs.items():
        if inputs[name].shape != shape or inputs[name].dtype != np.int8:
            raise WorkloadError(f"{graph.name}: {name} must be int8 {shape}, got {inputs[name].dtype} {inputs[name].shape}")
        tensors[name] = inputs[name]
    for node in graph.nodes:
        _, tensors[node.name] = evaluate_node(node, parameters[node.name], tensors)
    return tensors


def evaluate_node(
    node: Node, held: Parameters, tensors: Mapping[str, NDArray[np.int8]]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Accumulators (before any reduction) and output of a node that reads ``tensors``."""
    shapes = [weights.shape for weights in held.weights]
    expected = [operand.layer.weight_shape for operand in node.operands]
    if shapes != expected:
        raise WorkloadError(f"{node.name} takes weights of {expected}, got {shapes}")
    operands = [
        Operand(
            x=operand_input(operand, tensors),
            w=weights,
            stride=operand.layer.stride,
            padding=operand.layer.padding,
            dilation=operand.layer.dilation,
            groups=operand.layer.groups,
            pad_value=operand.pad_value,
        )
        for operand, weights in zip(node.operands, held.weights, strict=True)
    ]
    acc = reduced = accumulate(operands)
    if node.window:
        reduced = reduce_windows(acc, node.window.reduce, node.window.kernel, node.window.stride)
    return acc, post_process(reduced, held.bias, held.multiplier, held.shift, held.table)


def _require_names(what: str, expected: set[str], got: set[str]) -> None:
    if expected != got:
        raise WorkloadError(f"{what} must be those of {sorted(expected)}, got {sorted(got)}")
