"""Transposed convolutions: a convolution that gives all outputs between two positions of its input, and their interleaving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, WorkloadError
from .operations import Shape, Upsampling


@dataclass(frozen=True)
class _Axis:
    """One axis: of ``size`` positions, output o sums the products of inputs i and taps t with i * stride + t - before = o.

    Outputs q * stride + r, with the same r, are a convolution whose output q reads the inputs from q + ``first`` to q + ``last``.
    ``count``: of q.
    """

    size: int
    kernel: int
    stride: int
    before: int
    outputs: int

    @property
    def first(self) -> int:
        return -((self.kernel - 1 - self.before) // self.stride)

    @property
    def last(self) -> int:
        return (self.stride - 1 + self.before) // self.stride

    @property
    def count(self) -> int:
        return -(-self.outputs // self.stride)

    @property
    def taps(self) -> int:
        return self.last - self.first + 1

    @property
    def padding(self) -> tuple[int, int]:
        return -self.first, max(0, self.count - 1 + self.last - (self.size - 1))

    def tap(self, part: int, tap: int) -> int:
        """Which tap of the kernel a tap of the convolution for ``part`` (r) is; there may be none of that number."""
        return part + self.before - self.stride * (self.first + tap)


@dataclass(frozen=True)
class TransposedConvolution:
    """A transposed convolution of an image by (KH, KW, C, O) weights.

    Output (y, x) is the sum over inputs (i, j) and taps (s, t) with i * stride + s - top = y and j * stride + t - left = x. For
    each of stride x stride outputs that stand between the same inputs there is a convolution, and `layer` is all of them side by
    side: its outputs are those of the first, then those of the next. Who reads them sees them by `upsampling`, and the first
    ``output`` rows and columns of that.

    Parameters
    ----------
    padding : ((top, bottom), (left, right))
        What is left out of the whole result on each side. ``extra``: rows and columns more behind it.
    """

    name: str
    shape: Shape
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    extra: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for axis, kernel, stride, padding, size in zip(
            ("height", "width"), self.kernel, self.stride, self.padding, self.output, strict=True
        ):
            if min(kernel, stride) < 1:
                raise WorkloadError(f"{self.name}: kernel and stride must be at least 1 in {axis}, got {kernel} and {stride}")
            if not 0 <= min(padding) <= max(padding) < kernel:
                raise WorkloadError(f"{self.name}: the padding in {axis} must be less than the kernel ({kernel}), got {padding}")
            if size < 1:
                raise WorkloadError(f"{self.name}: the padding in {axis} leaves no output, got {padding}")

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        sizes = [
            (size - 1) * stride + kernel - sum(padding) + extra
            for size, kernel, stride, padding, extra in zip(
                self.shape[1:3], self.kernel, self.stride, self.padding, self.extra, strict=True
            )
        ]
        return sizes[0], sizes[1]

    @property
    def upsampling(self) -> Upsampling:
        return Upsampling(*self.stride, interleaved=self.stride != (1, 1))

    @property
    def layer(self) -> Layer:
        """The convolution that gives all of them."""
        rows, columns = self._axes
        batch, height, width, channels = self.shape
        return Layer(
            name=self.name,
            batch=batch,
            height=height,
            width=width,
            channels=channels,
            outputs=self.upsampling.positions * self.outputs,
            kernel=(rows.taps, columns.taps),
            padding=(rows.padding, columns.padding),
        )

    def weights(self, transposed: NDArray[np.int8]) -> NDArray[np.int8]:
        """Those of `layer`, from the (KH, KW, C, O) weights of the transposed convolution."""
        rows, columns = self._axes
        if transposed.shape != (*self.kernel, self.shape[3], self.outputs):
            raise WorkloadError(
                f"{self.name} takes weights of {(*self.kernel, self.shape[3], self.outputs)}, got {transposed.shape}"
            )
        found = np.zeros((rows.taps, columns.taps, self.shape[3], *self.stride, self.outputs), transposed.dtype)
        for (i, r), (j, c) in (
            ((i, r), (j, c))
            for i in range(rows.taps)
            for r in range(self.stride[0])
            for j in range(columns.taps)
            for c in range(self.stride[1])
        ):
            high, wide = rows.tap(r, i), columns.tap(c, j)
            if 0 <= high < self.kernel[0] and 0 <= wide < self.kernel[1]:
                found[i, j, :, r, c] = transposed[high, wide]
        return found.reshape(self.layer.weight_shape)

    @property
    def _axes(self) -> tuple[_Axis, _Axis]:
        axes = [
            _Axis(size, kernel, stride, padding[0], outputs)
            for size, kernel, stride, padding, outputs in zip(
                self.shape[1:3], self.kernel, self.stride, self.padding, self.output, strict=True
            )
        ]
        return axes[0], axes[1]
