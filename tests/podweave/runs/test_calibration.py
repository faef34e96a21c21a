"""podweave.runs.calibration and podweave.runs.float_weights: ranges, equalisation, biases; beside onnxruntime and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from podweave.ir.layers import WorkloadError
from podweave.runs import float_weights
from podweave.runs.calibration import BINS, FloatFile, Method, least_squares, ranges_of
from podweave.runs.float_weights import Weights, channels_of, correct_biases, equalise

Arrays = dict[str, np.ndarray]


def model_of(nodes: list[Any], held: Arrays, shape: tuple[int, ...], output: str) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(values, name) for name, values in held.items()]
    whole = helper.make_graph(nodes, "small", [x], [y], constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def convolutions(*between: str, groups: int = 1, side: int = 3, seed: int = 0) -> Any:
    """Two of them, with weights of very different sizes, and operators between them."""
    rng = np.random.default_rng(seed)
    sizes = np.float32(2.0 ** rng.integers(-6, 7, (8, 1, 1, 1)))
    held = {
        "v": rng.normal(size=(8, 3, side, side)).astype(np.float32) * sizes,
        "c": rng.normal(size=8).astype(np.float32) * sizes.ravel(),
        "w": rng.normal(size=(8, 8 // groups, side, side)).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    nodes = [helper.make_node("Conv", ["x", "v", "c"], ["t0"], name="first", pads=[side // 2] * 4)]
    for number, operator in enumerate(between):
        given = [f"t{number}", "low", "high"] if operator == "Clip" else [f"t{number}"]
        more = {"kernel_shape": [2, 2], "strides": [2, 2]} if operator == "MaxPool" else {}
        nodes.append(helper.make_node(operator, given, [f"t{number + 1}"], name=f"between{number}", **more))
    nodes.append(helper.make_node("Conv", [f"t{len(between)}", "w"], ["y"], name="second", pads=[side // 2] * 4, group=groups))
    return model_of(nodes, held, (1, 3, 8, 8), "y")


def batches(count: int = 3) -> list[Arrays]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def quiet(text: str) -> None:
    assert text


def test_methods() -> None:
    assert [str(Method.of(text)) for text in ("absmax", "mse", "percentile=99.9")] == ["absmax", "mse", "percentile=99.9"]
    for text in ("max", "percentile", "percentile=50", "percentile=100.1", "percentile=-1", "mse=3"):
        with pytest.raises(WorkloadError, match=rf"^'{text}' is no method: absmax, mse, or percentile=P with P above 50"):
            Method.of(text)


def test_all_that_was_seen() -> None:
    model, given = convolutions("Relu"), batches()
    found = ranges_of(model, given, Method(), quiet).chosen
    assert found.keys() == {"x", "t0", "t1", "y"}
    run = FloatFile(model)
    for name, (low, high) in found.items():
        values = np.concatenate([(batch | run(batch))[name].ravel() for batch in given])
        assert (low, high) == (min(0, values.min()), values.max())


def test_percentiles_leave_outliers_out() -> None:
    """Of a million numbers ten are a thousand times larger; ends may be off by a bin."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 1, 1000, 1000)).astype(np.float32)
    x.ravel()[:10] = 1000
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], {}, x.shape, "y")
    (low, high), bin_ = ranges_of(model, [{"x": x}], Method.of("percentile=99.99"), quiet).chosen["y"], 1001 / BINS
    assert low >= -1
    assert 0.5 < high <= 1 + bin_
    assert ranges_of(model, [{"x": x}], Method.of("percentile=100"), quiet).chosen["y"][1] == 1000


