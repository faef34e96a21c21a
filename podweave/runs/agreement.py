"""How often a network of integers chooses as one in floating point does, and as it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.golden.layers.fixed_point import Rounding
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network
from podweave.ir.frontends.onnx.files import File, onnx_package, read_file
from podweave.ir.layers import WorkloadError

from .calibration import FloatFile
from .float_files import batches_of
from .largest import all_largest, same_largest
from .model_files import arrays_of, file_inputs


def agreement(
    network: Network,
    path: Path,
    constants: Mapping[str, Parameters],
    rounding: Rounding,
    inputs: Path,
    plain: Path | None,
    labels: Path | None,
) -> list[dict[str, Any]]:
    """A row for each output that has several classes: how many of its images have the same largest number, at each position.

    Parameters
    ----------
    path : Path
        The file of the network.
    inputs : Path
        Arrays (.npz) by inputs of the file.
    plain : Path, optional
        The file in floating point, with the same inputs and outputs (`require_plain`): ``cosine``, and what `same_largest` has.
    labels : Path, optional
        Whole numbers (.npz), one array, one for each image, of outputs with one position: ``right``, and ``right_float``.

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
            found[name].append(tensor.lying_in_file(whole).astype(np.float64))
    tensors = {tensor.name: tensor for tensor in network.outputs.values()}
    ours = {network.outputs[name].name: parts for name, parts in found.items()}
    chosen = {name: classes for name, parts in ours.items() if (classes := all_largest(tensors[name], parts)) is not None}
    if not chosen:
        raise WorkloadError(f"{network.graph.name} has no output with several classes, of which the largest could be told")
    exact = _exact(network, path, plain, inputs, {name: ours[name] for name in chosen}) if plain else {}
    known = _labels(labels, {name: classes.shape for name, classes in chosen.items()}) if labels else None
    rows = []
    for name, classes in chosen.items():
        row: dict[str, Any] = {"output": name, "images": len(classes)}
        labelled = known is not None and classes.shape[1] == 1
        if labelled:
            row["right"] = int((classes[:, 0] == known).sum())
        if name in exact:
            values, others = (np.concatenate(parts) for parts in (ours[name], exact[name]))
            lengths = float(np.linalg.norm(values) * np.linalg.norm(others))
            row["cosine"] = float((values * others).sum()) / lengths if lengths else None
            right = all_largest(tensors[name], exact[name])
            assert right is not None
            row |= same_largest(right, classes)
            if labelled:
                row["right_float"] = int((right[:, 0] == known).sum())
        rows.append(row)
    return rows


def require_plain(network: Network, path: Path, plain: Path) -> tuple[File, dict[str, str]]:
    """The file in floating point, with sizes of the network where it leaves them open, and its tensors by outputs of the network.

    Outputs may be inside of it, where the network leaves what is behind them to the host.

    Raises
    ------
    WorkloadError
        For a file without one of them.
    """
    shapes = {network.tensors[name].name: network.tensors[name].view.sizes for name in network.given}
    file, real_of = read_file(plain, shapes=shapes), dict[str, str]()
    for node in read_file(path).nodes:
        if node.operator == "QuantizeLinear":
            real_of[node.outputs[0]] = node.inputs[0]
        elif node.operator == "DequantizeLinear" and node.inputs[0] in real_of:
            real_of[node.outputs[0]] = real_of[node.inputs[0]]
    there = {name for node in file.nodes for name in node.outputs}
    found = {}
    for tensor in network.outputs.values():
        names = [name for name in (tensor.name, real_of.get(tensor.name)) if name in there]
        if not names:
            raise WorkloadError(f"{plain.name} has no output {tensor.name}: it has {', '.join(sorted(file.outputs))}")
        found[tensor.name] = str(names[0])
    return file, found


def _exact(
    network: Network, path: Path, plain: Path, inputs: Path, ours: Mapping[str, Sequence[NDArray]]
) -> dict[str, list[NDArray[np.float64]]]:
    """Batches of each output in floating point."""
    file, names = require_plain(network, path, plain)
    run = FloatFile(onnx_package().load(plain), {names[name] for name in ours})
    parts = [run(batch) for batch in batches_of(file, inputs)]
    found = {name: [part[names[name]].astype(np.float64) for part in parts] for name in ours}
    for name, batches in found.items():
        theirs, mine = ([len(each), *each[0].shape] for each in (batches, ours[name]))
        if theirs != mine:
            raise WorkloadError(
                f"{name} of {plain.name} is {theirs[1:]} in {theirs[0]} batches, and of the integers {mine[1:]} in {mine[0]}"
            )
    return found


def _labels(path: Path, sizes: Mapping[str, tuple[int, ...]]) -> NDArray[np.int64]:
    """``sizes``: images and positions of outputs."""
    counts = {name: images for name, (images, positions) in sizes.items() if positions == 1}
    if not counts:
        raise WorkloadError(
            f"{path} is for outputs with a class for each image, and there is none: {', '.join(sizes)} have several positions"
        )
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
