"""Graphs of operations on rows, and the rules that they obey."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from .constants import Parameters
from .graph import Graph
from .layers import WorkloadError
from .operations import Operation
from .row_operations import Append, Format, GatedRows, Product, RmsNorm, RowLinear, RowOperation
from .verify import verify_after, verify_name


@dataclass(frozen=True)
class RowGraph(Graph):
    """A `Graph` of operations on rows. ``formats``: of its inputs, int8 where nothing is said."""

    operations: tuple[RowOperation, ...]  # type: ignore[assignment]
    formats: dict[str, Format] = field(default_factory=dict)

    def format(self, name: str) -> Format:
        """Numbers of a tensor by its name."""
        if name in self.inputs:
            return self.formats.get(name, Format.INT8)
        return next(operation.format for operation in self.operations if operation.name == name)


def verify_rows(graph: RowGraph) -> RowGraph:
    """The graph itself, if it obeys every rule; raises `WorkloadError` for the first that it breaks.

    Beside the rules of all graphs (`podweave.ir.verify`): tensors are single images of one row of positions; an operation reads
    tensors of the sizes and formats that it expects; nobody reads a residual after something was added to it.
    """
    if not graph.operations:
        raise WorkloadError(f"{graph.name}: a graph needs at least one operation")
    known: dict[str, tuple[int, int, Format]] = {}
    for name, shape in graph.inputs.items():
        if len(shape) != 4 or min(shape) < 1 or shape[:2] != (1, 1):
            raise WorkloadError(f"{graph.name}: input {name} must be (1, 1, rows, channels), got {shape}")
        known[name] = (shape[2], shape[3], graph.format(name))
    for name in graph.formats:
        if name not in graph.inputs:
            raise WorkloadError(f"{graph.name}: there is a format for {name}, which is no input")
    spent: dict[str, str] = {}
    for operation in graph.operations:
        verify_row_operation(graph, operation, known, spent)
        known[operation.name] = (*operation.output[2:], operation.format)
    verify_row_outputs(graph, known, spent)
    return graph


def verify_row_operation(
    graph: RowGraph, operation: RowOperation, known: Mapping[str, tuple[int, int, Format]], spent: dict[str, str]
) -> None:
    """Raises `WorkloadError` for an operation that breaks a rule. ``known``: rows, channels and format of earlier tensors;
    ``spent``: by residual, what has added to it, which this operation may become."""
    verify_name(graph, operation, known)
    for source, (rows, channels, formats) in operation.inputs.items():
        if source not in known:
            raise WorkloadError(f"{graph.name}: {operation.name} reads {source}, which no earlier operation gives")
        if source in spent:
            raise WorkloadError(f"{graph.name}: {operation.name} reads {source}, to which {spent[source]} has added")
        if isinstance(operation, RowLinear):
            verify_no_cache(graph, operation, source)
        found = known[source]
        if found[:2] != (rows, channels) or found[2] not in formats:
            wanted = " or ".join(f.value for f in formats)
            raise WorkloadError(
                f"{graph.name}: {operation.name} expects {rows} rows of {channels} {wanted}, "
                f"but {source} has {found[0]} of {found[1]} {found[2].value}"
            )
    verify_after(graph, operation, known)
    if isinstance(operation, RowLinear) and operation.add:
        spent[operation.add] = operation.name
    if isinstance(operation, Append):
        _require_cache(graph, operation)


def verify_no_cache(graph: RowGraph, operation: Operation, source: str) -> None:
    """Raises `WorkloadError` if what an operation reads is a cache."""
    if any(isinstance(each, Append) and each.name == source for each in graph.operations):
        raise WorkloadError(f"{graph.name}: {operation.name} reads {source}, which is a cache: only attentions read those")


def verify_row_outputs(graph: RowGraph, known: Collection[str], spent: Mapping[str, str]) -> None:
    """Raises `WorkloadError` for an output that no operation gives, or to which something was added."""
    for name in graph.outputs:
        if name in graph.inputs or name not in known:
            raise WorkloadError(f"{graph.name}: output {name} is nothing that an operation gives")
        if name in spent:
            raise WorkloadError(f"{graph.name}: output {name} is a residual to which {spent[name]} has added")


def _require_cache(graph: RowGraph, operation: Append) -> None:
    """A cache is an input, and only read behind what was appended to it."""
    if operation.cache not in graph.inputs:
        raise WorkloadError(f"{graph.name}: {operation.name} appends to {operation.cache}, which is no input")
    for other in graph.operations:
        if other is not operation and operation.cache in other.sources:
            raise WorkloadError(
                f"{graph.name}: {other.name} reads {operation.cache}, to which {operation.name} appends: it must read "
                f"{operation.name}"
            )
    if operation.name in graph.outputs:
        raise WorkloadError(f"{graph.name}: output {operation.name} is a cache, which is in memory")


def verify_row_constants(graph: RowGraph, constants: Mapping[str, Parameters]) -> None:
    """Raises `WorkloadError` unless there are constants for every operation, of the shapes that it takes."""
    for operation in graph.operations:
        if not operation.scales:
            continue
        if operation.name not in constants:
            raise WorkloadError(f"{graph.name}: there are no constants for {operation.name}")
        held = constants[operation.name]
        expected = [(operation.width, operation.outputs)] if isinstance(operation, RowLinear) else []
        if [weights.shape for weights in held.weights] != expected:
            found = [weights.shape for weights in held.weights]
            raise WorkloadError(f"{graph.name}: {operation.name} takes weights of {expected}, got {found}")
        for what in ("bias", "multiplier", "shift"):
            shape = getattr(held, what).shape
            if shape != (operation.scales,):
                raise WorkloadError(f"{graph.name}: {operation.name} takes a {what} of {(operation.scales,)}, got {shape}")
        if isinstance(operation, RmsNorm | GatedRows | Product) and held.bias.any():
            raise WorkloadError(f"{graph.name}: {operation.name} has no bias, got {held.bias[np.flatnonzero(held.bias)[0]]}")
