"""Graphs that have layers and operations on rows, and the rules that they obey.

Positions of an image, row by row, are rows of channels: operations on rows read a tensor of layers, (1, height, width, channels),
as height * width rows of int8, and layers read int8 rows as an image of as many positions. No other format is known to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from .constants import Parameters
from .graph import Graph
from .layers import WorkloadError
from .operations import Linear, Shape
from .row_graph import RowGraph, verify_no_cache, verify_row_constants, verify_row_operation, verify_row_outputs
from .row_operations import Format, RowOperation
from .verify import verify_after, verify_constants, verify_name, verify_operands, verify_sums


@dataclass(frozen=True)
class MixedGraph(RowGraph):
    """A graph of layers and of operations on rows, in any order. ``formats``: of its inputs, int8 where nothing is said."""

    operations: tuple[RowOperation | Linear, ...]  # type: ignore[assignment]

    def format(self, name: str) -> Format:
        """Numbers of a tensor by its name; layers give int8."""
        formats = {operation.name: operation.format for operation in self.rows}
        return self.formats.get(name, formats.get(name, Format.INT8))

    @property
    def layers(self) -> tuple[Linear, ...]:
        return tuple(operation for operation in self.operations if isinstance(operation, Linear))

    @property
    def rows(self) -> tuple[RowOperation, ...]:
        return tuple(operation for operation in self.operations if isinstance(operation, RowOperation))


def as_rows(shape: Shape) -> Shape:
    """The shape of a single image as rows."""
    return (1, 1, prod(shape[:3]), shape[3])


def verify_mixed(graph: MixedGraph) -> MixedGraph:
    """The graph itself, if it obeys every rule; raises `WorkloadError` for the first that it breaks.

    Layers obey the rules of `podweave.ir.verify`, operations on rows those of `podweave.ir.row_graph`. Beside them: operations on
    rows read single images; layers read int8, and rows as an image of as many positions.
    """
    if not graph.layers or not graph.rows:
        found = "no operation" if not graph.operations else "layers only" if graph.layers else "operations on rows only"
        raise WorkloadError(f"{graph.name}: a mixed graph needs layers and operations on rows, got {found}")
    shapes, known = dict(graph.inputs), dict[str, tuple[int, int, Format]]()
    for name, shape in graph.inputs.items():
        if len(shape) != 4 or min(shape) < 1:
            raise WorkloadError(f"{graph.name}: input {name} must have four sizes (batch, height, width, channels), got {shape}")
        if graph.format(name) is not Format.INT8 and shape[:2] != (1, 1):
            raise WorkloadError(
                f"{graph.name}: input {name} must be (1, 1, rows, channels), as it is {graph.format(name).value}, got {shape}"
            )
        known[name] = (*as_rows(shape)[2:], graph.format(name))
    for name in graph.formats:
        if name not in graph.inputs:
            raise WorkloadError(f"{graph.name}: there is a format for {name}, which is no input")
    rows, spent = set[str](), dict[str, str]()
    for operation in graph.operations:
        if isinstance(operation, Linear):
            _verify_layer(graph, operation, shapes, rows, known)
            form = Format.INT8
        else:
            for source in operation.sources:
                if source in shapes and shapes[source][0] != 1:
                    raise WorkloadError(
                        f"{graph.name}: {operation.name} reads the positions of one image as rows, but {source} has "
                        f"{shapes[source][0]} images"
                    )
            verify_row_operation(graph, operation, known, spent)
            rows.add(operation.name)
            form = operation.format
        shapes[operation.name], known[operation.name] = operation.output, (*as_rows(operation.output)[2:], form)
    verify_row_outputs(graph, known, spent)
    return graph


def _verify_layer(
    graph: MixedGraph, operation: Linear, shapes: Mapping[str, Shape], rows: set[str], known: Mapping[str, tuple[int, int, Format]]
) -> None:
    verify_name(graph, operation, known)
    verify_operands(graph, operation, shapes, rows)
    for source in operation.sources:
        form = known[source][2]
        if form is not Format.INT8:
            raise WorkloadError(f"{graph.name}: {operation.name} is a layer, which reads int8, but {source} is {form.value}")
        verify_no_cache(graph, operation, source)
    verify_after(graph, operation, known)
    verify_sums(graph, operation, known)


def verify_mixed_constants(graph: MixedGraph, constants: Mapping[str, Parameters]) -> None:
    """Raises `WorkloadError` unless there are constants for every operation, of the shapes that it takes."""
    verify_row_constants(RowGraph(graph.name, {}, graph.rows, ()), constants)
    names = {operation.name for operation in graph.layers}
    held = {name: parameters for name, parameters in constants.items() if name in names}
    verify_constants(Graph(graph.name, {}, graph.layers, ()), held)
