"""How rows lie in a tensor of a file: axes of rows, channels, heads, and channels of a head, some of them as keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from ..onnx.values import RefusedError

ONE, ROWS, CHANNELS, PARTS, HEADS, SIZE = "one", "rows", "channels", "parts", "heads", "size"
"""What an axis is. Parts: queries, keys and values that are one product."""


@dataclass(frozen=True)
class RowsView:
    """Rows of a tensor ``name`` (of an operation, or an input), times ``factor``. ``axes``: what each axis is, and its size."""

    name: str
    axes: tuple[tuple[str, int], ...]
    factor: float = 1.0

    @staticmethod
    def of(name: str, shape: Sequence[int]) -> RowsView:
        """Rows as a file has them: (1, rows, channels), or without the first axis."""
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1):
            raise RefusedError(f"{name} must be (1, rows, channels), got {tuple(shape)}", "a batch of 1 (--size)")
        if shape[-2] < 2 or shape[-1] < 2:
            raise RefusedError(f"{name} must have at least 2 rows of 2 channels, got {tuple(shape)}")
        ones = [(ONE, 1)] * (len(shape) - 2)
        return RowsView(name, (*ones, (ROWS, shape[-2]), (CHANNELS, shape[-1])))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.axes)

    @property
    def order(self) -> tuple[str, ...]:
        """Axes that are not of size 1."""
        return tuple(axis for axis, _ in self.axes if axis != ONE)

    def size(self, axis: str) -> int:
        return dict(self.axes).get(axis, 1)

    @property
    def width(self) -> int:
        """Channels, of all heads."""
        return prod(size for axis, size in self.axes if axis != ROWS)

    def require_rows(self) -> RowsView:
        """Itself; raises `RefusedError` unless its rows lie one after the other, and nothing multiplies them."""
        if self.order != (ROWS, CHANNELS):
            raise RefusedError(f"{self.name} lies as {', '.join(self.order)}, and must lie as rows, channels")
        if self.factor != 1:
            raise RefusedError(f"{self.name} is multiplied by {self.factor}, which only attentions take")
        return self

    def times(self, factor: float) -> RowsView:
        return replace(self, factor=self.factor * factor)

    def transposed(self, order: Sequence[int]) -> RowsView:
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def reshaped(self, sizes: Sequence[int]) -> RowsView:
        """With the sizes that a Reshape names; raises `RefusedError` if rows would be mixed up."""
        wanted = [self.shape[i] if size == 0 else int(size) for i, size in enumerate(sizes)]
        if -1 in wanted:
            wanted[wanted.index(-1)] = prod(self.shape) // max(1, -prod(wanted))
        left = list(self._regrouped([size for size in wanted if size != 1]))
        axes = [(ONE, 1) if size == 1 else left.pop(0) for size in wanted]
        return replace(self, axes=tuple(axes))

    def _regrouped(self, sizes: list[int]) -> tuple[tuple[str, int], ...]:
        own = tuple(each for each in self.axes if each[0] != ONE)
        rows, width = self.size(ROWS), self.width
        if sizes == [size for _, size in own]:
            return own
        if self.order == (ROWS, CHANNELS) and len(sizes) == 3 and sizes[0] == rows and sizes[1] * sizes[2] == width:
            return (ROWS, rows), (HEADS, sizes[1]), (SIZE, sizes[2])
        if self.order == (ROWS, CHANNELS) and len(sizes) == 4 and sizes[0] == rows and prod(sizes[1:]) == width:
            return (ROWS, rows), (PARTS, sizes[1]), (HEADS, sizes[2]), (SIZE, sizes[3])
        if self.order == (ROWS, HEADS, SIZE) and sizes == [rows, width]:
            return (ROWS, rows), (CHANNELS, width)
        raise RefusedError(f"it makes {sizes} of {', '.join(f'{size} {axis}' for axis, size in own)}, which mixes them up")
