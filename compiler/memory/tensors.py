"""Where the bytes of a graph's inputs and outputs lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Shape = tuple[int, ...]

_CHANNEL_BIT = 48
"""Of a byte's number: its address in its channel is below, the channel above."""


@dataclass(frozen=True)
class TensorMap:
    """Where a tensor of the graph lies in memory: byte ``addresses[i]`` is element ``elements[i]``, counted in C order.

    An input may lie in several places, an output lies in one.
    """

    shape: Shape
    addresses: Ints
    elements: Ints


class InputPlaces:
    """Where elements of inputs lie, which are numbered over all inputs; 0 is the number of what is none."""

    def __init__(self, shapes: Mapping[str, Shape]):
        self._shapes, self._offsets, at = shapes, dict[str, int](), 1
        for name, shape in shapes.items():
            self._offsets[name] = at
            at += int(np.prod(shape))
        self._words: list[tuple[int, int, Ints]] = []

    def numbers(self) -> dict[str, Ints]:
        """The number of each element, in the shape of its input."""
        return {
            name: offset + np.arange(np.prod(self._shapes[name])).reshape(self._shapes[name])
            for name, offset in self._offsets.items()
        }

    def add(self, channel: int, address: int, numbers: Ints) -> None:
        """From byte ``address`` of a channel on, one element per byte."""
        self._words.append((channel, address, numbers))

    def maps(self, channel_bytes: int) -> dict[str, TensorMap]:
        addresses, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for channel, address, words in self._words:
            flat = words.reshape(-1)
            known = np.flatnonzero(flat)
            addresses.append(channel * channel_bytes + address + known)
            numbers.append(flat[known])
        where, which = np.concatenate(addresses), np.concatenate(numbers)
        maps = {}
        for name, offset in self._offsets.items():
            shape = self._shapes[name]
            mine = (which >= offset) & (which < offset + int(np.prod(shape)))
            maps[name] = TensorMap(shape, where[mine], which[mine] - offset)
        return maps


def byte_number(channel: Ints, address: Ints) -> Ints:
    """The number of byte ``address`` of a channel among those of all channels, whose size is not known yet."""
    return address + (channel << _CHANNEL_BIT)


class OutputPlaces:
    """Where elements of outputs lie, part by part."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[Ints, Ints]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parts)

    def add(self, name: str, numbers: Ints) -> None:
        """``numbers``: in the shape of the output, those of its bytes by `byte_number`; 0 where an element lies elsewhere."""
        elements = np.flatnonzero(numbers != 0)
        self._parts.setdefault(name, []).append((numbers.reshape(-1)[elements], elements))

    def maps(self, channel_bytes: int, shapes: Mapping[str, Shape]) -> dict[str, TensorMap]:
        maps = {}
        for name, parts in self._parts.items():
            numbers = np.concatenate([part[0] for part in parts])
            elements = np.concatenate([part[1] for part in parts])
            where = (numbers >> _CHANNEL_BIT) * channel_bytes + (numbers & (1 << _CHANNEL_BIT) - 1)
            maps[name] = TensorMap(shapes[name], where, elements)
        return maps
