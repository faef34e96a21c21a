"""Small files in floating point with products of which some are to read 16 bits, and those as onnxruntime quantises them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

FLOAT = onnx.TensorProto.FLOAT
BATCHES = 12


class Drawn:
    """Nodes, each of which reads the one before unless it is said, with random constants.

    Tensors are named as the nodes that give them.
    """

    def __init__(self, seed: int, *sizes: int):
        self.rng = np.random.default_rng(seed)
        self.sizes, self.last = sizes, "x"
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def constant(self, name: str, values: NDArray) -> str:
        self.held.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, operator: str, name: str, *others: str, source: str | None = None, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, [source or self.last, *others], [name], name, **attributes))
        self.last = name

    def conv(self, name: str, inputs: int, outputs: int, kernel: int = 1, source: str | None = None, **attributes: Any) -> None:
        weights = self.rng.normal(size=(outputs, inputs, kernel, kernel)) / kernel / inputs**0.5
        given = self.constant(f"{name}.w", weights), self.constant(f"{name}.b", self.rng.normal(size=outputs) * 0.3)
        self.add("Conv", name, *given, source=source, **attributes)

    def gemm(self, name: str, inputs: int, outputs: int, source: str | None = None) -> None:
        weights = self.rng.normal(size=(inputs, outputs)) / inputs**0.5
        given = self.constant(f"{name}.w", weights), self.constant(f"{name}.b", self.rng.normal(size=outputs) * 0.3)
        self.add("Gemm", name, *given, source=source)

    def matmul(self, name: str, inputs: int, outputs: int, source: str | None = None) -> None:
        self.add("MatMul", name, self.constant(f"{name}.w", self.rng.normal(size=(inputs, outputs)) / inputs**0.5), source=source)

    def model(self, outputs: tuple[str, ...] = (), opset: int = 17) -> Any:
        ends = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs or (self.last,)]
        graph = helper.make_graph(self.nodes, "some", [helper.make_tensor_value_info("x", FLOAT, self.sizes)], ends, self.held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    def given(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        """Of a few inputs, one after the other."""
        rng = np.random.default_rng([seed, 99])
        return rng.normal(size=(count * self.sizes[0], *self.sizes[1:])).astype(np.float32)


def pixels(seed: int) -> Drawn:
    """Convolutions of single positions between others."""
    file = Drawn(seed, 1, 3, 4, 5)
    file.conv("first", 3, 6, 3, pads=[1, 1, 1, 1])
    file.add("Relu", "first.relu")
    file.conv("inner", 6, 9)
    file.add("Relu", "inner.relu")
    file.conv("second", 9, 7)
    file.conv("third", 7, 6)
    file.add("Relu", "third.relu")
    file.conv("last", 6, 2, 3)
    return file


def features(seed: int) -> Drawn:
    """Fully connected layers of one row."""
    file = Drawn(seed, 1, 6)
    file.gemm("first", 6, 11)
    file.add("Relu", "first.relu")
    file.gemm("second", 11, 9)
    file.add("Relu", "second.relu")
    file.gemm("last", 9, 3)
    return file


def tokens(seed: int) -> Drawn:
    """Products of rows, with a norm in front."""
    file = Drawn(seed, 1, 5, 8)
    file.matmul("zeroth", 8, 8)
    file.add("LayerNormalization", "norm", file.constant("gain", file.rng.normal(size=8)), file.constant("bias", np.arange(8) / 8))
    file.matmul("first", 8, 10)
    file.add("Relu", "first.relu")
    file.matmul("last", 10, 4)
    return file


def classes(seed: int) -> Drawn:
    """A mean, and fully connected layers behind it."""
    file = Drawn(seed, 1, 3, 3, 4)
    file.conv("first", 3, 6, 3, pads=[1, 1, 1, 1])
    file.add("Relu", "first.relu")
    file.add("GlobalAveragePool", "mean")
    file.add("Flatten", "flat")
    file.gemm("second", 6, 9)
    file.add("Relu", "second.relu")
    file.gemm("last", 9, 5)
    return file


def branches(seed: int) -> Drawn:
    """What a product reads is also added to what it gives, and convolved."""
    file = Drawn(seed, 1, 3, 4, 3)
    file.conv("first", 3, 6)
    file.add("Clip", "first.clip", file.constant("low", np.array(0.0)), file.constant("high", np.array(1.5)))
    file.conv("second", 6, 6)
    file.add("Add", "sum", "first.clip")
    file.conv("third", 6, 4, 3, source="first.clip")
    return file


KINDS: dict[str, tuple[Callable[[int], Drawn], tuple[str, ...]]] = {
    "pixels": (pixels, ("inner.relu", "second")),
    "features": (features, ("x", "first.relu", "second.relu", "last")),
    "tokens": (tokens, ("norm", "first.relu")),
    "classes": (classes, ("mean",)),
}
"""Files, and tensors of 16 bits in them."""


def by_onnxruntime(
    folder: Path, drawn: Drawn, tensors: tuple[str, ...], *, signed: bool = False, outputs: tuple[str, ...] = (), **options: Any
) -> Path:
    """The file as onnxruntime's own quantiser writes it, with 16 bits for ``tensors``."""

    class Some(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(np.split(drawn.given(BATCHES), BATCHES))

        def get_next(self) -> dict[str, NDArray] | None:
            found = next(self.left, None)
            return None if found is None else {"x": found}

    made = folder / "made.onnx"
    kind = QuantType.QInt16 if signed else QuantType.QUInt16
    told = {"TensorQuantOverrides": {name: [{"quant_type": kind}] for name in tensors}}
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            drawn.model(outputs),
            str(made),
            Some(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=["norm"],
            extra_options={**told, "ForceQuantizeNoInputCheck": True, **options},
        )
    finally:
        logging.disable(logging.NOTSET)
    return made
