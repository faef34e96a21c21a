"""Random networks whose tensors are larger than the banks of the accelerator that most tests run: they are cut, and spill."""

from __future__ import annotations

import dataclasses

import numpy as np

from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.runs.jobs import Job

from .random_networks import GrowingGraph


def cut_graph(seed: int) -> Graph:
    """Three to seven nodes on images of 10 to 20 pixels a side; what no node reads is an output, and some others."""
    rng = np.random.default_rng([seed, 14])
    growing = GrowingGraph(seed, size=2 * int(rng.integers(5, 11)), batch=int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(3, 8))):
        growing.grow()
    graph = Graph(f"cut {seed}", growing.inputs, tuple(growing.operations))
    more = (node.name for node in graph.operations if rng.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def cut_job(seed: int) -> Job:
    """A random graph with random parameters and inputs."""
    graph, rng = cut_graph(seed), np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)
