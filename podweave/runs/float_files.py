"""ONNX files in floating point, quantised on inputs of the user, and how near the integers are."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.frontends.onnx import READ_QUANTISED, Network, QuantisedTensor, read_network
from podweave.ir.frontends.onnx.files import FLOAT_OPSETS, File, read_file
from podweave.ir.frontends.onnx.frontend import file_and_sizes
from podweave.ir.layers import WorkloadError

from ..program import by_others, extra
from .calibration import Arrays, FloatFile, Method, ranges_of
from .float_affine import constants_into_weights
from .float_blocks import NORMS_FROM, may_have_norms, plain_softmaxes, real_nodes
from .float_functions import whole_functions
from .float_inputs import SixteenBits, limit_to_two_planes, range_of_16_bits, with_16_bits, with_names
from .float_products import plain_products
from .float_weights import correct_biases, equalise
from .largest import all_largest, require_texts, same_largest
from .model_files import arrays_of, quantised_inputs, require_numbers

WORST = 10
"""Layers that a report names."""
_RANDOM_BATCHES = 4
_QUANTISED_FROM, _IR_VERSION = 14, 7
"""The first version of operators with HardSwish, and with scales for each output of a convolution; and of files with constants that
are no inputs."""
WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class FileRecipe:
    """How a file is quantised.

    Parameters
    ----------
    method : Method
        Of ranges of activations.
    equalise : bool
        Scales are moved between layers before.
    correct : bool
        Biases make up for what rounding of weights takes on average.
    int16_inputs : tuple of str
        Layers, by names of nodes, that read 16 bits.
    """

    method: Method = field(default_factory=Method)
    equalise: bool = False
    correct: bool = False
    int16_inputs: tuple[str, ...] = ()


def quantise_file(
    model: str,
    output: Path,
    calibrate: Path,
    judged: Path | None,
    recipe: FileRecipe,
    *,
    accuracy: bool,
    host_ops: bool = False,
    blank: int | None = None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Write the quantised file, and report how near it is to the one in floating point.

    Activations are uint8 of ranges that ``calibrate`` has, one scale and zero point for each tensor; weights int8, one scale
    for each output; normalisations are folded into convolutions before.

    Parameters
    ----------
    model : str
        A file, with sizes that it leaves open behind it as for a run.
    output : Path
    calibrate, judged : Path
        Arrays (.npz) by inputs of the file, of one or several batches: for ranges, and for accuracy (by default the same).
    recipe : FileRecipe
    host_ops : bool
        Operators that are not taken are left to the host; accuracy is that of what is in front of them.
    blank : int, optional
        The class of outputs that says nothing, where positions in a row are a text.

    Raises
    ------
    WorkloadError
        For inputs that do not fit, numbers that are infinite, and operators that are not taken.
    """
    with extra("onnx", "quantising ONNX files"):
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

    progress(f"reading {model}")
    path, sizes, _ = file_and_sizes(model)
    file = read_file(path, sizes, FLOAT_OPSETS)
    _require_floats(file)
    batches = list(batches_of(file, calibrate))
    judges = list(batches_of(file, judged)) if judged else batches
    with tempfile.TemporaryDirectory(prefix="podweave-onnx-") as folder, _quiet():
        folded, made = Path(folder) / "folded.onnx", Path(folder) / f"{output.stem}.onnx"
        progress("folding constants and normalisations")
        modern = Path(folder) / "modern.onnx"
        onnx.save(_modern(_closed(path, file, sizes, Path(folder)), file.opset), modern)
        with by_others(f"{path.name} cannot be read by onnxruntime"):
            quant_pre_process(str(modern), str(folded), skip_symbolic_shape=True)
            plain = onnx.load(folded)
        plain_products(plain)
        if constants_into_weights(plain) + whole_functions(plain) + plain_softmaxes(plain):
            onnx.save(plain, folded)
        report: dict[str, Any] = {"model": file.name, "file": str(output), "method": str(recipe.method)}
        if recipe.equalise:
            progress("equalising")
            report["equalised"] = equalise(plain, batches, progress)
            # Tensors inside of the file have other sizes now, and are compared with these.
            onnx.save(plain, folded)
        if recipe.correct:
            report["corrected_biases"] = correct_biases(plain, batches, progress)
        with_names(plain)
        wide = with_16_bits(plain, recipe.int16_inputs, file.name)
        ranges = ranges_of(plain, batches, recipe.method, progress, wide.tensors)
        progress("quantising")
        with by_others(f"{path.name} cannot be quantised by onnxruntime"):
            _write_quantised(plain, made, batches, ranges.chosen, wide)
        if wide.tensors:
            limit_to_two_planes(made, wide.tensors)
        network = read_network(made, host_ops=host_ops)
        if not {*recipe.int16_inputs} <= {*network.operators}:
            # What is not taken for its 16 bits is not what the host is there for.
            read_network(made)
        if blank is not None:
            require_texts(network, blank)
        report |= {
            "operations": len(network.graph.operations),
            "on_host": list(network.on_host),
            "macs": network.graph.macs,
            "calibration_batches": len(batches),
            "int16_inputs": list(recipe.int16_inputs),
            "accuracy": None,
        }
        if accuracy:
            report["accuracy"] = compare_with_float(network, made, folded, judges, ranges.needed, progress, blank)
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
    wanted = NORMS_FROM if may_have_norms(node.op_type for node in model.graph.node) else _QUANTISED_FROM
    if opset >= wanted:
        return model
    model.ir_version = max(model.ir_version, _IR_VERSION)
    with by_others(f"{path.name} has operators of ONNX opset {opset}, which cannot be converted"):
        return onnx.version_converter.convert_version(model, wanted)


