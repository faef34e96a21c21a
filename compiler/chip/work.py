"""What an operation is to the choice of how it is spread over pods, and one such way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .patches import Patches


@dataclass(frozen=True)
class Mapping:
    """``side``: column tiles of a gang; ``split``: parts of K; both powers of two. ``patches``: of output positions.

    ``near``: all column tiles of a patch are the work of one block, one after the other, so that its inputs are there once.
    ``abreast``: patches of a gang, a power of two; their pods take the same weights in the same cycles, of which there is one copy.
    """

    side: int
    split: int
    patches: Patches
    near: bool = False
    abreast: int = 1

    @property
    def pods_of_patch(self) -> int:
        return self.side * self.split

    @property
    def block(self) -> int:
        return self.pods_of_patch * self.abreast


@dataclass(frozen=True)
class Work:
    """What the choice of a mapping needs to know of an operation.

    ``shape``: images, rows, columns of its output. ``tiles``: column tiles. ``shared``, ``own``: K steps of a column tile whose
    activations all tiles share, and that are its own. ``units``: units of activations that are sent to it; ``held``: that it
    keeps in X banks. ``ready``: per output row and column, when its inputs are there. ``windowed``: windows are reduced.
    ``reads``: words of P banks per word sent. ``fresh``: of mappings that find some of its inputs where they need them, the
    share that they do not; others find none.
    ``sent``: of patches, how many jobs send what they read, each patch once. ``left``: jobs that send a piece of a column tile.
    ``job_cost``, ``tile_cost``, ``set_cost``, ``input_cost``, ``post_cost``: cycles in which the memory brings a stream with its
    load, a weight tile, parameters of a column tile, a word of activations, and a job that sends some; ``joined_cost``,
    ``load_cost``, in place of ``job_cost``: a stream over all steps that it can be, and the load with it; 0 for what does not come
    from there. ``strips``: inputs are loaded for several patches at a time, and those are the work of one block; ``in_rows``: whole
    rows of them. ``abreast``: whether gangs may work on several patches.
    """

    shape: tuple[int, int, int]
    tiles: int
    shared: int
    own: int
    units: int
    ready: NDArray[np.int64]
    held: int
    windowed: bool
    reads: float = 1
    fresh: dict[Mapping, float] = field(default_factory=dict)
    job_cost: float = 0.0
    tile_cost: float = 0.0
    set_cost: float = 0.0
    input_cost: float = 0.0
    post_cost: float = 0.0
    joined_cost: float = 0.0
    load_cost: float = 0.0
    sent: Callable[[Patches], int] | None = None
    left: int = 1
    strips: bool = False
    in_rows: bool = False
    abreast: bool = False
