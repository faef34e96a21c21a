"""What all operations on rows have in common, and the formats of their tensors."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from .layers import MAX_SIMULATED, WorkloadError
from .operations import Operation, Shape

Read = tuple[int, int, tuple["Format", ...]]
"""Rows, channels and allowed formats of a tensor that is read."""


class Format(enum.Enum):
    """Numbers of a tensor."""

    INT8 = "int8"
    INT16 = "int16"
    """-32768 to 32639, as two planes of int8."""
    WIDE = "int32"
    """As long as a partial sum."""
    LENGTHS = "lengths"
    """How many elements each row has."""
    ANGLES = "angles"
    """Cosine and sine, 2**14 for 1, of each pair of channels of a head, per row: channels 2i and 2i + 1."""
    OFFSET = "offset"
    """By how many rows what is appended to caches goes further, chosen run by run."""

    @property
    def dtype(self) -> np.dtype:
        """Of arrays of such numbers; in memory each takes as many bytes."""
        if self is Format.INT8:
            return np.dtype(np.int8)
        return np.dtype(np.int16 if self in (Format.INT16, Format.ANGLES) else np.int32)


@dataclass(frozen=True)
class RowOperation(Operation):
    """An operation that gives ``rows`` rows in a ``format``.

    Parameters
    ----------
    name : str
        Of the operation, and of its tensor.
    rows : int
        At least 1.
    after : tuple of str
        Operations that must be complete before.
    """

    name: str
    rows: int
    after: tuple[str, ...] = ()

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of a row that it gives."""

    @property
    def format(self) -> Format:
        return Format.INT16

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Read]:
        """Rows, channels and allowed formats of each tensor that it reads, by its name."""

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    @property
    def output(self) -> Shape:
        return (1, 1, self.rows, self.channels)

    @property
    def macs(self) -> int:
        return 0

    @property
    def weights(self) -> int:
        return 0

    @property
    def scales(self) -> int:
        """Multipliers, shifts and biases that it takes; 0 for an operation without constants."""
        return self.channels

    @property
    def largest(self) -> int:
        """Numbers of the largest tensor that it reads, gives or has on its way."""
        return max(self.weights, prod(self.output), *(rows * channels for rows, channels, _ in self.inputs.values()))

    def require_values_fit(self) -> None:
        """Raise `WorkloadError` if it is too large to be computed with values, which are all in memory."""
        self.require(
            self.largest <= MAX_SIMULATED, f"with values, a tensor has at most {MAX_SIMULATED:,} numbers, got {self.largest:,}"
        )

    def require(self, holds: bool, rule: str) -> None:
        """Raise `WorkloadError` with the rule unless it holds."""
        if not holds:
            raise WorkloadError(f"{self.name}: {rule}")
