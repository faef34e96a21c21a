"""ONNX files from their text, as ONNX itself writes it, with constants beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from numpy.typing import ArrayLike
from onnx import numpy_helper, parser


def text_model(text: str, constants: Mapping[str, ArrayLike], opset: int = 17) -> onnx.ModelProto:
    """``text``: a graph (inputs) => (outputs) {nodes}; ``constants``: arrays, by the names that nodes have for them."""
    graph = parser.parse_graph(f"small {text}")
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())  # type: ignore[arg-type]
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def text_file(folder: Path, text: str, constants: Mapping[str, ArrayLike], opset: int = 17) -> Path:
    path = folder / "small.onnx"
    onnx.save(text_model(text, constants, opset), path)
    return path
