"""Exact cycles and counters of an epoch of a chip."""

from __future__ import annotations

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.golden.cycle.chip.chip import ChipFigures, ChipGeometry, chip_figures
from podweave.spec.config import ChipConfig


def chip_geometry(config: ChipConfig) -> ChipGeometry:
    """What the exact model of a chip needs of a configuration."""
    return ChipGeometry(
        pods=config.pods,
        write_latency=config.write_latency,
        post_latency=config.post_latency,
        epoch_overhead=config.epoch_overhead,
    )


def predict(program: EpochProgram) -> ChipFigures:
    """Exact cycles and counters of a compiled program, without RTL."""
    return chip_figures(program.loads, program.streams, program.posts, chip_geometry(program.config))
