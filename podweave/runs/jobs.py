"""What is run: networks with their constants and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.frontends.random_mixed import random_mixed_inputs, random_mixed_parameters
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.operations import Linear, Operand
from podweave.ir.rewrites import single_operations, with_batch
from podweave.ir.row_graph import RowGraph

from ..digits import digits_graph, digits_parameters, test_images
from .workloads import DIGIT_BATCH, load_graph, load_layers, require_layers

DIGIT_IMAGES = 100
"""Held-out images of `podweave run digits`."""
STREAM_BATCH = 50
"""Images of the digits in a pass of a stream: in several epochs, so that images come, and results go, beside others."""


@dataclass(frozen=True)
class Job:
    """A network to be run in RTL, with its constants and inputs; ``inputs`` by tensor.

    ``stream``: inputs of further passes of the same run. ``alone``: of a stream, the network on as many images as the workload
    names.
    """

    graph: Graph
    constants: Constants
    inputs: Mapping[str, NDArray]
    stream: tuple[Mapping[str, NDArray], ...] = ()
    alone: Graph | None = None

    @property
    def feeds(self) -> tuple[Mapping[str, NDArray], ...]:
        """Inputs of all passes."""
        return self.inputs, *self.stream

    @property
    def passes(self) -> int:
        return 1 + len(self.stream)


def chip_graphs(workload: str, *, per_layer: bool = False, alone: bool = False) -> list[Graph]:
    """The graph that a workload names, or one for each of its layers (or poolings); ``alone``: for each layer with weights, without
    what is added to it."""
    if alone:
        return [layer_graph(layer) for layer in load_layers(workload).layers]
    graph = load_graph(workload)
    if not per_layer:
        return [graph]
    require_layers(graph)
    return single_operations(graph)


def model_constants(graph: Graph, *, scale_bits: int = 31) -> Constants:
    """Constants with which a network takes as many cycles as with any others, with multipliers of ``scale_bits``: of rows, weights
    are zeros that take no room."""
    if isinstance(graph, MixedGraph):
        found = random_mixed_parameters(graph, with_weights=False)
    elif isinstance(graph, RowGraph):
        found = random_row_parameters(graph, with_weights=False)
    else:
        found = random_parameters(graph, 0)
    return with_scale_bits(found, scale_bits)


def chip_jobs(workload: str, seed: int, *, per_layer: bool = False, alone: bool = False, scale_bits: int = 31) -> list[Job]:
    """What a workload names, with data: those of the digits, else random constants and uniform int8 inputs.

    ``scale_bits``: bits of multipliers, those of the configuration (`ChipConfig.scale_bits`) or fewer.
    """
    if workload == "digits" and not (per_layer or alone):
        return digits_jobs(DIGIT_IMAGES, scale_bits=scale_bits)
    graphs = chip_graphs(workload, per_layer=per_layer, alone=alone)
    if workload.partition("/")[0] == "digits" and not alone:
        return [_digits_layer(graph, scale_bits) for graph in graphs]
    rng = np.random.default_rng(seed)
    jobs = []
    for graph in graphs:
        if isinstance(graph, MixedGraph):
            constants = with_scale_bits(random_mixed_parameters(graph, seed), scale_bits)
            jobs.append(Job(graph, constants, random_mixed_inputs(graph, seed)))
            continue
        if isinstance(graph, RowGraph):
            constants = with_scale_bits(random_row_parameters(graph, seed), scale_bits)
            jobs.append(Job(graph, constants, random_row_inputs(graph, seed)))
            continue
        inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
        jobs.append(Job(graph, with_scale_bits(random_parameters(graph, seed), scale_bits), inputs))
    return jobs


def _digits_layer(graph: Graph, scale_bits: int) -> Job:
    """A layer of the digits by itself, with its constants, and what it reads when the network sees the first held-out images."""
    pixels, _ = test_images()
    whole, parameters = digits_graph(DIGIT_BATCH), with_scale_bits(digits_parameters(), scale_bits)
    (image,) = whole.inputs
    tensors = evaluate(whole, parameters, {image: pixels[:DIGIT_BATCH]})
    held = Constants({operation.name: parameters[operation.name] for operation in graph.operations})
    return Job(graph, held, {name: tensors[name] for name in graph.inputs})


def digits_jobs(images: int, *, scale_bits: int = 31, batch: int = DIGIT_BATCH) -> list[Job]:
    """The digits network on the first held-out images, a batch at a time; the last one is filled up with the first images."""
    pixels, _ = test_images()
    graph, constants = digits_graph(batch), with_scale_bits(digits_parameters(), scale_bits)
    (name,) = graph.inputs
    order = np.arange(-(-images // batch) * batch) % images
    batches = order.reshape(-1, batch)
    return [Job(graph, constants, {name: pixels[batch]}) for batch in batches]


def stream_job(workload: str, images: int, seed: int, *, batch: int | None = None, scale_bits: int = 31) -> Job:
    """What a workload names, on so many images in one run: as many passes as it takes, with data as of `chip_jobs`.

    ``batch``: images of a pass; by default as many as the workload names. The last pass is filled up.
    """
    alone = stream_graph(workload)
    if workload == "digits":
        jobs = digits_jobs(images, scale_bits=scale_bits, batch=batch or STREAM_BATCH)
        return replace(jobs[0], stream=tuple(job.inputs for job in jobs[1:]), alone=alone)
    (job,) = chip_jobs(workload, seed, scale_bits=scale_bits)
    if isinstance(job.graph, RowGraph):
        raise WorkloadError(f"{job.graph.name} has operations on rows: a stream of images is for networks of layers")
    graph = in_batches(alone, batch)
    rng = np.random.default_rng([seed, 1])

    def drawn() -> dict[str, NDArray]:
        return {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}

    first = drawn() if batch else job.inputs
    more = tuple(drawn() for _ in range(1, stream_passes(graph, images)))
    return replace(job, graph=graph, inputs=first, stream=more, alone=alone)


def stream_graph(workload: str) -> Graph:
    """What a stream goes through, on as many images as the workload names."""
    (graph,) = (digits_graph(STREAM_BATCH),) if workload == "digits" else chip_graphs(workload)
    return graph


def in_batches(graph: Graph, batch: int | None) -> Graph:
    """A network as passes of a stream go over it."""
    return graph if batch is None else with_batch(graph, batch)


def stream_passes(graph: Graph, images: int) -> int:
    """Passes over a network that so many images take."""
    return -(-images // images_of(graph))


def images_of(graph: Graph) -> int:
    """That a network sees at a time."""
    return max(shape[0] for shape in graph.inputs.values())


def layer_graph(layer: Layer) -> Graph:
    """A layer by itself."""
    source = f"input of {layer.name}"
    return Graph(layer.name, {source: layer.input_shape}, (Linear(layer.name, (Operand((source,), layer),)),))
