"""Small random networks as ONNX files in float32, quantised by onnxruntime's own static quantiser."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .choices import Choices

OPSET = 17
FUNCTIONS = ("LeakyRelu", "Sigmoid", "SiLU", "Mul", "Add", "Split")


class RandomModel:
    """Nodes one after the other; every method adds some and keeps (name, channels, height, width) of what it gives."""

    def __init__(
        self,
        rng: Choices,
        *,
        size: int = 9,
        channels: int = 3,
        batch: int = 1,
        functions: bool = False,
        borders: bool = False,
        gates: bool = False,
        integer: bool = False,
    ):
        self.rng = rng
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.functions, self.borders, self.gates = functions, borders, gates
        # There is no transposed convolution of integers.
        self.of_borders = ["Resize", *["ConvTranspose"] * (0 if integer else 2), "Pad", "AveragePool", "Shuffle"]
        self.input = (batch, channels, size, size + int(self.rng.integers(3)))
        self.at: tuple[Any, ...] = ("x", *self.input[1:])

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, values: NDArray[np.floating]) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(
        self, outputs: int | None = None, kernel: int | None = None, stride: int | None = None, *, follows: bool = True
    ) -> None:
        rng, (source, channels, height, width) = self.rng, self.at
        k = kernel or int(rng.choice([1, 2, 3, 3]))
        s = stride or int(rng.choice([1, 1, 2]))
        d = int(rng.choice([1, 1, 2])) if k > 1 and not kernel else 1
        pads = [int(each) for each in rng.integers(0, k, 4)] if not kernel else [(k - 1) // 2] * 4
        extent = (k - 1) * d + 1
        if min(height + pads[0] + pads[2], width + pads[1] + pads[3]) < extent:
            k, d, extent, pads = 1, 1, 1, [0] * 4
        outputs = outputs or int(rng.integers(2, 9))
        groups = 1
        if not kernel and rng.random() < 0.3:
            groups, outputs = channels, channels * int(rng.choice([1, 2]))
        weights = rng.normal(size=(outputs, channels // groups, k, k)) / np.sqrt(k * k * channels / groups)
        weights *= rng.uniform(0.3, 2, (outputs, 1, 1, 1))
        inputs = [source, self.constant(weights)]
        if rng.random() < 0.8:
            inputs.append(self.constant(rng.normal(size=outputs) * 0.3))
        name = self.add("Conv", inputs, pads=pads, strides=[s, s], dilations=[d, d], group=groups)
        sizes = [(n + a + b - extent) // s + 1 for n, a, b in ((height, pads[0], pads[2]), (width, pads[1], pads[3]))]
        if follows:
            kind = rng.choice(["", "Relu", "Relu", "Clip"])
            if kind == "Relu":
                name = self.add("Relu", [name])
            elif kind == "Clip":
                name = self.add("Clip", [name, self.constant(np.array(0.0)), self.constant(np.array(1.5))])
        self.at = (name, outputs, *sizes)

    def pool(self) -> None:
        source, channels, height, width = self.at
        if min(height, width) < 3:
            return
        if self.rng.random() < 0.5:
            pads = [int(each) for each in self.rng.integers(0, 2, 4)]
            name = self.add("MaxPool", [source], kernel_shape=[3, 3], strides=[2, 2], pads=pads)
            sizes = [(n + a + b - 3) // 2 + 1 for n, a, b in ((height, pads[0], pads[2]), (width, pads[1], pads[3]))]
        else:
            name = self.add("AveragePool", [source], kernel_shape=[2, 3], strides=[2, 1])
            sizes = [(height - 2) // 2 + 1, width - 2]
        self.at = (name, channels, *sizes)

    def block(self) -> None:
        """A residual block, or two branches that are joined."""
        source = self.at
        self.conv(source[1], 3, 1)
        first = self.at
        if self.rng.random() < 0.6:
            self.conv(source[1], 3, 1, follows=False)
            name = self.add("Add", [self.at[0], source[0]])
            if self.rng.random() < 0.5:
                name = self.add("Relu", [name])
            self.at = (name, *source[1:])
        else:
            self.at = source
            self.conv(None, 1, 1)
            name = self.add("Concat", [first[0], self.at[0]], axis=1)
            self.at = (name, first[1] + self.at[1], *source[2:])

    def function(self) -> None:
        """Of each number by itself; SiLU is written out; numbers of channels are multiplied or added."""
        kind, source, channels = str(self.rng.choice(FUNCTIONS)), self.at[0], self.at[1]
        if kind == "Split":
            self.split()
            return
        if kind == "SiLU":
            name = self.add("Mul", [source, self.add("Sigmoid", [source])])
        elif kind in ("Mul", "Add"):
            name = self.add(kind, [source, self.constant(self.rng.normal(size=(1, channels, 1, 1)))])
        else:
            name = self.add(kind, [source])
        self.at = (name, *self.at[1:])

    def split(self) -> None:
        """Into two, of which one goes on through a convolution, and both are joined the other way round."""
        source, channels, *sizes = self.at
        if channels < 2:
            return
        cut = int(self.rng.integers(1, channels))
        name = f"n{len(self.nodes)}"
        self.held.append(numpy_helper.from_array(np.array([cut, channels - cut]), f"{name}_sizes"))
        parts = [f"{name}_first", f"{name}_second"]
        self.nodes.append(helper.make_node("Split", [source, f"{name}_sizes"], parts, name=name, axis=1))
        self.at = (parts[0], cut, *sizes)
        self.conv(cut, 1, 1)
        joined = self.add("Concat", [parts[1], self.at[0]], axis=1)
        self.at = (joined, channels, *sizes)

    def border(self) -> None:
        """Images get larger, or a border; means leave pads out."""
        rng, (source, channels, height, width) = self.rng, self.at
        kind = str(rng.choice(self.of_borders))
        if kind == "Resize" and height * width <= 150:
            factors = [int(each) for each in rng.integers(1, 3, 2)]
            ways = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if rng.random() < 0.5 else {}
            scales = self.constant(np.array([1, 1, *factors]))
            name = self.add("Resize", [source, "", scales], mode="nearest", **ways)
            self.at = (name, channels, height * factors[0], width * factors[1])
        elif kind == "ConvTranspose" and height * width <= 150:
            outputs, k, s = int(rng.integers(2, 6)), *(int(each) for each in rng.integers(1, 4, 2))
            pads = [int(each) for each in rng.integers(0, k, 4)]
            sizes = [(n - 1) * s + k - a - b for n, a, b in ((height, pads[0], pads[2]), (width, pads[1], pads[3]))]
            if min(sizes) < 3:
                return
            weights = rng.normal(size=(channels, outputs, k, k)) / np.sqrt(channels)
            inputs = [source, self.constant(weights), self.constant(rng.normal(size=outputs) * 0.3)]
            name = self.add("ConvTranspose", inputs, strides=[s, s], pads=pads)
            self.at = (name, outputs, *sizes)
        elif kind == "Shuffle" and channels % 2 == 0:
            groups = int(rng.choice([each for each in range(2, channels + 1) if channels % each == 0]))
            apart = np.array([self.input[0], groups, channels // groups, height, width])
            whole = np.array([self.input[0], -1, height, width])
            for number, wanted in enumerate((apart, whole)):
                self.held.append(numpy_helper.from_array(wanted, f"s{len(self.held)}"))
                source = self.add("Reshape", [source, self.held[-1].name])
                if number == 0:
                    source = self.add("Transpose", [source], perm=[0, 2, 1, 3, 4])
            self.at = (source, channels, height, width)
        elif kind == "Pad":
            pads = [int(each) for each in rng.integers(0, 3, 4)]
            self.held.append(numpy_helper.from_array(np.array([0, 0, *pads[:2], 0, 0, *pads[2:]]), f"p{len(self.held)}"))
            name = self.add("Pad", [source, self.held[-1].name])
            self.at = (name, channels, height + pads[0] + pads[2], width + pads[1] + pads[3])
            if rng.random() < 0.7:
                self.conv(None, 3) if rng.random() < 0.6 else self.pool()
        elif min(height, width) >= 3:
            pads, ceil = [int(each) for each in rng.integers(0, 2, 4)], int(rng.integers(2))
            count = int(rng.integers(2)) if not ceil else 0
            name = self.add(
                "AveragePool", [source], kernel_shape=[3, 2], strides=[2, 1], pads=pads, ceil_mode=ceil, count_include_pad=count
            )
            sizes = []
            for n, k, s, a, b in ((height, 3, 2, pads[0], pads[2]), (width, 2, 1, pads[1], pads[3])):
                outputs = (n + a + b - k + (s - 1) * ceil) // s + 1
                sizes.append(outputs - (ceil and (outputs - 1) * s >= n + a))
            self.at = (name, channels, *sizes)

    def gate(self) -> None:
        """Squeeze-excite; or a product with a branch, of all channels or of one, with the branch first or last."""
        rng, source = self.rng, self.at
        kind, function = rng.choice(["squeeze", "squeeze", "branch", "channel"]), rng.choice(["HardSigmoid", "Sigmoid"])
        if kind == "squeeze":
            self.at = (self.add("GlobalAveragePool", [source[0]]), source[1], 1, 1)
            self.conv(int(rng.integers(2, 6)), 1, 1)
            self.conv(source[1], 1, 1, follows=False)
            self.at = (self.add(str(function), [self.at[0]]), *self.at[1:])
        else:
            self.conv(source[1] if kind == "branch" else 1, 3 if rng.random() < 0.5 else 1, 1, follows=rng.random() < 0.5)
        both = [source[0], self.at[0]] if rng.random() < 0.7 else [self.at[0], source[0]]
        name = self.add("Mul", both)
        if rng.random() < 0.3:
            name = self.add("Relu", [name])
        self.at = (name, *source[1:])

    def head(self) -> None:
        source, channels, height, width = self.at
        if self.rng.random() < 0.5:
            source, height, width = self.add("GlobalAveragePool", [source]), 1, 1
        flat = self.add("Flatten", [source])
        count, outputs = channels * height * width, int(self.rng.integers(2, 12))
        weights = self.rng.normal(size=(outputs, count)) / np.sqrt(count)
        name = self.add("Gemm", [flat, self.constant(weights), self.constant(self.rng.normal(size=outputs))], transB=1)
        self.at = (name, outputs)

    def model(self) -> Any:
        self.conv(None, 3)
        for _ in self.rng.several(2, 5):
            choice = self.rng.random()
            if self.gates and self.rng.random() < 0.6:
                self.gate()
            elif self.borders and self.rng.random() < 0.5:
                self.border()
            elif choice < 0.35:
                self.conv()
            elif choice < 0.6:
                self.pool()
            elif choice < 0.8 or not self.functions:
                self.block()
            else:
                self.function()
        if self.rng.random() < 0.6:
            self.head()
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)
        y = helper.make_tensor_value_info(self.at[0], TensorProto.FLOAT, (self.input[0], *self.at[1:]))
        graph = helper.make_graph(self.nodes, "random", [x], [y], self.held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        return model


class Samples(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...], seed: int):
        rng = np.random.default_rng(seed)
        self.left: Iterator[dict[str, NDArray[np.float32]]] = iter(
            [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.left, None)


def quantised_file(
    folder: Path,
    seed: int,
    *,
    unsigned: bool,
    per_channel: bool,
    symmetric: bool = False,
    integer: bool = False,
    rng: Choices | None = None,
    **options: Any,
) -> Path:
    """A random network as onnxruntime quantises it; ``integer``: with operators on integers."""
    made = RandomModel(rng or Choices(seed), integer=integer, **options)
    plain, file = folder / f"plain{seed}.onnx", folder / f"random{seed}.onnx"
    onnx.save(made.model(), plain)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            str(plain),
            str(file),
            Samples(made.input, seed),
            quant_format=QuantFormat.QOperator if integer else QuantFormat.QDQ,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            extra_options={"ActivationSymmetric": symmetric},
        )
    finally:
        logging.disable(logging.NOTSET)
    return file
