"""How many jobs a layer becomes, before any is made: what no machine could hold is refused at once."""

from __future__ import annotations

from podweave.ir.layers import Layer, WorkloadError
from podweave.spec.config import ChipConfig

MAX_JOBS = 1 << 23
"""The most jobs of a layer that are compiled: about 4 GB, and minutes."""


def job_count(layer: Layer, config: ChipConfig) -> int:
    """About as many stream jobs as a layer takes: one per weight tile and piece of its positions."""
    array, memory = config.array, config.memory
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    together = max(1, min(array.rows // in_group, array.cols // out_group, layer.groups))
    columns = -(-layer.groups // together) * -(-together * out_group // array.cols)
    tiles = columns * -(-together * layer.reduction // array.rows)
    return tiles * -(-layer.positions // min(config.pod.accumulator_rows or memory.p_words, memory.x_words))


def require_jobs_fit(layer: Layer, config: ChipConfig) -> None:
    """Raise `WorkloadError` if a layer has more than `MAX_JOBS` jobs."""
    if (count := job_count(layer, config)) > MAX_JOBS:
        raise WorkloadError(
            f"{layer.name}: {config.name} takes about {count:,} jobs for it, more than the {MAX_JOBS:,} that a program may have; "
            "larger pods take fewer"
        )


def require_sums_fit(layer: Layer, config: ChipConfig) -> None:
    """Raise `WorkloadError` if the P banks of a chip cannot hold a word of sums for each position of a layer."""
    room = config.memory.banks * config.memory.p_words
    if layer.positions > room:
        raise WorkloadError(
            f"{layer.name}: its {layer.positions:,} positions need a word of sums each, {layer.positions - room:,} more than "
            f"the P banks of {config.name} have ({room:,})"
        )
