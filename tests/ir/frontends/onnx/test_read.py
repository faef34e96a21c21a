"""ir.frontends.onnx: what is read, how it lies, and what is refused, each with a sentence."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import load_network, read_network
from podweave.ir.frontends.onnx.emit import FINE_ENOUGH, MOST_OPERANDS, factors
from podweave.ir.frontends.onnx.read import operator_rows
from podweave.ir.frontends.onnx.views import BATCH, CHANNELS, HEIGHT, WIDTH, LayoutError, View
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.operator_table import table
from tests.test_architecture import ROOT

IMAGE = (BATCH, CHANNELS, HEIGHT, WIDTH)
FLOAT = TensorProto.FLOAT


class Graph:
    """A file that is written by hand: int8 tensors with scale 1/4 and zero point 3."""

    def __init__(self, *shape: int | str, kind: int = FLOAT):
        self.nodes: list[Any] = []
        self.held = {"scale": np.float32(0.25), "zero": np.int8(3)}
        self.inputs = [helper.make_tensor_value_info("x", kind, shape)]
        self.extra: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        self.held[name] = np.asarray(values)
        return name

    def quantised(self, source: str) -> str:
        return self.add("DequantizeLinear", self.add("QuantizeLinear", source, "scale", "zero"), "scale", "zero")

    def weights(self, name: str, values: Any, scale: float = 0.5) -> str:
        self.constant(name, np.asarray(values, np.int8))
        return self.add("DequantizeLinear", name, self.constant(f"{name}_scale", np.float32(scale)))

    def save(self, file: Path, *outputs: str) -> Path:
        y = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        held = [numpy_helper.from_array(np.asarray(values), name) for name, values in self.held.items()]
        graph = helper.make_graph(self.nodes, "by hand", self.inputs, y, held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.extra.get("opset", 17))], ir_version=9)
        onnx.save(model, file)
        return file


def test_a_convolution_by_hand(tmp_path: Path) -> None:
    """x - 3 is in units of 1/4, weights of 1/2, bias of 1/8; y = 3 + round((2 (x - 3) + 5) / 8 * 4), padding is real 0."""
    graph = Graph(1, 1, 1, 3)
    bias = graph.add("DequantizeLinear", graph.constant("b", np.int32([5])), graph.constant("b_scale", np.float32(0.125)))
    y = graph.add("Conv", graph.quantised("x"), graph.weights("w", [[[[2]]]]), bias, pads=[0, 1, 0, 0])
    network = read_network(graph.save(tmp_path / "conv.onnx", graph.quantised(y)))
    (name,) = network.graph.outputs
    found = evaluate(network.graph, network.constants, {"x": np.int8([3, 4, -3]).reshape(1, 1, 3, 1)}, "half_even")
    # 5/2 and 7/2 and -7/2 are halves, which go to 2, 4 and -4.
    assert found[name].ravel().tolist() == [3 + 2, 3 + 2, 3 + 4, 3 - 4]
    tensor = network.tensors[name]
    assert (tensor.scale, tensor.zero_point, tensor.unsigned) == (np.float32(0.25), 3, False)
    assert network.operators == {name: "Conv"}


def test_all_of_an_image_times_a_matrix(tmp_path: Path) -> None:
    """Flattened as channels, height, width: weights are put in order, and nothing moves."""
    rng = np.random.default_rng(1)
    graph, w = Graph(2, 3, 2, 2), rng.integers(-9, 10, (12, 5))
    y = graph.add("MatMul", graph.add("Flatten", graph.quantised("x")), graph.weights("w", w, 2.0**-4))
    network = read_network(graph.save(tmp_path / "dense.onnx", graph.quantised(y)))
    (operation,) = network.graph.operations
    assert (operation.operands[0].layer.kernel, operation.output) == ((2, 2), (2, 1, 1, 5))
    x = rng.integers(-128, 128, (2, 3, 2, 2), dtype=np.int8)
    found = evaluate(network.graph, network.constants, {"x": network.tensors["x"].to_graph(x)}, "half_even")[operation.name]
    wanted = np.clip(np.rint((x.reshape(2, 12).astype(np.int64) - 3) @ w / 16) + 3, -128, 127)
    np.testing.assert_array_equal(network.tensors[operation.name].to_file(found), wanted)


@pytest.mark.parametrize("before", [False, True])
def test_channels_last_is_a_layout(tmp_path: Path, before: bool) -> None:
    """Transposed in front of a convolution and behind it, as what comes from TensorFlow is; ``before``: it is quantised, too."""
    graph = Graph(1, 4, 5, 3)
    order = {"perm": [0, 3, 1, 2]}
    first = (
        graph.quantised(graph.add("Transpose", "x", **order)) if before else graph.add("Transpose", graph.quantised("x"), **order)
    )
    y = graph.quantised(graph.add("Conv", first, graph.weights("w", np.ones((2, 3, 1, 1)))))
    network = read_network(graph.save(tmp_path / "last.onnx", graph.add("Transpose", y, perm=[0, 2, 3, 1])))
    assert network.graph.inputs == {"x": (1, 4, 5, 3)}
    assert network.tensors["x"].view.sizes == (1, 4, 5, 3)
    (output,) = network.outputs.values()
    assert (output.view.sizes, output.view.dims) == ((1, 4, 5, 2), ((), (1,), (2,), (3,)))


def test_sizes_that_are_left_open(tmp_path: Path) -> None:
    graph = Graph("N", 3, "height", "height")
    y = graph.quantised(graph.add("Conv", graph.quantised("x"), graph.weights("w", np.ones((2, 3, 1, 1)))))
    file = graph.save(tmp_path / "open.onnx", y)
    assert load_network(f"{file},N=2,height=7").graph.inputs == {"x": (2, 7, 7, 3)}
    # Some files give several dimensions a name that means nothing.
    assert load_network(f"{file},N=2,x.2=7,x.3=5").graph.inputs == {"x": (2, 7, 5, 3)}
    for text, sentence in (
        ("", "open.onnx: input x leaves its size N open: --size N=N fixes it"),
        (",N=2", "open.onnx: input x leaves its size height open: --size height=N fixes it"),
        (",N=2,height=7,depth=1", "open.onnx has no open size depth"),
        (",N=0", f"{file},N=0: 'N=0' is not NAME=N with N of at least 1"),
        (",N=2,N=3", f"{file},N=2,N=3: N is given more than once"),
    ):
        with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
            load_network(f"{file}{text}")


def test_everything_refused_is_told_at_once(tmp_path: Path) -> None:
    graph = Graph(1, 3, 4, 4)
    x = graph.quantised("x")
    graph.add("Softmax", x, output="soft", axis=1)
    graph.add("Conv", "soft", graph.weights("w", np.ones((2, 3, 1, 1))), output="behind")
    graph.add("NonZero", "behind", output="zeros")
    graph.add("Conv", x, graph.constant("plain", np.ones((2, 3, 1, 1), np.float32)), output="float")
    graph.add("AveragePool", x, output="mean", kernel_shape=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1)
    graph.add("Reshape", x, graph.constant("sizes", np.array([1, 6, 2, 4])), output="cut")
    with pytest.raises(WorkloadError) as caught:
        read_network(graph.save(tmp_path / "many.onnx", "mean"))
    assert str(caught.value).splitlines() == [
        "many: 5 operators are not taken:",
        "  Softmax node_soft: it is of what is no product of queries and keys (what helps: --host-ops, which leaves it to the "
        "host)",
        "  NonZero node_zeros: there is no such operator here (what helps: docs/onnx.md lists those that there are)",
        "  Conv node_float: its weights plain are not quantised (what helps: constant weights, quantised to int8)",
        "  AveragePool node_mean: pads count, but not what lies behind them (ceil_mode) (what helps: ceil_mode=0, or "
        "count_include_pad=0)",
        "  Reshape node_cut: [1, 3, 4, 4] as [1, 6, 2, 4] cuts an axis of the image in two",
    ]


def refused_conv(change: Callable[[Graph], None], *, pending: bool = False) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        graph = Graph(1, 3, 4, 4)
        change(graph)
        x = graph.quantised("x")
        weights = graph.extra.get("weights") or graph.weights("w", np.ones((2, 3, 1, 1)))
        y = graph.add("Conv", x, weights, **graph.extra.get("conv", {}))
        return graph.save(folder / "file.onnx", y if pending else graph.quantised(y))

    return made


def held(**values: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.held.update({name: np.asarray(each) for name, each in values.items()})


def extra(**values: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.extra.update(values)


def zero_point_of_weights(graph: Graph) -> None:
    graph.held |= {"i": np.ones((2, 3, 1, 1), np.int8), "s": np.float32(1), "z": np.int8(4)}
    graph.extra["weights"] = graph.add("DequantizeLinear", "i", "s", "z", output="w")


def cut_short(folder: Path) -> Path:
    file = refused_conv(lambda graph: None)(folder)
    file.write_bytes(file.read_bytes()[:-40])
    return file


def with_value(kind: int, shape: tuple[int, ...] = (2,)) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        file = refused_conv(lambda graph: None)(folder)
        model = onnx.load(file)
        odd = TensorProto(name="odd", data_type=kind, dims=shape, raw_data=b"\0" * 8)
        model.graph.initializer.append(odd)
        onnx.save(model, file)
        return file

    return made


def outside(location: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        file = refused_conv(lambda graph: None)(folder)
        model = onnx.load(file)
        (tensor,) = (each for each in model.graph.initializer if each.name == "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        file.write_bytes(model.SerializeToString())
        return file

    return made


def in_a_circle(folder: Path) -> Path:
    graph = Graph(1, 3, 4, 4)
    graph.add("Relu", "b", output="a")
    graph.add("Relu", "a", output="b")
    graph.quantised("x")
    return graph.save(folder / "file.onnx", "b")


def with_branches(folder: Path) -> Path:
    graph = Graph(1, 3, 4, 4)
    body = helper.make_graph([], "body", [], [])
    graph.nodes.append(helper.make_node("If", ["condition"], ["y"], name="branch", then_branch=body, else_branch=body))
    graph.constant("condition", np.array(True))
    graph.quantised("x")
    return graph.save(folder / "file.onnx", "y")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (cut_short, r"^file\.onnx is no ONNX file, or only a part of one: "),
        (
            refused_conv(extra(opset=9)),
            r"^file\.onnx has operators of ONNX opset 9, known are 10 to 26: convert it \(onnx\.version_conv",
        ),
        (with_value(TensorProto.FLOAT16), r"^file\.onnx: odd holds float16, which is not read; known are bool, float32, "),
        (with_value(TensorProto.INT4), r"^file\.onnx: odd holds int4, which is not read"),
        (with_value(TensorProto.STRING), r"^file\.onnx: odd holds string, which is not read"),
        (with_value(FLOAT, (3,)), r"^file\.onnx: odd is damaged: "),
        (with_value(FLOAT, (1 << 20, 1 << 20)), r"^file\.onnx: odd has 1,099,511,627,776 numbers, more than 268,435,456$"),
        (outside("gone.bin"), r"^file\.onnx: the numbers of w are in 'gone\.bin', and there is no such file beside it$"),
        (outside("../gone.bin"), r"^file\.onnx: the numbers of w are in '\.\./gone\.bin', which is not beside the file$"),
        (outside("/etc/hostname"), r"^file\.onnx: the numbers of w are in '/etc/hostname', which is not beside the file$"),
        (in_a_circle, r"^file: Relu node_a waits for itself: nodes read each other in a circle$"),
        (
            with_branches,
            r"\n  If branch: what runs, and how often, is decided by data \(what helps: a file without control flow\)$",
        ),
        (
            refused_conv(held(zero=np.int32(0))),
            r"\n  QuantizeLinear node_t0: it quantises to int32 \(what helps: int8, uint8, int16 or uint16\)",
        ),
        (
            refused_conv(held(scale=np.float32([1, 2, 3]))),
            r"node_t0: what is computed has 3 scales \(what helps: one scale for each ten",
        ),
        (refused_conv(held(scale=np.float32(0))), r"\n  QuantizeLinear node_t0: its scale is 0\.0$"),
        (refused_conv(extra(conv={"group": 2})), r"\n  Conv node_t3: channels \(3\) must be a multiple of groups \(2\)$"),
        (refused_conv(extra(conv={"kernel_shape": [3, 3]})), r"its kernel_shape is \[3, 3\], and its weights have \[1, 1\]$"),
        (
            refused_conv(zero_point_of_weights),
            r"Conv node_t3: its weights w have a zero point \(what helps: weights quantised symm",
        ),
        (
            refused_conv(lambda graph: None, pending=True),
            r"\n  output t3: it is not quantised \(what helps: QuantizeLinear and Deq",
        ),
    ],
)
def test_bad_files(tmp_path: Path, made: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises(WorkloadError, match=sentence):
        read_network(made(tmp_path))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"none\.onnx cannot be read: No such file"):
        load_network(str(tmp_path / "none.onnx"))
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(WorkloadError, match=r"^empty\.onnx is no ONNX file, or only a part of one: it has no nodes$"):
        read_network(empty)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, known = refused_conv(lambda graph: None)(tmp_path), builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "onnx" and not (len(arguments) > 3 and arguments[3]):
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return known(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    sentence = "reading ONNX files needs the Python package onnx, which is not installed: pip install podweave[onnx]"
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        read_network(file)


def test_views() -> None:
    rng = np.random.default_rng(2)
    values: NDArray[np.int64] = rng.integers(0, 99, (2, 6, 4, 5))
    image = View.of(values.shape, IMAGE)
    flat = image.reshaped((2, 120))
    np.testing.assert_array_equal(flat.to_graph(values.reshape(2, 120)), values.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(flat.to_file(values.transpose(0, 2, 3, 1)), values.reshape(2, 120))
    last = image.transposed((0, 2, 3, 1)).reshaped((8, 1, 5, 6))
    np.testing.assert_array_equal(last.to_file(values.transpose(0, 2, 3, 1)), values.transpose(0, 2, 3, 1).reshape(8, 1, 5, 6))
    with pytest.raises(LayoutError, match=r"^\[2, 6, 4, 5\] as \[2, 3, 2, 20\] cuts an axis of the image in two$"):
        image.reshaped((2, 3, 2, 20))
    with pytest.raises(LayoutError, match=r"^\[2, 6, 4, 5\] has other numbers than \[2, 6\]$"):
        image.reshaped((2, 6))
    with pytest.raises(LayoutError, match=r"^where it expects channels, its input has height of the image that was computed$"):
        image.transposed((0, 2, 3, 1)).require_image()


@pytest.mark.parametrize("ratios", [(0.5, 0.5), (0.7, 0.31), (1.9, 0.02), (0.4, -0.3), (0.11, 0.5, 0.25)])
def test_factors_of_sums(ratios: tuple[float, ...]) -> None:
    """Whole numbers in proportion: off by what is said, and by no more than is fine where that can be."""
    whole, worth, off = factors(np.array(ratios))
    real = 255 * sum(abs(each * worth - ratio) for each, ratio in zip(whole, ratios, strict=True))
    assert real == pytest.approx(off, abs=1e-12)
    assert max(map(abs, whole)) <= 127 * MOST_OPERANDS
    assert off < (FINE_ENOUGH if len(ratios) == 2 else 0.1)


def test_the_page_has_the_operators() -> None:
    """`python -m tests.ir.frontends.onnx.operator_table` prints its table."""
    assert table() in (ROOT / "docs/onnx.md").read_text(encoding="utf-8")
    assert all(what for _, what in operator_rows())


def test_the_end_is_left_to_the_host(tmp_path: Path) -> None:
    graph = Graph(1, 3, 4, 4)
    x = graph.quantised("x")
    y = graph.quantised(graph.add("Conv", x, graph.weights("w", np.ones((2, 3, 1, 1))), output="conv"))
    z = graph.quantised(graph.add("Relu", y, output="relu"))
    graph.add("Softmax", z, output="soft", axis=1)
    graph.add("Add", "soft", y, output="sum")
    file = graph.save(tmp_path / "ends.onnx", "sum")
    with pytest.raises(WorkloadError, match="Softmax node_soft: it is of what is no product of queries and keys"):
        load_network(str(file))
    network = load_network(f"{file},host-ops")
    assert network.on_host == ("Softmax node_soft", "Add node_sum")
    # What the host reads leaves: behind the Relu, and in front of it.
    assert {tensor.name for tensor in network.outputs.values()} == {z, y}
    assert set(network.graph.outputs) == {"node_relu", "node_conv"}
    first = Graph(1, 3, 4, 4)
    first.add("Softmax", first.quantised("x"), output="soft", axis=1)
    with pytest.raises(WorkloadError, match="Softmax node_soft: it is of what is no product of queries and keys"):
        load_network(f"{first.save(tmp_path / 'first.onnx', 'soft')},host-ops")


def test_files_in_floating_point(tmp_path: Path) -> None:
    """What would not be taken is told at once, before anyone quantises it."""
    graph = Graph(1, 3, 4, 4)
    y = graph.add("Conv", "x", graph.constant("w", np.ones((2, 3, 1, 1), np.float32)))
    first = "plain is in floating point: quantise it first (podweave quantise)"
    with pytest.raises(WorkloadError, match=f"^{re.escape(first)}$"):
        read_network(graph.save(tmp_path / "plain.onnx", y))
    graph.add("GridSample", y, output="larger")
    with pytest.raises(
        WorkloadError, match=f"^{re.escape(first)}; then\nplain: 1 operator is not taken:\n  GridSample node_larger: there is no"
    ):
        read_network(graph.save(tmp_path / "plain.onnx", "larger"))


@pytest.mark.parametrize(
    ("attributes", "scales", "sentence"),
    [
        ({"mode": "linear"}, (1, 1, 2, 2), "its mode is linear (what helps: nearest neighbours, enlarged by integers)"),
        ({"mode": "nearest"}, (1, 1, 1.5, 2), "its axis 2 has 4 positions and gets 6, which are not those of a whole factor"),
        ({"mode": "nearest"}, (1, 1, 0.5, 2), "its axis 2 has 4 positions and gets 2, which are not those of a whole factor"),
        (
            {"mode": "nearest", "coordinate_transformation_mode": "align_corners"},
            (1, 1, 3, 2),
            "its axis 2 has 4 positions and gets",
        ),
        ({"mode": "nearest"}, (1, 2, 2, 2), "it enlarges batch and channels by [1, 2] (what helps: height and width alone)"),
        ({"mode": "nearest"}, (1, 2, 2), "it has 3 scales or sizes for 4 dimensions"),
        (
            {"mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize"},
            (1, 1, 2, 2),
            "its coordinate_transformation_mode is tf_crop_and_resize",
        ),
    ],
)
def test_images_that_are_enlarged_otherwise(
    tmp_path: Path, attributes: dict[str, str], scales: tuple[float, ...], sentence: str
) -> None:
    graph = Graph(1, 3, 4, 5)
    given = graph.constant("scales", np.array(scales, np.float32))
    y = graph.quantised(graph.add("Resize", graph.quantised("x"), "", given, output="larger", **attributes))
    with pytest.raises(WorkloadError, match=f"Resize node_larger: {re.escape(sentence)}"):
        read_network(graph.save(tmp_path / "larger.onnx", y))
