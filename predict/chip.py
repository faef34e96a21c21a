"""Exact cycles and counters of an epoch of a chip."""

from __future__ import annotations

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.rows.program import RowProgram
from podweave.golden.cycle.chip.chip import ChipFigures, ChipGeometry, chip_figures
from podweave.spec.config import ChipConfig
from podweave.spec.row_functions import SCALAR_CYCLES


def chip_geometry(config: ChipConfig) -> ChipGeometry:
    """What the exact model of a chip needs of a configuration."""
    return ChipGeometry(
        pods=config.pods,
        write_latency=config.write_latency,
        post_latency=config.post_latency,
        epoch_overhead=config.epoch_overhead,
        beats=config.post_beats,
        statistic_latency=config.statistic_latency - 1 if config.has_rows else 0,
        scalar_cycles=SCALAR_CYCLES,
    )


def predict(program: EpochProgram | RowProgram) -> ChipFigures:
    """Exact cycles and counters of a compiled program, without RTL."""
    return chip_figures(program.loads, program.streams, program.posts, chip_geometry(program.config))
