"""How a tensor lies whose channels are taken apart, as attention does: into heads, or into queries, keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...operations import Shape
from .views import CHANNELS, LayoutError, View


@dataclass(frozen=True)
class Piece:
    """Every ``stride``-th position along an axis of (batch, height, width, channels), ``size`` of them."""

    axis: int
    size: int
    stride: int = 1


@dataclass(frozen=True)
class PiecesView:
    """A tensor (B, H, W, C) whose dimensions in a file are pieces of its axes.

    Members
    -------
    shape : tuple of int
        Of the tensor.
    dims : tuple
        Of each dimension of the file, the pieces that make it up, the slowest first; those of size 1 are in none.
    first : int
        The channel with which all of them begin.
    """

    shape: Shape
    dims: tuple[tuple[Piece, ...], ...]
    first: int = 0

    @classmethod
    def of(cls, view: View) -> PiecesView:
        return cls(view.shape, tuple(tuple(Piece(axis, view.shape[axis]) for axis in dim) for dim in view.dims))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the file."""
        return tuple(prod(piece.size for piece in dim) for dim in self.dims)

    def reshaped(self, sizes: Sequence[int]) -> PiecesView:
        """The same data with other dimensions; raises `LayoutError` if they cut another axis than channels.

        >>> view = PiecesView.of(View.of((1, 4, 6), (0, 2, 3))).reshaped((1, 4, 3, 2))
        >>> [[piece.stride for piece in dim] for dim in view.dims]
        [[], [1], [2], [1]]
        """
        left = [piece for dim in _joined(self.dims) for piece in dim][::-1]
        dims = []
        for size in sizes:
            taken: list[Piece] = []
            rest = size
            while rest > 1 and left:
                piece = left.pop()
                if rest % piece.size:
                    if piece.axis != CHANNELS or piece.size % rest:
                        raise LayoutError(f"{list(self.sizes)} as {list(sizes)} cuts an axis of the image in two")
                    inner = piece.size // rest
                    left.append(Piece(piece.axis, inner, piece.stride))
                    piece = Piece(piece.axis, rest, piece.stride * inner)
                taken.append(piece)
                rest //= piece.size
            if rest != 1:
                raise LayoutError(f"{list(self.sizes)} has other numbers than {list(sizes)}")
            dims.append(tuple(taken))
        if left:
            raise LayoutError(f"{list(self.sizes)} has other numbers than {list(sizes)}")
        return PiecesView(self.shape, tuple(dims), self.first)

    def transposed(self, order: Sequence[int]) -> PiecesView:
        return PiecesView(self.shape, tuple(self.dims[axis] for axis in order), self.first)

    def part(self, axis: int, first: int, count: int) -> PiecesView:
        """``count`` positions along a dimension; raises `LayoutError` where those are no channels."""
        if self.sizes[axis] == count:
            return self
        dim = _joined(self.dims)[axis]
        if len(dim) != 1 or dim[0].axis != CHANNELS:
            raise LayoutError(f"it takes a part along axis {axis} of {list(self.sizes)}, which is not that of the channels")
        (piece,) = dim
        taken = (Piece(piece.axis, count, piece.stride),) if count > 1 else ()
        dims = (*self.dims[:axis], taken, *self.dims[axis + 1 :])
        return PiecesView(self.shape, dims, self.first + first * piece.stride)

    @property
    def whole(self) -> View | None:
        """The same where every piece is a whole axis; otherwise None."""
        dims = _joined(self.dims)
        if self.first or any(piece.size != self.shape[piece.axis] for dim in dims for piece in dim):
            return None
        return View(self.shape, tuple(tuple(piece.axis for piece in dim) for dim in dims))

    def only(self, dim: int) -> Piece | None:
        """Channels, if a dimension has nothing else; one channel has a stride of 0."""
        found = _joined(self.dims)[dim]
        if not found:
            return Piece(CHANNELS, 1, 0)
        return found[0] if len(found) == 1 and found[0].axis == CHANNELS else None

    def has_positions(self, dim: int) -> bool:
        """Whether a dimension has all positions of one image, row by row, and nothing else."""
        wanted = [(axis, size) for axis, size in enumerate(self.shape[:CHANNELS]) if size > 1]
        return [(piece.axis, piece.size) for piece in _joined(self.dims)[dim]] == wanted

    def channels(self, dims: Sequence[Piece]) -> NDArray[np.int64]:
        """Channels of some dimensions, the first the slowest."""
        found = np.array(self.first)
        for piece in dims:
            found = np.add.outer(found, np.arange(piece.size) * piece.stride)
        return found.ravel()


def _joined(dims: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
    """Without pieces of one position, and with those in one that follow each other."""
    found = []
    for dim in dims:
        joined: list[Piece] = []
        for piece in dim:
            last = joined[-1] if joined else None
            if piece.size == 1:
                continue
            if last and last.axis == piece.axis and last.stride == piece.size * piece.stride:
                joined[-1] = Piece(piece.axis, last.size * piece.size, piece.stride)
            else:
                joined.append(piece)
        found.append(joined)
    return found
