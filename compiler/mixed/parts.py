"""A mixed graph as two, one of its layers and one of its operations on rows, and the order in which parts of them run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from podweave.ir.constants import Constants, Parameters, identity_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.mixed_graph import MixedGraph, as_rows
from podweave.ir.operations import Linear, Operand, Operation, Shape
from podweave.ir.rewrites import fresh_name
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import RowLinear, RowOperation

from ..chip.split_outputs import SplitGraph


@dataclass(frozen=True)
class Kinds:
    """A graph by kinds of operations.

    ``layers``: rows that they read are inputs, of the shape of an image; what operations on rows read is an output. ``rows``: what
    they read of layers is an input, as rows.

    Members
    -------
    images : dict
        For each input of ``layers`` that is computed, the operation on rows that gives it.
    constants : Constants
        Of ``rows``.
    after : dict
        What an operation of one kind comes after of the other.
    """

    graph: MixedGraph
    layers: Graph
    rows: RowGraph
    images: dict[str, str]
    constants: Constants
    after: dict[str, tuple[str, ...]]

    @property
    def given(self) -> frozenset[str]:
        """Tensors of layers that operations on rows read."""
        return frozenset(self.rows.inputs.keys() - self.graph.inputs.keys())


def by_kinds(graph: MixedGraph, constants: Mapping[str, Parameters]) -> Kinds:
    """Both graphs, each with operations in their order."""
    of_layers, of_rows = ({each.name for each in kind} for kind in (graph.layers, graph.rows))
    names = {*graph.inputs, *of_layers, *of_rows}
    images: dict[tuple[str, int, int], str] = {}

    def read(source: str, layer: Layer) -> str:
        if source not in of_rows:
            return source
        key = source, layer.height, layer.width
        if key not in images:
            images[key] = fresh_name(f"{source}/image", names)
            names.add(images[key])
        return images[key]

    def apart(operation: Operation, own: set[str]) -> tuple[str, ...]:
        after[operation.name] = tuple(name for name in operation.after if name not in own and name not in graph.inputs)
        return tuple(name for name in operation.after if name in own)

    after: dict[str, tuple[str, ...]] = {}
    layers = tuple(
        replace(
            layer,
            operands=tuple(
                replace(operand, sources=tuple(read(source, operand.layer) for source in operand.sources))
                for operand in layer.operands
            ),
            after=apart(layer, of_layers),
        )
        for layer in graph.layers
    )
    rows = tuple(replace(operation, after=apart(operation, of_rows)) for operation in graph.rows)
    read_by_rows = {source for operation in rows for source in operation.sources}
    given = [layer.name for layer in layers if layer.name in read_by_rows]
    inputs: dict[str, Shape] = {
        source: graph.shape(source) for layer in layers for source in layer.sources if source in graph.inputs
    }
    inputs |= {name: (1, height, width, graph.shape(source)[3]) for (source, height, width), name in images.items()}
    return Kinds(
        graph,
        Graph(graph.name, inputs, layers, tuple(dict.fromkeys([*(name for name in graph.outputs if name in of_layers), *given]))),
        RowGraph(
            graph.name,
            {name: as_rows(graph.shape(name)) for name in (*graph.inputs, *given) if name in read_by_rows},
            rows,
            tuple(name for name in graph.outputs if name in of_rows),
            formats={name: form for name, form in graph.formats.items() if name in read_by_rows},
        ),
        {name: source for (source, *_), name in images.items()},
        Constants({name: held for name, held in constants.items() if name in of_rows}),
        after,
    )


@dataclass(frozen=True)
class Joined:
    """Both graphs as they run, and in which order.

    Members
    -------
    layers : Graph
        Images of rows are operations of ones, which nobody runs: a row operation leaves what would be their sums.
    rows : RowGraph
        In the order in which parts run.
    parts : tuple
        Names of operations of one kind, which run one part after the other.
    exports : dict
        For each tensor of layers that operations on rows read, the operations that have its channels, and the first one of each.
    """

    layers: Graph
    rows: RowGraph
    parts: tuple[tuple[str, ...], ...]
    exports: dict[str, tuple[tuple[str, int], ...]]
    images: dict[str, str]


def join(kinds: Kinds, split: SplitGraph, constants: Constants) -> tuple[Joined, SplitGraph, Constants]:
    """The layers as they have become (``split``, with ``constants``) beside the rows, the graph as it runs, and all constants."""
    pieces = {name: tuple((part, begin) for part, begin, _ in parts) for name, parts in split.parts.items()}
    exports = {name: pieces.get(name, ((name, 0),)) for name in sorted(kinds.given)}
    outputs = tuple(part for name in kinds.graph.outputs for part, _ in pieces.get(name, ((name, 0),)))
    parts = min((_in_parts(kinds, split, first) for first in (Linear, RowOperation)), key=len)
    by_name: dict[str, Linear | RowOperation] = {each.name: each for each in split.graph.operations}
    by_name |= {each.name: each for each in kinds.rows.operations}
    ordered = [by_name[name] for part in parts for name in part]
    names = {*split.graph.inputs, *kinds.graph.inputs, *by_name}
    inputs, images = dict[str, Shape](), list[Linear]()
    for name, shape in split.graph.inputs.items():
        if name not in kinds.images:
            inputs[name] = shape
            continue
        source = fresh_name(f"{name}/rows", names)
        names.add(source)
        inputs[source] = shape
        _, height, width, channels = shape
        layer = Layer(name=name, height=height, width=width, channels=channels, outputs=channels, groups=channels)
        images.append(Linear(name, (Operand((source,), layer),), identity=True))
    layers = Graph(
        split.graph.name,
        inputs,
        (*images, *split.graph.operations),
        tuple(name for name in outputs if isinstance(by_name[name], Linear)),
    )
    rows = replace(kinds.rows, operations=tuple(each for each in ordered if isinstance(each, RowOperation)))
    runs = MixedGraph(kinds.graph.name, kinds.graph.inputs, tuple(ordered), outputs, formats=kinds.graph.formats)
    # Tables of 16 bits first: they begin at even numbers.
    held = Constants({**kinds.constants, **constants, **{image.name: identity_parameters(image) for image in images}})
    return Joined(layers, rows, parts, exports, kinds.images), replace(split, graph=runs), held


def _in_parts(kinds: Kinds, split: SplitGraph, first: type) -> tuple[tuple[str, ...], ...]:
    """Parts as long as can be, beginning with one of a kind."""
    needs = _needs(kinds, split)
    left: dict[type, list[str]] = {
        Linear: [each.name for each in split.graph.operations],
        RowOperation: [each.name for each in kinds.rows.operations],
    }
    done, parts, kind = set[str](), list[tuple[str, ...]](), first
    while left[Linear] or left[RowOperation]:
        part = []
        for name in left[kind]:
            if needs[name] <= done:
                part.append(name)
                done.add(name)
        left[kind] = [name for name in left[kind] if name not in done]
        if part:
            parts.append(tuple(part))
        kind = RowOperation if kind is Linear else Linear
    return tuple(parts)


def _needs(kinds: Kinds, split: SplitGraph) -> dict[str, set[str]]:
    """What must be computed before each operation."""
    wholes = {part: layer.name for layer in kinds.layers.operations for part in split.names(layer.name)}
    pieces = {name: {part for part, *_ in parts} for name, parts in split.parts.items()}
    there = {each.name for each in (*split.graph.operations, *kinds.rows.operations)}
    needs: dict[str, set[str]] = {}
    readers: dict[str, set[str]] = {}
    for operation in (*split.graph.operations, *kinds.rows.operations):
        found = {*operation.sources, *operation.after, *kinds.after.get(wholes.get(operation.name, operation.name), ())}
        found = {kinds.images.get(name, name) for name in found}
        if operation.adds_to:
            found.add(operation.adds_to)
        if isinstance(operation, RowLinear) and operation.add:
            # Those that read a residual do so before something is added to it.
            found |= readers.get(operation.add, set())
        for source in operation.sources:
            readers.setdefault(source, set()).add(operation.name)
        needs[operation.name] = {part for name in found for part in pieces.get(name, {name})} & there
    return needs
