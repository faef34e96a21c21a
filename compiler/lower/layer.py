"""LoweredOperation: a layer becomes weight tiles over words of activations, with im2col left to address generators.

A word of activations holds, at padded input position (h, w), the channels of a few kernel taps around it. Which taps and
channels, is the same for all positions: it is a `Unit`. A weight tile multiplies one unit, read at an offset (dh, dw) from the
output position, into up to ``cols`` outputs: it is a `Step`. Words of unused lanes cost nothing, so kernels over few channels
put several taps into one word (7x7 over 3 channels needs 7 steps of 21 lanes instead of 49 of 3).
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import Layer
from podweave.spec.config_parts import ArrayConfig


class Origin(enum.Enum):
    """Where words of activations come from; whoever writes them decides what is in lanes that a unit does not use."""

    EXTERNAL = enum.auto()
    """Inputs of the graph, packed outside as the unit wants them: unused lanes are zero, and need no weights."""
    COMPUTED = enum.auto()
    """Written by post-processors, a whole block of channels of one tensor: unused lanes hold other channels, times zero."""
    STORED = enum.auto()
    """Written by post-processors and stored in memory, from where they are loaded again."""


@dataclass(frozen=True)
class Unit:
    """What the lanes of a word hold, relative to its position: pixel offset and channel, one entry per used lane.

    ``origin``: decided here, once, for all that follows. ``source``, ``source_channel``: of a unit of one tensor, that tensor and
    which of its channels the first one is; else "" and 0. ``first_lane``: the lane of the word with the first channel.
    ``weight_rows``: rows of a weight tile that must be loaded: all lanes of the word that may hold something. ``grid``: rows and
    columns between positions that have a word; regions and steps of the unit count those alone.
    """

    dh: NDArray[np.int64]
    dw: NDArray[np.int64]
    channel: NDArray[np.int64]
    weight_rows: int
    origin: Origin = Origin.EXTERNAL
    source: str = ""
    source_channel: int = 0
    first_lane: int = 0
    grid: tuple[int, int] = (1, 1)

    @property
    def lanes(self) -> int:
        return len(self.channel)

    @property
    def is_computed(self) -> bool:
        return self.origin is Origin.COMPUTED

    @property
    def is_stored(self) -> bool:
        return self.origin is Origin.STORED

    @property
    def block(self) -> tuple[str, int]:
        """Of a unit of whole words of a tensor, that tensor and the channel of the first lane of its words."""
        return self.source, self.source_channel - self.first_lane


@dataclass(frozen=True)
class Step:
    """One K step of a column tile: ``unit`` (index) read at offset (``dh``, ``dw``); kernel taps of its lanes."""

    unit: int
    dh: int
    dw: int
    kh: NDArray[np.int64]
    kw: NDArray[np.int64]


@dataclass(frozen=True)
class ColumnTile:
    """Up to ``cols`` outputs that share their steps."""

    outputs: NDArray[np.int64]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class PackedLayer:
    layer: Layer
    units: tuple[Unit, ...]
    tiles: tuple[ColumnTile, ...]

    def stride(self, unit: int) -> tuple[int, int]:
        """Words of a unit from one output position to the next, in rows and columns."""
        (sh, sw), (high, wide) = self.layer.stride, self.units[unit].grid
        return sh // high, sw // wide

    def weight_tile(self, weights: NDArray[np.int8], tile: ColumnTile, step: Step, cols: int) -> NDArray[np.int8]:
        """The (weight_rows, cols) words to load; weights (KH, KW, C / groups, O)."""
        layer, unit = self.layer, self.units[step.unit]
        per_group, per_group_out = layer.channels // layer.groups, layer.outputs // layer.groups
        inside = (step.kh < layer.kernel[0]) & (step.kw < layer.kernel[1])
        rows = weights[np.where(inside, step.kh, 0), np.where(inside, step.kw, 0), unit.channel % per_group][:, tile.outputs]
        same_group = (unit.channel // per_group)[:, None] == (tile.outputs // per_group_out)[None, :]
        words = np.zeros((unit.weight_rows, cols), np.int8)
        used = slice(unit.first_lane, unit.first_lane + unit.lanes)
        words[used, : len(tile.outputs)] = np.where(same_group & inside[:, None], rows, 0)
        return words


@dataclass(frozen=True)
class Region:
    """A box of padded input positions, or of those that have a word of a unit."""

    image: int
    images: int
    top: int
    height: int
    left: int
    width: int

    @property
    def words(self) -> int:
        return self.images * self.height * self.width


def pack_layer(layer: Layer, array: ArrayConfig, *, word_steps: float | None = None) -> PackedLayer:
    """Choose taps and groups per word so that the fewest weight tiles cover the layer.

    ``word_steps``: words are brought from memory, and one for each output position costs as much as so many steps: then there are
    only those words that some step reads, one each stride, and the choice counts them.
    """
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    grid = (1, 1) if word_steps is None else layer.stride
    together, taps = _best_packing(layer, array, grid, word_steps or 0.0)
    units: list[Unit] = []
    tiles: list[ColumnTile] = []
    tap_grid = [range(0, size, count) for size, count in zip(layer.kernel, taps, strict=True)]
    for first in range(0, layer.groups, together):
        groups = min(together, layer.groups - first)
        channels = np.arange(first * in_group, (first + groups) * in_group)
        outputs = np.arange(first * out_group, (first + groups) * out_group)
        step_list: list[Step] = []
        slice_size = array.rows // (taps[0] * taps[1])
        for begin in range(0, len(channels), slice_size):
            part = channels[begin : begin + slice_size]
            jh, jw, channel = (axis.ravel() for axis in np.meshgrid(np.arange(taps[0]), np.arange(taps[1]), part, indexing="ij"))
            numbers: dict[tuple[int, int], int] = {}
            for kh, kw in itertools.product(*tap_grid):
                (dh, phase_h), (dw, phase_w) = divmod(kh * layer.dilation[0], grid[0]), divmod(kw * layer.dilation[1], grid[1])
                if (phase_h, phase_w) not in numbers:
                    numbers[phase_h, phase_w] = len(units)
                    where = phase_h + jh * layer.dilation[0], phase_w + jw * layer.dilation[1]
                    units.append(Unit(*where, channel, len(channel), grid=grid))
                step_list.append(Step(numbers[phase_h, phase_w], dh, dw, kh + jh, kw + jw))
        steps = tuple(step_list)
        for begin in range(0, len(outputs), array.cols):
            tiles.append(ColumnTile(outputs[begin : begin + array.cols], steps))
    return PackedLayer(layer, tuple(units), tuple(tiles))


def _best_packing(layer: Layer, array: ArrayConfig, grid: tuple[int, int], word_steps: float) -> tuple[int, tuple[int, int]]:
    """Groups per tile and kernel taps (height, width) per word for which weight tiles, and words by what they cost, are fewest."""
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    best: tuple[float, int] | None = None
    choice = (1, (1, 1))
    most = max(1, min(array.rows // in_group, array.cols // out_group, layer.groups))
    for together in range(1, most + 1):
        for taps in itertools.product(range(1, layer.kernel[0] + 1), range(1, layer.kernel[1] + 1)):
            lanes = together * in_group * taps[0] * taps[1]
            if taps != (1, 1) and lanes > array.rows:
                continue
            steps = -(-layer.kernel[0] // taps[0]) * -(-layer.kernel[1] // taps[1])
            slices = -(-together * in_group // (array.rows // (taps[0] * taps[1])))
            phases = prod(
                len({tap * dilation % apart for tap in range(0, size, count)})
                for size, count, dilation, apart in zip(layer.kernel, taps, layer.dilation, grid, strict=True)
            )
            tiles = -(-layer.groups // together) * -(-together * out_group // array.cols) * slices * steps
            cost = tiles + word_steps * -(-layer.groups // together) * slices * phases
            # Equal counts: fewer lanes per word toggle less.
            if best is None or (cost, lanes) < best:
                best, choice = (cost, lanes), (together, taps)
    return choice


def unit_words(layer: Layer, unit: Unit, activations: NDArray[Any], box: Region, rows: int, pad_value: int = 0) -> NDArray[Any]:
    """The (words, rows) that a unit holds over an input region, ``pad_value`` where the padding is, zero in unused lanes.

    ``activations``: int8, or numbers of activations, of any type; the words are of the same.
    """
    images = activations[box.image : box.image + box.images]
    words = np.zeros((box.images, box.height, box.width, rows), activations.dtype)
    words[..., : unit.lanes] = pad_value
    for dh, dw in sorted(set(zip(unit.dh.tolist(), unit.dw.tolist(), strict=True))):
        lanes = np.flatnonzero((unit.dh == dh) & (unit.dw == dw))
        # Where the input begins and ends in the region, seen from this tap; the padding around it stays zero.
        (high, wide), (top, left) = unit.grid, (box.top * unit.grid[0] + dh, box.left * unit.grid[1] + dw)
        top, left = top - layer.padding[0][0], left - layer.padding[1][0]
        rows_in = slice(first := max(0, -(top // high)), max(first, min(box.height, -((top - layer.height) // high))))
        columns_in = slice(first := max(0, -(left // wide)), max(first, min(box.width, -((left - layer.width) // wide))))
        row, column = top + rows_in.start * high, left + columns_in.start * wide
        row_end, column_end = top + rows_in.stop * high, left + columns_in.stop * wide
        pixels = images[:, row:row_end:high, column:column_end:wide]
        words[:, rows_in, columns_in, lanes] = pixels[..., unit.channel[lanes]]
    return words.reshape(-1, rows)
