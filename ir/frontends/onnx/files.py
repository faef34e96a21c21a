"""ONNX files: read within limits, without running anything of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...layers import MAX_SIMULATED, WorkloadError

MOST_BYTES = 1 << 31
"""Of a file, and of what lies beside it: protocol buffers end there."""
MOST_NODES = 100_000
OPSETS = range(10, 27)
"""Versions of the operators of ONNX: the first that quantises, and the last that is known."""
FLOAT_OPSETS = range(7, OPSETS.stop)
"""Those of files in floating point, which are converted before they are quantised."""
_AS_OF_ONNX = {("com.microsoft", "QuantizeLinear"), ("com.microsoft", "DequantizeLinear")}
"""Operators of onnxruntime for 16 bits, which those of ONNX have from opset 21 on."""
_NUMBERS = {
    *("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"),
}


@dataclass(frozen=True)
class Node:
    """A node of a file. ``operator``: with its domain in front, unless it is ONNX's own. Attributes are plain values and arrays."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class File:
    """What is in a file.

    ``constants``: initialisers. ``inputs``: type and sizes of what is given, as the file has them or ``sizes`` fix them.
    """

    name: str
    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray]
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    outputs: tuple[str, ...]


def onnx_package() -> Any:
    """The package that reads ONNX; raises `WorkloadError` if it is not there."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ModuleNotFoundError as error:
        raise WorkloadError(
            f"reading ONNX files needs the Python package {error.name}, which is not installed: pip install podweave[onnx]"
        ) from error
    return onnx


def read_file(
    path: Path,
    sizes: Mapping[str, int] | None = None,
    opsets: range = OPSETS,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> File:
    """The content of a file; raises `WorkloadError` for what cannot be read.

    ``sizes``: of dimensions that the file leaves open, by their names. ``opsets``: that are taken. ``shapes``: of inputs, where it
    leaves a dimension open that ``sizes`` does not fix.
    """
    onnx = onnx_package()
    name = path.name
    try:
        length = path.stat().st_size
        if length > MOST_BYTES:
            raise WorkloadError(f"{name} has {length:,} bytes, more than {MOST_BYTES:,}")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise WorkloadError(f"{path} cannot be read: {error.strerror}") from error
    except WorkloadError:
        raise
    except Exception as error:  # Protocol buffers raise errors of their own, which differ from version to version.
        raise WorkloadError(f"{name} is no ONNX file, or only a part of one: {_first_line(error)}") from error
    graph = model.graph
    if not graph.node:
        raise WorkloadError(f"{name} is no ONNX file, or only a part of one: it has no nodes")
    if len(graph.node) > MOST_NODES:
        raise WorkloadError(f"{name} has {len(graph.node):,} nodes, more than {MOST_NODES:,}")
    versions = {each.domain: each.version for each in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset not in opsets:
        raise WorkloadError(
            f"{name} has operators of ONNX opset {opset}, known are {opsets.start} to {opsets.stop - 1}: convert it "
            "(onnx.version_converter)"
        )
    _require_texts(name, graph)
    _require_one_each(name, graph)
    constants = {each.name: _array(name, each, path.parent) for each in graph.initializer}
    if graph.sparse_initializer:
        raise WorkloadError(f"{name}: {graph.sparse_initializer[0].values.name} is sparse, which is not read")
    given = [each for each in graph.input if each.name not in constants]
    inputs = _inputs(name, given, dict(sizes or {}), dict(shapes or {}))
    return File(
        path.stem,
        opset,
        tuple(_node(name, each, number) for number, each in enumerate(graph.node)),
        constants,
        inputs,
        tuple(each.name for each in graph.output),
    )


def _require_texts(file: str, graph: Any) -> None:
    """Raises `WorkloadError` for names that are no UTF-8, which protocol buffers give as bytes."""
    tensors = [*graph.initializer, *graph.input, *graph.output, *graph.value_info]
    names = [each.name for each in tensors]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(each.name for each in node.attribute)]
    for each in names:
        if not isinstance(each, str):
            raise WorkloadError(f"{file}: the name {each!r} is not UTF-8")


def _require_one_each(file: str, graph: Any) -> None:
    """Raises `WorkloadError` for names that two things have, and for files without outputs."""
    if not graph.output:
        raise WorkloadError(f"{file} has no outputs")
    # An initialiser may stand among the inputs, too: its numbers are their default.
    held = {each.name for each in graph.initializer}
    made = {
        "initialisers": [each.name for each in graph.initializer],
        "inputs": [each.name for each in graph.input],
        "outputs": [each.name for each in graph.output],
        "tensors": [
            *(name for node in graph.node for name in node.output if name),
            *held,
            *(each.name for each in graph.input if each.name not in held),
        ],
    }
    for kind, names in made.items():
        counts = Counter(names)
        for twice in (each for each, count in counts.items() if count > 1):
            raise WorkloadError(f"{file} has {counts[twice]} {kind} of the name {twice}: names must differ")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _array(file: str, tensor: Any, folder: Path) -> NDArray:
    """An initialiser, or the tensor of an attribute."""
    onnx = onnx_package()
    kind = _kind(tensor.data_type)
    if kind not in _NUMBERS:
        raise WorkloadError(f"{file}: {tensor.name} holds {kind}, which is not read; known are {', '.join(sorted(_NUMBERS))}")
    count = int(np.prod([int(size) for size in tensor.dims], dtype=object)) if tensor.dims else 1
    if count > MAX_SIMULATED:
        raise WorkloadError(f"{file}: {tensor.name} has {count:,} numbers, more than {MAX_SIMULATED:,}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _require_beside(file, tensor, folder)
    try:
        array: NDArray = onnx.numpy_helper.to_array(tensor, str(folder))
    except Exception as error:
        raise WorkloadError(f"{file}: {tensor.name} is damaged: {_first_line(error)}") from error
    return array


def _kind(number: int) -> str:
    """Of numbers, as NumPy calls it where it has one."""
    kinds = onnx_package().TensorProto.DataType
    if number not in kinds.values():
        return f"type {number}"
    kind = kinds.Name(number).lower()
    return {"float": "float32", "double": "float64"}.get(kind, kind)


def _require_beside(file: str, tensor: Any, folder: Path) -> None:
    """Raises `WorkloadError` unless numbers that lie in another file are there, beside or below the file itself."""
    where = {each.key: each.value for each in tensor.external_data}.get("location", "")
    other = folder / where
    if not where or Path(where).is_absolute() or not other.resolve().is_relative_to(folder.resolve()):
        raise WorkloadError(f"{file}: the numbers of {tensor.name} are in {where!r}, which is not beside the file")
    if not other.is_file():
        raise WorkloadError(f"{file}: the numbers of {tensor.name} are in {where!r}, and there is no such file beside it")
    if other.stat().st_size > MOST_BYTES:
        raise WorkloadError(f"{file}: {where!r} has {other.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def _inputs(
    file: str, given: list[Any], sizes: dict[str, int], shapes: dict[str, tuple[int, ...]]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    unused = set(sizes)
    for each in given:
        if not each.type.HasField("tensor_type"):
            raise WorkloadError(f"{file}: input {each.name} is no tensor")
        tensor = each.type.tensor_type
        if not tensor.HasField("shape"):
            raise WorkloadError(f"{file}: input {each.name} has no shape: export it with one")
        shape = []
        for number, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                shape.append(int(dim.dim_value))
            elif f"{each.name}.{number}" in sizes:
                # First: files give several dimensions one name, which is no more than a question mark.
                shape.append(sizes[f"{each.name}.{number}"])
                unused.discard(f"{each.name}.{number}")
            elif dim.dim_param in sizes:
                shape.append(sizes[dim.dim_param])
                unused.discard(dim.dim_param)
            elif number < len(shapes.get(each.name, ())):
                shape.append(shapes[each.name][number])
            elif dim.dim_param:
                raise WorkloadError(
                    f"{file}: input {each.name} leaves its size {dim.dim_param} open: --size {dim.dim_param}=N fixes it"
                )
            else:
                raise WorkloadError(
                    f"{file}: input {each.name} leaves its dimension {number} open: --size {each.name}.{number}=N fixes it"
                )
        found[each.name] = _kind(tensor.elem_type), tuple(shape)
    for name in sorted(unused):
        raise WorkloadError(f"{file} has no open size {name}")
    return found


def _node(file: str, node: Any, number: int) -> Node:
    onnx = onnx_package()
    kinds = onnx.AttributeProto
    attributes: dict[str, Any] = {}
    own = node.domain in ("", "ai.onnx") or (node.domain, node.op_type) in _AS_OF_ONNX
    operator = node.op_type if own else f"{node.domain}.{node.op_type}"
    name = node.name or (node.output[0] if node.output else f"{operator}_{number}")
    if not any(node.output):
        raise WorkloadError(f"{file}: {operator} {name} gives nothing")
    for each in node.attribute:
        if each.type in (kinds.GRAPH, kinds.GRAPHS):
            # A refusal is told with all others, by the operator.
            attributes[each.name] = None
        elif each.type == kinds.TENSOR:
            attributes[each.name] = _array(file, each.t, Path("."))
        elif each.type == kinds.STRING:
            attributes[each.name] = each.s.decode(errors="replace")
        elif each.type in (kinds.FLOAT, kinds.INT, kinds.FLOATS, kinds.INTS):
            attributes[each.name] = onnx.helper.get_attribute_value(each)
    return Node(name, operator, tuple(node.input), tuple(node.output), attributes)
