"""The front door: a network and a configuration become programs, and for a chip on AXI the memory that they run from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.graph import Graph
from podweave.spec.config import ChipConfig

from .chip.bank_image import tables_of
from .chip.epoch_cutter import compile_epochs
from .chip.epoch_program import ChipProgram
from .chip.epoch_scheduler import compile_graph
from .chip.split_outputs import SplitGraph, split_outputs
from .memory.image import MemoryImage, memory_image

Progress = Callable[[str], None]
SHARE = 0.25
"""Of the W banks that an epoch may take: words for three more can be on their way."""
FIRST_SHARE = 0.25
"""Of that share, what the first epoch may take: nothing hides its loads."""


@dataclass(frozen=True)
class Compiled:
    """A network as an accelerator runs it."""

    graph: Graph
    split: SplitGraph
    programs: tuple[ChipProgram, ...]
    image: MemoryImage


def compile_for_device(
    graph: Graph,
    config: ChipConfig,
    parameters: Mapping[str, Parameters],
    *,
    share: float = SHARE,
    partition: int | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """The epochs of a network and the memory that they run from."""
    assert config.post is not None
    split = split_outputs(graph, config, share, FIRST_SHARE)
    values = split.parameters(parameters)
    chosen, tables = tables_of(values, config.post.tables)

    def show(done: int, count: int) -> None:
        if progress:
            progress(f"compiling {graph.name} ({done}/{count} nodes)")

    programs = compile_epochs(
        split.graph, config, tables=chosen, partition=partition, share=share, first=FIRST_SHARE, progress=show
    )
    image = memory_image(programs, values, tables)
    return Compiled(graph, split, programs, image)


def in_channels(compiled: Compiled, parameters: Mapping[str, Parameters], channel_bytes: int) -> Compiled:
    """The same network in a memory with channels of another size; ``parameters``: those that it was compiled with."""
    image = compiled.image
    if image.channel_bytes == channel_bytes:
        return compiled
    assert image.config.post is not None
    values = compiled.split.parameters(parameters)
    _, tables = tables_of(values, image.config.post.tables)
    return dataclasses.replace(compiled, image=memory_image(compiled.programs, values, tables, channel_bytes=channel_bytes))


def compile_network(
    graph: Graph,
    config: ChipConfig,
    parameters: Mapping[str, Parameters] | None = None,
    *,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[ChipProgram, list[NDArray[np.int8]]]:
    """The program of a network, and its activation tables."""
    assert config.post is not None
    chosen, tables = tables_of(parameters or {}, config.post.tables)

    def show(done: int, count: int) -> None:
        if progress:
            progress(f"compiling {graph.name} ({done}/{count} nodes)")

    return compile_graph(graph, config, tables=chosen, partition=partition, progress=show), tables
