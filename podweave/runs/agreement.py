"""How often a network of integers chooses as one in floating point does, and as it should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.golden.layers.fixed_point import Rounding
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network
from podweave.ir.frontends.onnx.files import onnx_package, read_file
from podweave.ir.layers import WorkloadError

from .calibration import FloatFile
from .float_files import batches_of
from .model_files import arrays_of, file_inputs


def agreement(
    network: Network, constants: Mapping[str, Parameters], rounding: Rounding, inputs: Path, plain: Path | None, labels: Path | None
) -> list[dict[str, Any]]:
    """A row for each output that is a matrix: how many of its rows have the same largest number.

    Parameters
    ----------
    inputs : Path
        Arrays (.npz) by inputs of the file.
    plain : Path, optional
        The file in floating point, with the same inputs and outputs: ``same_top`` and ``cosine``.
    labels : Path, optional
        Whole numbers (.npz), one array, one for each row: ``right``, and ``right_float``.

    Raises
    ------
    WorkloadError
        For files that do not fit.
    """
    found: dict[str, list[NDArray]] = {name: [] for name in network.outputs}
    for batch in file_inputs(network, inputs):
        computed = evaluate(network.graph, constants, batch, rounding)
        for name, tensor in network.outputs.items():
            whole = tensor.real(computed[name]) if tensor.scale is not None else computed[name]
            found[name].append(tensor.view.to_file(whole))
    ours = {network.outputs[name].name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}
    ours = {name: values for name, values in ours.items() if values.ndim == 2}
    if not ours:
        raise WorkloadError(f"{network.graph.name} has no output of two dimensions, in which the largest of a row could be told")
    exact = _exact(plain, inputs, ours) if plain else {}
    known = _labels(labels, {name: len(values) for name, values in ours.items()}) if labels else None
    rows = []
    for name, values in ours.items():
        row: dict[str, Any] = {"output": name, "images": len(values)}
        if known is not None:
            row["right"] = int((values.argmax(axis=1) == known).sum())
        if name in exact:
            lengths = float(np.linalg.norm(values) * np.linalg.norm(exact[name]))
            row["cosine"] = float((values * exact[name]).sum()) / lengths if lengths else None
            row["same_top"] = int((values.argmax(axis=1) == exact[name].argmax(axis=1)).sum())
            if known is not None:
                row["right_float"] = int((exact[name].argmax(axis=1) == known).sum())
        rows.append(row)
    return rows


def _exact(plain: Path, inputs: Path, ours: Mapping[str, NDArray]) -> dict[str, NDArray[np.float64]]:
    file = read_file(plain)
    missing = sorted(set(ours) - set(file.outputs))
    if missing:
        raise WorkloadError(f"{plain.name} has no output {missing[0]}: it has {', '.join(sorted(file.outputs))}")
    run = FloatFile(onnx_package().load(plain), ())
    parts = [run(batch) for batch in batches_of(file, inputs)]
    found = {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in ours}
    for name, values in found.items():
        if values.shape != ours[name].shape:
            raise WorkloadError(f"{name} of {plain.name} is {list(values.shape)}, and of the integers {list(ours[name].shape)}")
    return found


def _labels(path: Path, counts: Mapping[str, int]) -> NDArray[np.int64]:
    arrays = arrays_of(path)
    if len(arrays) != 1:
        raise WorkloadError(f"{path} must have one array, got {', '.join(sorted(arrays)) or 'nothing'}")
    ((name, values),) = arrays.items()
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise WorkloadError(f"{path}: {name} must be whole numbers of one dimension, got {values.dtype} {list(values.shape)}")
    for output, count in counts.items():
        if len(values) != count:
            raise WorkloadError(f"{path}: {name} has {len(values):,} numbers, and {output} has {count:,} rows")
    return values.astype(np.int64)
