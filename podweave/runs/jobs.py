"""What is run: networks with their constants and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph, Node, Operand
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.rewrites import single_nodes

from ..digits import digits_graph, digits_parameters, test_images

DIGIT_BATCH = 25
"""Images of the digits that run in one epoch."""
DIGIT_IMAGES = 100
"""Held-out images of `podweave run digits`."""


@dataclass(frozen=True)
class Job:
    """A network to be run in RTL, with its constants and inputs; ``inputs`` by tensor."""

    graph: Graph
    constants: Constants
    inputs: Mapping[str, NDArray[np.int8]]


def chip_graphs(workload: str, *, per_layer: bool = False) -> list[Graph]:
    """The graph that a workload names, or one for each of its layers (or poolings)."""
    network, _, layer = workload.partition("/")
    if workload == "digits":
        return _split(digits_graph(DIGIT_BATCH), per_layer)
    if layer and not workload.endswith(".csv") and ":" not in workload:
        found = [graph for graph in single_nodes(load_graph(network)) if graph.name == layer]
        if not found:
            raise WorkloadError(f"network {network} has no layer {layer!r}")
        return found
    return _split(load_graph(workload), per_layer)


def _split(graph: Graph, per_layer: bool) -> list[Graph]:
    return single_nodes(graph) if per_layer else [graph]


def chip_jobs(workload: str, seed: int, *, per_layer: bool = False) -> list[Job]:
    """What a workload names, with data: those of the digits, else random constants and uniform int8 inputs."""
    if workload == "digits" and not per_layer:
        return digits_jobs(DIGIT_IMAGES)
    rng = np.random.default_rng(seed)
    jobs = []
    for graph in chip_graphs(workload, per_layer=per_layer):
        inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
        jobs.append(Job(graph, Constants(random_parameters(graph, seed)), inputs))
    return jobs


def digits_jobs(images: int) -> list[Job]:
    """The digits network on the first held-out images, a batch per epoch; the last one is filled up with the first images."""
    pixels, _ = test_images()
    graph, constants = digits_graph(DIGIT_BATCH), Constants(digits_parameters())
    (name,) = graph.inputs
    order = np.arange(-(-images // DIGIT_BATCH) * DIGIT_BATCH) % images
    batches = order.reshape(-1, DIGIT_BATCH)
    return [Job(graph, constants, {name: pixels[batch]}) for batch in batches]


def layer_graph(layer: Layer) -> Graph:
    """A layer by itself, as one pod runs it; its name and its input's are of no account."""
    return Graph(layer.name, {"input": layer.input_shape}, (Node("layer", (Operand(("input",), layer),)),))


def layer_jobs(
    layers: Sequence[Layer], seed: int, data: Sequence[tuple[NDArray[np.int8], NDArray[np.int8]]] | None = None
) -> list[Job]:
    """Each layer with (activations, weights) of its own, ``data`` or uniform int8, the same for the same seed."""
    jobs = []
    for layer, (activations, weights) in zip(layers, data or random_data(layers, seed), strict=True):
        nothing = np.zeros(layer.outputs, np.int32)
        held = Parameters((weights,), nothing, nothing, nothing)
        jobs.append(Job(layer_graph(layer), Constants({"layer": held}), {"input": activations}))
    return jobs


def random_data(layers: Sequence[Layer], seed: int) -> list[tuple[NDArray[np.int8], NDArray[np.int8]]]:
    """Uniform int8 activations and weights for every layer, the same for the same seed."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> NDArray[np.int8]:
        return rng.integers(-128, 128, shape, dtype=np.int8)

    return [(draw(layer.input_shape), draw(layer.weight_shape)) for layer in layers]
