"""ir.frontends.onnx.inputs and borders: what stands between numbers in floating point and their quantisation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.test_read import Graph

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SHAPE = (1, 4, 5, 6)


def whole(graph: Graph, values: list[int]) -> str:
    return graph.constant(f"i{len(graph.held)}", np.int64(values))


def cut(graph: Graph, source: str) -> str:
    return graph.add("Slice", source, *(whole(graph, each) for each in ([1], [5], [2], [2])))


CASES: dict[str, tuple[Callable[[Graph], str], Change]] = {
    "rows": (lambda graph: cut(graph, "x"), lambda x: x[:, :, 1:5:2]),
    "channels": (lambda graph: graph.add("Gather", "x", whole(graph, [2, 0, -1]), axis=1), lambda x: x[:, [2, 0, 3]]),
    "a limit": (lambda graph: graph.add("Relu", cut(graph, "x")), lambda x: np.maximum(x[:, :, 1:5:2], 0)),
    "the largest": (lambda graph: graph.add("MaxPool", "x", kernel_shape=[5, 6]), lambda x: x.max(axis=(2, 3), keepdims=True)),
    "seen otherwise": (
        lambda graph: graph.add("Relu", graph.add("Transpose", "x", perm=[0, 2, 3, 1])),
        lambda x: np.maximum(x, 0).transpose(0, 2, 3, 1),
    ),
    "a border": (
        lambda graph: graph.add("Pad", "x", whole(graph, [0, 0, 1, 0, 0, 0, 0, 2]), graph.constant("v", np.float32(-2.6))),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=-2.6),
    ),
}


def results(network: Network, x: NDArray[np.int8]) -> NDArray[np.int8]:
    """The only output, as the file has it, of integers as the file has them."""
    ((name, tensor),) = network.outputs.items()
    given = {"x": network.tensors["x"].to_graph(x)}
    return tensor.to_file(evaluate(network.graph, network.constants, given, "half_even")[name])


def quantised(values: NDArray[np.float32], scale: float = 0.25, zero: int = 3) -> NDArray[np.int8]:
    return np.clip(np.rint(values / np.float32(scale)) + zero, -128, 127).astype(np.int8)


@pytest.mark.parametrize("name", CASES)
def test_what_moves_or_limits_numbers_may_stand_in_front(tmp_path: Path, name: str) -> None:
    """As if the input had been quantised at once."""
    graph, (made, wanted) = Graph(*SHAPE), CASES[name]
    y = graph.add("QuantizeLinear", made(graph), "scale", "zero", output="y")
    network = read_network(graph.save(tmp_path / "raw.onnx", graph.add("DequantizeLinear", y, "scale", "zero")))
    x = np.random.default_rng(1).integers(-128, 128, SHAPE, dtype=np.int8)
    assert network.real_inputs == {"x"}
    assert (network.tensors["x"].scale, network.tensors["x"].view.sizes) == (np.float32(0.25), SHAPE)
    np.testing.assert_array_equal(results(network, x), quantised(wanted((x.astype(np.float32) - 3) / 4)))


@pytest.mark.parametrize("value", [-40.0, 0.3, 0.0, 9.0])
@pytest.mark.parametrize("scale", [0.25, 0.5])
def test_a_border_is_of_the_scale_behind_it(tmp_path: Path, value: float, scale: float) -> None:
    """Of numbers that the integers inside of it do not have, too: they go from -32.75 to 31."""
    graph = Graph(*SHAPE)
    pads = whole(graph, [0, 0, 1, 1, 0, 0, 0, 0])
    padded = graph.add("Pad", graph.quantised("x"), pads, graph.constant("v", np.float32(value)))
    ways = (graph.constant("s", np.float32(scale)), graph.constant("z", np.int8(-10)))
    y = graph.add("QuantizeLinear", padded, *ways, output="y")
    network = read_network(graph.save(tmp_path / "pad.onnx", graph.add("DequantizeLinear", y, *ways)))
    x = np.random.default_rng(2).integers(-128, 128, SHAPE, dtype=np.int8)
    wanted = np.pad((x.astype(np.float32) - 3) / 4, ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=value)
    np.testing.assert_array_equal(results(network, x), quantised(wanted, scale, -10))


def of_two_scales(graph: Graph) -> str:
    ways = (graph.constant("s", np.float32(0.5)), "zero")
    part = cut(graph, "x")
    other = graph.add("DequantizeLinear", graph.add("QuantizeLinear", part, *ways), *ways)
    return graph.add("Add", graph.quantised(part), other)


def averaged(graph: Graph) -> str:
    return graph.add("AveragePool", cut(graph, "x"), kernel_shape=[1, 1])


@pytest.mark.parametrize("made", [of_two_scales, averaged])
def test_refused(tmp_path: Path, made: Callable[[Graph], Any]) -> None:
    """Quantised twice, in different ways; and what is computed before it is quantised."""
    graph = Graph(*SHAPE)
    with pytest.raises(WorkloadError, match=r"Slice node_t0: it takes a part of what is not quantised yet"):
        read_network(graph.save(tmp_path / "raw.onnx", graph.quantised(made(graph))))
