"""The chips that texts run on: one, or several in a ring, of which each has a part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podweave.compiler.compile_network import CompiledNetwork
from podweave.ir.constants import Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import Partition, partition, undivided
from podweave.ir.row_graph import RowGraph
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.config import ChipConfig

from ..runs.system import SystemPrediction, require_links


@dataclass(frozen=True)
class Accelerators:
    """Chips of one configuration, that start together.

    Parameters
    ----------
    config : ChipConfig
        Of every chip; with ``links``, if there are several.
    chips : int
        How many there are.
    timing : HbmTiming
        Of the memory of each.
    link : LinkTiming
        Of each link; their seeds differ.
    prefetch, beneath : bool
        As `Start` has them.

    Raises
    ------
    ConfigError
        For several chips of a configuration without links.
    WorkloadError
        For no chips.
    """

    config: ChipConfig
    chips: int = 1
    timing: HbmTiming = field(default_factory=HbmTiming)
    link: LinkTiming = field(default_factory=LinkTiming)
    prefetch: bool = True
    beneath: bool = True

    def __post_init__(self) -> None:
        if self.chips < 1:
            raise WorkloadError(f"texts run on at least one chip, got {self.chips}")
        if self.chips > 1:
            require_links(self.config)

    @property
    def options(self) -> dict[str, Any]:
        """Of every run."""
        return {"prefetch": self.prefetch, "beneath": self.beneath}

    def divide(self, graph: RowGraph, constants: Mapping[str, Parameters]) -> Partition:
        """What each computes; raises `WorkloadError` for what so many chips cannot share."""
        return partition(graph, constants, self.chips) if self.chips > 1 else undivided(graph, constants)

    def predict(self, networks: Sequence[CompiledNetwork], bases: tuple[tuple[int, ...], ...]) -> SystemPrediction:
        """Cycles and counters of a run of each; ``bases``: values of base registers of each."""
        found = predict_system(networks, self.timing, self.link, bases=bases, **self.options)
        return SystemPrediction(found, (0,) * self.chips)
