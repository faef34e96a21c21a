"""onnxruntime beside the golden model: each layer fed with what onnxruntime itself has in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate, evaluate_operation, evaluate_rows_of_images
from podweave.golden.layers.fixed_point import Rounding, from_planes
from podweave.golden.layers.pool import reduce_windows
from podweave.golden.rows import linear_sums
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import LIMITS, Network, QuantisedTensor
from podweave.ir.operations import Linear, Operation
from podweave.ir.row_operations import Format, RowLinear

from ..program import CANNOT_COMPUTE, by_others, extra
from .largest import largest, same_largest
from .row_bounds import row_bound

NEAR = 2.0**-13
"""Of a step: results that near a half, which float32 may round either way, count as ties."""
LEVEL = "ORT_ENABLE_EXTENDED"
"""Of optimisation: quantised operators are fused, as they run by default on a processor; layouts are left alone."""
SIXTEEN_BITS = ("session.qdq_matmulnbits_accuracy_level", "1")
"""By default onnxruntime takes products of 16 bits by int8 weights for those of weights alone, and multiplies 8 bits."""

Tensors = dict[str, NDArray[Any]]


def file_tensors(network: Network, path: Path, inputs: Mapping[str, NDArray[np.int8]]) -> tuple[Tensors, dict[str, NDArray], str]:
    """Every tensor of a network as onnxruntime computes it, int8 (B, H, W, C); outputs as the file has them; its version."""
    with extra("onnx", "comparing with onnxruntime"):
        import onnx
        import onnxruntime
    model = onnx.load(path)
    there = {each.name for each in model.graph.output}
    wanted = {name: tensor for name, tensor in network.tensors.items() if name not in network.graph.inputs}
    more = {tensor.name for tensor in (*wanted.values(), *network.outputs.values())} - there
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(more))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVEL)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry(*SIXTEEN_BITS)
    with by_others(CANNOT_COMPUTE):
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {}
    for name in network.given:
        tensor, values = network.tensors[name], inputs[name]
        real = name in network.real_inputs
        given[tensor.name] = tensor.lying_in_file(tensor.real(values)) if real else tensor.to_file(values)
    names = [each.name for each in session.get_outputs()]
    with by_others(CANNOT_COMPUTE):
        computed = session.run(names, given)
    found = dict(zip(names, computed, strict=True))
    tensors = {name: tensor.to_graph(found[tensor.name]) for name, tensor in wanted.items()}
    outputs = {name: found[tensor.name] for name, tensor in network.outputs.items()}
    return dict(inputs) | tensors, outputs, onnxruntime.__version__


def before_rounding(operation: Linear, held: Parameters, acc: NDArray[np.int32]) -> NDArray[np.float64]:
    """What an operation rounds, zero point included."""
    if operation.window:
        acc = reduce_windows(acc, operation.window.reduce, operation.window.kernel, operation.window.stride)

    def scaled(multiplier: NDArray[np.int32], shift: NDArray[np.int32]) -> NDArray[np.float64]:
        scale = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int64))
        return (acc.astype(np.float64) + held.bias) * scale + held.zero_point

    found = scaled(held.multiplier, held.shift)
    if held.border_scales:
        rows, columns = operation.inside
        counts = np.multiply.outer(rows, columns)
        for count, scale in held.border_scales.items():
            found[:, counts == count] = scaled(*scale)[:, counts == count]
    return found


def compare_layers(
    network: Network, constants: Mapping[str, Parameters], right: Mapping[str, NDArray], rounding: Rounding
) -> list[dict[str, Any]]:
    """A row for each operation that is a tensor of the file: ``right``, those of onnxruntime, which it reads too.

    ``differing``: results that are not equal. ``ties``: of those, the ones to which ours may be rounded as well, as near to a half
    as float32 tells (or as near as the factors of the operation are to those of the file). ``within``: of those of norms and
    attention, the ones that are as near as these are computed (`row_bound`). ``largest``: difference, in steps.
    ``signal``, ``noise``: sums of squares of onnxruntime's real numbers, and of how far ours are from them.
    """
    rows = []
    # What has 16 bits is read in two planes.
    most = LIMITS[Format.INT16][1]
    tensors = {name: np.minimum(found, most) if found.dtype == np.int16 else found for name, found in right.items()}
    of_rows: dict[str, NDArray[np.float64]] = {}
    for operation in network.graph.operations:
        exact: NDArray | None = None
        if isinstance(operation, Linear):
            held = constants[operation.name]
            acc, ours = evaluate_operation(operation, held, tensors, rounding)
            table = network.exact.get(operation.name)
            exact = before_rounding(operation, held, acc) if table is None else table[acc.astype(np.int8).view(np.uint8)]
            if operation.identity and operation.sources[0] in of_rows:
                # It only puts into its place what rows gave.
                exact = of_rows[operation.sources[0]].reshape(ours.shape)
        else:
            ours = evaluate_rows_of_images(operation, constants, tensors, rounding)
            if isinstance(operation, RowLinear) and operation.name in network.bounds:
                exact = of_rows[operation.name] = _before_rows_are_rounded(operation, constants[operation.name], tensors)
        if operation.name not in network.tensors:
            tensors[operation.name] = ours
            continue
        bound = row_bound(network, operation.name, constants, tensors | {operation.name: ours})
        theirs, known = right[operation.name], network.tensors[operation.name].known
        # Of a transposed convolution there may be more than the file has.
        ours = np.where(known, ours, theirs)
        off = np.abs(ours.astype(np.int32) - theirs)
        # Norms and softmax are rounded on their way, too.
        near = np.zeros(off.shape, bool) if exact is None else _near(network, operation, exact, ours, theirs)
        signal, noise = (float(np.square(part).sum()) for part in _real(network, operation.name, ours, theirs))
        rows.append(
            {
                "operation": operation.name,
                "operator": network.operators[operation.name],
                "values": int(np.count_nonzero(known)),
                "differing": int(np.count_nonzero(off)),
                "ties": int(np.count_nonzero((off > 0) & near)),
                "within": 0 if bound is None else int(np.count_nonzero((off > 0) & (off <= bound + 1))),
                "largest": int(off.max(initial=0)),
                "signal": signal,
                "noise": noise,
            }
        )
    return rows


def _before_rows_are_rounded(operation: RowLinear, held: Parameters, tensors: Mapping[str, NDArray]) -> NDArray[np.float64]:
    source = tensors[operation.source]
    sums = linear_sums(operation, held, source.reshape(-1, source.shape[3]))
    total = (from_planes(*sums) if len(sums) == 2 else sums[0]).astype(np.float64) + held.bias
    return np.ldexp(total * held.multiplier, -held.shift.astype(np.int64))[None, None]


def _near(network: Network, operation: Operation, exact: NDArray[np.float64], *both: NDArray) -> NDArray[np.bool_]:
    """Where ``both``, ours and theirs, are ``exact`` rounded, if that is known as well as float32 tells, and by bounds."""
    # A source that is no tensor of the file was not fed with what onnxruntime has.
    hidden = [name for name in operation.sources if name not in network.tensors]
    bound = max(network.bounds.get(name, 0.0) for name in (operation.name, *hidden))
    found: NDArray[np.bool_] = np.logical_and.reduce([np.abs(each - exact) <= 0.5 + NEAR + bound for each in both])
    return found


def _real(network: Network, name: str, ours: NDArray[np.int8], theirs: NDArray[np.int8]) -> tuple[NDArray, NDArray]:
    """onnxruntime's real numbers, and how far ours are from them; in steps where the file does not say what one is."""
    tensor = network.tensors[name]
    if tensor.scale is None:
        return theirs.astype(np.float64), theirs.astype(np.float64) - ours
    return tensor.real(theirs).astype(np.float64), (tensor.real(theirs) - tensor.real(ours)).astype(np.float64)


