"""What is read of an ONNX file: a graph with its constants, and what its integers stand for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...constants import Parameters
from ...graph import Graph
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
    """

    name: str
    view: View
    unsigned: bool
    scale: np.float32 | None
    zero_point: int

    def to_graph(self, values: NDArray) -> NDArray[np.int8]:
        """int8 (B, H, W, C) of the integers of the file."""
        moved = values.astype(np.int16) - 128 if self.unsigned else values
        return self.view.to_graph(moved).astype(np.int8)

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
    on_host: tuple[str, ...] = ()
