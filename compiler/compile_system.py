"""The front door for several chips: a graph that they share becomes the programs and the memory of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from podweave.ir.partition import Partition
from podweave.spec.config import ChipConfig

from .compile_network import CompiledNetwork, CompileOptions, Progress, compile_network
from .memory.shared import SharedMemory
from .rows.check.collectives import check_ring


def compile_system(
    partition: Partition,
    config: ChipConfig,
    options: CompileOptions | None = None,
    *,
    shared: Sequence[SharedMemory] | None = None,
    progress: Progress | None = None,
) -> tuple[CompiledNetwork, ...]:
    """What each chip of a ring, or one chip alone, runs, by rank, in a memory of its own.

    ``options``: of every chip, but for its rank. ``shared``: of each chip, where it is placed beside other networks. Raises
    `WorkloadError` for what does not fit, as `compile_network` does, and `ProgramError` for collectives of which chips do not make
    the same.
    """
    options = options or CompileOptions(from_memory=True)
    if options.shared is not None:
        raise ValueError("chips do not share a memory: give one for each of them as shared")
    memories: Sequence[SharedMemory | None] = shared or [None] * partition.chips

    def tell(rank: int) -> Progress | None:
        return progress and (lambda text: progress(f"chip {rank}: {text}" if partition.chips > 1 else text))

    networks = tuple(
        compile_network(
            share.graph,
            config,
            share.constants,
            replace(options, chips=partition.chips, rank=rank, shared=memory),
            progress=tell(rank),
        )
        for rank, (share, memory) in enumerate(zip(partition.shares, memories, strict=True))
    )
    if options.check != "never":
        check_ring([network.collectives for network in networks])
    return networks
