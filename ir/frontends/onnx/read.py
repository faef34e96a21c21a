"""From a file to a network: nodes in order, each by the function of its operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...graph import Graph
from ...layers import WorkloadError
from ...mixed_graph import MixedGraph, verify_mixed
from ...operations import Linear
from ...rewrites import without_unused
from ...row_graph import RowGraph, verify_rows
from ...row_operations import Format
from ...verify import verify
from . import (
    affine,
    attention,
    borders,
    channels,
    convolution,
    enlarged,
    folding,
    functions,
    inputs,
    integer_operators,
    movement,
    pooling,
    positions,
    quantised,
    responses,
    shuffles,
    slopes,
    sums,
)
from .emit import materialised
from .files import File, Node, read_file
from .folding import folded
from .network import Network, QuantisedTensor
from .reader import Call, Handler, Reader, Refusal
from .sixteen_bits import require_8_bits
from .transformers import is_transformer
from .values import Constant, Raw, Real, RefusedError, Tensor, Value
from .views import BATCH, CHANNELS, HEIGHT, WIDTH, View

FAMILIES = (
    quantised,
    convolution,
    enlarged,
    pooling,
    borders,
    sums,
    affine,
    functions,
    slopes,
    channels,
    positions,
    responses,
    attention,
    movement,
    shuffles,
    integer_operators,
)
OPERATORS: dict[str, Handler] = {name: handler for family in FAMILIES for name, handler in family.OPERATORS.items()}
OPERATORS["Constant"] = folding.constant
"""What reads a node, by its operator."""
READ_QUANTISED = (*functions.OPERATORS, *slopes.OPERATORS, *positions.OPERATORS, *responses.OPERATORS)
"""Operators that read tensors of integers, wherever in a file they stand: what a quantiser must know."""
QUANTISING = {*quantised.OPERATORS, *integer_operators.OPERATORS}
CONTROL = ("If", "Loop", "Scan", "SequenceMap")


def read_network(path: Path, sizes: Mapping[str, int] | None = None, *, host_ops: bool = False) -> Network:
    """The network of a file.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        Of dimensions that the file leaves open: by their names, or as INPUT.NUMBER.
    host_ops : bool
        Operators that are not taken, and all behind them, are left to the host: the network ends in front of them.

    Raises
    ------
    WorkloadError
        For what cannot be read, and for operators that are not taken, all at once.
    """
    return network_of(read_file(path, sizes), host_ops=host_ops)


def network_of(file: File, *, host_ops: bool = False) -> Network:
    """The network of a file that was read."""
    _require_quantised(file)
    file = shuffles.with_shuffles(file)
    reader, refusals, unknown = Reader(file.opset), [], set()
    left: list[Node] = []
    reader.values.update({name: Constant(values) for name, values in file.constants.items()})
    for name, (kind, shape) in file.inputs.items():
        try:
            reader.values[name] = _given(reader, file, name, kind, shape)
        except RefusedError as refused:
            refusals.append(Refusal("input", name, refused.why, refused.helps))
            unknown.add(name)
    for node in _in_order(file):
        if unknown & set(node.inputs):
            # What stands before it is refused already; so is what is no operator at all.
            unknown.update(node.outputs)
            left.append(node)
            if node.operator not in OPERATORS and node.operator not in folding.FOLDED:
                refusals.append(_no_operator(node))
            continue
        try:
            found = _read(reader, node)
        except RefusedError as refused:
            refusals.append(Refusal(node.operator, node.name, refused.why, refused.helps))
        except WorkloadError as error:
            refusals.append(Refusal(node.operator, node.name, str(error).removeprefix(f"{node.name}: ")))
        except KeyError as error:
            refusals.append(Refusal(node.operator, node.name, f"it has no {error.args[0]}"))
        except (IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
            # Attributes and constants of sizes or kinds that its operator does not have: files of tools are not like that.
            refusals.append(Refusal(node.operator, node.name, f"its attributes and inputs do not belong together: {error}"))
        else:
            reader.values.update(zip(node.outputs, found, strict=False))
            continue
        unknown.update(node.outputs)
        left.append(node)
    ends = [name for name in file.outputs if not host_ops or name not in unknown]
    if host_ops:
        ends += _read_by_host(reader, left, refusals)
    outputs = {} if refusals else _outputs(reader, file.name, ends, refusals)
    if refusals:
        raise WorkloadError(_told(file.name, refusals))
    graph = _graph(file.name, reader, tuple(outputs))
    kept = {operation.name for operation in graph.operations}
    return Network(
        graph,
        {name: held for name, held in reader.constants.items() if name in kept},
        {name: tensor for name, tensor in reader.tensors.items() if name in kept or name in graph.inputs},
        frozenset(name for name in reader.real_inputs if name in graph.inputs),
        outputs,
        {name: operator for name, operator in reader.operators.items() if name in kept},
        {name: bound for name, bound in reader.bounds.items() if name in kept},
        {name: values for name, values in reader.exact.items() if name in kept},
        tuple(f"{node.operator} {node.name}" for node in left),
    )


def _graph(name: str, reader: Reader, outputs: tuple[str, ...]) -> Graph:
    """What is read, without what no output needs."""
    layers = [operation for operation in reader.operations if isinstance(operation, Linear)]
    if len(layers) == len(reader.operations):
        graph = without_unused(Graph(name, reader.inputs, tuple(layers), outputs))
        return verify(replace(graph, inputs={each: shape for each, shape in graph.inputs.items() if each in graph.read}))
    mixed = without_unused(MixedGraph(name, reader.inputs, tuple(reader.operations), outputs, formats=reader.formats))
    assert isinstance(mixed, MixedGraph)
    inputs = {each: shape for each, shape in mixed.inputs.items() if each in mixed.read}
    if not mixed.rows:
        return verify(Graph(name, inputs, mixed.layers, outputs))
    formats = {each: mixed.formats[each] for each in inputs if each in mixed.formats}
    if not mixed.layers:
        return verify_rows(RowGraph(name, inputs, mixed.rows, outputs, formats=formats))
    return verify_mixed(replace(mixed, inputs=inputs, formats=formats))


def _read_by_host(reader: Reader, left: list[Node], refusals: list[Refusal]) -> list[str]:
    """What nodes that are left to the host read of the network; takes their refusals back, if there is a network."""
    read = dict.fromkeys(name for node in left for name in node.inputs if isinstance(reader.values.get(name), (Real, Tensor)))
    if not reader.operations:
        return []
    nodes = {(node.operator, node.name) for node in left}
    refusals[:] = [refusal for refusal in refusals if (refusal.operator, refusal.name) not in nodes]
    return list(read)


def _require_quantised(file: File) -> None:
    """Raises `WorkloadError` for a file in floating point, with all of it that would not be taken if it were quantised."""
    if any(node.operator in QUANTISING for node in file.nodes):
        return
    if is_transformer(((node.operator, node.inputs, node.outputs) for node in file.nodes), file.inputs):
        raise WorkloadError(
            f"{file.name} is a transformer in floating point: quantise it first (podweave quantise), to a file of rows"
        )
    refusals = [_no_operator(node) for node in file.nodes if node.operator not in OPERATORS and node.operator not in folding.FOLDED]
    whole = f"{file.name} is in floating point: quantise it first (podweave quantise)"
    raise WorkloadError(f"{whole}; then\n{_told(file.name, refusals)}" if refusals else whole)


def _told(name: str, refusals: list[Refusal]) -> str:
    count = len(refusals)
    found = "1 operator is" if count == 1 else f"{count} operators are"
    return f"{name}: {found} not taken:\n" + "\n".join(f"  {refusal}" for refusal in refusals)


def _no_operator(node: Node) -> Refusal:
    if node.operator in CONTROL:
        return Refusal(node.operator, node.name, "what runs, and how often, is decided by data", "a file without control flow")
    return Refusal(node.operator, node.name, "there is no such operator here", "docs/onnx.md lists those that there are")


def _read(reader: Reader, node: Node) -> tuple[Value, ...]:
    missing = [name for name in node.inputs if name and name not in reader.values]
    if missing:
        raise RefusedError(f"nothing gives its input {missing[0]}")
    call = Call(reader, node, tuple(reader.values[name] if name else None for name in node.inputs))
    found = folded(call)
    if found is not None:
        return (found,)
    if node.operator not in OPERATORS:
        refusal = _no_operator(node)
        raise RefusedError(refusal.why, refusal.helps)
    require_8_bits(call)
    made = OPERATORS[node.operator](call)
    return made if isinstance(made, tuple) else (made,)


def _in_order(file: File) -> list[Node]:
    """Nodes behind all that give what they read; raises `WorkloadError` for a circle."""
    there = {*file.constants, *file.inputs, ""}
    given = {name for node in file.nodes for name in node.outputs}
    left, found = list(file.nodes), []
    while left:
        later = []
        for node in left:
            # What nobody gives is refused by name when the node is read.
            if all(name in there or name not in given for name in node.inputs):
                found.append(node)
                there.update(node.outputs)
            else:
                later.append(node)
        if len(later) == len(left):
            raise WorkloadError(
                f"{file.name}: {left[0].operator} {left[0].name} waits for itself: nodes read each other in a circle"
            )
        left = later
    return found


def _given(reader: Reader, file: File, name: str, kind: str, shape: tuple[int, ...]) -> Value:
    view = View.of(shape, _axes(file, name, len(shape)))
    if kind == "float32":
        found = Raw(name, view, view)
        to = inputs.quantised_behind(file, name)
        return Real(quantised.given(reader, found, to)) if to else found
    if kind in ("int8", "uint8", "int16", "uint16"):
        form = Format(kind.removeprefix("u"))
        return reader.given(reader.names.unique(name), QuantisedTensor(name, view, kind[0] == "u", None, 0, form=form))
    raise RefusedError(f"it is {kind}", "float32, int8 or uint8, int16 or uint16")


def _axes(file: File, name: str, rank: int) -> tuple[int, ...]:
    """Which axis each dimension of an input is: as its first reader takes it, channels behind the batch or at the end."""
    if rank not in (1, 2, 3, 4):
        raise RefusedError(f"it has {rank} dimensions", "1 to 4")
    if rank < 3:
        return (BATCH, CHANNELS)[-rank:]
    last = (BATCH, HEIGHT, WIDTH, CHANNELS) if rank == 4 else (BATCH, WIDTH, CHANNELS)
    first = (BATCH, CHANNELS, HEIGHT, WIDTH) if rank == 4 else (BATCH, CHANNELS, WIDTH)
    edges = {name}
    for node in file.nodes:
        if edges & set(node.inputs):
            if node.operator == "Transpose":
                return last if list(node.attributes.get("perm", ())) == [0, rank - 1, *range(1, rank - 1)] else first
            if node.operator in ("MatMul", "Gemm"):
                return last
            if node.operator not in ("QuantizeLinear", "DequantizeLinear", "Identity", "Relu", "Clip"):
                return first
            edges.update(node.outputs)
    return first


def _outputs(reader: Reader, file: str, ends: list[str], refusals: list[Refusal]) -> dict[str, QuantisedTensor]:
    """Tensors of the graph that leave, as the file has them."""
    found: dict[str, QuantisedTensor] = {}
    if not ends:
        refusals.append(Refusal("output", file, "nothing of it is computed on the chip"))
    for name in ends:
        value = reader.values.get(name)
        tensor = value.tensor if isinstance(value, Real) else value
        if not isinstance(tensor, Tensor):
            why = "nothing gives it" if value is None else "it is not quantised"
            refusals.append(Refusal("output", name, why, "" if value is None else "QuantizeLinear and DequantizeLinear behind it"))
            continue
        call = Call(reader, Node(name, "output", (), (name,), {}), ())
        try:
            made = materialised(call, tensor, name)
        except RefusedError as refused:
            refusals.append(Refusal("output", name, refused.why, refused.helps))
            continue
        if made in found:
            continue
        found[made] = QuantisedTensor(name, tensor.view, tensor.unsigned, tensor.scale, tensor.zero_point, form=tensor.form)
    return found


def operator_rows() -> list[tuple[str, str]]:
    """Each operator that is taken, and what of it, in the order of families; of constants alone, those that are folded."""
    rows = [(name, " ".join((handler.__doc__ or "").split())) for name, handler in OPERATORS.items() if name != shuffles.SHUFFLE]
    return rows + [(name, "Of constants.") for name in folding.FOLDED if name not in OPERATORS]
