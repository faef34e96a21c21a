"""A memory in which several programs lie: weights that they have in common, and caches, are there once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

ALIGNMENT = 64
REGION_ALIGNMENT = 1024
"""Of regions of caches; and they are an odd multiple of it: those of several tiles are not all in the same bank of a memory."""


class SharedMemory:
    """What lies in the channels of a memory, over all programs that were placed in it.

    Weights are found by their content, tile by tile, wherever an earlier program has them; caches by their tensor, node, region and
    room (`compiler.rows.program.CachePlace`). All else is each program's own. What a program finds here is in the image of another
    one: images go into the memory of a device in the order in which they were placed.

    Parameters
    ----------
    config : ChipConfig
        That all programs are for.
    channel_bytes : int
        Size of each manager's channel.
    """

    def __init__(self, config: ChipConfig, channel_bytes: int):
        self.config, self.channel_bytes = config, channel_bytes
        self.sizes = [0] * config.managers
        self._regions: dict[tuple[str, int, int, int], int] = {}
        self._tile_bytes = config.array.rows * memory_stride(config, HostSelect.W)
        self._address: list[dict[bytes, int]] = [{} for _ in range(config.managers)]
        self._content: list[dict[int, bytes]] = [{} for _ in range(config.managers)]

    def reserve(self, channel: int, count: int) -> int:
        """The first of so many bytes of a channel, counted from its beginning."""
        address = self.sizes[channel]
        self.sizes[channel] += -(-count // ALIGNMENT) * ALIGNMENT
        return address

    def region(self, tensor: str, node: int, region: int, tiles: int) -> int:
        """The first byte of a region of a cache, which has room for so many tiles."""
        key = tensor, node, region, tiles
        if key not in self._regions:
            channel, size = node // self.config.nodes_per_manager, -(-tiles * self._tile_bytes // REGION_ALIGNMENT)
            self.reserve(channel, -self.sizes[channel] % REGION_ALIGNMENT)
            self._regions[key] = self.reserve(channel, (size | 1) * REGION_ALIGNMENT)
        return self._regions[key]

    def weights(self, channel: int, words: NDArray[np.uint8]) -> Iterator[tuple[int, int, int, bool]]:
        """Where words of weights (words, bytes) lie in a channel, in as few pieces as there can be: first word, words, address,
        and whether they are new, so that they must be written there."""
        rows = self.config.array.rows
        tiles = np.ascontiguousarray(words).reshape(-1, self._tile_bytes)
        digests = [blake2b(tile.tobytes(), digest_size=16).digest() for tile in tiles]
        known, content = self._address[channel], self._content[channel]
        begin = 0
        while begin < len(tiles):
            end, address = begin + 1, known.get(digests[begin])
            if fresh := address is None:
                while end < len(tiles) and digests[end] not in known:
                    end += 1
                address = self.reserve(channel, (end - begin) * self._tile_bytes)
                for number, digest in enumerate(digests[begin:end]):
                    known.setdefault(digest, address + number * self._tile_bytes)
                    content[address + number * self._tile_bytes] = digest
            else:
                while end < len(tiles) and content.get(address + (end - begin) * self._tile_bytes) == digests[end]:
                    end += 1
            yield begin * rows, (end - begin) * rows, address, fresh
            begin = end