def _closed(path: Path, file: File, sizes: Mapping[str, int], folder: Path) -> Path:
    """The file itself, or one whose sizes are no longer open."""
    if not sizes:
        return path
    with extra("onnx", "quantising ONNX files"):
        import onnx
    model = onnx.load(path)
    # What is known of tensors inside may name sizes that are open.
    del model.graph.value_info[:]
    for each in model.graph.input:
        for dim, size in zip(
            each.type.tensor_type.shape.dim, file.inputs[each.name][1] if each.name in file.inputs else (), strict=False
        ):
            dim.dim_value = size
    for each in model.graph.output:
        each.type.tensor_type.ClearField("shape")
    onnx.save(model, folder / path.name)
    return folder / path.name


def _require_floats(file: File) -> None:
    """Raises `WorkloadError` for a file that is quantised already, or has weights that no integers can stand for."""
    for node in file.nodes:
        if node.operator in ("QuantizeLinear", "QLinearConv", "QLinearMatMul"):
            raise WorkloadError(f"{file.name} is quantised already: {node.operator} {node.name} is in it")
        if node.operator not in WEIGHED:
            continue
        for name in node.inputs[1:]:
            values = file.constants.get(name)
            if values is not None and not np.isfinite(values).all():
                count = int(np.count_nonzero(~np.isfinite(values)))
                raise WorkloadError(
                    f"{file.name}: {name}, a constant of {node.operator} {node.name}, has {count:,} numbers that are infinite, "
                    "or no number: integers stand for finite ones"
                )


def _write_quantised(
    model: Any, made: Path, batches: Sequence[Arrays], ranges: dict[str, tuple[float, float]], wide: SixteenBits
) -> None:
    """By onnxruntime's quantiser, which writes the nodes; ``ranges`` win over those that it sees itself, on one batch.

    ``wide``: what has 16 bits.
    """
    with extra("onnx", "quantising ONNX files"):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    class Batch(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches[:1])

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    told: dict[str, list[dict[str, Any]]] = {}
    for name, ends in ranges.items():
        low, high = range_of_16_bits(*ends) if name in wide.tensors else ends
        told[name] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
        if name in wide.tensors:
            told[name][0]["quant_type"] = QuantType.QUInt16
    quantize_static(
        model,
        str(made),
        Batch(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*real_nodes(model), *wide.copies],
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry, *READ_QUANTISED}),
        per_channel=True,
        # What only moves numbers is quantised, too, whatever gives them.
        extra_options={"TensorQuantOverrides": told, "ForceQuantizeNoInputCheck": True},
    )


def batches_of(file: File, path: Path) -> Iterator[Arrays]:
    """Real inputs of a file, a batch at a time; raises `WorkloadError` for what does not fit."""
    given = arrays_of(path)
    if set(given) != set(file.inputs):
        raise WorkloadError(f"{path} must have {', '.join(sorted(file.inputs))}, got {', '.join(sorted(given)) or 'nothing'}")
    counts = set()
    for name, values in given.items():
        _, sizes = file.inputs[name]
        require_numbers(path, name, values)
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


