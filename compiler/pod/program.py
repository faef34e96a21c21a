"""Programs: what a pod is told to do, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig

from ..jobs import Jobs, Place, words_of_tile
from ..lower.layer import ColumnTile, PackedLayer, Region, Step, unit_words


@dataclass(frozen=True)
class Readout:
    """Where the finished outputs of a column tile lie in the P banks, for a box of output positions."""

    place: Place
    tile: ColumnTile
    origin: tuple[int, int, int]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Epoch:
    """Jobs of a weight tile each that run without interruption, on data that is resident when they start.

    ``loads``, ``streams``: one array per field of the job layouts, in queue order. ``units``, ``weights``: what the host puts into
    the X and W banks before. ``readouts``: what it may take from the P banks after.
    """

    loads: Jobs
    streams: Jobs
    units: tuple[tuple[int, Region, Place], ...]
    weights: tuple[tuple[ColumnTile, Step, Place], ...]
    readouts: tuple[Readout, ...]

    @property
    def words_streamed(self) -> NDArray[np.int64]:
        """Words of each stream job."""
        return words_of_tile(self.streams)


@dataclass(frozen=True)
class Program:
    """A layer compiled for a chip."""

    config: ChipConfig
    lowered: PackedLayer
    epochs: tuple[Epoch, ...]

    def x_image(self, epoch: Epoch, activations: NDArray[np.int8]) -> Iterator[tuple[Place, NDArray[np.int8]]]:
        """The words (n, rows) to put into the X banks; activations NHWC."""
        for index, region, place in epoch.units:
            unit = self.lowered.units[index]
            yield place, unit_words(self.lowered.layer, unit, activations, region, self.config.array.rows)

    def w_image(self, epoch: Epoch, weights: NDArray[np.int8]) -> Iterator[tuple[Place, NDArray[np.int8]]]:
        """The words (n, cols) to put into the W banks; weights (KH, KW, C / groups, O)."""
        for tile, step, place in epoch.weights:
            yield place, self.lowered.weight_tile(weights, tile, step, self.config.array.cols)

    def empty_result(self) -> NDArray[np.int32]:
        layer = self.lowered.layer
        return np.zeros((layer.batch, *layer.output_size, layer.outputs), np.int32)

    def store_result(self, result: NDArray[np.int32], readout: Readout, words: NDArray[np.int32]) -> None:
        """Put the (n, cols) words of a readout where they belong in the NHWC ``result``."""
        (image, top, left), (images, height, width) = readout.origin, readout.shape
        block = words[:, : len(readout.tile.outputs)].reshape(images, height, width, -1)
        rows = result[image : image + images, top : top + height, left : left + width]
        rows[..., readout.tile.outputs] = block
