"""Runs of a prefetch engine for rings that a test writes by hand: all published at the start, no epoch on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podweave.golden.cycle.memory.hbm import ErrorRange
from podweave.golden.cycle.prefetch.engine import Inputs
from podweave.golden.cycle.prefetch.words import Descriptor
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from .prefetch_cases import MEMORY_BYTES, TIMINGS, Case, Program
from .prefetch_rings import RING_BASES, put_rings


def directed_case(
    config: ChipConfig,
    demand: Sequence[Descriptor],
    prefetch: Sequence[Descriptor] = (),
    *,
    bases: tuple[int, ...] = (),
    epochs_done: int = 0,
    cycles: int = 3000,
    timing: HbmTiming = TIMINGS[0],
    errors: tuple[ErrorRange, ...] = (),
    seed: int = 0,
) -> Case:
    """``bases``: base registers, all that the configuration has. ``seed``: of the memory, which is random bytes."""
    rings = [*demand], [*prefetch]
    memory = np.random.default_rng(seed).integers(0, 256, MEMORY_BYTES, np.uint8)
    put_rings(memory, rings)
    program = Program(rings, (max(1, len(demand)), max(1, len(prefetch))), memory, bases)
    tail = len(demand), len(prefetch)
    inputs = Inputs(base=RING_BASES, memory_bytes=MEMORY_BYTES, bases=bases, tail=tail, epochs_done=epochs_done)
    return Case(config, program, inputs, [], timing, cycles, errors)
