"""Encoders in ONNX files, as exporters write them: operators of their own or in pieces, sizes computed by nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]


PIXELS = 8
"""Of an image, in both directions."""


@dataclass(frozen=True)
class Sizes:
    """``layers`` encoders of ``hidden`` channels in ``heads``, ``intermediate`` in between; ``positions`` and a ``vocabulary``."""

    hidden: int
    heads: int
    intermediate: int
    layers: int = 1
    vocabulary: int = 40
    positions: int = 32


@dataclass(frozen=True)
class Style:
    """How it is written.

    ``pieces``: norms and GELU in several operators. ``guarded``: as exporters that trace attention as one function write it: a mask
    for each layer, of -inf; keys transposed without the batch; and zeros for weights that are no numbers. ``first``: norms in front
    of what a layer adds, and one behind all layers. ``fused``: queries, keys and values are one product, which is cut by "split",
    or into "parts". ``hidden``: keys behind a row are not seen by it ("causal"), by a constant condition; or the mask is a
    condition ("where"). ``tanh``: GELU by its tangent. ``flat``: products are Gemm of all rows of all texts. ``patches``: rows are
    those of an image, and one more. ``gains``: what a layer adds is multiplied by one constant for each channel. ``scaled``: what
    is divided by the root of the size of a head: "scores", or "query", or "both" queries and keys by its root. ``mask``, ``pool``,
    ``embed``: whether there are those.
    """

    pieces: bool = False
    guarded: bool = False
    first: bool = False
    fused: str = ""
    hidden: str = ""
    tanh: bool = False
    flat: bool = False
    patches: bool = False
    gains: bool = False
    scaled: str = "scores"
    mask: bool = True
    pool: bool = True
    embed: bool = True
    epsilon: float = 1e-12


def random_weights(sizes: Sizes, seed: int) -> dict[str, NDArray[np.float32]]:
    """By the names that BERT has for them in PyTorch."""
    rng = np.random.default_rng(seed)
    h, found = sizes.hidden, {}

    def normal(name: str, *shape: int, spread: float = 1.0, mean: float = 0.0) -> None:
        found[name] = rng.normal(mean, spread, shape).astype(np.float32)

    for table, count in (("word", sizes.vocabulary), ("position", sizes.positions), ("token_type", 2)):
        normal(f"embeddings.{table}_embeddings.weight", count, h)
    norms = ["embeddings.LayerNorm"]
    for layer in range(sizes.layers):
        prefix = f"encoder.layer.{layer}."
        matrices = {f"attention.self.{what}": (h, h) for what in ("query", "key", "value")} | {"attention.output.dense": (h, h)}
        matrices |= {"intermediate.dense": (sizes.intermediate, h), "output.dense": (h, sizes.intermediate)}
        for name, shape in matrices.items():
            normal(f"{prefix}{name}.weight", *shape, spread=1.5 / np.sqrt(shape[1]))
            normal(f"{prefix}{name}.bias", shape[0], spread=0.2)
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    for name in norms:
        normal(f"{name}.weight", h, spread=0.2, mean=1.0)
        normal(f"{name}.bias", h, spread=0.2)
    return found


class Writer:
    """Nodes and constants of a file."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: Any, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """The name, or the names, of what a node gives; arrays among ``inputs`` become Constant nodes."""
        base = f"/model/{name or f'{operator}_{len(self.nodes)}'}"
        read = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        given = [f"{base}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, read, given, name=base, **attributes))
        return given[0] if outputs == 1 else given

    def constant(self, values: Any) -> str:
        array = np.asarray(values)
        name = f"/model/Constant_{len(self.nodes)}_output_0"
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def weight(self, name: str, values: NDArray[np.float32]) -> str:
        if all(each.name != name for each in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def size(self, of: str, axis: int) -> str:
        """A size as PyTorch has it: of a shape, one number, in a list."""
        one = self.node("Gather", self.node("Shape", of), np.int64(axis), axis=0)
        return str(self.node("Unsqueeze", one, np.array([0])))


def encoder_model(sizes: Sizes, weights: Weights, style: Style | None = None, rows: int | str = "sequence") -> onnx.ModelProto:
    """From tokens to a mean of rows, as far as ``style`` says; from "x" to "y" otherwise."""
    style = style or Style()
    w = Writer()
    inputs = []
    bias = None
    if style.embed:
        inputs.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", rows]))
        tables = {name: w.weight(f"{name}.weight", weights[f"embeddings.{name}.weight"]) for name in
                  ("word_embeddings", "position_embeddings", "token_type_embeddings")}  # fmt: skip
        length = w.node("Gather", w.node("Shape", "input_ids"), np.int64(1), axis=0)
        ends = w.node("Unsqueeze", length, np.array([0]))
        positions = w.node("Slice", np.arange(sizes.positions)[None], np.array([0]), ends, np.array([1]), np.array([1]))
        shape = w.node("Concat", w.size("input_ids", 0), w.size("input_ids", 1), axis=0)
        types = w.node("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, np.int64)))
        x = w.node("Gather", tables["word_embeddings"], "input_ids")
        x = w.node("Add", x, w.node("Gather", tables["token_type_embeddings"], types))
        x = w.node("Add", x, w.node("Gather", tables["position_embeddings"], positions), name="embeddings/Add")
    elif style.patches:
        inputs.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, PIXELS, PIXELS]))
        kernel = weights["embeddings.word_embeddings.weight"][:32].T.reshape(sizes.hidden, 2, 4, 4) / 4
        x = w.node("Conv", "image", w.weight("patches.weight", kernel), kernel_shape=[4, 4], strides=[4, 4], name="patches/Conv")
        x = w.node("Transpose", w.node("Reshape", x, np.array([1, sizes.hidden, -1])), perm=[0, 2, 1])
        x = w.node("Concat", w.weight("first", weights["embeddings.token_type_embeddings.weight"][None, :1]), x, axis=1)
        x = w.node(
            "Add", x, weights["embeddings.position_embeddings.weight"][None, : (PIXELS // 4) ** 2 + 1], name="embeddings/Add"
        )
    else:
        inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows, sizes.hidden]))
        x = "x"
    if style.mask:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", rows]))
        bias = w.node("Unsqueeze", w.node("Unsqueeze", "attention_mask", np.array([1])), np.array([2]))
        if style.hidden == "where":
            bias = w.node("Equal", bias, np.int64(0))
    if style.mask and not style.guarded and style.hidden != "where":
        unseen = w.node("Sub", np.float32(1), w.node("Cast", bias, to=TensorProto.FLOAT))
        bias = w.node("Mul", unseen, np.finfo(np.float32).min)
    y = x if style.first else _norm(w, x, "embeddings.LayerNorm", weights, style)
    for layer in range(sizes.layers):
        y = _layer(w, y, f"encoder.layer.{layer}.", sizes, weights, style, bias)
    if style.first:
        y = _norm(w, y, "embeddings.LayerNorm", weights, style)
    if style.pool:
        y = _pooled(w, y, sizes, style)
    w.nodes.append(helper.make_node("Identity", [y], ["y"]))
    graph = helper.make_graph(
        w.nodes, "encoder", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], w.constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def encoder_file(folder: Path, sizes: Sizes, seed: int = 0, style: Style | None = None, rows: int | str = "sequence") -> Path:
    path = folder / "encoder.onnx"
    onnx.save(encoder_model(sizes, random_weights(sizes, seed), style, rows), path)
    return path


def random_texts(sizes: Sizes, texts: int, rows: int, seed: int, style: Style | None = None) -> dict[str, NDArray]:
    """Inputs of a file: tokens, or rows, of texts of different lengths, if there is a mask."""
    style, rng = style or Style(), np.random.default_rng([seed, 1])
    found: dict[str, NDArray] = {}
    if style.embed:
        found["input_ids"] = rng.integers(0, sizes.vocabulary, (texts, rows))
    elif style.patches:
        found["image"] = rng.normal(size=(texts, 2, PIXELS, PIXELS)).astype(np.float32)
    else:
        found["x"] = rng.normal(size=(texts, rows, sizes.hidden)).astype(np.float32)
    if style.mask:
        lengths = rng.integers(1, rows + 1, texts)
        found["attention_mask"] = (np.arange(rows) < lengths[:, None]).astype(np.int64)
    return found


def _linear(w: Writer, x: str, name: str, weights: Weights, style: Style) -> str:
    if style.flat:
        outputs, inputs = weights[f"{name}.weight"].shape
        matrix, bias = (w.weight(f"{name}.{what}", weights[f"{name}.{what}"]) for what in ("weight", "bias"))
        flat = w.node("Gemm", w.node("Reshape", x, np.array([-1, inputs])), matrix, bias, transB=1)
        shape = w.node("Concat", w.size(x, 0), w.size(x, 1), np.array([outputs]), axis=0)
        return str(w.node("Reshape", flat, shape, name=f"{name}/Add"))
    product = w.node("MatMul", x, w.weight(f"{name}.matrix", weights[f"{name}.weight"].T), name=f"{name}/MatMul")
    return str(w.node("Add", w.weight(f"{name}.bias", weights[f"{name}.bias"]), product, name=f"{name}/Add"))


def _norm(w: Writer, x: str, name: str, weights: Weights, style: Style) -> str:
    gain, bias = (w.weight(f"{name}.{what}", weights[f"{name}.{what}"]) for what in ("weight", "bias"))
    if not style.pieces:
        return str(w.node("LayerNormalization", x, gain, bias, name=f"{name}/Norm", axis=-1, epsilon=style.epsilon))
    less = w.node("Sub", x, w.node("ReduceMean", x, axes=[-1]))
    mean = w.node("ReduceMean", w.node("Pow", less, np.float32(2)), axes=[-1])
    root = w.node("Sqrt", w.node("Add", mean, np.float32(style.epsilon)))
    return str(w.node("Add", w.node("Mul", w.node("Div", less, root), gain), bias, name=f"{name}/Norm"))


def _gelu(w: Writer, x: str, name: str, style: Style) -> str:
    if style.tanh:
        cube = w.node("Mul", np.float32(0.044715), w.node("Pow", x, np.float32(3)))
        tanh = w.node("Tanh", w.node("Mul", np.float32((2 / np.pi) ** 0.5), w.node("Add", x, cube)))
        return str(w.node("Mul", w.node("Mul", np.float32(0.5), x), w.node("Add", np.float32(1), tanh), name=name))
    erf = w.node("Erf", w.node("Div", x, np.float32(2**0.5)))
    one = w.node("Add", erf, np.float32(1))
    if style.pieces:
        return str(w.node("Mul", w.node("Mul", x, np.float32(0.5)), one, name=name))
    return str(w.node("Mul", w.node("Mul", x, one), np.float32(0.5), name=name))


def _heads(w: Writer, x: str, sizes: Sizes, order: list[int]) -> str:
    each = [w.constant(np.array([n])) for n in (sizes.heads, sizes.hidden // sizes.heads)]
    shape = w.node("Concat", w.size(x, 0), w.size(x, 1), *each, axis=0)
    return str(w.node("Transpose", w.node("Reshape", x, shape), perm=order))


def _keys(w: Writer, x: str, sizes: Sizes, style: Style) -> str:
    if not style.guarded:
        return _heads(w, x, sizes, [0, 2, 3, 1])
    x = _heads(w, x, sizes, [0, 2, 1, 3])
    head = np.array([sizes.hidden // sizes.heads])
    rows = w.node("Shape", x, start=2, end=3)
    flat = w.node("Reshape", x, w.node("Concat", np.array([-1]), rows, head, axis=0))
    shape = w.node("Concat", w.node("Shape", x, start=0, end=2), head, rows, axis=0)
    return str(w.node("Reshape", w.node("Transpose", flat, perm=[0, 2, 1]), shape))


def _projected(w: Writer, y: str, prefix: str, sizes: Sizes, weights: Weights, style: Style) -> list[str]:
    """Queries, keys and values, as they are multiplied."""
    names = [f"{prefix}attention.self.{what}" for what in ("query", "key", "value")]
    size = sizes.hidden // sizes.heads
    if style.fused:
        whole = {
            f"{prefix}all.{what}": np.concatenate([weights[f"{name}.{what}"] for name in names]) for what in ("weight", "bias")
        }
        x = _linear(w, y, f"{prefix}all", whole, style)
    if style.fused == "parts":
        each = [w.constant(np.array([n])) for n in (3, sizes.heads, size)]
        x = w.node("Reshape", x, w.node("Concat", w.size(y, 0), w.size(y, 1), *each, axis=0))
        x = w.node("Transpose", x, perm=[2, 0, 3, 1, 4])
        q, k, v = (w.node("Gather", x, np.int64(part), axis=0) for part in range(3))
        q = w.node("Mul", q, np.float32(size**-0.5)) if style.scaled == "query" else q
        return [q, w.node("Transpose", k, perm=[0, 1, 3, 2]), v]
    if style.fused:
        q, k, v = w.node("Split", x, np.array([sizes.hidden] * 3), axis=-1, outputs=3)
    else:
        q, k, v = (_linear(w, y, name, weights, style) for name in names)
    q = w.node("Mul", q, np.float32(size**-0.5)) if style.scaled == "query" else q
    return [_heads(w, q, sizes, [0, 2, 1, 3]), _keys(w, k, sizes, style), _heads(w, v, sizes, [0, 2, 1, 3])]


def _attended(w: Writer, y: str, prefix: str, sizes: Sizes, weights: Weights, style: Style, bias: str | None) -> str:
    size = sizes.hidden // sizes.heads
    q, k, v = _projected(w, y, prefix, sizes, weights, style)
    if style.scaled == "both":
        q, k = (w.node("Mul", x, np.float32(size**-0.25)) for x in (q, k))
    scores = w.node("MatMul", q, k)
    if style.scaled == "scores":
        scores = w.node("Div", scores, np.float32(size**0.5))
    least = np.finfo(np.float32).min
    if style.hidden == "causal":
        square = np.tril(np.ones((1, 1, sizes.positions, sizes.positions), bool))
        rows = w.size(y, 1)
        ends = w.node("Concat", rows, rows, axis=0)
        earlier = w.node("Slice", square, np.array([0, 0]), ends, np.array([2, 3]))
        scores = w.node("Where", earlier, scores, least)
    if bias and style.hidden == "where":
        scores = w.node("Where", bias, least, scores)
    elif bias:
        if style.guarded:
            seen = w.node("Cast", bias, to=TensorProto.BOOL)
            bias = w.node("Where", seen, np.float32(0), np.float32(-np.inf))
        scores = w.node("Add", scores, bias)
    soft = w.node("Softmax", scores, axis=-1)
    if style.guarded:
        soft = w.node("Where", w.node("IsNaN", soft), np.float32(0), soft)
    o = w.node("MatMul", soft, v, name=f"{prefix}attention/MatMul")
    o = w.node("Transpose", o, perm=[0, 2, 1, 3])
    shape = w.node("Concat", w.size(o, 0), w.size(o, 1), np.array([sizes.hidden]), axis=0)
    return _linear(w, w.node("Reshape", o, shape), f"{prefix}attention.output.dense", weights, style)


def _layer(w: Writer, y: str, prefix: str, sizes: Sizes, weights: Weights, style: Style, bias: str | None) -> str:
    def normed(x: str, name: str, here: bool) -> str:
        return _norm(w, x, f"{prefix}{name}.LayerNorm", weights, style) if here else x

    x = normed(y, "attention.output", style.first)
    o = _attended(w, x, prefix, sizes, weights, style, bias)
    gain = weights[f"{prefix}output.LayerNorm.weight"]
    o = w.node("Mul", o, gain) if style.gains else o
    y = normed(w.node("Add", o, y, name=f"{prefix}attention.output/Add"), "attention.output", not style.first)
    x = normed(y, "output", style.first)
    up = _gelu(w, _linear(w, x, f"{prefix}intermediate.dense", weights, style), f"{prefix}gelu", style)
    down = _linear(w, up, f"{prefix}output.dense", weights, style)
    down = w.node("Mul", gain, down) if style.gains else down
    return normed(w.node("Add", down, y, name=f"{prefix}output/Add"), "output", not style.first)


def _pooled(w: Writer, y: str, sizes: Sizes, style: Style) -> str:
    if not style.mask:
        return str(w.node("ReduceMean", y, axes=[1], keepdims=0))
    wide = w.node("Expand", w.node("Unsqueeze", "attention_mask", np.array([-1])), w.node("Shape", y))
    seen = w.node("Cast", wide, to=TensorProto.FLOAT)
    total = w.node("ReduceSum", w.node("Mul", y, seen), np.array([1]), keepdims=0)
    count = w.node("Clip", w.node("ReduceSum", seen, np.array([1]), keepdims=0), np.float32(1e-9))
    return str(w.node("Div", total, count))
