"""Random networks whose tensors are larger than banks of 256 words: they are cut, and spill."""

from __future__ import annotations

import dataclasses

from podweave.ir.graph import Graph

from ..runs.jobs import Job
from .choices import Choices
from .random_layers import GrowingGraph, with_data


def cut_graph(seed: int, rng: Choices | None = None) -> Graph:
    """Three to seven nodes on images of 10 to 20 pixels a side; what no node reads is an output, and some others."""
    sizes, nodes = (rng, rng) if rng else (Choices([seed, 14]), Choices(seed))
    growing = GrowingGraph(nodes, size=2 * int(sizes.integers(5, 11)), batch=int(sizes.integers(1, 3)))
    for _ in sizes.several(3, 8):
        growing.grow()
    graph = growing.graph(f"cut {seed}")
    more = (node.name for node in graph.operations if sizes.integers(4) == 0)
    return dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *more))))


def cut_job(seed: int, rng: Choices | None = None) -> Job:
    """A random graph with random parameters and inputs."""
    return with_data(cut_graph(seed, rng), seed)
