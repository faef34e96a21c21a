"""How the channels of tensors lie in words: by heads where attentions ask for that, else in their order.

Linear operations write, and inputs are loaded, as their readers need them; rotations, products and attentions as what they read
lies. Where that does not agree, a copy stands between: a linear operation with ones on the diagonal.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from podweave.ir.constants import Constants, Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.rewrites import fresh_name
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Append, Attention, Format, GatedRows, Product, Rope, RowLinear, RowOperation, SiluProduct


@dataclass(frozen=True)
class Heads:
    """``kv_heads`` groups of ``shared`` neighbouring heads of ``size`` channels. ``later``: they begin in later nodes."""

    kv_heads: int
    shared: int
    size: int
    later: bool

    def fits(self, rotated: int) -> bool:
        """Whether heads of that size are whole, and are rotated alike, in each of these."""
        return self.size % rotated == 0


class Spreads:
    """Of all tensors of a graph: `Heads`, or None for channels in their order, as ``plain`` ones must lie."""

    def __init__(self, graph: RowGraph, plain: Collection[str] = ()):
        self.plain = plain
        self.operations = {operation.name: operation for operation in graph.operations}
        self.readers: dict[str, list[RowOperation]] = {name: [] for name in (*graph.inputs, *self.operations)}
        """Who reads a tensor, by its name."""
        for operation in graph.operations:
            for source in operation.sources:
                self.readers[source].append(operation)

    def asked(self, name: str) -> Heads | None:
        """What the first reader asks for that asks for heads."""
        if name in self.plain:
            return None
        for reader in self.readers[name]:
            found: Heads | None = None
            if isinstance(reader, Attention):
                found = self.of_attention(reader, name)
            elif isinstance(reader, Append) or (isinstance(reader, Rope) and reader.source == name):
                found = self.asked_through(reader)
            if found:
                return found
        return None

    def asked_through(self, reader: Append | Rope) -> Heads | None:
        """What an operation that leaves channels where they are asks for because its own readers do."""
        found = self.asked(reader.name)
        return found if found and (isinstance(reader, Append) or found.fits(reader.head_size)) else None

    @staticmethod
    def of_attention(reader: Attention, name: str) -> Heads:
        """What an attention reads by that name, or gives. What is left over of a residual is in the first nodes, and so are keys:
        queries and values go to others."""
        if name in (*reader.all_keys, *reader.all_values):
            return Heads(reader.kv_heads, 1, reader.head_size, name not in reader.all_keys)
        return Heads(reader.kv_heads, reader.group, reader.head_size, True)

    def of(self, name: str) -> Heads | None:
        """How a tensor lies."""
        operation = self.operations.get(name)
        if isinstance(operation, Attention):
            return self.of_attention(operation, name)
        if isinstance(operation, Rope):
            return self.of(operation.source)
        if isinstance(operation, GatedRows):
            return self.of(operation.gate)
        if isinstance(operation, Product):
            return self.of(operation.left)
        return self.asked(name) if operation is None or isinstance(operation, RowLinear) else None


def with_copies(graph: RowGraph, constants: Constants, plain: Collection[str] = ()) -> tuple[RowGraph, Constants]:
    """The same with copies of tensors that cannot lie as all of their readers need them; ``plain``: those that others read, with
    channels in their order.

    Raises `WorkloadError` for caches of which no copy can be made.
    """
    taken = {*graph.inputs, *(operation.name for operation in graph.operations)}
    held = dict(constants)
    while True:
        # A copy takes a reader away from its source, which may then lie otherwise.
        found = _first_to_copy(graph, plain)
        if found is None:
            return graph, Constants(held) if len(held) > len(constants) else constants
        index, part = found
        reader = graph.operations[index]
        source = getattr(reader, part)
        name = fresh_name(f"{source}/copy", taken)
        taken.add(name)
        _, _, rows, width = graph.shape(source)
        copy = RowLinear(name, rows, source=source, width=width, outputs=width, form=graph.format(source))
        operations = list(graph.operations)
        renamed: dict[str, Any] = {part: name}
        operations[index : index + 1] = [copy, replace(reader, **renamed)]
        graph = replace(graph, operations=tuple(operations))
        ones = np.ones(width, np.int32)
        held[name] = Parameters((np.eye(width, dtype=np.int8),), 0 * ones, ones, 0 * ones)


def _first_to_copy(graph: RowGraph, plain: Collection[str]) -> tuple[int, str] | None:
    """The first operation that cannot read something as it lies, and which of its fields names that."""
    spreads = Spreads(graph, plain)
    for index, operation in enumerate(graph.operations):
        for part in _misread(operation, spreads, graph):
            return index, part
    return None


def _misread(operation: RowOperation, spreads: Spreads, graph: RowGraph) -> list[str]:
    """The fields of an operation that name what it cannot read as it lies."""
    match operation:
        case RowLinear() if operation.add:
            # An input of 16 bits is loaded as planes.
            planes = operation.add in graph.inputs and graph.format(operation.add) is Format.INT16
            return ["add"] if planes or operation.add == operation.source or spreads.of(operation.add) else []
        case Rope():
            lies, asked = spreads.of(operation.source), spreads.asked_through(operation)
            plain = operation.name in spreads.plain
            unfit = lies != asked if asked else lies is not None and (plain or not lies.fits(operation.head_size))
            return ["source"] if unfit or operation.source in graph.inputs else []
        case SiluProduct() | Product():
            names = ("gate", "up") if isinstance(operation, SiluProduct) else ("left", "right")
            parts = {part: getattr(operation, part) for part in names}
            lie = {part: spreads.of(name) for part, name in parts.items()}
            alike = len(set(lie.values())) == 1
            return [part for part, name in parts.items() if name in graph.inputs or (not alike and lie[part] is not None)]
        case GatedRows():
            return ["gate"] if operation.gate in graph.inputs else []
        case Attention():
            _require_caches(operation, graph)
            lies, needs = spreads.of(operation.query), spreads.of_attention(operation, operation.query)
            return ["query"] if lies is None or replace(lies, later=needs.later) != needs else []
        case Append():
            unfit = spreads.of(operation.source) != spreads.asked(operation.name)
            return ["source"] if unfit or operation.source in graph.inputs else []
    return []


def _require_caches(operation: Attention, graph: RowGraph) -> None:
    appends = {each.name for each in graph.operations if isinstance(each, Append)}
    for what, name in (*(("keys", name) for name in operation.all_keys), *(("values", name) for name in operation.all_values)):
        if name not in appends and name not in graph.inputs:
            raise WorkloadError(f"{operation.name}: {what} are an input, or what was appended to one, but {name} is computed")
        assert name in appends or graph.format(name) is Format.INT8
