"""Transformers in integers beside floating point: operation by operation, and what the file gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.golden.rows import evaluate_row_operation
from podweave.ir.frontends.onnx_rows import IntegerRows
from podweave.ir.row_operations import Append

from .calibration import FloatTexts
from .ends import Arrays, Host

WORST = 10
"""Operations that a report names."""


def compare_with_float(
    texts: FloatTexts, network: IntegerRows, batches: Sequence[Arrays], progress: Callable[[str], None]
) -> dict[str, Any]:
    """A transformer in integers beside the file in floating point.

    ``worst``: operations with the lowest ratio of signal to noise, over rows that are seen, each computed from results of the
    operations before; ``own_sqnr_db``: computed from what the file has in front of it. ``outputs``: of what the file gives, the
    cosine over all texts, its mean over texts, and the least of a text; of outputs with a row for each of the graph, over those
    that are seen.
    """
    host = Host(network)
    names = {name: tensor for name, tensor in network.tensors.items() if name not in network.graph.inputs}
    signal, noise, own = (dict.fromkeys(names, 0.0) for _ in range(3))
    pairs: dict[str, list[tuple[NDArray, NDArray]]] = {}
    for number, batch in enumerate(batches):
        progress(f"comparing with floating point: {number + 1} of {len(batches)} texts")
        rows, exact = texts.tensors(batch)
        inputs = host.inputs(batch)
        found = evaluate(network.graph, network.constants, inputs)
        alone = each_alone(network, inputs, rows)
        for name, tensor in names.items():
            wanted = rows[tensor.name].astype(np.float64)
            signal[name] += float(np.square(wanted).sum())
            noise[name] += float(np.square(wanted - tensor.real(found[name][0, 0, : len(wanted)])).sum())
            own[name] += float(np.square(wanted - tensor.real(alone[name][: len(wanted)])).sum())
        seen = len(next(iter(rows.values())))
        for name, values in host.outputs(found, batch).items():
            if np.issubdtype(values.dtype, np.floating):
                by_row = values.shape[:2] == (1, network.rows)
                right, own_values = (each[:, :seen] if by_row else each for each in (exact[name], values))
                pairs.setdefault(name, []).append((right.astype(np.float64), own_values.astype(np.float64)))

    def ratios(of: Mapping[str, float]) -> dict[str, float]:
        return {name: 10 * float(np.log10(signal[name] / of[name])) for name in names if signal[name] and of[name]}

    along, by_itself = ratios(noise), ratios(own)
    order = sorted(along, key=along.__getitem__)[:WORST]
    worst = [{"operation": name, "sqnr_db": along[name], "own_sqnr_db": by_itself.get(name)} for name in order]
    return {"batches": len(batches), "worst": worst, "outputs": [_output_row(name, pairs[name]) for name in pairs]}


def each_alone(network: IntegerRows, inputs: Mapping[str, NDArray], rows: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """What each operation makes of what the file has in front of it. ``rows``: of tensors of the file, those that are seen."""
    given = {name: values[0, 0] for name, values in inputs.items()}
    for name, tensor in network.tensors.items():
        form = network.graph.format(name)
        real = np.zeros((network.rows, rows[tensor.name].shape[1]))
        real[: len(rows[tensor.name])] = rows[tensor.name]
        given[name] = tensor.integers(real, form)
    found: dict[str, NDArray] = {}
    for operation in network.graph.operations:
        found[operation.name] = evaluate_row_operation(operation, network.constants, given)
        if isinstance(operation, Append):
            given[operation.name] = found[operation.name]
    return found


def _output_row(name: str, pairs: list[tuple[NDArray, NDArray]]) -> dict[str, Any]:
    cosines = [each for each in (_cosine(*pair) for pair in pairs) if each is not None]
    whole = _cosine(*(np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1)))
    row: dict[str, Any] = {"output": name, "cosine": whole}
    return row | {"mean_cosine": float(np.mean(cosines)), "least_cosine": min(cosines)} if cosines else row


def _cosine(exact: NDArray, found: NDArray) -> float | None:
    lengths = float(np.linalg.norm(exact) * np.linalg.norm(found))
    return float((exact * found).sum()) / lengths if lengths else None
