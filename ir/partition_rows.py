"""Graphs of rows for several chips that have nothing to say to each other, for each has other rows, or other sequences: data
parallel."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from .constants import Constants, Parameters
from .layers import WorkloadError
from .partition import CHIPS, Partition, Piece, Share, which_can
from .row_graph import RowGraph
from .row_operations import Append, Attention, Format, Product, RowOperation


def partition_rows(graph: RowGraph, constants: Mapping[str, Parameters], chips: int) -> Partition:
    """A graph of which each chip computes some neighbouring rows, with all weights; sequences of attentions stay whole.

    A chip has the caches of its own sequences, and where sequences share keys, those too.

    Raises
    ------
    WorkloadError
        For rows, or sequences, that so many chips cannot share evenly, with the numbers of chips that can; for operations of
        different numbers of rows; for keys that sequences of several chips share, and one of them appends to.
    """
    if chips not in CHIPS:
        raise WorkloadError(f"{graph.name}: there are {CHIPS[0]} to {CHIPS[-1]} chips, got {chips}")
    rows = {each.rows for each in graph.operations if not isinstance(each, Append)}
    if len(rows) != 1:
        raise WorkloadError(f"{graph.name}: chips share rows of which all operations have as many, got {sorted(rows)}")
    edges = _edges(graph, next(iter(rows)), chips)
    return Partition(graph, tuple(_share(graph, constants, *span) for span in itertools.pairwise(edges)))


def _edges(graph: RowGraph, rows: int, chips: int) -> list[int]:
    """Where the rows of chips begin, and the end of all."""
    attentions = [each for each in graph.operations if isinstance(each, Attention)]
    sequences = {tuple(seen.rows for seen in each.sequences) for each in attentions}
    if len(sequences) > 1:
        raise WorkloadError(f"{graph.name}: attentions have sequences of different rows: {sorted(sequences)}")
    (of_each,) = sequences or {(1,) * rows}
    count, what = len(of_each), "sequence" if sequences else "row"
    if count % chips:
        raise WorkloadError(
            f"{graph.name}: {chips} chips cannot share {count} {what}{'s' * (count > 1)} evenly; {which_can([count])}"
        )
    edges = [0, *itertools.accumulate(of_each)]
    return edges[:: count // chips]


def _share(graph: RowGraph, constants: Mapping[str, Parameters], begin: int, end: int) -> Share:
    """What computes rows [begin, end)."""
    rows = end - begin
    caches = {each.name: each for each in graph.operations if isinstance(each, Append)}
    mine = {name for name, each in caches.items() if begin <= each.first_row and each.first_row + each.rows <= end}
    operations = [
        _of_rows(each, caches, mine, begin, end) for each in graph.operations if each.name in mine or each.name not in caches
    ]
    operations = [
        replace(each, after=tuple(name for name in each.after if name in mine or name not in caches)) for each in operations
    ]
    read = {source for each in operations for source in each.sources}
    pieces = {each.name: Piece(2, begin, end) for each in operations if not isinstance(each, Append)}
    for name in sorted(read & graph.inputs.keys()):
        of_lengths = graph.format(name) is Format.LENGTHS
        if of_lengths or any(_streams(each, name) for each in operations):
            pieces[name] = Piece(3 if of_lengths else 2, begin, end)
    inputs = {}
    for name, shape in graph.inputs.items():
        if name in read:
            axis = pieces[name].axis if name in pieces else None
            inputs[name] = (1, 1, rows if axis == 2 else shape[2], rows if axis == 3 else shape[3])
    names = {each.name for each in operations}
    part = replace(
        graph,
        inputs=inputs,
        operations=tuple(operations),
        outputs=tuple(name for name in graph.outputs if name in names),
        formats={name: form for name, form in graph.formats.items() if name in inputs},
    )
    return Share(part, Constants({name: held for name, held in constants.items() if name in names}), pieces)


def _of_rows(operation: RowOperation, caches: Mapping[str, Append], mine: set[str], begin: int, end: int) -> RowOperation:
    """An operation of fewer rows."""
    match operation:
        case Append():
            return replace(operation, first_row=operation.first_row - begin, source_rows=end - begin)
        case Attention():
            starts = itertools.accumulate((each.rows for each in operation.sequences), initial=0)
            seen = [each for each, at in zip(operation.sequences, starts, strict=False) if begin <= at < end]
            shared = operation.shared
            if shared:
                key, value = (_shared(operation, name, caches, mine) for name in (shared.key, shared.value))
                shared = replace(shared, key=key, value=value)
            first = {"key": seen[0].key, "value": seen[0].value, "context": seen[0].context}
            return replace(operation, rows=end - begin, further=tuple(seen[1:]), shared=shared, **first)  # type: ignore[arg-type]
        case Product() if operation.right_rows > 1:
            return replace(operation, rows=end - begin, right_rows=end - begin)
    return replace(operation, rows=end - begin)


def _shared(operation: Attention, name: str, caches: Mapping[str, Append], mine: set[str]) -> str:
    """Keys or values that sequences share: if a sequence of another chip appends behind them, the cache alone."""
    append, shared = caches.get(name), operation.shared
    assert shared is not None
    if append is None or name in mine:
        return name
    if append.position < shared.count:
        raise WorkloadError(
            f"{operation.name}: {name} appends from row {append.position} on to {append.cache}, of which other chips read "
            f"{shared.count} rows"
        )
    return append.cache


def _streams(operation: RowOperation, name: str) -> bool:
    """Whether an operation reads a tensor row by row, and not all of it for every row."""
    match operation:
        case Append():
            return name == operation.source
        case Attention():
            return name == operation.query
        case Product():
            return name == operation.left or (name == operation.right and operation.right_rows > 1)
    return name in operation.sources
