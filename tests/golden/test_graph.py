"""golden.graph: graphs of the IR evaluated by the golden models, and random parameters for them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.golden.layers.conv import conv2d
from podweave.golden.layers.pool import pad, reduce_windows
from podweave.golden.layers.post import post_process
from podweave.ir.constants import Parameters, identity_parameters, identity_weights
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError, gemm
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.quantise import quantize_scale

SAME = ((1, 1), (1, 1))


def diagonal(name: str, size: int, channels: int, padding: Any = ((0, 0), (0, 0))) -> Layer:
    return Layer(name=name, batch=2, height=size, width=size, channels=channels, outputs=channels, padding=padding, groups=channels)


def conv3(name: str, size: int, channels: int, outputs: int) -> Layer:
    return Layer(name=name, batch=2, height=size, width=size, channels=channels, outputs=outputs, kernel=(3, 3), padding=SAME)


def small_graph() -> Graph:
    """Each feature once: residual, concatenation, padded max-pool, window behind a convolution, mean, GEMM on channels."""
    return Graph(
        "small",
        {"a": (2, 8, 8, 4), "b": (2, 8, 8, 3)},
        (
            Linear("first", (Operand(("a",), conv3("first", 8, 4, 16)),)),
            Linear("block", (Operand(("first",), conv3("block", 8, 16, 16)), Operand(("first",), diagonal("skip", 8, 16)))),
            Linear("wide", (Operand(("block", "b"), conv3("wide", 8, 19, 24)),), Window("sum", (2, 2), (2, 2))),
            Linear(
                "pool",
                (Operand(("wide",), diagonal("pool", 4, 24, SAME), pad_value=-128),),
                Window("max", (3, 3), (2, 2)),
                identity=True,
            ),
            Linear("mean", (Operand(("pool",), diagonal("mean", 2, 24)),), Window("sum", (2, 2), (1, 1)), identity=True),
            Linear(
                "part",
                (Operand(("mean",), replace(gemm(1, 8, 10, name="part"), batch=2), channels=(5, 8)),),
                after=("first",),
            ),
        ),
    )


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, NDArray[np.int8]]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}


def test_equals_the_golden_models_called_by_hand() -> None:
    graph = small_graph()
    held, inputs = random_parameters(graph, 1), random_inputs(graph)
    got = evaluate(graph, held, inputs)
    assert list(got) == ["a", "b", "first", "block", "wide", "pool", "mean", "part"]
    assert all(got[name].shape == graph.shape(name) and got[name].dtype == np.int8 for name in got)

    def post(name: str, acc: NDArray[np.int32]) -> NDArray[np.int8]:
        p = held[name]
        return post_process(acc, p.bias, p.multiplier, p.shift, p.table)

    first = post("first", conv2d(inputs["a"], held["first"].weights[0], padding=1))
    acc = conv2d(first, held["block"].weights[0], padding=1) + held["block"].weights[1][0, 0, 0].astype(np.int32) * first
    block = post("block", acc)
    acc = conv2d(np.concatenate([block, inputs["b"]], axis=3), held["wide"].weights[0], padding=1)
    wide = post("wide", reduce_windows(acc, "sum", (2, 2), (2, 2)))
    pool = reduce_windows(pad(wide, SAME, -128).astype(np.int32), "max", (3, 3), (2, 2)).astype(np.int8)
    total = pool.astype(np.int64).sum(axis=(1, 2), keepdims=True)
    mean = (np.sign(total) * ((np.abs(total) + 2) // 4)).astype(np.int8)
    part = post("part", conv2d(mean[..., 5:13], held["part"].weights[0]))
    expected = {"first": first, "block": block, "wide": wide, "pool": pool, "mean": mean, "part": part}
    for name, tensor in expected.items():
        assert_array_equal(got[name], tensor, strict=True)


@pytest.mark.parametrize("node", ["first", "block", "wide", "part"])
def test_a_changed_weight_is_seen(node: str) -> None:
    graph = small_graph()
    held, inputs = random_parameters(graph, 1), random_inputs(graph)
    before = evaluate(graph, held, inputs)
    held[node].weights[-1].ravel()[3] ^= 0x40
    after = evaluate(graph, held, inputs)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    names = list(before)
    assert changed[0] == node
    assert not set(changed) & set(names[: names.index(node)])


def test_random_parameters() -> None:
    graph = small_graph()
    held = random_parameters(graph, 7)
    assert list(held) == [node.name for node in graph.operations]
    for index, node in enumerate(graph.operations):
        p, outputs = held[node.name], node.output[3]
        assert [w.shape for w in p.weights] == [operand.layer.weight_shape for operand in node.operands]
        assert {w.dtype for w in p.weights} == {np.dtype(np.int8)}
        for array in (p.bias, p.multiplier, p.shift):
            assert array.shape == (outputs,)
            assert array.dtype == np.int32
        assert (p.table is not None) == (index % 2 == 0 and not node.identity)
    assert (held["pool"].multiplier.tolist(), held["pool"].shift.tolist()) == ([1] * 24, [0] * 24)
    assert (held["mean"].multiplier[0], held["mean"].shift[0]) == quantize_scale(0.25)
    assert all((held[name].weights[0] == 1).all() for name in ("pool", "mean"))
    again, other = random_parameters(graph, 7), random_parameters(graph, 8)
    assert_array_equal(again["wide"].weights[0], held["wide"].weights[0])
    assert_array_equal(again["wide"].bias, held["wide"].bias)
    assert not np.array_equal(other["wide"].weights[0], held["wide"].weights[0])


def deep_graph(depth: int) -> Graph:
    nodes, source = [], "x"
    for i in range(depth):
        nodes.append(Linear(f"n{i}", (Operand((source,), replace(conv3(f"n{i}", 16, 32, 32), batch=1)),)))
        source = f"n{i}"
    return Graph("deep", {"x": (1, 16, 16, 32)}, tuple(nodes))


@pytest.mark.parametrize("graph", [small_graph(), deep_graph(20)], ids=lambda graph: graph.name)
@pytest.mark.parametrize("seed", range(3))
def test_outputs_spread_over_int8(graph: Graph, seed: int) -> None:
    tensors = evaluate(graph, random_parameters(graph, seed), random_inputs(graph, seed))
    for node in graph.operations:
        y = tensors[node.name]
        assert np.unique(y).size >= min(60, y.size // 3), node.name
        if node.window is None:
            assert ((y == 127) | (y == -128)).mean() < 0.15, node.name


def test_dense_identity_is_a_diagonal() -> None:
    layer = Layer(name="copy", batch=2, height=3, width=3, channels=6, outputs=6)
    for groups in (1, 2, 6):
        copy = replace(layer, groups=groups)
        graph = Graph("copy", {"x": copy.input_shape}, (Linear("y", (Operand(("x",), copy),), identity=True),))
        inputs = random_inputs(graph)
        y = evaluate(graph, {"y": identity_parameters(graph.operations[0])}, inputs)["y"]
        assert_array_equal(y, inputs["x"], strict=True)
    with pytest.raises(WorkloadError, match="copy: an identity takes a 1x1 kernel and as many outputs"):
        identity_weights(replace(layer, outputs=12))


def test_scale_of_a_mean_can_be_given() -> None:
    mean = small_graph().operations[4]
    held = identity_parameters(mean, scale=0.5)
    assert {(int(m), int(s)) for m, s in zip(held.multiplier, held.shift, strict=True)} == {quantize_scale(0.5)}


def test_halves_go_where_they_are_told_to() -> None:
    mean = Graph("mean", {"x": (1, 1, 4, 1)}, (Linear("y", (Operand(("x",), gemm(4, 1, 1)),), Window("sum", (1, 2), (1, 2))),))
    held = {"y": Parameters((np.ones((1, 1, 1, 1), np.int8),), np.zeros(1, np.int32), np.array(1, np.int32), np.array(1, np.int32))}
    inputs = {"x": np.array([2, 3, -1, -4], np.int8).reshape(1, 1, 4, 1)}
    found = {way: evaluate(mean, held, inputs, way)["y"].ravel().tolist() for way in ("half_away", "half_even")}
    # 5/2 and -5/2.
    assert found == {"half_away": [3, -3], "half_even": [2, -2]}
    assert_array_equal(evaluate(mean, held, inputs)["y"].ravel(), [3, -3])


def drop(names: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in names.items() if key != name}


def test_refusals() -> None:
    graph = small_graph()
    held, inputs = random_parameters(graph), random_inputs(graph)
    with pytest.raises(WorkloadError, match=r"small: inputs must be those of \['a', 'b'\], got \['a'\]"):
        evaluate(graph, held, drop(inputs, "b"))
    with pytest.raises(WorkloadError, match="small: parameters must be those of"):
        evaluate(graph, drop(held, "pool"), inputs)
    with pytest.raises(WorkloadError, match=r"small: a must be int8 \(2, 8, 8, 4\), got int16 \(2, 8, 8, 4\)"):
        evaluate(graph, held, inputs | {"a": inputs["a"].astype(np.int16)})
    with pytest.raises(WorkloadError, match=r"small: a must be int8 .* got int8 \(1, 8, 8, 4\)"):
        evaluate(graph, held, inputs | {"a": inputs["a"][:1]})
    block = held["block"]
    short = Parameters(block.weights[:1], block.bias, block.multiplier, block.shift)
    with pytest.raises(WorkloadError, match=r"^block takes weights of \[\(3, 3, 16, 16\), \(1, 1, 1, 16\)\], got"):
        evaluate(graph, held | {"block": short}, inputs)
