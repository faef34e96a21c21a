"""Graphs of rows in the making."""

from __future__ import annotations

from ..layers import MAX_SIZE, WorkloadError
from ..operations import Shape
from ..row_graph import RowGraph
from ..row_operations import Format, RowLinear, RowOperation


class RowBuilder:
    """Inputs and operations of a graph of ``rows`` rows, which give the names of their tensors."""

    def __init__(self, rows: int):
        self.rows = rows
        self.inputs: dict[str, Shape] = {}
        self.formats: dict[str, Format] = {}
        self.operations: list[RowOperation] = []

    def input(self, name: str, form: Format, channels: int, rows: int | None = None) -> str:
        self.inputs[name] = (1, 1, rows or self.rows, channels)
        self.formats[name] = form
        return name

    def add(self, operation: RowOperation) -> str:
        self.operations.append(operation)
        return operation.name

    def linear(self, name: str, source: str, width: int, outputs: int, form: Format = Format.INT16, add: str | None = None) -> str:
        return self.add(RowLinear(name, self.rows, source=source, width=width, outputs=outputs, form=form, add=add))

    def graph(self, name: str) -> RowGraph:
        return RowGraph(name, self.inputs, tuple(self.operations), formats=self.formats)


def require_sizes(name: str, **sizes: int) -> None:
    """Raises `WorkloadError` for a size that none may have."""
    for what, size in sizes.items():
        if not 1 <= size <= MAX_SIZE:
            rule = "at least 1" if size < 1 else f"at most {MAX_SIZE:,}"
            raise WorkloadError(f"{name}: {what} must be {rule}, got {size}")
