"""Affine address generators: increments of nested loops from the strides of their indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def increments(counts: Sequence[int], strides: Sequence[int]) -> list[int]:
    """What is added to an address when loop i advances, loop 0 innermost: all loops inside it go back to their beginning.

    >>> increments((3, 2), (1, 10))
    [1, 8]
    """
    result, back = [], 0
    for count, stride in zip(counts, strides, strict=True):
        # A loop of one trip never advances, and its stride may be larger than its field.
        result.append(stride - back if count > 1 else 0)
        back += (count - 1) * stride
    return result


def increments_of_each(counts: Sequence[Ints], strides: Sequence[Ints]) -> list[Ints]:
    """The same for arrays, element by element."""
    result: list[Ints] = []
    back = np.zeros_like(counts[0])
    for count, stride in zip(counts, strides, strict=True):
        result.append(np.where(count > 1, stride - back, 0))
        back = back + (count - 1) * stride
    return result
