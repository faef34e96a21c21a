"""ONNX files in floating point, quantised by onnxruntime on inputs of the user, and how near the integers are."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.frontends.onnx.files import FLOAT_OPSETS, File, read_file
from podweave.ir.layers import WorkloadError

from ..program import extra
from .model_files import arrays_of, quantised_inputs

WORST = 10
"""Layers that a report names."""
Arrays = dict[str, NDArray]
_QUANTISED_FROM, _IR_VERSION = 13, 7
"""The first version of operators with scales for each output of a convolution, and of files with constants that are no inputs."""


def quantise_file(
    model: Path,
    output: Path,
    calibrate: Path,
    judged: Path | None,
    *,
    accuracy: bool,
    host_ops: bool = False,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Write the quantised file, and report how near it is to the one in floating point.

    Activations are uint8 of the ranges that ``calibrate`` has, one scale and zero point for each tensor; weights int8, one scale
    for each output; normalisations are folded into convolutions before.

    Parameters
    ----------
    model, output : Path
    calibrate, judged : Path
        Arrays (.npz) by inputs of the file, of one or several batches: for ranges, and for accuracy (by default the same).
    host_ops : bool
        Operators that are not taken are left to the host; accuracy is that of what is in front of them.

    Raises
    ------
    WorkloadError
        For inputs that do not fit, and for operators that are not taken.
    """
    with extra("onnx", "quantising ONNX files"):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):
        def __init__(self, batches: Iterator[Arrays]):
            self.left = batches

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    progress(f"reading {model}")
    file = read_file(model, opsets=FLOAT_OPSETS)
    batches = list(batches_of(file, calibrate))
    judges = list(batches_of(file, judged)) if judged else batches
    with tempfile.TemporaryDirectory(prefix="podweave-onnx-") as folder, _quiet():
        folded, made = Path(folder) / "folded.onnx", Path(folder) / f"{output.stem}.onnx"
        progress("folding constants and normalisations")
        modern = Path(folder) / "modern.onnx"
        onnx.save(_modern(model, file.opset), modern)
        quant_pre_process(str(modern), str(folded), skip_symbolic_shape=True)
        progress(f"quantising on {len(batches)} batches")
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        quantize_static(str(folded), str(made), Batches(iter(batches)), quant_format=QuantFormat.QDQ, **kinds)
        network = read_network(made, host_ops=host_ops)
        report: dict[str, Any] = {
            "model": file.name,
            "file": str(output),
            "operations": len(network.graph.operations),
            "on_host": list(network.on_host),
            "macs": network.graph.macs,
            "calibration_batches": len(batches),
            "accuracy": None,
        }
        if accuracy:
            progress("comparing with floating point")
            report["accuracy"] = compare_with_float(network, made, folded, judges)
        shutil.copyfile(made, output)
    return report | {"bytes": output.stat().st_size}


def _modern(path: Path, opset: int) -> Any:
    """A model whose constants are none of its inputs, as old ones are, and with operators that onnxruntime's quantiser knows.

    A Sum of two tensors is an Add.
    """
    import onnx
    import onnx.version_converter

    model = onnx.load(path)
    held = {each.name for each in model.graph.initializer}
    given = [each for each in model.graph.input if each.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(given)
    for node in model.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"
    if opset >= _QUANTISED_FROM:
        return model
    model.ir_version = max(model.ir_version, _IR_VERSION)
    try:
        return onnx.version_converter.convert_version(model, _QUANTISED_FROM)
    except Exception as error:  # It raises what its C++ throws.
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WorkloadError(f"{path.name} has operators of ONNX opset {opset}, which cannot be converted: {why}") from error


def batches_of(file: File, path: Path) -> Iterator[Arrays]:
    """Real inputs of a file, a batch at a time; raises `WorkloadError` for what does not fit."""
    given = arrays_of(path)
    if set(given) != set(file.inputs):
        raise WorkloadError(f"{path} must have {', '.join(sorted(file.inputs))}, got {', '.join(sorted(given)) or 'nothing'}")
    counts = set()
    for name, values in given.items():
        _, sizes = file.inputs[name]
        if values.ndim != len(sizes) or values.shape[1:] != sizes[1:] or not len(values) or len(values) % sizes[0]:
            wanted = f"{list(sizes)}, or several of them one after the other"
            raise WorkloadError(f"{path}: {name} must be {wanted}, got {list(values.shape)}")
        counts.add(len(values) // sizes[0])
    if len(counts) > 1:
        raise WorkloadError(f"{path}: its arrays are of {' and '.join(map(str, sorted(counts)))} batches")
    for batch in range(counts.pop()):
        yield {
            name: values[batch * file.inputs[name][1][0] :][: file.inputs[name][1][0]].astype(np.float32)
            for name, values in given.items()
        }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser logs advice."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def compare_with_float(network: Network, made: Path, plain: Path, batches: list[Arrays]) -> dict[str, Any]:
    """The integer network, on its own results, beside the file in floating point.

    ``worst``: layers with the lowest ratio of signal to noise. ``outputs``: cosine, and of matrices how many rows have the same
    largest number.
    """
    with extra("onnx", "comparing with onnxruntime"):
        import onnx
        import onnxruntime
    nodes = onnx.load(made).graph.node
    real_of = {node.output[0]: node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    # What is left to the host reads real numbers again.
    real_of |= {node.output[0]: real_of[node.input[0]] for node in nodes if node.input and node.input[0] in real_of}
    model = onnx.load(plain)
    there = {each.name for each in model.graph.output}
    # The quantiser renames what gives an output.
    edges = {name for node in model.graph.node for name in node.output}
    real_of = {name: real if real in edges else real.removesuffix("_QuantizeLinear_Input") for name, real in real_of.items()}
    layers = {name: real_of[tensor.name] for name, tensor in network.tensors.items() if tensor.name in real_of}
    ends = {name: tensor.name if tensor.name in there else real_of[tensor.name] for name, tensor in network.outputs.items()}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted({*layers.values(), *ends.values()} - there))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    signal, noise = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
    pairs: dict[str, list[tuple[NDArray, NDArray]]] = {name: [] for name in network.outputs}
    for batch in batches:
        exact = dict(zip(names, session.run(names, batch), strict=True))
        found = evaluate(network.graph, network.constants, quantised_inputs(network, batch), "half_even")
        for name, plain_name in layers.items():
            tensor = network.tensors[name]
            wanted = tensor.view.to_graph(exact[plain_name]).astype(np.float64)
            signal[name] += float(np.square(wanted).sum())
            noise[name] += float(np.square(wanted - tensor.real(found[name])).sum())
        for name, tensor in network.outputs.items():
            pairs[name].append((exact[ends[name]], tensor.view.to_file(tensor.real(found[name]))))
    ratios = {name: 10 * float(np.log10(signal[name] / noise[name])) for name in layers if signal[name] and noise[name]}
    worst = [{"operation": name, "sqnr_db": ratios[name]} for name in sorted(ratios, key=ratios.__getitem__)[:WORST]]
    return {"batches": len(batches), "worst": worst, "outputs": [_output_row(ends[name], pairs[name]) for name in pairs]}


def _output_row(name: str, pairs: list[tuple[NDArray, NDArray]]) -> dict[str, Any]:
    exact, found = (np.concatenate([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    lengths = float(np.linalg.norm(exact) * np.linalg.norm(found))
    row: dict[str, Any] = {"output": name, "cosine": float((exact * found).sum()) / lengths if lengths else None}
    if exact.ndim == 2:
        row |= {"images": len(exact), "same_top": int((exact.argmax(axis=1) == found.argmax(axis=1)).sum())}
    return row
