"""The state of reading a file: what is known of its edges, what was made of its nodes, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...layers import Layer
from ...operations import Linear, Shape
from ...row_operations import Format, RowOperation
from ..names import Names
from .files import Node
from .network import QuantisedTensor
from .values import Constant, Heads, Known, Real, RefusedError, Scores, Tensor, Value
from .views import LayoutError, View

Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right))."""


@dataclass(frozen=True)
class Refusal:
    """A node that is not taken."""

    operator: str
    name: str
    why: str
    helps: str = ""

    def __str__(self) -> str:
        return f"{self.operator} {self.name}: {self.why}" + (f" (what helps: {self.helps})" if self.helps else "")


def given_as(name: str, tensor: QuantisedTensor) -> Tensor:
    """What is in the graph under a name, as readers see it."""
    return Tensor((name,), tensor.view, tensor.unsigned, tensor.scale, tensor.zero_point, form=tensor.form)


@dataclass(frozen=True)
class Padded:
    """What a tensor is a copy of, with a border. ``value``: the int8 in it."""

    tensor: Tensor
    padding: Padding
    value: int


@dataclass
class Reader:
    """Collects operations in order.

    Members
    -------
    opset : int
    values : dict
        Of edges that are known, by name.
    inputs, operations, constants, tensors, operators, bounds, exact
        As of a `Network`.
    formats : dict
        Of inputs of 16 bits, and of caches, in which keys and values of attention are.
    tables : dict
        Of operations that look a tensor up, by their names and the origin of that tensor.
    padded : dict
        Of tensors that are copies with a border, by their names.
    """

    opset: int
    values: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    formats: dict[str, Format] = field(default_factory=dict)
    operations: list[Linear | RowOperation] = field(default_factory=list)
    constants: dict[str, Parameters] = field(default_factory=dict)
    tensors: dict[str, QuantisedTensor] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    exact: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    real_inputs: set[str] = field(default_factory=set)
    tables: dict[tuple[str, tuple], NDArray[np.int8]] = field(default_factory=dict)
    padded: dict[str, Padded] = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    def add(
        self, operation: Linear | RowOperation, held: Parameters | None, operator: str, tensor: QuantisedTensor | None = None
    ) -> None:
        """``held``: None for an operation without constants."""
        self.operations.append(operation)
        if held:
            self.constants[operation.name] = held
        self.operators[operation.name] = operator
        if tensor:
            self.tensors[operation.name] = tensor

    def shape(self, name: str) -> Shape:
        """Of an input or of what an operation gives."""
        known = self.inputs.get(name)
        return known if known else next(operation.output for operation in self.operations if operation.name == name)

    def given(self, name: str, tensor: QuantisedTensor) -> Tensor:
        """An input of the graph."""
        batch, height, width, channels = shape = tensor.view.shape
        self.inputs[name], self.tensors[name] = shape, tensor
        if tensor.form is not Format.INT8:
            if batch > 1:
                raise RefusedError(f"input {name} has {batch} images, and 16 bits", "a batch of 1 (--size)")
            self.inputs[name], self.formats[name] = (1, 1, height * width, channels), tensor.form
        return given_as(name, tensor)


@dataclass(frozen=True)
class Call:
    """A node with what it reads, as the functions of operators see it. ``given``: None for inputs that are left out."""

    reader: Reader
    node: Node
    given: tuple[Value | None, ...]

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def operator(self) -> str:
        return self.node.operator

    def has(self, index: int) -> bool:
        return index < len(self.given) and self.given[index] is not None

    def value(self, index: int) -> Value:
        """What input ``index`` is; raises `RefusedError` if there is none."""
        found = self.given[index] if index < len(self.given) else None
        if found is None:
            raise RefusedError(f"it has no input {index}")
        return found

    def real(self, index: int) -> Real:
        """An input that stands for a quantised tensor."""
        found = self.value(index)
        if isinstance(found, (Heads, Scores)):
            what = "channels that are taken apart" if isinstance(found, Heads) else "scores of attention"
            raise RefusedError(f"its input {self.node.inputs[index]} is {what}", "attention as docs/onnx.md has it")
        if not isinstance(found, Real):
            what = "a constant" if isinstance(found, (Constant, Known)) else "not quantised"
            raise RefusedError(f"its input {self.node.inputs[index]} is {what}", "a quantised file (onnxruntime.quantization)")
        return found

    def constant(self, index: int) -> NDArray:
        found = self.value(index)
        if not isinstance(found, Constant):
            raise RefusedError(f"its input {self.node.inputs[index]} is computed, and must be a constant")
        return found.values

    def weights(self, index: int) -> Known:
        """An input that is constant and quantised, to int8 without a zero point."""
        found = self.value(index)
        if not isinstance(found, Known):
            what = "not quantised" if isinstance(found, Constant) else "computed"
            raise RefusedError(f"its weights {self.node.inputs[index]} are {what}", "constant weights, quantised to int8")
        if found.integers.dtype == np.int16:
            name = self.node.inputs[index]
            raise RefusedError(f"its weights {name} have a zero point", "weights quantised symmetrically (WeightSymmetric=True)")
        if found.integers.dtype != np.int8:
            raise RefusedError(f"its weights {self.node.inputs[index]} are {found.integers.dtype}", "weights quantised to int8")
        return found

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Of an input, or in older files of an attribute; None if both are left out."""
        if self.has(index):
            return [int(each) for each in self.constant(index).ravel()]
        found = self.node.attributes.get(attribute)
        return None if found is None else [int(each) for each in np.ravel(found)]

    def attribute(self, name: str, default: int) -> int:
        return int(self.node.attributes.get(name, default))

    def each(self, name: str, count: int, default: int) -> list[int]:
        """An attribute of ``count`` numbers, all of them ``default`` if it is left out."""
        found = [int(value) for value in self.node.attributes.get(name, [default] * count)]
        if len(found) != count:
            raise RefusedError(f"its {name} are {found}", f"{count} numbers")
        return found

    def number(self, name: str, default: float) -> np.float32:
        return np.float32(self.node.attributes.get(name, default))


Handler: TypeAlias = Callable[[Call], "Value | tuple[Value, ...]"]
Operators: TypeAlias = Mapping[str, Handler]


def diagonal(name: str, shape: Shape, padding: Padding = ((0, 0), (0, 0))) -> Layer:
    """The layer that multiplies each channel by itself."""
    batch, height, width, channels = shape
    return Layer(
        name=name,
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        outputs=channels,
        padding=padding,
        groups=channels,
    )


def image(call: Call, index: int = 0) -> Real:
    """An input of a convolution or a pooling."""
    found = call.real(index)
    require_image(found.view)
    return found


def require_image(view: View) -> None:
    try:
        view.require_image()
    except LayoutError as error:
        raise RefusedError(str(error), "no Reshape or Transpose in front of it") from error


def without_border(call: Call, real: Real, padding: Padding, pad_value: int) -> tuple[Real, Padding, int]:
    """What an operator reads, its padding and what is in that, with a border in front of it taken over where that is the same."""
    found = call.reader.padded.get(real.tensor.sources[0]) if len(real.tensor.sources) == 1 and real.tensor.is_plain else None
    if found is None or (any(map(any, padding)) and found.value != pad_value):
        return real, padding, pad_value
    rows, columns = ((a + b, c + d) for (a, c), (b, d) in zip(padding, found.padding, strict=True))
    inner = replace(found.tensor, scale=real.tensor.scale, zero_point=real.tensor.zero_point)
    return Real(inner), (rows, columns), found.value
