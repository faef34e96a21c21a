"""ir.frontends.onnx: what is said of each channel: slopes, groups of transposed convolutions, a concatenation of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.ir.frontends.onnx import read_network
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.test_inputs import quantised, results
from tests.ir.frontends.onnx.test_read import Graph

SLOPES = np.float32([0.5, -0.25, 0.0, 1.5])


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_a_slope_for_each_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Each in eighths, so that sums are exact."""
    graph = Graph(1, 4, 3, 5)
    y = graph.add("PRelu", graph.quantised("x"), graph.constant("slopes", SLOPES.reshape(shape)))
    network = read_network(graph.save(tmp_path / "slopes.onnx", graph.quantised(y)))
    x = np.random.default_rng(1).integers(-128, 128, (1, 4, 3, 5), dtype=np.int8)
    real = (x.astype(np.float32) - 3) / 4
    wanted = np.where(real < 0, real * SLOPES.reshape(1, 4, 1, 1), real)
    assert (real < 0).any(axis=(0, 2, 3)).all()
    np.testing.assert_array_equal(results(network, x), quantised(wanted))


@pytest.mark.parametrize(
    ("slopes", "sentence"),
    [
        (np.ones((4, 3, 1)), r"PRelu node_t2: its constant \[4, 3, 1\] differs along another axis than channels"),
        (np.float32([1, 2, np.inf, 0]).reshape(4, 1, 1), r"PRelu node_t2: one of its slopes is not finite"),
    ],
)
def test_slopes_that_are_refused(tmp_path: Path, slopes: NDArray[np.float64], sentence: str) -> None:
    graph = Graph(1, 4, 3, 5)
    y = graph.add("PRelu", graph.quantised("x"), graph.constant("slopes", slopes.astype(np.float32)))
    with pytest.raises(WorkloadError, match=sentence):
        read_network(graph.save(tmp_path / "slopes.onnx", graph.quantised(y)))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_of_a_transposed_convolution(tmp_path: Path, groups: int) -> None:
    """Of kernel 2 and stride 2, so that each result is of one position; x - 3 is in units of 1/4, weights of 1/2."""
    rng, graph = np.random.default_rng(2), Graph(1, 4, 2, 3)
    w = rng.integers(-9, 10, (4, 3, 2, 2))
    y = graph.add("ConvTranspose", graph.quantised("x"), graph.weights("w", w), strides=[2, 2], group=groups)
    network = read_network(graph.save(tmp_path / "grouped.onnx", graph.quantised(y)))
    x = rng.integers(-30, 31, (1, 4, 2, 3), dtype=np.int8)
    apart = (x[0].astype(np.int64) - 3).reshape(groups, 4 // groups, 2, 3)
    sums = np.einsum("gchw,gcokl->gohkwl", apart, w.reshape(groups, 4 // groups, 3, 2, 2)).reshape(1, groups * 3, 4, 6)
    np.testing.assert_array_equal(results(network, x), quantised(sums.astype(np.float32) / 8))


@pytest.mark.parametrize("dilations", [[1, 1], [2, 3]])
def test_dilations_of_a_transposed_convolution(tmp_path: Path, dilations: list[int]) -> None:
    rng, graph = np.random.default_rng(2), Graph(1, 2, 3, 4)
    w = rng.integers(-9, 10, (2, 3, 2, 3))
    y = graph.add("ConvTranspose", graph.quantised("x"), graph.weights("w", w), dilations=dilations)
    network = read_network(graph.save(tmp_path / "dilated.onnx", graph.quantised(y)))
    x = rng.integers(-30, 31, (1, 2, 3, 4), dtype=np.int8)
    sums = np.zeros((1, 3, 3 + dilations[0], 4 + 2 * dilations[1]), np.int64)
    for row, column in np.ndindex(2, 3):
        down, right = row * dilations[0], column * dilations[1]
        sums[0, :, down : down + 3, right : right + 4] += np.einsum("chw,co->ohw", x[0].astype(np.int64) - 3, w[..., row, column])
    np.testing.assert_array_equal(results(network, x), quantised(sums.astype(np.float32) / 8))


def test_groups_that_do_not_divide_channels(tmp_path: Path) -> None:
    graph = Graph(1, 4, 2, 3)
    y = graph.add("ConvTranspose", graph.quantised("x"), graph.weights("w", np.ones((4, 3, 2, 2))), group=3)
    with pytest.raises(WorkloadError, match=r"ConvTranspose node_\w+: it has 3 groups of 4 channels"):
        read_network(graph.save(tmp_path / "grouped.onnx", graph.quantised(y)))


def test_a_concatenation_of_one_channel(tmp_path: Path) -> None:
    """Is an image, in whatever shape it was between."""
    graph = Graph(1, 1, 4, 4)
    axis = graph.constant("axis", np.int64([0]))
    one = graph.quantised(graph.add("Concat", graph.quantised("x"), axis=1))
    whole = graph.add("Squeeze", graph.add("Unsqueeze", one, axis), axis)
    network = read_network(graph.save(tmp_path / "one.onnx", graph.quantised(graph.add("MaxPool", whole, kernel_shape=[2, 2]))))
    x = np.random.default_rng(3).integers(-128, 128, (1, 1, 4, 4), dtype=np.int8)
    wanted = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3)).max(axis=(4, 5))
    np.testing.assert_array_equal(results(network, x), wanted)


def fine(graph: Graph, source: str, step: float) -> str:
    """Quantised with other steps."""
    scale = graph.constant("step", np.float32(step))
    return graph.add("DequantizeLinear", graph.add("QuantizeLinear", source, scale, "zero"), scale, "zero")


@pytest.mark.parametrize(("finer", "operands"), [(1, 1), (16, 3), (100, 8), (5000, 8)])
def test_constants_added_to_coarser_tensors(tmp_path: Path, finer: int, operands: int) -> None:
    """Whole steps of the result, which are 4 times as fine to 20,000 times: as they are where only a 0 was seen of a tensor."""
    graph, step = Graph(1, 4, 16, 16), 1 / 16 / finer
    added = np.array([-90, -1, 40, 113])
    y = graph.add("Add", graph.quantised("x"), graph.constant("added", np.float32(added * step).reshape(4, 1, 1)))
    network = read_network(graph.save(tmp_path / "added.onnx", fine(graph, y, step)))
    x = np.resize(np.arange(-128, 128).astype(np.int8), (1, 4, 16, 16))
    wanted = np.clip((x.astype(np.int64) - 3) * 4 * finer + added.reshape(4, 1, 1) + 3, -128, 127)
    np.testing.assert_array_equal(results(network, x), wanted)
    (operation,) = network.graph.operations
    assert len(operation.operands) == operands
    # What leads numbers beyond all limits is as good as what leads them further.
    assert max(network.bounds.values(), default=0.0) < 0.4


def test_a_constant_too_fine_to_be_added(tmp_path: Path) -> None:
    """It leads numbers that are far away to where the result has its steps."""
    graph = Graph(1, 1, 1, 3)
    y = graph.add("Add", graph.quantised("x"), graph.constant("added", np.float32(8.0001)))
    told = r"Add node_t2 gives it steps 2,500 times finer than it adds, of which it is off by up to 1 \(what helps: a scale"
    with pytest.raises(WorkloadError, match=told):
        read_network(graph.save(tmp_path / "added.onnx", fine(graph, y, 0.0001)))


def test_a_limit_behind_an_added_constant(tmp_path: Path) -> None:
    graph, added = Graph(1, 4, 16, 16), np.float32([-7.5, 0.25, 3, 12]).reshape(4, 1, 1)
    y = graph.add("Relu", graph.add("Add", graph.quantised("x"), graph.constant("added", added)))
    network = read_network(graph.save(tmp_path / "limited.onnx", graph.quantised(y)))
    x = np.resize(np.arange(-128, 128).astype(np.int8), (1, 4, 16, 16))
    real = (x.astype(np.float32) - 3) / 4 + added
    assert (real < 0).any(axis=(0, 2, 3)).all()
    np.testing.assert_array_equal(results(network, x), quantised(np.maximum(real, 0)))


def test_a_function_behind_an_added_constant_is_refused(tmp_path: Path) -> None:
    """Unless it only limits: in front of it, what is added is rounded."""
    graph = Graph(1, 4, 3, 5)
    y = graph.add(
        "Sigmoid", graph.add("Add", graph.quantised("x"), graph.constant("added", np.float32([1, 2, 3, 4]).reshape(4, 1, 1)))
    )
    told = r"Sigmoid node_t3: it reads what Add node_t2 gives before that is quantised \(what helps: QuantizeLinear between them\)"
    with pytest.raises(WorkloadError, match=told):
        read_network(graph.save(tmp_path / "refused.onnx", graph.quantised(y)))


def test_channels_of_which_a_normalisation_leaves_nothing(tmp_path: Path) -> None:
    """Or next to nothing: constants stay, whatever they are."""
    graph, gains = Graph(1, 5, 16, 16), np.float32([1e-30, 0, 1e-12, 2, 1e-3])
    biases = np.float32([7.25, -500, 3, 1, -1e30])
    numbers = {"gains": gains, "biases": biases, "means": 0 * gains, "variances": np.ones(5, np.float32)}
    held = [graph.constant(name, values) for name, values in numbers.items()]
    y = graph.add("BatchNormalization", graph.quantised("x"), *held, epsilon=0.0)
    network = read_network(graph.save(tmp_path / "nothing.onnx", graph.quantised(y)))
    x = np.resize(np.arange(-128, 128).astype(np.int8), (1, 5, 16, 16))
    wanted = (x.astype(np.float32) - 3) / 4 * gains.reshape(5, 1, 1) + biases.reshape(5, 1, 1)
    np.testing.assert_array_equal(results(network, x), quantised(wanted))
