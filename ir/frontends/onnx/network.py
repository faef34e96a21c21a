"""What is read of an ONNX file: a graph with its constants, and what its integers stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...graph import Graph
from ...operations import AS_IT_IS, Shape, Upsampling
from .views import View


@dataclass(frozen=True)
class QuantisedTensor:
    """An int8 tensor of the graph, and the tensor of the file that it is.

    Parameters
    ----------
    name : str
        Of the integers in the file; of an input that is quantised in the file, of its real numbers.
    view : View
        How it lies.
    unsigned : bool
        The file has it as uint8, which is 128 more.
    scale : float32 or None
        A real number is ``(integer - zero_point) * scale``; None where the file does not say.
    zero_point : int
        Of the int8.
    seen : Upsampling
        How the tensor of the graph is to be seen, whose first rows and columns are that of the file, as many as ``view`` has.
    """

    name: str
    view: View
    unsigned: bool
    scale: np.float32 | None
    zero_point: int
    seen: Upsampling = AS_IT_IS

    def to_graph(self, values: NDArray) -> NDArray[np.int8]:
        """int8 (B, H, W, C) of the integers of the file; 0 where the file has none."""
        moved = values.astype(np.int16) - 128 if self.unsigned else values
        return self.lying(moved).astype(np.int8)

    def lying(self, values: NDArray) -> NDArray:
        """Numbers (B, H, W, C) of the file's tensor as they lie in that of the graph; 0 where the file has none."""
        found = self.view.to_graph(values)
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
        there = np.ones(self.view.shape, np.int8)
        return (there if self.seen == AS_IT_IS else self._apart(there)).astype(bool)

    def to_file(self, values: NDArray[np.int8]) -> NDArray:
        """The integers of the file of int8 (B, H, W, C)."""
        moved = self.view.to_file(values).astype(np.int16) + (128 if self.unsigned else 0)
        return moved.astype(np.uint8 if self.unsigned else np.int8)

    def real(self, values: NDArray[np.int8]) -> NDArray[np.float32]:
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
