"""Where the words of a tensor of rows lie: tile c in node c modulo the nodes, in all of them at the same addresses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowLayout:
    """``rows`` rows of ``parts`` parts each; a *tile* of a part is a word of ``lanes`` channels.

    Parts are rows of their own: heads of attention that share keys are, so that they stream side by side. Words of a tile follow
    each other part by part, row by row; then comes the node's next tile. A row has ``words`` words: two, if it is streamed in
    planes.

    Parameters
    ----------
    channel : ndarray, shape (tiles, parts, lanes)
        Which channel of the tensor stands in a lane; -1 for none.
    """

    rows: int
    nodes: int
    words: int
    channel: Ints

    @property
    def tiles(self) -> int:
        return self.channel.shape[0]

    @property
    def parts(self) -> int:
        return self.channel.shape[1]

    @property
    def lanes(self) -> int:
        return self.channel.shape[2]

    @property
    def slots(self) -> int:
        """Tiles of a node, at the most."""
        return -(-self.tiles // self.nodes)

    @property
    def part_words(self) -> int:
        """Words of a tile's part."""
        return self.rows * self.words

    @property
    def tile_words(self) -> int:
        return self.parts * self.part_words

    @property
    def node_words(self) -> int:
        """Words of a node."""
        return self.slots * self.tile_words

    def node(self, tile: int) -> int:
        return tile % self.nodes

    def offset(self, tile: int, part: int = 0) -> int:
        """Of the words of a tile's part, from the first word of the tensor in its node."""
        return tile // self.nodes * self.tile_words + part * self.part_words

    def tiles_of(self, slot: int) -> range:
        """Tiles in a slot of the nodes, from node 0 on."""
        return range(slot * self.nodes, min((slot + 1) * self.nodes, self.tiles))

    @cached_property
    def element_words(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Of each channel: node, lane, and offset of its word in row 0; and how far apart rows are."""
        count = int(self.channel.max()) + 1
        tile, part, lane = (np.zeros(count, np.int64) for _ in range(3))
        for found, axis in zip(np.nonzero(self.channel >= 0), (tile, part, lane), strict=True):
            axis[self.channel[self.channel >= 0]] = found
        offset = tile // self.nodes * self.tile_words + part * self.part_words
        return tile % self.nodes, lane, offset, np.int64(self.words)  # type: ignore[return-value]


def plain_layout(rows: int, channels: int, *, nodes: int, lanes: int, words: int) -> RowLayout:
    """Channels in their order."""
    tiles = -(-channels // lanes)
    channel = np.full(tiles * lanes, -1, np.int64)
    channel[:channels] = np.arange(channels)
    return RowLayout(rows, nodes, words, channel.reshape(tiles, 1, lanes))


def head_layout(rows: int, heads: int, shared: int, size: int, *, nodes: int, lanes: int, words: int) -> RowLayout:
    """``shared`` neighbouring heads of ``size`` channels are parts of the same tiles."""
    each = -(-size // lanes)
    channel = np.full((heads // shared, shared, each * lanes), -1, np.int64)
    channel[:, :, :size] = np.arange(heads * size).reshape(heads // shared, shared, size)
    tiles = channel.reshape(heads // shared, shared, each, lanes).transpose(0, 2, 1, 3)
    return RowLayout(rows, nodes, words, np.ascontiguousarray(tiles).reshape(-1, shared, lanes))
