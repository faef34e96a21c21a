"""Which class has the largest number at each position of an output: of integers, and of floating point beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx import Network, QuantisedTensor
from podweave.ir.frontends.onnx.views import BATCH, CHANNELS
from podweave.ir.layers import WorkloadError


def largest(tensor: QuantisedTensor, values: NDArray) -> NDArray[np.int64] | None:
    """(images, positions): the class whose number is the largest.

    Classes are channels of the image that was computed, wherever the file has them, and positions all else but the batch; rows of a
    matrix are images, of one position.

    Parameters
    ----------
    tensor : QuantisedTensor
        An output.
    values : array
        It, as the file has it.

    Returns
    -------
    array or None
        None where there is but one class.
    """
    dims = tensor.view.dims
    along = 1 if values.ndim == 2 else next((at for at, dim in enumerate(dims) if CHANNELS in dim), None)
    if along is None or values.shape[along] < 2:
        return None
    chosen: NDArray[np.int64] = values.argmax(axis=along)
    if values.ndim == 2:
        return chosen[:, None]
    batch = next((at for at, dim in enumerate(dims) if BATCH in dim and at != along), None)
    if batch is None:
        return chosen.reshape(1, -1)
    return np.moveaxis(chosen, batch - (batch > along), 0).reshape(values.shape[batch], -1)


def all_largest(tensor: QuantisedTensor, parts: Iterable[NDArray]) -> NDArray[np.int64] | None:
    """`largest` of all images of batches."""
    found = [classes for part in parts if (classes := largest(tensor, part)) is not None]
    return np.concatenate(found) if found else None


def texts(chosen: NDArray[np.int64], blank: int) -> list[tuple[int, ...]]:
    """What classes of positions say as connectionist temporal classification (Graves et al., 2006) has it: one of classes that
    repeat, and no blanks.

    >>> texts(np.array([[0, 7, 7, 0, 7, 3]]), 0)
    [(7, 7, 3)]
    """
    found = []
    for row in chosen:
        first = np.append(True, row[1:] != row[:-1])
        found.append(tuple(row[first & (row != blank)].tolist()))
    return found


def same_largest(exact: NDArray[np.int64], found: NDArray[np.int64], blank: int | None = None) -> dict[str, Any]:
    """How often two choose the same.

    Returns
    -------
    dict
        ``images``; ``same_top``: of those, the ones with the same class at every position. Of several positions also
        ``positions``, of all images, and ``same_positions``; with ``blank``, ``same_text`` images.
    """
    row: dict[str, Any] = {"images": len(exact), "same_top": int((exact == found).all(axis=1).sum())}
    if exact.shape[1] > 1:
        row |= {"positions": exact.size, "same_positions": int((exact == found).sum())}
        if blank is not None:
            row["same_text"] = sum(one == other for one, other in zip(texts(exact, blank), texts(found, blank), strict=True))
    return row


def require_texts(network: Network, blank: int) -> None:
    """Raises `WorkloadError` unless an output has texts, with ``blank`` as a class."""
    counts = []
    for tensor in network.outputs.values():
        found = largest(tensor, np.zeros(tensor.view.sizes, np.int8))
        if found is not None and found.shape[1] > 1:
            counts.append(int(np.prod(tensor.view.sizes)) // found.size)
    if not counts:
        raise WorkloadError(f"{network.graph.name} has no output with classes at several positions, whose texts could be compared")
    if blank >= max(counts):
        raise WorkloadError(f"class {blank} cannot be the blank: {network.graph.name} has classes 0 to {max(counts) - 1}")
