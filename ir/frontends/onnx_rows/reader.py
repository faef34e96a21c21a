"""What a reader of transformers knows: values by name, operations so far, inputs, and the mask."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..onnx.files import File, Node
from ..onnx.values import RefusedError
from .floats import FloatLinear, FloatOperation, Mask
from .host import samples
from .patterns import with_functions
from .values import Host, Value
from .views import CHANNELS, ROWS, RowsView


class RowsReader:
    """Values by name, and operations so far."""

    def __init__(self, file: File):
        self.file = file
        self.nodes, constants = with_functions(file)
        self.values: dict[str, Value] = {name: Host(values, True) for name, values in constants.items()}
        self.values |= {name: Host(values, False) for name, values in samples(file.name, dict(file.inputs)).items()}
        self.operations: dict[str, FloatOperation] = {}
        self.inputs: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        self.layouts: dict[str, tuple[tuple[str, int], ...]] = {}
        self.masks: tuple[Mask, ...] | None = None
        self.cut: dict[str, FloatLinear] = {}
        self.rows = 0
        self.same: dict[str, str] = {}
        self.uses = Counter(name for node in self.nodes for name in node.inputs if node.operator != "Shape")
        self.uses.update(file.outputs)

    def constant(self, name: str) -> NDArray | None:
        found = self.values.get(name)
        return found.values if isinstance(found, Host) and found.constant else None

    def number(self, node: Node, index: int) -> float | None:
        found = self.constant(node.inputs[index])
        return float(found.ravel()[0]) if found is not None and found.size == 1 else None

    def view(self, name: str) -> RowsView:
        """Rows that are computed, or an input that begins here."""
        found = self.values[name]
        if isinstance(found, Host) and not found.constant:
            view = RowsView.of(name, found.values.shape)
            self.require_rows(view)
            self.inputs[name] = self.widths[name] = view.width
            self.layouts[name] = view.axes
            self.values[name] = found = view
        if not isinstance(found, RowsView):
            raise RefusedError(f"its input {name} is no rows")
        return found

    def require_rows(self, view: RowsView) -> None:
        if self.rows and view.size(ROWS) != self.rows:
            raise RefusedError(f"{view.name} has {view.size(ROWS)} rows, others have {self.rows}")
        self.rows = view.size(ROWS)

    def put(self, operation: FloatOperation, width: int, shape: RowsView) -> RowsView:
        """An operation, whose rows lie as those of ``shape``."""
        self.operations[operation.name] = operation
        self.widths[operation.name] = width
        axes = tuple((axis, width if axis == CHANNELS else size) for axis, size in shape.axes)
        self.layouts[operation.name] = axes
        return RowsView(operation.name, axes)

    def alone(self, view: RowsView) -> FloatLinear | None:
        """The product that gives a tensor, if nobody else reads that and nothing was added to it."""
        found = self.operations.get(view.require_rows().name)
        return found if isinstance(found, FloatLinear) and not found.add and self.uses[found.name] == 1 else None

    def renamed(self, found: FloatLinear, node: Node, view: RowsView) -> RowsView:
        del self.operations[view.name], self.widths[view.name], self.layouts[view.name]
        return self.put(replace(found, name=node.outputs[0]), len(found.bias), view)

    def moved(self, node: Node) -> RowsView:
        found = self.values[node.inputs[0]]
        if not isinstance(found, RowsView):
            raise RefusedError("scores of attention must stay as they are")
        return found

    def axes(self, node: Node) -> list[int]:
        found = self.constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
        if found is None:
            raise RefusedError("its axes must be constant")
        return [int(axis) for axis in np.ravel(found)]
