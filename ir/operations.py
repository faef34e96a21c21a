"""Operations: kinds of nodes of a graph of layers, each with its own rule for the shape of what it gives.

A kind says what every pass needs to know of it: which tensors it reads, in what order of time, and what comes out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Literal

from .layers import Layer, WorkloadError

Shape = tuple[int, int, int, int]
"""Batch, height, width, channels."""


class Operation(ABC):
    """One operation of a graph; its output tensor has its name.

    Members
    -------
    name : str
    after : tuple of str
        Operations that must be complete before this one starts, beside those whose outputs it reads.
    adds_to : str
        An operation to whose sums it adds, if its kind does that.
    sources : tuple of str
        The tensors that it reads, once for every time that it does.
    output : Shape
        By the rule of its kind.
    macs : int
        Multiplications of the network.
    """

    name: str
    after: tuple[str, ...]
    adds_to: str = ""

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def output(self) -> Shape: ...

    @property
    @abstractmethod
    def macs(self) -> int: ...

    @property
    @abstractmethod
    def weights(self) -> int: ...


@dataclass(frozen=True)
class Upsampling:
    """How a tensor is seen enlarged: each of its positions as ``rows`` x ``columns`` of them.

    All of them have the channels of that position (nearest neighbour). ``interleaved``: they share its channels out, the one in row
    r and column c takes part ``r * columns + c`` of as many equal parts, as behind a transposed convolution (depth to space).
    """

    rows: int = 1
    columns: int = 1
    interleaved: bool = False

    @property
    def positions(self) -> int:
        """Of one."""
        return self.rows * self.columns

    def of(self, shape: Shape) -> Shape:
        """The shape in which a tensor of ``shape`` is seen.

        >>> Upsampling(2, 3, interleaved=True).of((1, 4, 4, 12))
        (1, 8, 12, 2)
        """
        batch, height, width, channels = shape
        return batch, height * self.rows, width * self.columns, channels // (self.positions if self.interleaved else 1)


AS_IT_IS = Upsampling()


@dataclass(frozen=True)
class Operand:
    """``sources``: tensors whose channels, one after the other, are the channels of ``layer`` (concatenation).

    ``pad_value``: what stands in the padding of ``layer`` (-128 for a max-pool, else 0).
    ``channels``: (first, count) of their channels that are read, as a head of attention does; else all.
    ``residual``: it is added with one scale per channel, which nobody trained: no multiplications of the network.
    ``upsampled``: of each source, how it is seen; empty: all as they are. The rest is said of tensors as they are seen.
    ``corners``: of each source, the row and column at which what ``layer`` reads of it begins; empty: it reads all of them.
    """

    sources: tuple[str, ...]
    layer: Layer
    pad_value: int = 0
    channels: tuple[int, int] | None = None
    residual: bool = False
    corners: tuple[tuple[int, int], ...] = ()
    upsampled: tuple[Upsampling, ...] = ()

    def upsampling(self, source: str) -> Upsampling:
        """How a source is seen."""
        return self.upsampled[self.sources.index(source)] if self.upsampled else AS_IT_IS

    def corner(self, source: str) -> tuple[int, int]:
        """The row and column of a source at which what is read of it begins."""
        return self.corners[self.sources.index(source)] if self.corners else (0, 0)

    @property
    def is_diagonal(self) -> bool:
        """Each output is one channel at the same position, times a weight."""
        layer = self.layer
        return layer.groups == layer.channels == layer.outputs > 1 and layer.kernel == layer.stride == (1, 1)

    def __post_init__(self) -> None:
        if self.residual and not self.is_diagonal and self.layer.outputs > 1:
            raise WorkloadError(f"{self.layer.name}: a residual multiplies each channel by one weight, 1x1, stride 1")
        if self.corners and (len(self.corners) != len(self.sources) or min(min(corner) for corner in self.corners) < 0):
            raise WorkloadError(f"{self.layer.name}: every source has a row and a column to begin at, got {self.corners}")
        self._check_upsampled()
        if self.channels and (self.channels[0] < 0 or self.channels[1] < 1):
            raise WorkloadError(f"{self.layer.name}: channels must be (first, count) with at least one, got {self.channels}")

    def _check_upsampled(self) -> None:
        if not self.upsampled:
            return
        if len(self.upsampled) != len(self.sources):
            raise WorkloadError(
                f"{self.layer.name}: every source has an upsampling, got {len(self.upsampled)} for {len(self.sources)} sources"
            )
        for source, seen in zip(self.sources, self.upsampled, strict=True):
            if min(seen.rows, seen.columns) < 1:
                raise WorkloadError(
                    f"{self.layer.name}: {source} is upsampled by integers of at least 1, got {seen.rows} rows and {seen.columns} "
                    "columns"
                )
            if seen != self.upsampling(source):
                raise WorkloadError(f"{self.layer.name}: {source} is read twice, and not upsampled alike")


@dataclass(frozen=True)
class Window:
    """Reduction of accumulators over windows of output positions of the operands, without padding (that is the operand's).

    ``product``: of two positions, so that two tensors, of which one position has the channels (seen interleaved, it is two), are
    multiplied channel by channel. Their accumulators have 16 bits.
    ``leaves_pads_out``: an average over what is no padding of the operand: windows with fewer such positions have scales of their
    own (`podweave.ir.constants.Parameters.border_scales`).
    """

    reduce: Literal["max", "sum", "product"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    leaves_pads_out: bool = False


@dataclass(frozen=True)
class Linear(Operation):
    """Operands times weights into the same accumulators, windows of them reduced if asked to, and post-processed.

    A residual connection is an operand with a diagonal of weights, a pooling the reduction of one, a product of two tensors that
    of both. Post-processing is bias,
    requantisation and a table of 256 entries. The output is int8 (B, H, W, C).

    ``identity``: its weights are a diagonal of ones (pooling): nothing to be trained or loaded but the diagonal.
    ``after``: operations that must be complete before this one starts, beside those whose outputs it reads.
    ``adds_to``: an operation with another part of the same reduction, to whose sums it adds: nobody else has them, and that
    operation gives no tensor; empty: it begins with its own.
    """

    name: str
    operands: tuple[Operand, ...]
    window: Window | None = None
    identity: bool = False
    after: tuple[str, ...] = ()
    adds_to: str = ""

    def __post_init__(self) -> None:
        if not self.operands:
            raise WorkloadError(f"{self.name}: an operation needs at least one operand")
        first = self.operands[0].layer
        for operand in self.operands[1:]:
            layer = operand.layer
            if (layer.batch, *layer.output_size, layer.outputs) != (first.batch, *first.output_size, first.outputs):
                raise WorkloadError(
                    f"{self.name}: operands must give the same output, got {(first.batch, *first.output_size, first.outputs)} and "
                    f"{(layer.batch, *layer.output_size, layer.outputs)}"
                )
        if self.window:
            for axis, size, kernel in zip(("height", "width"), first.output_size, self.window.kernel, strict=True):
                if kernel > size:
                    raise WorkloadError(f"{self.name}: the window spans {kernel} in {axis}, but there are {size} positions")
            if self.is_product and prod(self.window.kernel) != 2:
                raise WorkloadError(f"{self.name}: a product is of two positions, got a window of {self.window.kernel}")
            if self.window.leaves_pads_out:
                self._check_average()

    def _check_average(self) -> None:
        layer = self.operands[0].layer
        if self.window is None or self.window.reduce != "sum":
            raise WorkloadError(f"{self.name}: only sums of windows leave pads out")
        if len(self.operands) > 1 or layer.kernel != (1, 1) or layer.stride != (1, 1):
            raise WorkloadError(f"{self.name}: a window leaves out the pads of one operand with a 1x1 kernel and stride 1")
        if min(map(min, self.inside)) < 1:
            raise WorkloadError(f"{self.name}: a window has nothing but pads, of which there are {layer.padding}")

    @property
    def is_product(self) -> bool:
        """Its windows are products of two positions."""
        return self.window is not None and self.window.reduce == "product"

    @property
    def inside(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of each output row, and of each output column, how many rows or columns of its windows are no padding of the operand."""
        layer, window = self.operands[0].layer, self.window
        assert window is not None
        found = []
        for count, size, (before, _), kernel, stride in zip(
            self.output[1:3], (layer.height, layer.width), layer.padding, window.kernel, window.stride, strict=True
        ):
            spans = ((at * stride - before, at * stride + kernel - before) for at in range(count))
            found.append(tuple(min(end, size) - max(begin, 0) for begin, end in spans))
        return found[0], found[1]

    @property
    def border_counts(self) -> tuple[int, ...]:
        """How many positions windows have that leave pads out, if they are fewer than all."""
        if self.window is None or not self.window.leaves_pads_out:
            return ()
        rows, columns = self.inside
        counts = {high * wide for high in set(rows) for wide in set(columns)}
        return tuple(sorted(counts - {prod(self.window.kernel)}))

    @property
    def sources(self) -> tuple[str, ...]:
        """The tensors that it reads, once for every time that it does."""
        return tuple(source for operand in self.operands for source in operand.sources)

    @property
    def accumulated(self) -> Shape:
        """Shape of the accumulators, before the reduction."""
        layer = self.operands[0].layer
        return (layer.batch, *layer.output_size, layer.outputs)

    @property
    def output(self) -> Shape:
        batch, height, width, outputs = self.accumulated
        if self.window:
            (kh, kw), (sh, sw) = self.window.kernel, self.window.stride
            height, width = (height - kh) // sh + 1, (width - kw) // sw + 1
        return (batch, height, width, outputs)

    @property
    def macs(self) -> int:
        """Multiplications of the network; those of a pooling or a residual are not counted."""
        return 0 if self.identity else sum(operand.layer.macs for operand in self.operands if not operand.residual)

    @property
    def weights(self) -> int:
        """Numbers that the network has as weights; those of a pooling or a residual are not counted."""
        return 0 if self.identity else sum(prod(operand.layer.weight_shape) for operand in self.operands if not operand.residual)
