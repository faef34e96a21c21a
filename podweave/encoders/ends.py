"""What the host computes of an ONNX file in front of a transformer and behind it, by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx_rows import FloatNetwork, IntegerRows
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Append, Format

from ..program import extra

Arrays = dict[str, NDArray]


def load_model(path: Path) -> Any:
    """The file as the package `onnx` has it."""
    with extra("onnx", "reading ONNX files"):
        import onnx
    return onnx.load(path)


def session(model: bytes) -> Callable[[Sequence[str], Mapping[str, NDArray]], list[NDArray]]:
    """A model on one core: from names of outputs, and inputs, to what they are."""
    with extra("onnx", "computing in floating point"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in made.get_inputs()}
    return lambda names, given: made.run(list(names), {name: given[name] for name in taken})


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
    masks = [network.mask] if network.mask else []
    front = _part(model, [], [*network.inputs, *masks])
    return front, _part(model, network.outputs, network.file_outputs)


def _part(model: Any, cut: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The nodes that give ``outputs``, from the inputs of a model and the float32 tensors ``cut`` on."""
    from onnx import TensorProto, helper

    graph, needed, nodes = model.graph, set(outputs) - set(cut), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input) - set(cut)
    held = [each for each in graph.initializer if each.name in needed]
    names = {each.name for each in held}
    given = [each for each in graph.input if each.name in needed and each.name not in names]
    given += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in cut]
    # What is a result and an input of the part at the same time goes through a node.
    straight = [name for name in outputs if name in cut or name in {each.name for each in graph.input}]
    nodes = [*reversed(nodes), *(helper.make_node("Identity", [name], [f"{name}.out"]) for name in straight)]
    results = [helper.make_empty_tensor_value_info(f"{name}.out" if name in straight else name) for name in outputs]
    made = helper.make_model(
        helper.make_graph(nodes, graph.name or "part", given, results, held), opset_imports=list(model.opset_import)
    )
    made.ir_version = model.ir_version
    found: bytes = made.SerializeToString()
    return found


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
            For inputs that do not fit, and for masks that do not let all rows see the same first keys.
        """
        network, rows = self.network, self.network.rows
        checked = checked_batch(network.name, network.given, given)
        names = [tensor.name for tensor in network.inputs.values()]
        masks = [network.mask] if network.mask else []
        ends = [f"{each}.out" if each in network.given else each for each in (*names, *masks)]
        real = dict(zip([*names, *masks], self._front(ends, checked), strict=True))
        found: Arrays = {}
        for name, shape in network.graph.inputs.items():
            form = network.graph.format(name)
            if form is Format.LENGTHS:
                assert network.mask
                found[name] = np.full(shape, visible(network.name, real[network.mask], rows), np.int32)
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
        ends = [f"{name}.out" if name in real or name in network.given else name for name in network.file_outputs]
        return dict(zip(network.file_outputs, self._end(ends, real | dict(given)), strict=True))


def caches(network: IntegerRows) -> list[str]:
    """Inputs of the graph that hold nothing in front of a run."""
    return [each.cache for each in network.graph.operations if isinstance(each, Append)]


def visible(name: str, mask: NDArray, rows: int) -> int:
    """How many keys a mask lets all rows see."""
    by_query = mask.reshape(-1, rows)
    seen = by_query[0] == 0
    count = int(seen.sum())
    if not (seen[:count].all() and (by_query == by_query[0]).all() and (by_query[0][count:] < -1e3).all() and count):
        raise WorkloadError(f"{name}: a mask must let all rows see the same first keys, at least one: others are not supported")
    return count


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
