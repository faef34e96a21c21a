"""ONNX graphs in float32 as they are written piece by piece: nodes, constants, and the images that they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .choices import Choices

CONTRIBUTED = "com.microsoft"


@dataclass(frozen=True)
class Image:
    """A tensor of a graph: (batch, channels, *sizes). ``sizes``: (height, width), or (width,)."""

    name: str
    channels: int
    sizes: tuple[int, ...]

    @property
    def area(self) -> int:
        return int(np.prod(self.sizes))

    def named(self, name: str) -> Image:
        """Another tensor of that shape."""
        return Image(name, self.channels, self.sizes)


class OnnxGraph:
    """Collects nodes.

    Parameters
    ----------
    rng : Choices
    batch, opset : int
    integer : bool
        It becomes a file with operators on integers, of which onnxruntime has fewer.

    Members
    -------
    at : Image
        What the next piece reads.
    images : list of Image
        What pieces gave so far.
    """

    def __init__(self, rng: Choices, batch: int, opset: int, *, integer: bool = False):
        self.rng, self.batch, self.opset, self.integer = rng, batch, opset, integer
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.typed: list[Any] = []
        self.images: list[Image] = []
        self.at = Image("x", 1, (1, 1))

    def parts(self, operator: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        """A node of so many outputs."""
        name = f"n{len(self.nodes)}"
        outputs = [f"{name}_out"] if count == 1 else [f"{name}_out{index}" for index in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        return self.parts(operator, inputs, 1, **attributes)[0]

    def contributed(self, operator: str, source: Image) -> str:
        """An operator of onnxruntime's own, whose results shape inference knows nothing of."""
        name = self.add(operator, [source.name], domain=CONTRIBUTED)
        self.typed.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shape(source)))
        return name

    def numbers(self, values: NDArray[np.floating] | float) -> str:
        """A constant of float32."""
        return self._constant(np.asarray(values, np.float32))

    def whole(self, values: list[int]) -> str:
        """A constant of int64."""
        return self._constant(np.array(values, np.int64))

    def one(self, value: int) -> str:
        """A constant of int64 without dimensions."""
        return self._constant(np.array(value, np.int64))

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(values, name))
        return name

    def as_node(self, values: list[int]) -> str:
        """A constant of int64 that a node gives."""
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(values, np.int64)))

    def shape(self, image: Image) -> tuple[int, ...]:
        return (self.batch, image.channels, *image.sizes)

    def give(self, image: Image) -> None:
        """The next piece reads it."""
        self.at = image
        self.images.append(image)

    def one_of(self, *operators: str, integer: int) -> str:
        """One of some operators, of which the first so many read integers."""
        return operators[int(self.rng.integers(integer if self.integer else len(operators)))]

    def ordered(self, *names: str) -> list[str]:
        """Inputs of an operator for which their order is the same, in either."""
        return list(names) if self.rng.random() < 0.6 else list(names[::-1])

    def model(self, given: tuple[int, ...], outputs: list[tuple[str, tuple[int, ...]]]) -> Any:
        """The whole file; ``given``: shape of its input x. Raises `onnx.checker.ValidationError` for what no file may be."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, given)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        graph = helper.make_graph(self.nodes, "random", [x], ends, self.held, value_info=self.typed)
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIBUTED, 1)]
        made = helper.make_model(graph, opset_imports=domains, ir_version=9)
        onnx.checker.check_model(made)
        return made