def random_arrays(model: str, output: Path, seed: int) -> None:
    """Write normally distributed inputs of a file, of a few batches, where nobody has real ones."""
    path, sizes, _ = file_and_sizes(model)
    rng = np.random.default_rng(seed)
    inputs = read_file(path, sizes, FLOAT_OPSETS).inputs
    shapes = {name: (_RANDOM_BATCHES * shape[0], *shape[1:]) for name, (_, shape) in inputs.items()}
    np.savez(output, **{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})  # type: ignore[arg-type]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser logs advice."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def compare_with_float(
    network: Network,
    made: Path,
    plain: Path,
    batches: Sequence[Arrays],
    needed: Mapping[str, tuple[float, float]],
    progress: Callable[[str], None],
    blank: int | None = None,
) -> dict[str, Any]:
    """The integer network, on its own results, beside the file in floating point.

    ``layers``: in their order, ratio of signal to noise, of what makes a difference (``needed``); None if there is no noise.
    ``worst``: those with the lowest. ``outputs``: cosine, and of those with several classes how many images have the same largest
    number (`same_largest`).
    """
    with extra("onnx", "comparing with onnxruntime"):
        import onnx
    plain_model = onnx.load(plain)
    there = {name for node in plain_model.graph.node for name in node.output} | set(batches[0])
    # Of what leaves the file, the quantiser gives the name to what is dequantised again.
    sides_of = {"QuantizeLinear": (1, 0), "DequantizeLinear": (0, 1)}
    real_of = {}
    nodes = onnx.load(made).graph.node
    for node in nodes:
        if node.op_type in sides_of:
            integer, real = sides_of[node.op_type]
            sides = (node.input[0], node.output[0])
            if sides[real] in there:
                real_of[sides[integer]] = sides[real]
    layers = {
        name: real_of[tensor.name] for name in network.operators if (tensor := network.tensors.get(name)) and tensor.name in real_of
    }
    # What is left to the host reads real numbers again.
    real_again = {node.output[0]: real_of[node.input[0]] for node in nodes if node.input and node.input[0] in real_of}
    names = {name: tensor.name for name, tensor in network.outputs.items()}
    ends = {name: end if end in there else (real_of | real_again)[end] for name, end in names.items()}
    inputs = set(batches[0])
    run = FloatFile(plain_model, {*layers.values(), *ends.values()} - inputs)
    signal, noise = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
    pairs: dict[str, list[tuple[NDArray, NDArray]]] = {name: [] for name in network.outputs}
    for number, batch in enumerate(batches, 1):
        progress(f"beside floating point: batch {number} of {len(batches)}")
        exact = batch | run(batch)
        found = evaluate(network.graph, network.constants, quantised_inputs(network, batch), "half_even")
        for name, plain_name in layers.items():
            tensor = network.tensors[name]
            wanted = tensor.lying(np.clip(exact[plain_name], *needed.get(plain_name, (None, None)))).astype(np.float64)
            signal[name] += float(np.square(wanted[tensor.known]).sum())
            noise[name] += float(np.square((wanted - tensor.real(found[name]))[tensor.known]).sum())
        for name, tensor in network.outputs.items():
            pairs[name].append((exact[ends[name]], tensor.lying_in_file(tensor.real(found[name]))))
    rows: list[dict[str, Any]] = [
        {
            "operation": name,
            "operator": network.operators[name],
            "sqnr_db": 10 * float(np.log10(signal[name] / noise[name])) if signal[name] and noise[name] else None,
        }
        for name in layers
    ]
    worst = sorted((row for row in rows if row["sqnr_db"] is not None), key=lambda row: row["sqnr_db"])[:WORST]
    outputs = [_output_row(ends[name], network.outputs[name], pairs[name], blank) for name in pairs]
    return {"batches": len(batches), "layers": rows, "worst": worst, "outputs": outputs}


def _output_row(name: str, tensor: QuantisedTensor, pairs: list[tuple[NDArray, NDArray]], blank: int | None) -> dict[str, Any]:
    exact, found = (np.concatenate([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    lengths = float(np.linalg.norm(exact) * np.linalg.norm(found))
    row: dict[str, Any] = {"output": name, "cosine": float((exact * found).sum()) / lengths if lengths else None}
    chosen = [all_largest(tensor, [pair[side] for pair in pairs]) for side in (0, 1)]
    if chosen[0] is not None and chosen[1] is not None:
        row |= same_largest(chosen[0], chosen[1], blank)
    return row
