"""Cycle models of the array group and the array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay, wrap

# Rows x weights gathered at once: bounds the memory of a long run, not its result.
_CHUNK_ELEMENTS = 1 << 23


def array_group(
    x_i: NDArray[np.int8],
    p_i: NDArray[np.int32],
    w_i: NDArray[np.int8],
    token_i: NDArray[np.bool_],
    swap_i: NDArray[np.bool_],
    *,
    p_known: NDArray[np.bool_] | None = None,
    psum_width: int = 32,
) -> dict[str, PortTrace]:
    """One group of ``rows`` x ``cols`` multipliers over ``cycles`` cycles after a reset.

    ``x_i`` (cycles, rows), ``p_i`` (cycles, cols), ``w_i`` (cycles, cols), ``token_i`` and ``swap_i`` (cycles,). Row r of the
    shadow weights takes ``w_i`` r cycles after a token; a swap makes the shadow weights active for the ``x_i`` of its own
    cycle. ``x_i`` of cycle t meets ``p_i`` of cycle t + 1 and leaves as ``p_o`` in cycle t + 2.
    """
    cycles, rows = x_i.shape
    weights, loaded, version = _active_weights(w_i, token_i, swap_i, rows)
    products = np.zeros((cycles, w_i.shape[1]), np.int64)
    step = max(1, _CHUNK_ELEMENTS // (rows * w_i.shape[1]))
    for begin in range(0, cycles, step):
        part = slice(begin, min(cycles, begin + step))
        # Sums of 64 products of int8 stay below 2**24: exact in float32, which NumPy multiplies batched and fast.
        products[part] = np.matmul(x_i[part, None, :].astype(np.float32), weights[version[part]].astype(np.float32))[:, 0, :]
    known = loaded[version]
    if p_known is None:
        p_known = np.ones(p_i.shape, bool)
    p_o = wrap(delay(products, 2) + delay(p_i.astype(np.int64), 1), psum_width)
    p_o_known = delay(np.repeat(known[:, None], w_i.shape[1], axis=1), 2) & delay(p_known, 1)
    started = np.arange(cycles) > 0
    return {
        "x_o": PortTrace(delay(x_i, 1).astype(np.int64), np.repeat(started[:, None], rows, axis=1)),
        "p_o": PortTrace(p_o, p_o_known),
        "w_o": PortTrace(delay(w_i, 1).astype(np.int64), np.repeat(started[:, None], w_i.shape[1], axis=1)),
        "token_o": PortTrace(delay(token_i, rows + 1).astype(np.int64), np.ones(cycles, bool)),
        "swap_o": PortTrace(delay(swap_i, 1).astype(np.int64), np.ones(cycles, bool)),
    }


def _active_weights(
    w_i: NDArray[np.int8], token_i: NDArray[np.bool_], swap_i: NDArray[np.bool_], rows: int
) -> tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.int64]]:
    """Weights per swap (version 0: before any), whether each is fully loaded, and the version that each ``x_i`` meets."""
    tokens, swaps = np.flatnonzero(token_i), np.flatnonzero(swap_i)
    row = np.arange(rows)
    # The shadow row seen by a swap in cycle s is the last one written in a cycle before s.
    latest = np.searchsorted(tokens, swaps[:, None] - 1 - row, side="right") - 1
    written = latest >= 0
    source = (tokens[np.maximum(latest, 0)] if len(tokens) else np.zeros_like(latest)) + row
    weights = np.zeros((len(swaps) + 1, rows, w_i.shape[1]), np.int8)
    weights[1:] = np.where(written[:, :, None], w_i[np.minimum(source, len(w_i) - 1)], 0)
    loaded = np.concatenate([[False], written.all(axis=1)])
    version = np.searchsorted(swaps, np.arange(len(swap_i)), side="right")
    return weights, loaded, version


def array(
    x: NDArray[np.int8],
    swap: NDArray[np.bool_],
    w: NDArray[np.int8],
    token: NDArray[np.bool_],
    *,
    psum_width: int = 32,
) -> dict[str, PortTrace]:
    """A grid of groups on skewed ports: ``x`` (cycles, rows), ``swap`` (cycles, row groups), ``w`` (cycles, cols), ``token``
    (cycles, column groups); returns ``p`` (cycles, cols).

    Activations and swaps move right, weights and partial sums down, one group per cycle; the token reaches the group below
    one cycle after its last row here.
    """
    row_groups, col_groups = swap.shape[1], token.shape[1]
    group_rows, group_cols = x.shape[1] // row_groups, w.shape[1] // col_groups
    columns, known = [], []
    for j in range(col_groups):
        lanes = slice(j * group_cols, (j + 1) * group_cols)
        p = np.zeros((len(x), group_cols), np.int64)
        p_known = np.ones(p.shape, bool)
        for i in range(row_groups):
            # What enters row group i of column group j has passed j groups on its way right, and i on its way down.
            outputs = array_group(
                delay(x[:, i * group_rows : (i + 1) * group_rows], j),
                p,
                delay(w[:, lanes], i),
                delay(token[:, j], i * (group_rows + 1)),
                delay(swap[:, i], j),
                p_known=p_known,
                psum_width=psum_width,
            )
            p, p_known = outputs["p_o"].value, outputs["p_o"].known
        columns.append(p)
        known.append(p_known)
    return {"p": PortTrace(np.concatenate(columns, axis=1), np.concatenate(known, axis=1))}
