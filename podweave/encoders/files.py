"""ONNX files of transformers: quantised into a file of their own, held against floating point, and as jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from podweave.ir.constants import Constants, with_scale_bits
from podweave.ir.frontends.onnx import transformers
from podweave.ir.frontends.onnx.files import read_file
from podweave.ir.frontends.onnx_rows import IntegerRows, row_file, rows_of
from podweave.ir.frontends.random_rows import random_row_inputs
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig

from ..language.quantise import Recipe
from ..runs.jobs import Job
from ..runs.model_files import arrays_of
from .calibration import FloatTexts, calibrate
from .compare import compare_with_float
from .ends import Host, batches_of, load_model
from .quantise import quantise_rows


def is_transformer(path: Path) -> bool:
    """Whether a file is one (`transformers.is_transformer`); False for what cannot be read, too."""
    try:
        model = load_model(path)
    except Exception:  # Protocol buffers raise errors of their own; what is wrong is told by who reads the file.
        return False
    inputs = {each.name for each in model.graph.input} - {each.name for each in model.graph.initializer}
    return transformers.is_transformer(((node.op_type, node.input, node.output) for node in model.graph.node), inputs)


def sizes_of(model: Any, arrays: Mapping[str, NDArray]) -> dict[str, int]:
    """Sizes that a file leaves open, as inputs of it have them: one text at a time."""
    found: dict[str, int] = {}
    for each in model.graph.input:
        values = arrays.get(each.name)
        dims = each.type.tensor_type.shape.dim
        if values is None or values.ndim != len(dims):
            continue
        for number, (dim, size) in enumerate(zip(dims, (1, *values.shape[1:]), strict=True)):
            if not dim.HasField("dim_value"):
                name = dim.dim_param or f"{each.name}.{number}"
                if found.setdefault(name, size) != size:
                    raise WorkloadError(f"{each.name}: its size {name} is {size}, and {found[name]} elsewhere")
    return found


def quantise_transformer(
    path: Path,
    output: Path,
    given: Path,
    judged: Path | None,
    recipe: Recipe,
    *,
    accuracy: bool,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Write a transformer of an ONNX file in integers, and report how near they are to floating point.

    Parameters
    ----------
    path, output : Path
    given, judged : Path
        Arrays (.npz) by inputs of the file, of any number of texts: for ranges, and for accuracy (by default the same).

    Raises
    ------
    WorkloadError
        For inputs that do not fit, and for operators that are not taken.
    """
    progress(f"reading {path}")
    arrays = arrays_of(given)
    model = load_model(path)
    network = rows_of(read_file(path, sizes_of(model, arrays)))
    texts = FloatTexts(model, network)
    batches = batches_of(network.name, network.given, arrays)
    integers = quantise_rows(network, model, calibrate(texts, batches, progress), recipe, progress)
    progress(f"writing {output}")
    integers.save(output)
    report: dict[str, Any] = {
        "model": network.name,
        "file": str(output),
        "bytes": output.stat().st_size,
        "operations": len(integers.graph.operations),
        "macs": integers.graph.macs,
        "rows": network.rows,
        "on_host": list(network.on_host),
        "calibration_batches": len(batches),
        "accuracy": None,
    }
    if accuracy:
        others = batches_of(network.name, network.given, arrays_of(judged)) if judged else batches
        report["accuracy"] = compare_with_float(texts, integers, others, progress)
    return report


def fitted_rows(network: IntegerRows, config: ChipConfig) -> Constants:
    """Constants with multipliers of as many bits as the post-processors have."""
    return with_scale_bits(network.constants, config.scale_bits)


def row_file_jobs(workload: str, config: ChipConfig, seed: int, inputs: Path | None = None) -> list[Job]:
    """A transformer of a file: on each text of ``inputs``, or on random rows."""
    network = row_file(workload)
    job = Job(network.graph, fitted_rows(network, config), random_row_inputs(network.graph, seed))
    if inputs is None:
        return [job]
    host, texts = Host(network), batches_of(network.name, network.given, arrays_of(inputs))
    return [replace(job, inputs=host.inputs(text)) for text in texts]
