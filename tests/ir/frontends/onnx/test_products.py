"""ir.frontends.onnx.products: two computed tensors, by hand and beside NumPy's own rules for shapes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.test_read import Graph


def convolved(graph: Graph, outputs: int, name: str, source: str) -> str:
    """A 1x1 convolution by small weights, quantised."""
    weights = np.random.default_rng([*name.encode()]).integers(-3, 4, (outputs, 3, 1, 1))
    return graph.quantised(graph.add("Conv", source, graph.weights(name, weights, 0.06)))


def factor(graph: Graph, kind: str, source: str) -> str:
    """What an image of 3 channels is multiplied by."""
    match kind:
        case "image":
            return convolved(graph, 3, "image", source)
        case "channels":
            return graph.quantised(graph.add("GlobalAveragePool", source))
        case "one channel":
            return convolved(graph, 1, "one", source)
        case "one number":
            return convolved(graph, 1, "number", graph.quantised(graph.add("GlobalMaxPool", source)))
    row = graph.add("MaxPool", source, kernel_shape=[4, 1], strides=[1, 1])
    return graph.quantised(row)


def values_of(network: Network, x: NDArray[np.int8]) -> dict[str, NDArray[np.int8]]:
    """By operator of the file, what the last operation of it gives, as the file has it."""
    tensors = evaluate(network.graph, network.constants, {"x": network.tensors["x"].to_graph(x)}, "half_even")
    return {tensor.name: tensor.to_file(tensors[name]) for name, tensor in network.tensors.items()}


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("kind", ["image", "channels", "one channel", "one number", "one row"])
def test_shapes(tmp_path: Path, kind: str, is_first: bool) -> None:
    """(a - 3) (b - 3) is in units of 1/16, and 3 + that over 4, a half to the even neighbour, what leaves."""
    graph = Graph(1, 3, 4, 5)
    image = convolved(graph, 3, "a", graph.quantised("x"))
    other = factor(graph, kind, image)
    times = graph.add("Mul", *((other, image) if is_first else (image, other)))
    y = graph.add("QuantizeLinear", times, "scale", "zero", output="y")
    network = read_network(graph.save(tmp_path / "product.onnx", graph.add("DequantizeLinear", y, "scale", "zero")))
    (product,) = (each for each in network.graph.operations if each.is_product)
    assert network.operators[product.name] == "Mul"
    found = values_of(network, np.random.default_rng(1).integers(-128, 128, (1, 3, 4, 5), dtype=np.int8))
    # Integers of the file, in front of their DequantizeLinear.
    a, b = (found[next(n.input[0] for n in graph.nodes if n.output[0] == name)].astype(np.int64) - 3 for name in (image, other))
    wanted = np.clip(np.rint(a * b / 4) + 3, -128, 127)
    assert len(np.unique(wanted)) > 8
    np.testing.assert_array_equal(found["y"], wanted)


def test_a_tensor_times_itself_is_a_table(tmp_path: Path) -> None:
    graph = Graph(1, 3, 2, 2)
    image = convolved(graph, 3, "a", graph.quantised("x"))
    network = read_network(graph.save(tmp_path / "square.onnx", graph.quantised(graph.add("Mul", image, image))))
    assert not any(operation.is_product for operation in network.graph.operations)
    table = network.constants[network.graph.outputs[0]].table
    assert table is not None
    assert table[[3, 5, 253, 128]].tolist() == [3, 3 + 1, 3 + 9, 127]


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        (("channels", "one channel"), "it multiplies [1, 1, 4, 5] and [1, 3, 1, 1]"),
        (("one row", "part"), "it multiplies [1, 3, 1, 5] and [1, 3, 3, 4]"),
    ],
)
def test_shapes_that_are_refused(tmp_path: Path, kinds: tuple[str, str], sentence: str) -> None:
    graph = Graph(1, 3, 4, 5)
    image = convolved(graph, 3, "a", graph.quantised("x"))
    factors = [
        graph.quantised(graph.add("MaxPool", image, kernel_shape=[2, 2])) if kind == "part" else factor(graph, kind, image)
        for kind in kinds
    ]
    file = graph.save(tmp_path / "refused.onnx", graph.quantised(graph.add("Mul", *factors)))
    helps = "(what helps: tensors of one shape, or one of them with 1 in the place of height, width or channels)"
    parts = sorted(sentence.removeprefix("it multiplies ").split(" and "))
    with pytest.raises(WorkloadError, match=rf": it multiplies .* {re.escape(helps)}$") as caught:
        read_network(file)
    assert all(part in str(caught.value) for part in parts)


def test_what_only_multiplies_is_read_as_one_tensor(tmp_path: Path) -> None:
    """Both factors of a product, enlarged and joined from several."""
    graph = Graph(1, 3, 2, 2)
    x = graph.quantised("x")
    scales = graph.constant("by_two", np.float32([1, 1, 2, 2]))
    large = graph.add("Resize", convolved(graph, 3, "a", x), "", scales, mode="nearest")
    other = graph.add("Resize", convolved(graph, 3, "bb", x), "", scales, mode="nearest")
    y = graph.add("QuantizeLinear", graph.add("Mul", large, other), "scale", "zero", output="y")
    network = read_network(graph.save(tmp_path / "large.onnx", graph.add("DequantizeLinear", y, "scale", "zero")))
    found = values_of(network, np.random.default_rng(2).integers(-128, 128, (1, 3, 2, 2), dtype=np.int8))
    a, b = (
        values.astype(np.int64).repeat(2, axis=2).repeat(2, axis=3) - 3
        for name, values in found.items()
        if name not in ("x", "y") and values.shape == (1, 3, 2, 2)
    )
    np.testing.assert_array_equal(found["y"], np.clip(np.rint(a * b / 4) + 3, -128, 127))


def test_scales_of_which_nothing_is_left(tmp_path: Path) -> None:
    """Of a channel whose weights are next to nothing, as those that training has given up: its zero point."""
    graph = Graph(1, 1, 1, 2)
    graph.constant("w", np.int8([[[[100]]], [[[100]]]]))
    weights = graph.add("DequantizeLinear", "w", graph.constant("w_scale", np.float32([0.5, 1e-30])), axis=0)
    network = read_network(graph.save(tmp_path / "nothing.onnx", graph.quantised(graph.add("Conv", graph.quantised("x"), weights))))
    (name,) = network.graph.outputs
    found = evaluate(network.graph, network.constants, {"x": np.int8([4, -128]).reshape(1, 1, 2, 1)}, "half_even")[name]
    assert found.reshape(2, 2).tolist() == [[53, 3], [-128, 3]]
