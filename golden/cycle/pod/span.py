"""Exact cycle counts of a pod without simulating it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """Epoch times of the first request and of the last word written, and the cycles from one to the other, both counted."""

    first_request: int
    last_write: int

    @property
    def cycles(self) -> int:
        return self.last_write - self.first_request + 1


def pod_span(
    load_start: NDArray[np.int64],
    stream_start: NDArray[np.int64],
    stream_words: NDArray[np.int64],
    emits: NDArray[np.bool_],
    *,
    latency: int,
    row_groups: int,
    col_groups: int,
) -> Span:
    """The span of an epoch. ``latency``: of the memory. ``emits``: whether a stream job writes its words.

    A word requested in cycle t is written in cycle t + latency + row_groups + col_groups + 1.

    >>> pod_span(np.array([0]), np.array([16]), np.array([256]), np.array([True]), latency=4, row_groups=1, col_groups=1).cycles
    279
    """
    first = min(int(load_start.min()), int(stream_start.min()))
    last = int((stream_start + stream_words)[emits].max()) - 1
    return Span(first, last + latency + row_groups + col_groups + 1)


def gemm_cycles(m: int, k: int, n: int, *, rows: int, cols: int, latency: int, row_groups: int, col_groups: int) -> int:
    """Closed form for a GEMM that needs one epoch and one chunk of M, from the first word requested to the last written.

    The first weight tile must be loaded; each tile then takes as long as its m words stream, or as the next tile
    loads; the pipeline empties behind the last. ``rows`` of the last K tile may be fewer.

    >>> gemm_cycles(256, 256, 256, rows=16, cols=16, latency=4, row_groups=1, col_groups=1)
    65559
    """
    k_rows = np.full(-(-k // rows), rows)
    k_rows[-1] = k - rows * (len(k_rows) - 1)
    loads = np.tile(k_rows, -(-n // cols))
    tiles = np.maximum(m, loads[1:]).sum()
    return int(loads[0] + tiles + m + latency + row_groups + col_groups + 1)
