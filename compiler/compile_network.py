"""The front door: a network and a configuration become programs and, where engines load them, the memory that they run from.

`compile_network` is the only way in: the passes stand there, top to bottom, and each ends in a check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from podweave.ir.constants import Constants, Parameters
from podweave.ir.graph import Graph
from podweave.ir.interleaved import with_whole_words
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.rewrites import with_averages_in_steps, with_constants, with_stored_pools, without_unused
from podweave.ir.row_graph import RowGraph
from podweave.ir.verify import verify
from podweave.spec.config import ChipConfig

from .chip.check.parts import check_left
from .chip.check.program import check_chip
from .chip.epoch_program import EpochProgram
from .chip.epoch_scheduler import compile_graph, most_averaged
from .chip.policy import BankPolicy
from .chip.split_outputs import SplitGraph, split_outputs
from .chip.split_sums import split_sums
from .collection import without_collection
from .collective.program import CollectiveProgram
from .fits import require_rules
from .memory.ahead import loaded_tensors, tensor_ratios
from .memory.engine_check import check_engines
from .memory.image import MemoryImage
from .memory.place import memory_image
from .memory.shared import SharedMemory
from .mixed.compile_parts import compile_parts
from .mixed.parts import Joined, Kinds, by_kinds, join
from .plan.compile_plan import as_it_runs, compile_cut
from .rows.check.program import check_rows, check_seconds
from .rows.front import compile_rows
from .rows.program import ChipEpoch, RowProgram

Progress = Callable[[str], None]
CheckRules = Literal["auto", "always", "never"]
CHECK_SHARE = 0.1
"""Of the time that a compilation takes, what checking its programs may cost by default."""


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How a network is compiled.

    Parameters
    ----------
    from_memory : bool
        Cut into epochs that prefetch engines load from memory; else one epoch, whose words are there when it starts.
    partition : int, optional
        Words that a pod streams per weight tile (0: as many as fit); by default each operation's is chosen.
    policy : BankPolicy
        What an epoch from memory may take.
    channel_bytes : int, optional
        Size of each manager's channel of the memory; by default the next power of two that holds the network.
    shared : SharedMemory, optional
        Where the network is placed beside others, with which it shares weights and caches; its channels have that size.
    prefetch_ratios : mapping of str to float
        How much of its weights, keys or values may be loaded ahead of the epoch that needs them, by name of the operation or the
        cache, or by pattern (`compiler.memory.ahead.tensor_ratios`); of what no name or pattern fits, all.
    passes : int
        How often one start may go over the network, each time with inputs and outputs of its own.
    capacity : int
        Keys for which caches have room in memory, if they are more than the network sees: the same for all that share them.
    chips, rank : int
        How many chips a ring has of which each computes a part of the network, and which of them, from 0 on, this part is for
        (`podweave.ir.partition`).
    ends : frozenset of int
        By how many steps of operations on rows come before, where epochs end even if there is room in them (`compile_system`).
    cut : int
        Into segments of at most so many operations, between which tensors lie in memory; 0: only if the network does not fit.
    check : {"auto", "always", "never"}
        Hold the programs against the rules of the hardware: by default where it costs less than a tenth of the compilation.
    """

    from_memory: bool = False
    partition: int | None = None
    policy: BankPolicy = field(default_factory=BankPolicy)
    channel_bytes: int | None = None
    shared: SharedMemory | None = None
    prefetch_ratios: Mapping[str, float] = field(default_factory=dict)
    passes: int = 1
    capacity: int = 0
    chips: int = 1
    rank: int = 0
    ends: frozenset[int] = frozenset()
    cut: int = 0
    check: CheckRules = "auto"


@dataclass(frozen=True)
class CompiledNetwork:
    """A network as a configuration runs it.

    Members
    -------
    graph : Graph
        As it was asked for.
    split : SplitGraph
        As it runs: rewritten, and operations in parts.
    constants : Constants or None
        Of the operations as they run.
    epochs : tuple
        The programs of a chip, one per epoch, in order: of layers, of operations on rows, and collectives.
    image : MemoryImage or None
        What lies in memory before a run from memory.
    ratios : dict
        Of tensors that have a prefetch ratio below 1: by name of the operation or the cache.
    kinds, joined
        Of a graph of layers and operations on rows: both apart, and as they run.
    checked : bool
        Whether the programs were held against the rules of the hardware.
    seconds : dict
        What each pass took.
    """

    graph: Graph
    config: ChipConfig
    split: SplitGraph
    constants: Constants | None = None
    epochs: tuple[ChipEpoch, ...] = ()
    image: MemoryImage | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    kinds: Kinds | None = None
    joined: Joined | None = None
    checked: bool = False
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def programs(self) -> tuple[EpochProgram, ...]:
        """Those of layers."""
        return tuple(program for program in self.epochs if isinstance(program, EpochProgram))

    @property
    def rows(self) -> tuple[RowProgram, ...]:
        """Those of operations on rows."""
        return tuple(program for program in self.epochs if isinstance(program, RowProgram))

    @property
    def collectives(self) -> tuple[CollectiveProgram, ...]:
        """In the order of their ids."""
        return tuple(program for program in self.epochs if isinstance(program, CollectiveProgram))

    @property
    def program(self) -> EpochProgram:
        """The only epoch of a network that runs as one."""
        (program,) = self.programs
        return program

    @property
    def memory(self) -> MemoryImage:
        """That of a network that runs from memory."""
        assert self.image is not None, f"{self.graph.name} was not compiled to run from memory"
        return self.image


