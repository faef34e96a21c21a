"""What is read of an ONNX file: a graph with its constants, and what its integers stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...graph import Graph
from ...operations import AS_IT_IS, Shape, Upsampling
from ...row_operations import Format
from .views import View

HALF = {Format.INT8: 1 << 7, Format.INT16: 1 << 15}
"""Unsigned integers of a file are so much more than those of the graph."""
LIMITS = {Format.INT8: (-128, 127), Format.INT16: (-32768, 32639)}
"""Of the integers of the graph: two planes of int8 end below those of an int16."""
Part: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Begin and end of rows, of columns, of channels."""


@dataclass(frozen=True)
class QuantisedTensor:
    """A tensor of the graph, int8 or of 16 bits, and the tensor of the file that it is.

    Parameters
    ----------
    name : str
        Of the integers in the file; of an input that is quantised in the file, of its real numbers.
    view : View
        How it lies.
    unsigned : bool
        The file has it as uint8, which is 128 more, or as uint16, which is 32,768 more.
    scale : float32 or None
        A real number is ``(integer - zero_point) * scale``; None where the file does not say.
    zero_point : int
        Of the integers of the graph.
    seen : Upsampling
        How the tensor of the graph is to be seen, whose first rows and columns are that of the file, as many as ``view`` has.
    form : Format
        INT8, or INT16: then it lies as rows, (1, 1, H W, C).
    part : Part or None
        Of which rows, columns and channels of ``view`` the tensor of the graph is; None: of all.
    """

    name: str
    view: View
    unsigned: bool
    scale: np.float32 | None
    zero_point: int
    seen: Upsampling = AS_IT_IS
    form: Format = Format.INT8
    part: Part | None = None

    @property
    def dtype(self) -> np.dtype:
        """Of the integers of the file."""
        return np.dtype(f"{'u' if self.unsigned else ''}{self.form.value}")

    @property
    def offset(self) -> int:
        """By how much integers of the file are more than those of the graph."""
        return HALF[self.form] if self.unsigned else 0

    def to_graph(self, values: NDArray) -> NDArray:
        """The integers of the file as those of the graph (B, H, W, C); 0 where the file has none."""
        return self.lying(values.astype(np.int32) - self.offset).astype(self.form.dtype)

    def lying(self, values: NDArray) -> NDArray:
        """Numbers (B, H, W, C) of the file's tensor as they lie in that of the graph; 0 where the file has none."""
        found = self.view.to_graph(values)
        if self.part:
            found = found[:, *(slice(*ends) for ends in self.part)]
        if self.form is Format.INT16:
            return found.reshape(1, 1, -1, found.shape[3])
        return found if self.seen == AS_IT_IS else self._apart(found)

    def _apart(self, image: NDArray) -> NDArray:
        """What is seen interleaved as ``image``."""
        rows, columns = self.seen.rows, self.seen.columns
        batch, height, width, channels = image.shape
        more = np.pad(image, ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0)))
        parts = more.reshape(batch, more.shape[1] // rows, rows, more.shape[2] // columns, columns, channels)
        return np.ascontiguousarray(parts.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *parts.shape[1:4:2], -1))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(B, H, W, C): which integers of the tensor of the graph are some of the file's."""
        return self.lying(np.ones(self.view.sizes, np.int8)).astype(bool)

    def lying_in_file(self, values: NDArray) -> NDArray:
        """Numbers of a tensor of the graph as they lie in that of the file."""
        return self.view.to_file(values.reshape(self.view.shape))

    def to_file(self, values: NDArray) -> NDArray:
        """The integers of the file."""
        return (self.lying_in_file(values).astype(np.int32) + self.offset).astype(self.dtype)

    def real(self, values: NDArray) -> NDArray[np.float32]:
        """float32 (B, H, W, C), as DequantizeLinear has it."""
        assert self.scale is not None
        return (values.astype(np.float32) - np.float32(self.zero_point)) * self.scale


@dataclass(frozen=True)
class Network:
    """A network of a file.

    Members
    -------
    graph : Graph
    constants : dict
        Of its operations, with scales of up to 31 bits and zero points.
    tensors : dict
        Of inputs and operations, what each is in the file; operations that only help are in none.
    real_inputs : frozenset of str
        Inputs that the file has as float32, and quantises.
    outputs : dict
        Tensors of the graph that leave, each as an output of the file.
    operators : dict
        Of each operation, the operator of the file that it is.
    bounds : dict
        Of operations whose factors are not those of the file: by how much a result may be off before it is rounded, in steps.
    exact : dict
        Of operations with a table of a function: float64 (256,), what each of its entries is before it is rounded, in steps.
    on_host : tuple of str
        Operators and names of nodes that are left to the host, behind the network.
    """

    graph: Graph
    constants: dict[str, Parameters]
    tensors: dict[str, QuantisedTensor]
    real_inputs: frozenset[str]
    outputs: dict[str, QuantisedTensor]
    operators: dict[str, str]
    bounds: dict[str, float] = field(default_factory=dict)
    exact: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    on_host: tuple[str, ...] = ()

    @property
    def given(self) -> dict[str, Shape]:
        """Inputs of the graph that are some of the file; others are caches, in which keys and values of attention are."""
        return {name: shape for name, shape in self.graph.inputs.items() if name in self.tensors}

    def with_caches(self, inputs: Mapping[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int8]]:
        """Inputs of the graph: ``inputs``, and caches, which hold nothing in front of a run."""
        return {name: inputs[name] if name in inputs else np.zeros(shape, np.int8) for name, shape in self.graph.inputs.items()}
