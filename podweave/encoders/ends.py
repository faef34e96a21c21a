"""What the host computes of an ONNX file in front of a transformer and behind it, by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx_rows import FloatNetwork, IntegerRows, Mask
from podweave.ir.frontends.onnx_rows.operators import FAR
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Format

from ..program import CANNOT_COMPUTE, by_others, extra

Arrays = dict[str, NDArray]


def load_model(path: Path) -> Any:
    """The file as the package `onnx` has it."""
    with extra("onnx", "reading ONNX files"):
        import onnx
    with by_others(f"{path} is no ONNX file, or only a part of one"):
        return onnx.load(path)


def session(model: bytes) -> Callable[[Sequence[str], Mapping[str, NDArray]], list[NDArray]]:
    """A model on one core: from names of outputs, and inputs, to what they are."""
    with extra("onnx", "computing in floating point"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with by_others(CANNOT_COMPUTE):
        made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in made.get_inputs()}

    def run(names: Sequence[str], given: Mapping[str, NDArray]) -> list[NDArray]:
        with by_others(CANNOT_COMPUTE):
            found: list[NDArray] = made.run(list(names), {name: given[name] for name in taken})
        return found

    return run


def with_outputs(model: Any, names: Iterable[str]) -> bytes:
    """A model that gives these tensors, too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {each.name for each in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    found: bytes = copy.SerializeToString()
    return found


def ends_of(model: Any, network: FloatNetwork) -> tuple[bytes, bytes]:
    """Models of what is in front of a transformer, and of what is behind it."""
    masks = [mask.name for mask in network.masks]
    front = _part(model, network, [], [*network.inputs, *masks])
    return front, _part(model, network, network.outputs, network.file_outputs)


def _part(model: Any, network: FloatNetwork, cut: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The nodes that give ``outputs``, under names of `_result`, from the inputs of a model and the float32 tensors ``cut`` on.

    Sizes of what the chip computes in between are constants.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, needed, nodes = model.graph, set(outputs) - set(cut), []
    there = {*cut, *network.inputs}
    known = {node.output[0] for node in graph.node if node.output[0] in network.sizes and node.input[0] not in there}
    for node in reversed(graph.node):
        if (needed - known) & set(node.output):
            nodes.append(node)
            needed |= set(node.input) - set(cut)
    held = [each for each in graph.initializer if each.name in needed]
    held += [numpy_helper.from_array(values, name) for name, values in network.sizes.items() if name in known & needed]
    names = {each.name for each in held}
    given = [each for each in graph.input if each.name in needed and each.name not in names]
    given += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in cut]
    # A result may be an input of the part, or a constant, at the same time: all go through a node.
    nodes = [*reversed(nodes), *(helper.make_node("Identity", [name], [_result(name)]) for name in outputs)]
    results = [helper.make_empty_tensor_value_info(_result(name)) for name in outputs]
    made = helper.make_model(
        helper.make_graph(nodes, graph.name or "part", given, results, held), opset_imports=list(model.opset_import)
    )
    made.ir_version = model.ir_version
    found: bytes = made.SerializeToString()
    return found


def _result(name: str) -> str:
    return f"{name}.out"


class Host:
    """What the host does around a transformer in integers."""

    def __init__(self, network: IntegerRows):
        self.network = network
        self._front, self._end = session(network.front), session(network.end)

    def inputs(self, given: Mapping[str, NDArray]) -> Arrays:
        """Inputs of the graph, for one batch of inputs of the file.

        Raises
        ------
        WorkloadError
            For inputs that do not fit, and for masks that let a row see others than the first keys.
        """
        network, rows = self.network, self.network.rows
        checked = checked_batch(network.name, network.given, given)
        names = [tensor.name for tensor in network.inputs.values()]
        masks = [mask.name for mask in network.masks]
        wanted = [*names, *masks]
        real = dict(zip(wanted, self._front([_result(each) for each in wanted], checked), strict=True))
        found: Arrays = {}
        for name, shape in network.graph.inputs.items():
            form = network.graph.format(name)
            if form is Format.LENGTHS:
                found[name] = visible(network.name, network.masks, real, rows).astype(np.int32).reshape(shape)
            elif name in network.inputs:
                tensor = network.inputs[name]
                found[name] = tensor.integers(real[tensor.name].reshape(shape), form)
            else:
                found[name] = np.zeros(shape, form.dtype)
        return found

    def outputs(self, tensors: Mapping[str, NDArray], given: Mapping[str, NDArray]) -> Arrays:
        """What the file gives, of tensors of the graph, (1, 1, rows, channels), and of the inputs of the file."""
        network = self.network
        real = {tensor.name: tensor.real(tensors[name][0]).astype(np.float32) for name, tensor in network.outputs.items()}
        found = self._end([_result(name) for name in network.file_outputs], real | dict(given))
        return dict(zip(network.file_outputs, found, strict=True))


def visible(name: str, masks: Sequence[Mask], tensors: Mapping[str, NDArray], rows: int) -> NDArray[np.int64]:
    """How many keys each row sees, the first ones; raises `WorkloadError` if it sees others, or none."""
    seen = np.ones((rows, rows), bool)
    for mask in masks:
        values = tensors[mask.name].reshape(-1, rows)
        added = mask.kind == "added"
        if added and not ((values == 0) | (values <= FAR)).all():
            raise WorkloadError(f"{name}: {mask.name} is added to scores, and must be 0, or at most {FAR:,.0f}, which is no mask")
        seen &= values == 0 if added or mask.kind == "unseen" else values != 0
    counts: NDArray[np.int64] = seen.sum(axis=1)
    if not (counts.all() and (seen == (np.arange(rows) < counts[:, None])).all()):
        raise WorkloadError(f"{name}: a row must see the first keys, at least one: masks that let it see others are not supported")
    return counts


def checked_batch(name: str, wanted: Mapping[str, tuple[str, tuple[int, ...]]], given: Mapping[str, NDArray]) -> Arrays:
    """Arrays by input of a file, of the types that it has; raises `WorkloadError` for what does not fit."""
    if set(given) != set(wanted):
        raise WorkloadError(f"{name} takes {', '.join(sorted(wanted))}, got {', '.join(sorted(given)) or 'nothing'}")
    for each, (_, shape) in wanted.items():
        if given[each].shape != shape:
            raise WorkloadError(f"{name}: {each} must be {list(shape)}, got {list(given[each].shape)}")
    return {each: given[each].astype(np.dtype(kind)) for each, (kind, _) in wanted.items()}


def batches_of(name: str, wanted: Mapping[str, tuple[str, tuple[int, ...]]], arrays: Mapping[str, NDArray]) -> list[Arrays]:
    """Batches of one text each, of arrays with any number of them; raises `WorkloadError` for what does not fit."""
    counts = {len(values) if values.ndim else 0 for values in arrays.values()}
    if len(counts) != 1 or counts == {0}:
        raise WorkloadError(f"{name}: arrays must be of as many texts as each other, at least one, got {sorted(counts)}")
    batches = [{each: values[text : text + 1] for each, values in arrays.items()} for text in range(counts.pop())]
    return [checked_batch(name, wanted, batch) for batch in batches]