def compile_network(
    graph: Graph,
    config: ChipConfig,
    constants: Mapping[str, Parameters] | None = None,
    options: CompileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> CompiledNetwork:
    """The programs of a network on a configuration.

    ``constants``: of every operation; a network that runs from memory needs them. Raises `WorkloadError` for a graph or constants
    that break a rule, and for what does not fit, with the limit and the excess.
    """
    job = _Job(config, options or CompileOptions(), progress or (lambda _: None))
    network = CompiledNetwork(graph, config, SplitGraph(graph, {}), None if constants is None else Constants(constants))
    with without_collection():
        for name, run in PASSES:
            began = time.perf_counter()
            network = run(network, job)
            network.seconds[name] = time.perf_counter() - began
    return network


def in_channels(network: CompiledNetwork, channel_bytes: int) -> CompiledNetwork:
    """The same network in a memory with channels of another size, in bytes."""
    if network.memory.channel_bytes == channel_bytes:
        return network
    return _placed(network, channel_bytes=channel_bytes, passes=network.memory.passes)


def _placed(network: CompiledNetwork, **options: Any) -> CompiledNetwork:
    """In a memory, as `memory_image` does it with these options."""
    assert network.constants is not None
    ratios = {part: ratio for name, ratio in network.ratios.items() for part in (name, *network.split.names(name))}
    return replace(network, image=memory_image(network.epochs, network.constants, network.split.graph, ratios=ratios, **options))


@dataclass(frozen=True)
class _Job:
    config: ChipConfig
    options: CompileOptions
    progress: Progress


Pass = Callable[[CompiledNetwork, _Job], CompiledNetwork]


def _verify(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    require_rules(network.graph, network.constants, job.config, from_memory=job.options.from_memory)
    return network


def _choose_ratios(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    patterns = job.options.prefetch_ratios
    if not patterns:
        return network
    if not job.options.from_memory:
        raise WorkloadError(f"prefetch_ratios are of networks that run from memory, and {network.graph.name} does not")
    return replace(network, ratios=tensor_ratios(patterns, loaded_tensors(network.graph), network.graph.name))


def _of_layers(run: Pass) -> Pass:
    """A pass that leaves graphs of rows as they are."""
    return lambda network, job: network if isinstance(network.split.graph, RowGraph) else run(network, job)


def _take_kinds_apart(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    """What comes next sees the layers alone."""
    if not isinstance(network.graph, MixedGraph):
        return network
    assert network.constants is not None
    kinds = by_kinds(network.graph, network.constants)
    held = Constants({layer.name: network.constants[layer.name] for layer in kinds.layers.operations})
    return replace(network, kinds=kinds, split=SplitGraph(verify(kinds.layers), {}), constants=held)


def _join_kinds(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    if network.kinds is None:
        return network
    assert network.constants is not None
    joined, split, constants = join(network.kinds, network.split, network.constants)
    return replace(network, joined=joined, split=split, constants=constants)


def _rewritten(network: CompiledNetwork, graph: Graph) -> CompiledNetwork:
    constants = network.constants
    if constants is not None and graph is not network.split.graph:
        constants = with_constants(graph, constants)
    return replace(network, split=SplitGraph(verify(graph), {}), constants=constants)


def _drop_unused(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    return _rewritten(network, without_unused(network.split.graph))


def _rewrite_pools(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    """Poolings as post-processors have them: averages in steps, and copies behind what would be read over and over."""
    graph = with_averages_in_steps(network.split.graph, *most_averaged(job.config))
    return _rewritten(network, with_stored_pools(graph))


def _fill_words(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    """What is seen interleaved has whole words of outputs for each position."""
    graph, constants = with_whole_words(network.split.graph, network.constants, job.config.post_lanes)
    return network if graph is network.split.graph else replace(network, split=SplitGraph(verify(graph), {}), constants=constants)


def _split_operations(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    if not job.options.from_memory:
        return network
    split = split_outputs(network.split.graph, job.config, job.options.policy)
    graph, sums = split_sums(split.graph, job.config, job.options.policy)
    split = replace(split, graph=verify(graph), sums=sums)
    assert network.constants is not None
    return replace(network, split=split, constants=split.constants(network.constants))


def _number_tables(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    """Raises `WorkloadError` for more activation tables than slots, where epochs of layers cannot take turns with them."""
    if network.constants is None:
        return network
    count, limit, graph = len(network.constants.tables), job.config.post.tables, network.graph
    turns = ""
    if network.joined and count > limit:
        of_rows = network.constants.first_tables(each.name for each in network.joined.rows.operations)
        if of_rows < count:
            count, turns = of_rows + 1, f"operations on rows have {of_rows}, and layers take turns with others: "
    elif not isinstance(graph, RowGraph) and job.options.from_memory:
        count = 0
    if count > limit:
        raise WorkloadError(f"{turns}the network has {count} activation tables, {count - limit} more than tables ({limit})")
    return network


def _schedule_rows(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    graph = network.graph
    if not isinstance(graph, RowGraph):
        return network
    assert network.constants is not None

    def show(done: int, count: int) -> None:
        job.progress(f"compiling {graph.name} ({done}/{count} operations)")

    epochs: tuple[ChipEpoch, ...]
    if network.joined:
        policy, partition = job.options.policy, job.options.partition
        epochs = compile_parts(network.joined, job.config, network.constants, policy, partition=partition, progress=show)
    else:
        ring = {name: getattr(job.options, name) for name in ("chips", "rank", "ends", "capacity")}
        epochs = compile_rows(graph, job.config, network.constants, progress=show, **ring)
    return replace(network, epochs=epochs)


def _schedule(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    graph, constants, partition = network.split.graph, network.constants, job.options.partition
    tables = constants.table_of if constants is not None else {}

    def show(done: int, count: int, now: str = "") -> None:
        job.progress(f"compiling {graph.name} ({done}/{count} operations{f'; {now}' if now else ''})")

    if job.options.from_memory:
        way: dict[str, Any] = {"tables": tables, "partition": partition, "progress": show}
        programs = compile_cut(graph, job.config, job.options.policy, cut=job.options.cut, **way)
        if (runs := as_it_runs(graph, programs)) is not graph and constants is not None:
            network = replace(network, split=replace(network.split, graph=runs), constants=with_constants(runs, constants))
    else:
        programs = (compile_graph(graph, job.config, tables=tables, partition=partition, progress=show),)
    return replace(network, epochs=programs)


def _check_rules(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    """Raises `ProgramError` for a program that breaks a rule of the hardware: a fault of the compiler, not of the network."""
    if job.options.check == "never":
        return network
    if job.options.check == "auto" and check_seconds(network.epochs) > CHECK_SHARE * sum(network.seconds.values()):
        return network

    def show(number: int) -> None:
        job.progress(f"checking {network.graph.name} ({number + 1}/{len(network.epochs)} epochs)")

    if network.rows and network.constants is not None:
        check_rows(network.epochs, len(network.constants.tables), show, network.joined.images if network.joined else None)
    else:
        for number, program in enumerate(network.programs):
            show(number)
            check_chip(program)
        check_left(network.programs)
    return replace(network, checked=True)


def _place_in_memory(network: CompiledNetwork, job: _Job) -> CompiledNetwork:
    if not job.options.from_memory:
        return network
    options = job.options

    def show(done: int, count: int) -> None:
        job.progress(f"placing {network.graph.name} in memory ({done}/{count} epochs)")

    found = _placed(network, channel_bytes=options.channel_bytes, passes=options.passes, shared=options.shared, progress=show)
    if network.checked:
        check_engines(found.memory, network.epochs)
    return found


PASSES: tuple[tuple[str, Pass], ...] = (
    ("verify", _verify),
    ("choose ratios", _choose_ratios),
    ("take kinds apart", _take_kinds_apart),
    ("drop unused", _of_layers(_drop_unused)),
    ("rewrite pools", _of_layers(_rewrite_pools)),
    ("fill words", _of_layers(_fill_words)),
    ("split operations", _of_layers(_split_operations)),
    ("join kinds", _join_kinds),
    ("number tables", _number_tables),
    ("schedule", _of_layers(_schedule)),
    ("schedule rows", _schedule_rows),
    ("check rules", _check_rules),
    ("place in memory", _place_in_memory),
)
"""All that happens to a network, in this order. What is not for a configuration or its options leaves the network as it is."""
