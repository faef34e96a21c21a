"""From a file in floating point to a transformer: nodes in order, and what each is to the rows that it reads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...layers import WorkloadError
from ..onnx.files import File, Node, read_file
from ..onnx.reader import Refusal
from ..onnx.values import RefusedError
from .floats import FloatAttention, FloatNetwork
from .host import MULTIPLIES, computation, computed
from .operators import OPERATORS
from .patterns import GELU, NORM
from .reader import RowsReader
from .values import Behind, Host, NotANumber, Scores, Value
from .views import CHANNELS, ONE, ROWS, RowsView

_SMALL = 1 << 12
"""Numbers of constants that are compared with each other."""


def read_rows(path: Path, sizes: Mapping[str, int] | None = None) -> FloatNetwork:
    """The transformer of a file in floating point.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        Of dimensions that the file leaves open.

    Raises
    ------
    WorkloadError
        For what cannot be read, and if it has no transformer, or one with operators in it that are not taken.
    """
    return rows_of(read_file(path, sizes))


def rows_of(file: File) -> FloatNetwork:
    """The transformer of a file that was read."""
    return _Reader(file).network()


class _Reader(RowsReader):
    """Reads nodes in order: those in front of the chip, those that it computes, and those behind it."""

    def __init__(self, file: File):
        super().__init__(file)
        self.outputs: dict[str, None] = {}
        self.refusals: list[Refusal] = []
        self.in_front: list[Node] = []
        self.behind: list[Node] = []
        self.nodes_by_key: dict[Hashable, tuple[str, ...]] = {}
        self.sizes: dict[str, NDArray] = {}

    def network(self) -> FloatNetwork:
        for node in self.nodes:
            found = self._read(node)
            self.values.update(zip(node.outputs, found, strict=False))
        for name in self.file.outputs:
            if isinstance(self.values.get(name), RowsView):
                self._leaves(name)
        if not any(isinstance(each, FloatAttention) for each in self.operations.values()):
            told = "".join(f"\n  {each}" for each in self.refusals)
            raise WorkloadError(f"{self.file.name} has no transformer: no attention is recognised in it{told}")
        return FloatNetwork(
            self.file.name,
            self.rows,
            self.widths,
            tuple(self.inputs),
            self.layouts,
            self.masks or (),
            tuple(self.operations.values()),
            tuple(self.outputs),
            dict(self.file.inputs),
            tuple(self.file.outputs),
            self.sizes,
            tuple(f"{node.operator} {node.name}" for node in (*self.in_front, *self.behind)),
        )

    def _read(self, node: Node) -> list[Value]:
        missing = [name for name in node.inputs if name and name not in self.values]
        if missing:
            raise WorkloadError(f"{self.file.name}: nothing in front of {node.operator} {node.name} gives its input {missing[0]}")
        given = [self.values[name] for name in node.inputs if name]
        if node.operator == "Shape" and isinstance(given[0], RowsView):
            part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
            size = self.sizes[node.outputs[0]] = np.array(given[0].shape[part], np.int64)
            return [self._constant(node.outputs[0], size)]
        try:
            if not any(isinstance(each, Behind) for each in given):
                on_chip = any(not isinstance(each, Host) for each in given) or self._begins(node)
                if not on_chip:
                    return self._on_host(node)
                if node.operator not in OPERATORS:
                    raise RefusedError("there is no such operation on rows")
                found = OPERATORS[node.operator](self, node)
                return list(found) if isinstance(found, tuple) else [found]
        except RefusedError as refused:
            self.refusals.append(Refusal(node.operator, node.name, refused.why, refused.helps))
        self._require_end(node)
        for name in node.inputs:
            if isinstance(self.values.get(name), RowsView):
                self._leaves(name)
            elif isinstance(self.values.get(name), Scores | NotANumber):
                raise WorkloadError(self._told(node))
        self.behind.append(node)
        return [Behind() for _ in node.outputs]

    def _require_end(self, node: Node) -> None:
        """Raises `WorkloadError` if the network goes on behind what is left to the host."""
        products = node.operator == "MatMul" and not any(self.constant(name) is not None for name in node.inputs)
        if self.refusals and (node.operator in (NORM, GELU) or products):
            raise WorkloadError(self._told(node))

    def _told(self, node: Node) -> str:
        told = "".join(f"\n  {each}" for each in self.refusals)
        return f"{self.file.name}: the transformer ends in front of {node.operator} {node.name}, since these are not taken:{told}"

    def _leaves(self, name: str) -> None:
        view = self.values[name]
        assert isinstance(view, RowsView)
        if view.name in self.inputs:
            return
        if [axis for axis, _ in self.layouts[view.name] if axis != ONE] != [ROWS, CHANNELS]:
            raise WorkloadError(f"{self.file.name}: {view.name} leaves as heads, and only rows of whole tensors do")
        # Factors, and how its axes lie, are nodes of the file, which the host computes.
        self.outputs[view.name] = None

    def _on_host(self, node: Node) -> list[Value]:
        given = [self.values[name] if name else None for name in node.inputs]
        # Exporters compute a mask anew for each layer: the same of the same is the same.
        made = computation(node, [self.same.get(name, name) for name in node.inputs])
        self.same.update(zip(node.outputs, self.nodes_by_key.setdefault(made, node.outputs), strict=False))
        hosts = [each for each in given if isinstance(each, Host)]
        constant = all(each.constant for each in hosts) or node.operator == "Shape"
        arrays = [each.values if isinstance(each, Host) else None for each in given]
        found = computed(node, arrays, self.file.opset)
        if constant:
            return [self._constant(name, values) for name, values in zip(node.outputs, found, strict=False)]
        if node.operator in MULTIPLIES:
            self.in_front.append(node)
        return [Host(values, False) for values in found]

    def _constant(self, name: str, values: NDArray) -> Host:
        if values.size <= _SMALL:
            same = self.nodes_by_key.setdefault((values.dtype.str, values.shape, values.tobytes()), (name,))
            self.same[name] = same[0]
        return Host(values, True)

    def _begins(self, node: Node) -> bool:
        """Whether the chip takes over from the host: a norm, or a product with a matrix, of what is not known before."""
        if node.operator not in (NORM, "MatMul", "Gemm"):
            return False
        first = self.values[node.inputs[0]]
        return isinstance(first, Host) and not first.constant
