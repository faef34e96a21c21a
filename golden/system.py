"""Graphs of rows on several chips in exact integers: each chip's part of a graph, and sums that are added over all chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError
from podweave.ir.partition import Share
from podweave.ir.row_operations import RowLinear

from .rows import checked_inputs, evaluate_row_operation, linear_sums, scaled_sums


def evaluate_system(
    shares: Sequence[Share], inputs: Sequence[Mapping[str, NDArray]], psum_width: int = 32
) -> tuple[dict[str, NDArray], ...]:
    """Every tensor of each chip by its name, as `evaluate_rows` has them.

    ``shares``: by rank, graphs with the same operations in the same order. ``inputs``: of each chip. Sums of reduced operations are
    added plane by plane: they are exact, whatever the order of chips.
    """
    tensors = [
        {name: tensor[0, 0] for name, tensor in checked_inputs(share.graph, given).items()}
        for share, given in zip(shares, inputs, strict=True)
    ]
    for together in zip(*(share.graph.operations for share in shares), strict=True):
        first, reduced = together[0], [isinstance(each, RowLinear) and each.reduced for each in together]
        if {each.name for each in together} != {first.name} or any(reduced) != all(reduced):
            raise WorkloadError(f"{first.name}: chips of a ring compute the same operations, in the same order")
        every = list(zip(together, shares, tensors, strict=True))
        if not all(reduced):
            for operation, share, found in every:
                found[operation.name] = evaluate_row_operation(operation, share.constants, found, psum_width)
            continue
        linears = [(each, share.constants[each.name], found) for each, share, found in every if isinstance(each, RowLinear)]
        planes = zip(*(linear_sums(each, held, found[each.source]) for each, held, found in linears), strict=True)
        total = tuple(np.stack(one).astype(np.int64).sum(axis=0) for one in planes)
        for operation, held, found in linears:
            found[operation.name] = scaled_sums(operation, held, total, found, psum_width)
    return tuple({name: tensor[None, None] for name, tensor in found.items()} for found in tensors)
