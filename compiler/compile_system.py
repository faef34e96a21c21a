"""The front door for several chips: a graph that they share becomes the programs and the memory of each."""

from __future__ import annotations

from dataclasses import replace

from podweave.ir.partition import Partition
from podweave.spec.config import ChipConfig

from .compile_network import CompiledNetwork, CompileOptions, Progress, compile_network
from .rows.check.collectives import check_ring


def compile_system(
    partition: Partition, config: ChipConfig, options: CompileOptions | None = None, *, progress: Progress | None = None
) -> tuple[CompiledNetwork, ...]:
    """What each chip of a ring runs, by rank, in a memory of its own.

    ``options``: of every chip, but for its rank. Raises `WorkloadError` for what does not fit, as `compile_network` does, and
    `ProgramError` for collectives of which chips do not make the same.
    """
    options = options or CompileOptions(from_memory=True)

    def tell(rank: int) -> Progress | None:
        return progress and (lambda text: progress(f"chip {rank}: {text}"))

    networks = tuple(
        compile_network(
            share.graph, config, share.constants, replace(options, chips=partition.chips, rank=rank), progress=tell(rank)
        )
        for rank, share in enumerate(partition.shares)
    )
    if options.check != "never":
        check_ring([network.collectives for network in networks])
    return networks
