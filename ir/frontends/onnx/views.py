"""How a tensor of a file lies in one of a graph: which axes of (batch, height, width, channels) make up each of its dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...operations import Shape

BATCH, HEIGHT, WIDTH, CHANNELS = range(4)
_AXES = ("batch", "height", "width", "channels")


class LayoutError(ValueError):
    """Data would have to move; the message says what does not fit."""


@dataclass(frozen=True)
class View:
    """A tensor (B, H, W, C) as a file sees it; reshaping and transposing it move nothing.

    ``dims``: of each dimension of the file, the axes that make it up, the slowest first; those of size 1 are in none.
    """

    shape: Shape
    dims: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, sizes: Sequence[int], axes: Sequence[int]) -> View:
        """A tensor of the file each of whose dimensions is one axis."""
        shape = [1, 1, 1, 1]
        for axis, size in zip(axes, sizes, strict=True):
            shape[axis] = size
        whole = (shape[0], shape[1], shape[2], shape[3])
        return cls(whole, tuple((axis,) if whole[axis] > 1 else () for axis in axes))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the file."""
        return tuple(prod(self.shape[axis] for axis in dim) for dim in self.dims)

    def reshaped(self, sizes: Sequence[int]) -> View:
        """The same data with other dimensions; raises `LayoutError` if one of them begins or ends inside of an axis.

        >>> View.of((1, 8, 4, 4), (BATCH, CHANNELS, HEIGHT, WIDTH)).reshaped((1, 128)).dims
        ((), (3, 1, 2))
        """
        left = [axis for dim in self.dims for axis in dim]
        dims = []
        for size in sizes:
            taken: list[int] = []
            while left and prod(self.shape[axis] for axis in taken) < size:
                taken.append(left.pop(0))
            if prod(self.shape[axis] for axis in taken) != size:
                raise LayoutError(f"{list(self.sizes)} as {list(sizes)} cuts an axis of the image in two")
            dims.append(tuple(taken))
        if left:
            raise LayoutError(f"{list(self.sizes)} has other numbers than {list(sizes)}")
        return View(self.shape, tuple(dims))

    def transposed(self, order: Sequence[int]) -> View:
        return View(self.shape, tuple(self.dims[axis] for axis in order))

    def require_image(self) -> None:
        """Raises `LayoutError` unless dimensions are batch, channels, (height,) width, as convolutions and poolings see them."""
        axes = {4: (BATCH, CHANNELS, HEIGHT, WIDTH), 3: (BATCH, CHANNELS, WIDTH)}.get(len(self.dims))
        if axes is None:
            raise LayoutError(f"its input has {len(self.dims)} dimensions, not those of an image: batch, channels, (height,) width")
        for dim, axis in zip(self.dims, axes, strict=True):
            if dim not in ((), (axis,)):
                found = " and ".join(_AXES[each] for each in dim)
                raise LayoutError(f"where it expects {_AXES[axis]}, its input has {found} of the image that was computed")

    def like_image(self, shape: Shape) -> View:
        """An image with as many dimensions as this one."""
        axes = (BATCH, CHANNELS, HEIGHT, WIDTH) if len(self.dims) == 4 else (BATCH, CHANNELS, WIDTH)
        return View.of([shape[axis] for axis in axes], axes)

    def to_graph(self, values: NDArray) -> NDArray:
        """(B, H, W, C) of a tensor of the file."""
        order = [axis for dim in self.dims for axis in dim]
        order += [axis for axis in range(4) if axis not in order]
        apart = values.reshape([self.shape[axis] for axis in order])
        return np.ascontiguousarray(apart.transpose(np.argsort(order)))

    def to_file(self, values: NDArray) -> NDArray:
        """The tensor of the file of one (B, H, W, C)."""
        order = [axis for dim in self.dims for axis in dim]
        order += [axis for axis in range(4) if axis not in order]
        return np.ascontiguousarray(values.transpose(order).reshape(self.sizes))
