"""What is run on a pod bench, what comes back, and what is predicted of it. Free of Amaranth: the simulator imports it too."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.pod.program import Program

TRACE_CYCLES = 16384
"""Cycles that the trace of the harness holds."""


@dataclass(frozen=True)
class Task:
    """A program with its data: activations NHWC, weights (KH, KW, C / groups, O), int8."""

    program: Program
    activations: NDArray[np.int8]
    weights: NDArray[np.int8]


@dataclass
class PodRun:
    """What the RTL did with a program.

    ``result``: NHWC int32. ``epoch_cycles``: from the first word requested to the last written. ``counters``: per epoch.
    ``errors``: what the hardware reported, in words. ``compared``: port values held against the cycle model (lockstep only).
    ``wall_s``: seconds by phase; the first run of a simulation also carries what it took to start.
    """

    result: NDArray[np.int32]
    epoch_cycles: list[int] = field(default_factory=list)
    counters: list[dict[str, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    simulated_cycles: int = 0
    compared: int = 0
    wall_s: dict[str, float] = field(default_factory=lambda: {"load": 0.0, "simulate": 0.0, "check": 0.0})

    @property
    def cycles(self) -> int:
        """Cycles of all epochs."""
        return sum(self.epoch_cycles)