def compare_file(
    network: Network,
    path: Path,
    constants: Mapping[str, Parameters],
    feeds: Sequence[Mapping[str, NDArray[np.int8]]],
    rounding: Rounding,
) -> dict[str, Any]:
    """Layer by layer, and the outputs of the whole network, which computes from its own results; over all of ``feeds``.

    ``sqnr_db`` of a layer: of its real numbers; None if all are equal.
    """
    layers: dict[str, dict[str, Any]] = {}
    outputs: dict[str, dict[str, Any]] = {}
    version = ""
    for inputs in feeds:
        right, found, version = file_tensors(network, path, inputs)
        for row in compare_layers(network, constants, right, rounding):
            _join(layers, row["operation"], row)
        whole = evaluate(network.graph, constants, inputs, rounding)
        for name, tensor in network.outputs.items():
            _join(outputs, name, _output_row(tensor, whole[name], found[name]))
    for row in layers.values():
        signal, noise = row.pop("signal"), row.pop("noise")
        row["sqnr_db"] = 10 * float(np.log10(signal / noise)) if noise and signal else None
    return {"onnxruntime": version, "optimisation": LEVEL, "layers": [*layers.values()], "outputs": [*outputs.values()]}


def _join(rows: dict[str, dict[str, Any]], name: str, row: dict[str, Any]) -> None:
    """A row of one pass with those of the passes before."""
    known = rows.get(name)
    if known is None:
        rows[name] = row
        return
    for key, value in row.items():
        if not isinstance(value, str):
            known[key] = max(known[key], value) if key == "largest" else known[key] + value


def _output_row(tensor: QuantisedTensor, ours: NDArray[np.int8], theirs: NDArray) -> dict[str, Any]:
    """``theirs``: as the file has it, real or not."""
    if np.issubdtype(theirs.dtype, np.floating):
        mine, step = tensor.lying_in_file(tensor.real(ours)), float(tensor.scale or 1)
    else:
        mine, step = tensor.to_file(ours), 1.0
    steps = np.rint(np.abs(mine.astype(np.float64) - theirs) / step)
    row: dict[str, Any] = {"output": tensor.name, "values": ours.size, "differing": int(np.count_nonzero(steps))}
    row["largest"] = int(steps.max(initial=0))
    chosen = [largest(tensor, values) for values in (theirs, mine)]
    if chosen[0] is not None and chosen[1] is not None:
        row |= same_largest(chosen[0], chosen[1])
    return row
