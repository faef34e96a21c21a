"""Constants and inputs of graphs of layers and operations on rows: those of each as in graphs of its kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..constants import Parameters
from ..mixed_graph import MixedGraph
from ..operations import Linear
from ..row_graph import RowGraph
from .random_constants import UNIFORM_RMS, layer_parameters
from .random_rows import input_rms, random_row_inputs, row_parameters


def random_mixed_parameters(graph: MixedGraph, seed: int = 0, *, with_weights: bool = True) -> dict[str, Parameters]:
    """Parameters of every operation. Without weights, those of operations on rows are zeros that take no memory.

    Layers of an even index that are read by layers alone have a ReLU, others no table.
    """
    rng = np.random.default_rng(seed)
    drawn = np.random.default_rng([seed, 2]) if with_weights else None
    images = _images(graph)
    inner = {source for layer in graph.layers for source in layer.sources} - {*graph.outputs}
    inner -= {source for operation in graph.rows for source in operation.sources}
    rms = {name: UNIFORM_RMS if name in images else input_rms(graph.format(name)) for name in graph.inputs}
    channels = {name: shape[3] for name, shape in graph.inputs.items()}
    found: dict[str, Parameters] = {}
    for index, operation in enumerate(graph.operations):
        name = operation.name
        if isinstance(operation, Linear):
            found[name], rms[name] = layer_parameters(operation, rms, channels, rng, with_relu=name in inner and index % 2 == 0)
        else:
            found[name], rms[name] = row_parameters(operation, rms, rng, drawn)
        channels[name] = operation.output[3]
    return found


def random_mixed_inputs(graph: MixedGraph, seed: int = 0) -> dict[str, NDArray]:
    """Inputs by name: images are uniform, others as `random_row_inputs` has them."""
    images, rng = _images(graph), np.random.default_rng([seed, 3])
    others = {name: shape for name, shape in graph.inputs.items() if name not in images}
    found = random_row_inputs(RowGraph(graph.name, others, graph.rows, (), formats=graph.formats), seed)
    return {
        name: rng.integers(-128, 128, shape, dtype=np.int8) if name in images else found[name]
        for name, shape in graph.inputs.items()
    }


def _images(graph: MixedGraph) -> set[str]:
    """Inputs that layers read."""
    return {source for layer in graph.layers for source in layer.sources} & graph.inputs.keys()
