"""Where the words of a tensor of rows lie: tile c in node c modulo the nodes, in all of them at the same addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    lead : int
        So many tiles at the beginning are empty: with them, what is left over of a tensor goes to other nodes than that of others.
    """

    rows: int
    nodes: int
    words: int
    channel: Ints
    lead: int = 0

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
        """Tiles in a slot of the nodes, but for empty ones."""
        return range(max(slot * self.nodes, self.lead), min((slot + 1) * self.nodes, self.tiles))

    def with_words(self, words: int) -> RowLayout:
        """The same for rows of so many words."""
        return replace(self, words=words)


def plain_layout(rows: int, channels: int, *, nodes: int, lanes: int, words: int) -> RowLayout:
    """Channels in their order."""
    tiles = -(-channels // lanes)
    channel = np.full(tiles * lanes, -1, np.int64)
    channel[:channels] = np.arange(channels)
    return RowLayout(rows, nodes, words, channel.reshape(tiles, 1, lanes))


def head_layout(rows: int, heads: int, shared: int, size: int, *, nodes: int, lanes: int, words: int, lead: int = 0) -> RowLayout:
    """``shared`` neighbouring heads of ``size`` channels are parts of the same tiles, behind ``lead`` empty ones."""
    each = -(-size // lanes)
    channel = np.full((heads // shared, shared, each * lanes), -1, np.int64)
    channel[:, :, :size] = np.arange(heads * size).reshape(heads // shared, shared, size)
    tiles = channel.reshape(heads // shared, shared, each, lanes).transpose(0, 2, 1, 3)
    empty = np.full((lead, shared, lanes), -1, np.int64)
    return RowLayout(rows, nodes, words, np.concatenate([empty, tiles.reshape(-1, shared, lanes)]), lead)
