"""A network with attention among its convolutions, in floating point: in pieces, as exporters write it, with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Form:
    """How a file is written, and how large it is.

    ``qkv``: of one product, cut in one of three ways, or of three products. ``scaled``: what is multiplied by a number, or divided.
    """

    qkv: Literal["slices", "split", "gather", "apart"] = "slices"
    scaled: Literal["queries", "scores", "divided"] = "queries"
    whole_norms: bool = False
    opset: int = 12
    channels: int = 8
    heads: int = 2
    height: int = 1
    width: int = 6


class _File:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def constant(self, values: NDArray | list[int]) -> str:
        array = np.asarray(values, np.int64) if isinstance(values, list) else values
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def random(self, *shape: int, size: float = 1.0) -> str:
        return self.constant((self.rng.normal(size=shape) * size).astype(np.float32))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        name = f"{operator}{len(self.nodes)}"
        given = [f"{name}.{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), given, name, **attributes))
        return given[0] if outputs == 1 else given

    def conv(self, source: str, inputs: int, outputs: int, kernel: tuple[int, int], **attributes: Any) -> str:
        weights = self.random(outputs, inputs, *kernel, size=(inputs * kernel[0] * kernel[1]) ** -0.5)
        return self.add("Conv", source, weights, self.random(outputs, size=0.1), **attributes)

    def linear(self, source: str, inputs: int, outputs: int) -> str:
        product = self.add("MatMul", source, self.random(inputs, outputs, size=inputs**-0.5))
        return self.add("Add", product, self.random(outputs, size=0.1))

    def silu(self, source: str) -> str:
        return self.add("Mul", source, self.add("Sigmoid", source))

    def norm(self, source: str, form: Form) -> str:
        gain = self.constant(self.rng.uniform(0.5, 1.5, form.channels).astype(np.float32))
        bias = self.random(form.channels, size=0.2)
        if form.whole_norms:
            return self.add("LayerNormalization", source, gain, bias, axis=-1, epsilon=1e-5)
        less = self.add("Sub", source, self.add("ReduceMean", source, axes=[-1]))
        mean = self.add("ReduceMean", self.add("Pow", less, self.number(2)), axes=[-1])
        divided = self.add("Div", less, self.add("Sqrt", self.add("Add", mean, self.number(1e-5))))
        return self.add("Add", self.add("Mul", divided, gain), bias)

    def parts(self, source: str, form: Form) -> list[str]:
        """Queries, keys and values, (1, heads, rows, channels of one)."""
        width, size = form.channels, form.channels // form.heads
        if form.qkv == "apart":
            parts = [self.linear(source, width, width) for _ in range(3)]
            heads = [self.add("Reshape", part, self.constant([1, -1, form.heads, size])) for part in parts]
            return [self.add("Transpose", part, perm=[0, 2, 1, 3]) for part in heads]
        product = self.linear(source, width, 3 * width)
        whole = self.add("Reshape", product, self.constant([1, -1, 3, form.heads, size]))
        turned = self.add("Transpose", whole, perm=[2, 0, 3, 1, 4])
        if form.qkv == "gather":
            return [self.add("Gather", turned, self.constant(np.array(part)), axis=0) for part in range(3)]
        if form.qkv == "split":
            return [self.add("Squeeze", part, self.constant([0])) for part in self.add("Split", turned, outputs=3, axis=0)]
        cut = [self.add("Slice", turned, *(self.constant([at]) for at in (part, part + 1, 0))) for part in range(3)]
        return [self.add("Squeeze", part, axes=[0]) for part in cut]

    def attention(self, source: str, form: Form) -> str:
        query, key, value = self.parts(source, form)
        # Larger than customary, so that rows differ in what they attend to.
        factor = 3 * (form.channels // form.heads) ** -0.5
        if form.scaled == "queries":
            query = self.add("Mul", query, self.number(factor))
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        if form.scaled == "scores":
            scores = self.add("Mul", scores, self.number(factor))
        if form.scaled == "divided":
            scores = self.add("Div", scores, self.number(1 / factor))
        found = self.add("MatMul", self.add("Softmax", scores, axis=3), value)
        together = self.add("Transpose", found, perm=[0, 2, 1, 3])
        return self.linear(self.add("Reshape", together, self.constant([1, -1, form.channels])), form.channels, form.channels)


def attention_model(form: Form, seed: int = 0) -> Any:
    """Convolutions with SiLU; then, of positions as rows, attention and a feed-forward layer, each behind a norm and added to what
    it is of, and a norm; then a convolution."""
    file, channels = _File(seed), form.channels
    image = file.add("Relu", file.conv("x", 3, channels, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
    image = file.silu(file.conv(image, channels, channels, (1, 1)))
    rows = file.add("Transpose", file.add("Reshape", image, file.constant([1, channels, -1])), perm=[0, 2, 1])
    rows = file.add("Add", rows, file.attention(file.norm(rows, form), form))
    inner = file.silu(file.linear(file.norm(rows, form), channels, 2 * channels))
    rows = file.norm(file.add("Add", rows, file.linear(inner, 2 * channels, channels)), form)
    image = file.add("Reshape", rows, file.constant([1, form.height, form.width, channels]))
    y = file.conv(file.add("Transpose", image, perm=[0, 3, 1, 2]), channels, 5, (1, 3), pads=[0, 1, 0, 1])
    kinds = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        file.nodes,
        "attending",
        [helper.make_tensor_value_info("x", kinds, [1, 3, 2 * form.height, 2 * form.width])],
        [helper.make_tensor_value_info(y, kinds, [1, 5, form.height, form.width])],
        file.held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", form.opset)], ir_version=8)


def attention_file(folder: Path, form: Form, seed: int = 0) -> tuple[Path, Path]:
    """The file, and inputs for it."""
    model, inputs = folder / "attending.onnx", folder / "some.npz"
    onnx.save(attention_model(form, seed), model)
    images = np.random.default_rng([seed, 1]).normal(size=(6, 3, 2 * form.height, 2 * form.width))
    np.savez(inputs, x=images.astype(np.float32))
    return model, inputs
