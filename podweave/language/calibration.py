"""What a model's numbers are like on some texts, layer by layer: how large they get, and what rounding of weights needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.language_models import DecoderSizes

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
        By the names of `podweave.language.float_model.hidden_states`: largest magnitude of each channel; of keys and values, less
        those of the first token.
    hessians : dict
        Of what matrices multiply: sums of outer products, float64; of "o", less the values of the first token.
    prefix_keys, prefix_values : ndarray of float32, shape (P, channels)
        Of the tokens that all texts begin with.
    """

    residuals: list[float] = field(default_factory=list)
    peaks: dict[str, Floats] = field(default_factory=dict)
    hessians: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    prefix_keys: Floats | None = None
    prefix_values: Floats | None = None

    @property
    def first_keys(self) -> Floats:
        """Of the first token, if all texts begin with it; otherwise a zero."""
        return _first(self.prefix_keys)

    @property
    def first_values(self) -> Floats:
        """Likewise."""
        return _first(self.prefix_values)


def _first(of_prefix: Floats | None) -> Floats:
    assert of_prefix is not None
    return of_prefix[0] if len(of_prefix) else np.zeros(of_prefix.shape[1], np.float32)


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

    def less_first(what: str, seen: Floats) -> Floats:
        if what == "k":
            return seen - statistics.first_keys
        if what == "v":
            return seen - statistics.first_values
        return seen - by_heads(statistics.first_values, checkpoint.sizes) if what == "o" else seen

    def look(what: str, layer: int, values: Floats) -> None:
        nonlocal statistics
        if what == "k":
            statistics.prefix_keys = values[:prefix].copy()
        if what == "v":
            statistics.prefix_values = values[:prefix].copy()
        seen = less_first(what, values[counted])
        if what == "x":
            if layer % 2 == 0 and layer:
                done(layer // 2 - 1, statistics)
                statistics = LayerStatistics()
            statistics.residuals.append(float(np.abs(seen).max()))
            return
        statistics.peaks[what] = np.abs(seen).max(axis=0)
        if what in HESSIANS:
            statistics.hessians[what] = _outer(seen)

    hidden_states(checkpoint, rows, look)
    done(checkpoint.sizes.layers, statistics)


def by_heads(of_keys: NDArray, sizes: DecoderSizes) -> NDArray:
    """Channels of all heads of queries, each that of the head of keys or values that it shares."""
    shared = sizes.heads // sizes.kv_heads
    return np.repeat(of_keys.reshape(sizes.kv_heads, 1, sizes.head_size), shared, axis=1).ravel()


def _outer(values: Floats) -> NDArray[np.float64]:
    """Sums of float32 within chunks, of float64 over them."""
    total = np.zeros((values.shape[1],) * 2)
    for begin in range(0, len(values), _CHUNK):
        part = values[begin : begin + _CHUNK]
        total += part.T @ part
    return total
