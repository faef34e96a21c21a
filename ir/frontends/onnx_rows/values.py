"""What flows along the edges of a transformer's file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from numpy.typing import NDArray

from .floats import Mask
from .views import RowsView


@dataclass(frozen=True)
class Host:
    """What the host computes, for inputs of ones. ``constant``: for any."""

    values: NDArray
    constant: bool


@dataclass(frozen=True)
class Scores:
    """Queries times keys. ``weights``: their softmax."""

    query: RowsView
    key: RowsView
    factor: float
    masks: tuple[Mask, ...] = ()
    weights: bool = False


@dataclass(frozen=True)
class NotANumber:
    """Where weights are not a number: nowhere, since every row sees a key."""

    weights: Scores


@dataclass(frozen=True)
class Behind:
    """What the host computes of what the chip gives."""


Value: TypeAlias = Host | RowsView | Scores | NotANumber | Behind