@pytest.mark.parametrize("draw", [lambda rng: rng.laplace(size=200_000), lambda rng: np.abs(rng.laplace(size=200_000))])
def test_the_least_error(draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    """Of numbers themselves, it is less than with the whole range, and no other part of it has one that is a hundredth less."""
    values = draw(np.random.default_rng(2))
    counts, edges = np.histogram(values, BINS, (min(0.0, values.min()), values.max()))

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        return float(np.square((np.clip(np.rint(values / scale), -zero, 255 - zero)) * scale - values).sum())

    found = error(*least_squares(counts, edges))
    assert found < 0.9 * error(edges[0], edges[-1])
    assert found <= 1.01 * min(error(part * edges[0], part * edges[-1]) for part in np.linspace(0.2, 1, 30))


@pytest.mark.parametrize("method", ["mse", "percentile=99"])
def test_what_is_always_zero(method: str) -> None:
    """A tensor of zeros has no range, and the others theirs."""
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3, 8, 8), "y")
    given = [{"x": -np.abs(batch["x"])} for batch in batches()]
    found = ranges_of(model, given, Method.of(method), quiet).chosen
    assert found["y"] == (0.0, 0.0)
    low, high = found["x"]
    assert low < -0.5
    assert high == 0.0


def test_what_is_infinite_has_no_range() -> None:
    model = model_of([helper.make_node("Log", ["x"], ["y"])], {}, (1, 3, 8, 8), "y")
    zeros = [{"x": np.ones((1, 3, 8, 8), np.float32)}, {"x": np.zeros((1, 3, 8, 8), np.float32)}]
    with pytest.raises(WorkloadError, match=r"^y is infinite, or no number, in batch 2 of calibration: no range holds it$"):
        ranges_of(model, zeros, Method(), quiet)


def spread(*nodes: Any, outputs: tuple[str, ...] = ()) -> dict[str, tuple[float, float]]:
    """What is needed of x, from -100 to 300, of which nodes read parts."""
    x = np.linspace(-100, 300, 4001, dtype=np.float32).reshape(1, 1, 1, -1)
    model = model_of([helper.make_node("Identity", ["x"], ["a"]), *nodes], {"two": np.float32(2)}, x.shape, "y")
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    found = ranges_of(model, [{"x": x}], Method(), quiet)
    assert found.needed.items() <= found.chosen.items()
    return found.needed


BIN = 400 / BINS


@pytest.mark.parametrize(
    ("operator", "attributes", "low", "high"),
    [
        # A quarter of a step of what goes from -0.375 to 300 is 0.2945: x (x + 3) / 6 is so far from 0 at -2.195.
        ("HardSwish", {}, -2.195, 300),
        ("HardSigmoid", {"alpha": 0.01, "beta": 0.5}, -50, 50),
        # A quarter of a step of 255 from 0 to 1, and of 255 from -1 to 1.
        ("Sigmoid", {}, -np.log(4 * 255 - 1), np.log(4 * 255 - 1)),
        ("Tanh", {}, -np.arctanh(1 - 0.5 / 255), np.arctanh(1 - 0.5 / 255)),
        ("ThresholdedRelu", {"alpha": 20.0}, 0, 300),
        ("LeakyRelu", {}, -100 + 301 / 255 / 4 / 0.01, 300),
        ("Abs", {}, -100, 300),
    ],
)
def test_functions_need_a_range_in_which_they_change(operator: str, attributes: dict[str, float], low: float, high: float) -> None:
    """Within two bins."""
    found = spread(helper.make_node(operator, ["a"], ["y"], **attributes))
    assert found.keys() == {"a"}
    assert found["a"] == pytest.approx((low, high), abs=2 * BIN)


def test_all_readers_must_be_functions() -> None:
    swish, gate = helper.make_node("HardSwish", ["a"], ["b"]), helper.make_node("HardSigmoid", ["a"], ["c"], alpha=0.01)
    product = helper.make_node("Mul", ["b", "c"], ["y"])
    assert spread(swish, gate, product)["a"] == pytest.approx((-50, 300), abs=2 * BIN)
    assert spread(swish, helper.make_node("Mul", ["b", "a"], ["y"])) == {}
    assert spread(helper.make_node("HardSwish", ["a"], ["y"]), outputs=("a",)) == {}
    assert spread(helper.make_node("Relu", ["a"], ["y"])) == {}
    assert spread(helper.make_node("Pow", ["a", "two"], ["y"])) == {}


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("between", [(), ("Relu",), ("Relu", "MaxPool")])
def test_equalised_is_bit_for_bit_the_same(between: tuple[str, ...], groups: int) -> None:
    model, given = convolutions(*between, groups=groups), batches()
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    assert equalise(model, given, quiet) == {"tensors": 1 + len(between), "sets": 1, "limited": 0}
    for batch in given:
        np.testing.assert_array_equal(FloatFile(model, ())(batch)["y"], FloatFile(plain, ())(batch)["y"])
    before, after = (
        np.max([np.abs(FloatFile(each)(batch)["t0"]) for batch in given], axis=(0, 1, 3, 4)) for each in (plain, model)
    )
    # Channels differed by up to 2^12; where each output reads one of them, factors that are powers of two leave a factor of two (of
    # those that are not too small).
    spread = before.max() / before.min()
    assert spread > 100
    assert after.max() / after.min() < (2.01 * max(1, spread * float_weights.SMALLEST) if groups == 8 else spread / 4)


