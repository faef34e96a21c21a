"""The front door for several chips: a graph that they share becomes the programs and the memory of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from podweave.ir.partition import Partition, Share
from podweave.spec.config import ChipConfig

from .compile_network import CompiledNetwork, CompileOptions, Progress, compile_network
from .memory.ahead import loaded_tensors, tensor_ratios
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
    # Of sequences that are shared out, a chip has the caches of its own.
    tensors = [loaded_tensors(share.graph) for share in partition.shares]
    everywhere = dict.fromkeys(name for own in tensors for name in own)
    ratios = tensor_ratios(options.prefetch_ratios, everywhere, partition.shares[0].graph.name)

    def tell(rank: int, again: str) -> Progress | None:
        return progress and (lambda text: progress(f"chip {rank}{again}: {text}" if partition.chips > 1 else text))

    def compiled(rank: int, ends: frozenset[int]) -> CompiledNetwork:
        share = partition.shares[rank]
        own = replace(
            options,
            chips=partition.chips,
            rank=rank,
            ends=ends,
            shared=memories[rank],
            prefetch_ratios={name: ratios[name] for name in tensors[rank] if name in ratios},
        )
        again = " again, as another ends epochs elsewhere" if ends else ""
        return compile_network(share.graph, config, share.constants, own, progress=tell(rank, again))

    networks = tuple(compiled(rank, frozenset()) for rank in range(partition.chips))
    ends: frozenset[int] = frozenset()
    # Engines know a collective by the number of its epoch, and how much fits into an epoch depends on values: equal parameter sets
    # are there once. So all chips end epochs where one of them must, again if banks then end elsewhere.
    while True:
        begins = [frozenset(program.begins for program in network.rows) for network in networks]
        common = ends.union(*begins)
        if common == ends or all(own == common for own in begins):
            break
        ends = common
        own = enumerate(zip(networks, begins, strict=True))
        networks = tuple(network if of == ends else compiled(rank, ends) for rank, (network, of) in own)
    if options.check != "never":
        check_ring([network.epochs for network in networks])
    return networks


def compile_alike(
    partition: Partition, config: ChipConfig, options: CompileOptions | None = None, *, progress: Progress | None = None
) -> tuple[CompiledNetwork, ...]:
    """What chips of a ring run, where only cycles and counters are of account: those of chips that are told apart by values and by
    where words of sums are alone are the same, so the first is compiled for all of them.

    If anything else tells them apart, all are compiled, as `compile_system` does. Parameter sets that are equal by chance on one
    chip alone, by which `compile_system` ends epochs elsewhere, are not looked for.
    """
    options = options or CompileOptions(from_memory=True)
    first, *others = partition.shares
    if others and all(_structure(share) == _structure(first) for share in others):
        network = compile_network(first.graph, config, first.constants, replace(options, chips=partition.chips), progress=progress)
        if all(program.even for program in network.collectives):
            return (network,) * partition.chips
    return compile_system(partition, config, options, progress=progress)


def _structure(share: Share) -> object:
    """All of a share but values."""
    held = share.constants
    arrays = {
        name: (*each.weights, each.bias, each.multiplier, each.shift, each.table, each.wide_table) for name, each in held.items()
    }
    shapes = {name: tuple(None if array is None else array.shape for array in of) for name, of in arrays.items()}
    return share.graph, shapes, held.table_of, len(held.tables)
