"""What is run: networks with their constants and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters, identity_parameters
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.rewrites import single_nodes, with_stored_pools

from ..digits import digits_graph, digits_parameters, test_images

DIGIT_BATCH = 25
"""Images of the digits that run in one epoch."""
DIGIT_IMAGES = 100
"""Held-out images of `podweave run digits`."""


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
    return single_nodes(graph) if per_layer else [with_stored_pools(graph)]


def chip_jobs(workload: str, seed: int, *, per_layer: bool = False) -> list[Job]:
    """What a workload names, with data: those of the digits, else random constants and uniform int8 inputs."""
    if workload == "digits" and not per_layer:
        return digits_jobs(DIGIT_IMAGES)
    rng = np.random.default_rng(seed)
    jobs = []
    for graph in chip_graphs(workload, per_layer=per_layer):
        inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
        jobs.append(Job(graph, random_parameters(graph, seed), inputs))
    return jobs


def digits_jobs(images: int) -> list[Job]:
    """The digits network on the first held-out images, a batch per epoch; the last one is filled up with the first images."""
    pixels, _ = test_images()
    graph = with_stored_pools(digits_graph(DIGIT_BATCH))
    parameters = digits_parameters()
    parameters |= {node.name: identity_parameters(node) for node in graph.nodes if node.name not in parameters}
    (name,) = graph.inputs
    order = np.arange(-(-images // DIGIT_BATCH) * DIGIT_BATCH) % images
    batches = order.reshape(-1, DIGIT_BATCH)
    return [Job(graph, parameters, {name: pixels[batch]}) for batch in batches]


@dataclass(frozen=True)
class Job:
    """A network to be run in RTL, with its constants and inputs; ``parameters`` by node, ``inputs`` by tensor."""

    graph: Graph
    parameters: Mapping[str, Parameters]
    inputs: Mapping[str, NDArray[np.int8]]
