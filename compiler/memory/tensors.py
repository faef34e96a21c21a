"""Where the bytes of a graph's inputs and outputs lie in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.row_operations import Format

from ..rows.formats import decoded, encoded

Ints = NDArray[np.int64]
Shape = tuple[int, ...]

_CHANNEL_BIT = 48
"""Of a byte's number: its address in its channel is below, the channel above."""


@dataclass(frozen=True)
class TensorMap:
    """Where a tensor of the graph lies in memory: byte ``addresses[i]`` is byte ``elements[i]`` of it, counted in C order.

    An input may lie in several places, an output lies in one. ``form``: of its numbers, which are int8 but in graphs of rows.
    """

    shape: Shape
    addresses: Ints
    elements: Ints
    form: Format = Format.INT8

    @property
    def dtype(self) -> np.dtype:
        return self.form.dtype

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def encoded(self, tensor: NDArray) -> NDArray[np.uint8]:
        """The bytes of a tensor."""
        return encoded(self.form, tensor).reshape(-1).view(np.uint8)

    def decoded(self, content: NDArray[np.uint8]) -> NDArray:
        """The tensor that has these bytes."""
        return decoded(self.form, content.view(np.int8).reshape(*self.shape, self.dtype.itemsize))


class InputPlaces:
    """Where bytes of inputs lie, which are numbered over all inputs; 0 is the number of what is none.

    ``forms``: of inputs that are not int8.
    """

    def __init__(self, shapes: Mapping[str, Shape], forms: Mapping[str, Format]):
        self._shapes, self._forms, self._offsets, at = shapes, forms, dict[str, int](), 1
        for name in shapes:
            self._offsets[name] = at
            at += self._size(name)
        self._words: list[tuple[int, int, Ints]] = []

    def numbers(self) -> dict[str, Ints]:
        """The number of each element, in the shape of its input."""
        return {
            name: offset + np.arange(np.prod(self._shapes[name])).reshape(self._shapes[name])
            for name, offset in self._offsets.items()
        }

    def _size(self, name: str) -> int:
        return int(np.prod(self._shapes[name])) * self._forms.get(name, Format.INT8).dtype.itemsize

    def number(self, name: str, which: Ints) -> Ints:
        """Numbers of bytes of an input; of -1, the number of none."""
        return np.where(which >= 0, which + self._offsets[name], 0)

    def add(self, channel: int, address: int, numbers: Ints) -> None:
        """From byte ``address`` of a channel on, the number of each byte."""
        self._words.append((channel, address, numbers))

    def maps(self, channel_bytes: int, frames: Sequence[int]) -> dict[str, TensorMap]:
        """``frames``: of each channel, from where on its addresses count."""
        addresses, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for channel, address, words in self._words:
            flat = words.reshape(-1)
            known = np.flatnonzero(flat)
            addresses.append(channel * channel_bytes + frames[channel] + address + known)
            numbers.append(flat[known])
        where, which = np.concatenate(addresses), np.concatenate(numbers)
        maps = {}
        for name, offset in self._offsets.items():
            shape = self._shapes[name]
            mine = (which >= offset) & (which < offset + self._size(name))
            maps[name] = TensorMap(shape, where[mine], which[mine] - offset, self._forms.get(name, Format.INT8))
        return maps


def byte_number(channel: Ints, address: Ints) -> Ints:
    """The number of byte ``address`` of a channel among those of all channels, whose size is not known yet."""
    return address + (channel << _CHANNEL_BIT)


class ByteNumbers:
    """Numbers of the bytes of words, (..., bytes), of those of their first bytes: made as they are asked for, as there are many.

    ``first``: (banks, words).
    """

    dtype = np.dtype(np.int64)

    def __init__(self, first: Ints):
        self._first = first

    def __getitem__(self, where: tuple[int, slice, slice]) -> Ints:
        bank, words, of_word = where
        return self._first[bank, words][:, None] + np.arange(of_word.start, of_word.stop)


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

    def add_part(self, name: str, shape: Shape, part: tuple[slice, ...], numbers: Ints) -> None:
        """``numbers``: those of the bytes of a part of the output, of int8."""
        which = np.ravel_multi_index(np.ix_(*(np.arange(each.start, each.stop) for each in part)), shape)
        self._parts.setdefault(name, []).append((numbers.reshape(-1), which.reshape(-1)))

    def maps(
        self, channel_bytes: int, frames: Sequence[int], shapes: Mapping[str, Shape], forms: Mapping[str, Format]
    ) -> dict[str, TensorMap]:
        """``frames``: of each channel, from where on its addresses count."""
        begins, maps = np.arange(len(frames)) * channel_bytes + np.asarray(frames, np.int64), {}
        for name, parts in self._parts.items():
            numbers = np.concatenate([part[0] for part in parts])
            elements = np.concatenate([part[1] for part in parts])
            where = begins[numbers >> _CHANNEL_BIT] + (numbers & (1 << _CHANNEL_BIT) - 1)
            maps[name] = TensorMap(shapes[name], where, elements, forms.get(name, Format.INT8))
        return maps
