"""The rules of graphs and their constants: each is one sentence that names the graph, the place and the value."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping

import numpy as np

from .constants import Parameters
from .graph import Graph
from .layers import WorkloadError
from .operations import AS_IT_IS, Linear, Operand, Operation, Shape

_LARGEST_FACTOR = (1 << 15) - 1
"""Of a product, what sums may be."""


def verify(graph: Graph) -> Graph:
    """The graph itself, if it obeys every rule; raises `WorkloadError` for the first that it breaks.

    Every tensor has a name of its own; an operation reads tensors that are inputs or that earlier operations give, with the images
    and channels that its layers expect; outputs are tensors that operations give, each named once.
    """
    if not graph.operations:
        raise WorkloadError(f"{graph.name}: a graph needs at least one operation")
    shapes = dict(graph.inputs)
    for name, shape in shapes.items():
        if len(shape) != 4 or min(shape) < 1:
            raise WorkloadError(f"{graph.name}: input {name} must have four sizes (batch, height, width, channels), got {shape}")
    for operation in graph.operations:
        verify_name(graph, operation, shapes)
        verify_operands(graph, operation, shapes)
        verify_after(graph, operation, shapes)
        verify_sums(graph, operation, shapes)
        shapes[operation.name] = operation.output
    if not graph.outputs:
        raise WorkloadError(f"{graph.name}: a graph needs at least one output")
    for name in graph.outputs:
        if name in graph.inputs:
            raise WorkloadError(f"{graph.name}: output {name} is an input, which nothing computes")
        if name not in shapes:
            raise WorkloadError(f"{graph.name}: output {name} is no tensor of the graph; there are {', '.join(shapes)}")
        if graph.outputs.count(name) > 1:
            raise WorkloadError(f"{graph.name}: output {name} is named more than once")
    return graph


def verify_name(graph: Graph, operation: Operation, known: Container[str]) -> None:
    """Raises `WorkloadError` for the name of an earlier tensor."""
    if operation.name in known:
        raise WorkloadError(f"{graph.name}: two tensors are named {operation.name}")


def verify_after(graph: Graph, operation: Operation, known: Container[str]) -> None:
    """Raises `WorkloadError` for an operation that comes after what is no earlier tensor."""
    for name in operation.after:
        if name not in known:
            raise WorkloadError(f"{graph.name}: {operation.name} comes after {name}, which no earlier operation gives")


def verify_sums(graph: Graph, operation: Linear, known: Container[str]) -> None:
    """Raises `WorkloadError` for an operation that adds to sums that are none, of other outputs, or not its own alone."""
    name = operation.adds_to
    if not name:
        return
    before = next((each for each in graph.operations if each.name == name and name in known), None)
    if before is None:
        raise WorkloadError(f"{graph.name}: {operation.name} adds to {name}, which no earlier operation sums up")
    if (before.accumulated, before.window) != (operation.accumulated, operation.window):
        raise WorkloadError(
            f"{graph.name}: {operation.name} adds {operation.accumulated} sums to {name}, which has {before.accumulated}, "
            "or has another window"
        )
    others = [each.name for each in graph.operations if name in each.sources or (each.adds_to == name and each != operation)]
    if others or name in graph.outputs:
        who = f"{others[0]} reads it as well" if others else "it is an output"
        raise WorkloadError(f"{graph.name}: {operation.name} adds to {name}, which gives no tensor then, but {who}")


def verify_operands(graph: Graph, operation: Linear, shapes: Mapping[str, Shape], rows: Collection[str] = ()) -> None:
    """Raises `WorkloadError` for an operand that reads what is not there, or in another shape.

    ``shapes``: of earlier tensors. ``rows``: which of them are rows, (1, 1, rows, channels), and so the positions of an image.
    """
    for operand in operation.operands:
        layer, total = operand.layer, 0
        for source in operand.sources:
            if source not in shapes:
                raise WorkloadError(f"{graph.name}: {operation.name} reads {source}, which no earlier operation gives")
            batch, height, width, channels = _seen(graph, operation, operand, source, shapes[source], source in rows)
            total += channels
            if source in rows:
                if (layer.batch, layer.height * layer.width) != (1, width):
                    images = layer.batch, layer.height, layer.width
                    raise WorkloadError(
                        f"{graph.name}: {operation.name} expects images of {images}, but {source} has {width} rows, which are the "
                        "positions of one image"
                    )
                if any(operand.corner(source)):
                    raise WorkloadError(
                        f"{graph.name}: {operation.name} reads {source} from {operand.corner(source)} on, but rows are read as a "
                        "whole image"
                    )
            elif operand.corners:
                row, column = operand.corner(source)
                if batch != layer.batch or row + layer.height > height or column + layer.width > width:
                    raise WorkloadError(
                        f"{graph.name}: {operation.name} reads {(layer.batch, layer.height, layer.width)} from {(row, column)} on, "
                        f"but {source} is {(batch, height, width)}"
                    )
            elif (batch, height, width) != (layer.batch, layer.height, layer.width):
                raise WorkloadError(
                    f"{graph.name}: {operation.name} expects images of {(layer.batch, layer.height, layer.width)}, "
                    f"but {source} is {(batch, height, width)}"
                )
        if operand.channels:
            first, count = operand.channels
            if first + count > total:
                raise WorkloadError(
                    f"{graph.name}: {operation.name} reads channels {first} to {first + count - 1} of "
                    f"{' and '.join(operand.sources)}, which {'has' if len(operand.sources) == 1 else 'have'} {total}"
                )
            total = count
        if total != layer.channels:
            raise WorkloadError(f"{graph.name}: {operation.name} expects {layer.channels} channels, its sources have {total}")


def _seen(graph: Graph, operation: Operation, operand: Operand, source: str, shape: Shape, is_rows: bool) -> Shape:
    """The shape in which an operand sees a source."""
    upsampling = operand.upsampling(source)
    if upsampling == AS_IT_IS:
        return shape
    if is_rows:
        raise WorkloadError(f"{graph.name}: {operation.name} reads {source} upsampled, which is rows and not an image")
    if upsampling.interleaved and shape[3] % upsampling.positions:
        raise WorkloadError(
            f"{graph.name}: {operation.name} reads {source} interleaved by {upsampling.rows} x {upsampling.columns}, which do not "
            f"divide its {shape[3]} channels"
        )
    return upsampling.of(shape)


def verify_constants(graph: Graph, constants: Mapping[str, Parameters]) -> None:
    """Raises `WorkloadError` unless there are constants for every operation and for nothing else, of the shapes that it takes."""
    names = {operation.name for operation in graph.operations}
    for name in sorted(names ^ constants.keys()):
        what = "there are none for" if name in names else "there are some for"
        rest = "" if name in names else ", which is no operation"
        raise WorkloadError(f"{graph.name}: constants must be those of its operations; {what} {name}{rest}")
    for operation in graph.operations:
        held = constants[operation.name]
        expected, shapes = [o.layer.weight_shape for o in operation.operands], [weights.shape for weights in held.weights]
        if shapes != expected:
            raise WorkloadError(f"{graph.name}: {operation.name} takes weights of {expected}, got {shapes}")
        outputs = operation.output[3]
        for what in ("bias", "multiplier", "shift"):
            shape = getattr(held, what).shape
            if shape != (outputs,) and (what == "bias" or shape != ()):
                raise WorkloadError(f"{graph.name}: {operation.name} takes a {what} of {(outputs,)}, got {shape}")
        if set(held.border_scales) != set(operation.border_counts):
            raise WorkloadError(
                f"{graph.name}: {operation.name} takes scales of windows with {operation.border_counts} positions, got "
                f"{tuple(sorted(held.border_scales))}"
            )
        for count, (multiplier, shift) in held.border_scales.items():
            if multiplier.shape != (outputs,) or shift.shape != (outputs,):
                found = multiplier.shape, shift.shape
                raise WorkloadError(
                    f"{graph.name}: {operation.name} takes scales of {(outputs,)} for {count} positions, got {found}"
                )
        if operation.is_product:
            _verify_factors(graph, operation, held)
        if held.table is not None and held.table.shape != (256,):
            raise WorkloadError(f"{graph.name}: {operation.name} takes a table of (256,), got {held.table.shape}")


def _verify_factors(graph: Graph, operation: Linear, held: Parameters) -> None:
    """Raises `WorkloadError` for a product of what may have more than 16 bits."""
    most = sum(128 * np.abs(weights.astype(np.int64)).sum(axis=(0, 1, 2)) for weights in held.weights)
    for channel in np.flatnonzero(most > _LARGEST_FACTOR)[:1]:
        raise WorkloadError(
            f"{graph.name}: {operation.name} multiplies sums of channel {channel} that may be {most[channel]}, more than 16 bits "
            f"hold ({_LARGEST_FACTOR})"
        )
