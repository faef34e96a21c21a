"""What the numbers of a transformer are like on some texts, in floating point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.frontends.onnx_rows import FloatLinear, FloatNetwork, FloatNorm
from podweave.ir.frontends.onnx_rows.views import ONE, ROWS
from podweave.ir.layers import WorkloadError

from .ends import Arrays, session, visible, with_outputs

Doubles = NDArray[np.float64]


@dataclass
class Statistics:
    """Of tensors by name, over all rows that are seen.

    Members
    -------
    least, largest : dict of float64 (channels,)
    centred : dict of float
        Of what norms read: the largest magnitude of a row less its mean.
    hessians : dict of float64 (channels, channels)
        Of what matrices multiply: sums of outer products.
    sums : dict of float64 (channels,)
        Of the same.
    count : int
        Rows.
    """

    least: dict[str, Doubles] = field(default_factory=dict)
    largest: dict[str, Doubles] = field(default_factory=dict)
    centred: dict[str, float] = field(default_factory=dict)
    hessians: dict[str, Doubles] = field(default_factory=dict)
    sums: dict[str, Doubles] = field(default_factory=dict)
    count: int = 0

    def hessian(self, name: str, offset: Doubles) -> Doubles:
        """That of a tensor less ``offset``."""
        cross = np.outer(self.sums[name], offset)
        return self.hessians[name] - cross - cross.T + self.count * np.outer(offset, offset)

    def peak(self, name: str) -> Doubles:
        """The largest magnitude of each channel."""
        found: Doubles = np.maximum(np.maximum(-self.least[name], self.largest[name]), 1e-9)
        return found

    def add(self, name: str, rows: Doubles) -> None:
        least, largest = rows.min(axis=0), rows.max(axis=0)
        self.least[name] = np.minimum(self.least.get(name, least), least)
        self.largest[name] = np.maximum(self.largest.get(name, largest), largest)


class FloatTexts:
    """A file in floating point, with the tensors that operations of a network give."""

    def __init__(self, model: Any, network: FloatNetwork):
        self.network = network
        self.names = [*network.inputs, *(each.name for each in network.operations)]
        self.masks = [mask.name for mask in network.masks]
        self._run = session(with_outputs(model, [*self.names, *self.masks]))

    def tensors(self, batch: Mapping[str, NDArray]) -> tuple[Arrays, Arrays]:
        """Rows of each tensor (rows that are seen, channels), and what the file gives."""
        network = self.network
        wanted = [*self.names, *self.masks, *network.file_outputs]
        found = dict(zip(wanted, self._run(wanted, batch), strict=True))
        seen = int(visible(network.name, network.masks, found, network.rows).max())
        rows = {name: self._rows(name, found[name])[:seen] for name in self.names}
        return rows, {name: found[name] for name in network.file_outputs}

    def _rows(self, name: str, values: NDArray) -> NDArray:
        axes = [(axis, size) for axis, size in self.network.layouts[name] if axis != ONE]
        kinds = [axis for axis, _ in axes]
        order = [kinds.index(ROWS), *(i for i, axis in enumerate(kinds) if axis != ROWS)]
        by_row: NDArray = values.reshape([size for _, size in axes]).transpose(order)
        return by_row.reshape(self.network.rows, self.network.widths[name])


def calibrate(texts: FloatTexts, batches: Sequence[Arrays], progress: Callable[[str], None]) -> Statistics:
    """Run texts in floating point; raises `WorkloadError` if numbers are not finite."""
    found, network = Statistics(), texts.network
    multiplied = dict.fromkeys(each.source for each in network.operations if isinstance(each, FloatLinear))
    normed = {each.source for each in network.operations if isinstance(each, FloatNorm)}
    for number, batch in enumerate(batches):
        progress(f"calibrating: {number + 1} of {len(batches)} texts")
        rows, _ = texts.tensors(batch)
        found.count += len(next(iter(rows.values())))
        for name, values in rows.items():
            if not np.isfinite(values).all():
                raise WorkloadError(f"{network.name}: {name} is not finite in text {number} of the calibration")
            wide = values.astype(np.float64)
            found.add(name, wide)
            if name in normed:
                centred = float(np.abs(wide - wide.mean(axis=1, keepdims=True)).max())
                found.centred[name] = max(found.centred.get(name, 0.0), centred)
            if name in multiplied:
                # An offset is subtracted later, which may leave little.
                found.hessians[name] = found.hessians.get(name, 0.0) + wide.T @ wide
                found.sums[name] = found.sums.get(name, 0.0) + wide.sum(axis=0)
    return found