def test_what_is_added_is_scaled_alike() -> None:
    rng = np.random.default_rng(3)
    held = {
        name: (rng.normal(size=(8, 3 if name in "uv" else 8, 1, 1)) * 4.0 ** rng.integers(-3, 4, (8, 1, 1, 1))) for name in "uvwz"
    }
    nodes = [
        helper.make_node("Conv", ["x", "u"], ["a"]),
        helper.make_node("Conv", ["x", "v"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("Conv", ["e", "z"], ["y"]),
    ]
    model = model_of(nodes, {name: values.astype(np.float32) for name, values in held.items()}, (1, 3, 8, 8), "y")
    (found,), limited = channels_of(Weights(model))
    assert (set(found.tensors), len(found.writers), len(found.readers), limited) == ({*"abcde"}, 3, 2, 0)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    equalise(model, batches(), quiet)
    assert not np.array_equal(Weights(model)["u"], Weights(plain)["u"])
    for batch in batches():
        np.testing.assert_array_equal(FloatFile(model, ())(batch)["y"], FloatFile(plain, ())(batch)["y"])
    # A constant is not scaled with them.
    model.graph.node.insert(2, helper.make_node("Add", ["a", "u"], ["unused"]))
    assert channels_of(Weights(model))[0] == []


def test_what_lies_behind_must_not_know_sizes() -> None:
    assert channels_of(Weights(convolutions("Clip"))) == ([], 1)
    assert channels_of(Weights(convolutions("Sigmoid"))) == ([], 0)
    # Read by others, too.
    model = convolutions("Relu")
    model.graph.output.append(helper.make_tensor_value_info("t1", TensorProto.FLOAT, None))
    assert channels_of(Weights(model)) == ([], 0)
    model = convolutions("Relu")
    model.graph.node[-1].input[1] = "v"
    assert channels_of(Weights(model)) == ([], 0)


def test_a_wrong_equalisation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a sigmoid, sizes do matter."""
    monkeypatch.setattr(float_weights, "HOMOGENEOUS", {"Sigmoid"})
    with pytest.raises(WorkloadError, match=r"^equalisation has changed y by up to [0-9.]+: float32 does not hold"):
        equalise(convolutions("Sigmoid"), batches(), quiet)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_corrected_biases_are_right_on_average(groups: int) -> None:
    """Without pads the mean of sums of rounded weights is exactly that of the others."""
    model = convolutions("Relu", groups=groups, side=1)
    given = batches()
    exact = FloatFile(model)
    assert correct_biases(model, given, quiet) == 2
    rounded = Weights(model)
    for name in "vw":
        held = rounded[name]
        steps = np.abs(held).max(axis=(1, 2, 3), keepdims=True) / 127
        rounded[name] = np.rint(held / steps) * steps
    wanted = np.mean([exact(batch)["t0"].mean(axis=(0, 2, 3)) for batch in given], axis=0)
    found = np.mean([FloatFile(model)(batch)["t0"].mean(axis=(0, 2, 3)) for batch in given], axis=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    uncorrected = rounded["c"].copy()
    rounded["c"] = uncorrected + 0.01 * np.abs(uncorrected).max()
    assert not np.allclose(np.mean([FloatFile(model)(b)["t0"].mean(axis=(0, 2, 3)) for b in given], axis=0), wanted, atol=1e-5)
