"""What is read of a transformer: operations on rows in floating point, under the names that their results have in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class FloatLinear:
    """``source`` times ``weights`` (inputs, outputs), with a ``bias`` (outputs,), added to ``add``."""

    name: str
    source: str
    weights: Floats
    bias: Floats
    add: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source, self.add) if self.add else (self.source,)


@dataclass(frozen=True)
class FloatNorm:
    """Rows less their mean, by their standard deviation, times ``gain``, plus ``bias``."""

    name: str
    source: str
    gain: Floats
    bias: Floats
    epsilon: float

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


@dataclass(frozen=True)
class FloatGelu:
    """Rows times the normal distribution function of them."""

    name: str
    source: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


@dataclass(frozen=True)
class FloatAttention:
    """Softmax of ``scale`` times queries times keys, times values, head by head."""

    name: str
    query: str
    key: str
    value: str
    heads: int
    scale: float

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.query, self.key, self.value)


@dataclass(frozen=True)
class Mask:
    """A tensor of a file that says which keys are seen: by all rows, or by each.

    ``kind``: "added" to scores, 0 where a key is seen; or a condition, true where it is "seen", or "unseen".
    """

    name: str
    kind: str


FloatOperation: TypeAlias = FloatLinear | FloatNorm | FloatGelu | FloatAttention


@dataclass(frozen=True)
class FloatNetwork:
    """A transformer of a file, as far as a chip computes it.

    Members
    -------
    name : str
        Of the file.
    rows : int
        Of each tensor.
    widths : dict
        Channels of each tensor: inputs and operations.
    inputs : tuple of str
        Rows that the host computes in front of it, as embeddings.
    layouts : dict
        Of each tensor, what its axes in the file are (`views`), and their sizes.
    masks : tuple of Mask
        Of all attentions alike: a key is seen if all of them let it be seen. The host computes them, too.
    operations : tuple of FloatOperation
        In order.
    outputs : tuple of str
        Rows that the host reads, or that leave the file.
    given : dict
        Type and sizes of the inputs of the file.
    file_outputs : tuple of str
        What it gives.
    sizes : dict
        Tensors of the file that are sizes of rows.
    on_host : tuple of str
        Operators and names of nodes behind the network, which are left to the host, and of convolutions in front of it.
    """

    name: str
    rows: int
    widths: Mapping[str, int]
    inputs: tuple[str, ...]
    layouts: Mapping[str, tuple[tuple[str, int], ...]]
    masks: tuple[Mask, ...]
    operations: tuple[FloatOperation, ...]
    outputs: tuple[str, ...]
    given: Mapping[str, tuple[str, tuple[int, ...]]]
    file_outputs: tuple[str, ...]
    sizes: Mapping[str, NDArray]
    on_host: tuple[str, ...]

    def readers(self, name: str) -> tuple[FloatOperation, ...]:
        """Operations that read a tensor."""
        return tuple(each for each in self.operations if name in each.sources)
