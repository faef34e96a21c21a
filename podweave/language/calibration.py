"""What a model's numbers are like on some texts, layer by layer: how large they get, and what rounding of weights needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint, Floats
from .float_model import Rows, hidden_states

HESSIANS = ("attention_norm", "o", "ffn_norm", "product", "norm")
"""What matrices multiply."""
_CHUNK = 1024


@dataclass
class LayerStatistics:
    """Of a layer, or of what comes behind all of them.

    Members
    -------
    residuals : list of float
        Largest magnitude of the residual in front of each of its norms.
    peaks : dict
        By the names of `podweave.language.float_model.hidden_states`: largest magnitude of each channel.
    hessians : dict
        Of what matrices multiply: sums of outer products, float64.
    prefix_keys, prefix_values : ndarray of float32, shape (P, channels)
        Of the tokens that all texts begin with.
    """

    residuals: list[float] = field(default_factory=list)
    peaks: dict[str, Floats] = field(default_factory=dict)
    hessians: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    prefix_keys: Floats | None = None
    prefix_values: Floats | None = None


def calibrate(
    checkpoint: Checkpoint,
    texts: Sequence[Sequence[int]],
    prefix: int,
    done: Callable[[int, LayerStatistics], None],
) -> None:
    """Run texts in floating point.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    texts : sequence of sequences of int
        Tokens. The first ``prefix`` are the same in all, and not part of statistics: their keys and values are constants.
    prefix : int
        How many.
    done : callable
        Is told of each layer, and at the end of what comes behind all (its number is that of layers), as soon as it is known.
    """
    rows = Rows.of(texts)
    counted = rows.positions >= prefix
    statistics = LayerStatistics()

    def look(what: str, layer: int, values: Floats) -> None:
        nonlocal statistics
        seen = values[counted]
        if what == "x":
            if layer % 2 == 0 and layer:
                done(layer // 2 - 1, statistics)
                statistics = LayerStatistics()
            statistics.residuals.append(float(np.abs(seen).max()))
            return
        statistics.peaks[what] = np.abs(seen).max(axis=0)
        if what in HESSIANS:
            statistics.hessians[what] = _outer(seen)
        if what == "k":
            statistics.prefix_keys = values[:prefix].copy()
        if what == "v":
            statistics.prefix_values = values[:prefix].copy()

    hidden_states(checkpoint, rows, look)
    done(checkpoint.sizes.layers, statistics)


def _outer(values: Floats) -> NDArray[np.float64]:
    """Sums of float32 within chunks, of float64 over them."""
    total = np.zeros((values.shape[1],) * 2)
    for begin in range(0, len(values), _CHUNK):
        part = values[begin : begin + _CHUNK]
        total += part.T @ part
    return total
