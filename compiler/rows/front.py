"""From a graph of operations on rows to the programs of its epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podweave.ir.constants import Constants
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import (
    Append,
    Argmax,
    Attention,
    Format,
    Gelu,
    LayerNorm,
    Product,
    RmsNorm,
    Rope,
    RowLinear,
    SiluProduct,
)
from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect

from ..collective.program import CollectiveProgram
from .attention import lower_append, lower_attention
from .compile_rows import Home, RowCompiler
from .elementwise import lower_argmax, lower_gated_rows, lower_product, lower_rope
from .formats import byte_numbers
from .layout import RowLayout
from .linear import lower_linear
from .norms import lower_layer_norm, lower_rms_norm
from .passes import result_words
from .program import RowProgram, Words
from .spread import with_copies

LOWERINGS: dict[type, Callable] = {
    RowLinear: lower_linear,
    RmsNorm: lower_rms_norm,
    LayerNorm: lower_layer_norm,
    Rope: lower_rope,
    SiluProduct: lower_gated_rows,
    Gelu: lower_gated_rows,
    Product: lower_product,
    Argmax: lower_argmax,
    Attention: lower_attention,
    Append: lower_append,
}
"""By kind of operation."""


def compile_rows(
    graph: RowGraph,
    config: ChipConfig,
    constants: Constants,
    *,
    share: float = 0.25,
    capacity: int = 0,
    chips: int = 1,
    rank: int = 0,
    ends: frozenset[int] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[RowProgram | CollectiveProgram, ...]:
    """The programs of all epochs. ``share``: of W banks, sets and stores, what one may take. ``capacity``: keys for which caches
    have room in memory, at least as many as any attention sees. ``chips``, ``rank``: of the ring, and which of its chips this is.
    ``ends``: as of a `RowCompiler`.

    Raises `WorkloadError` for what a configuration cannot run, with the limit and the excess.
    """
    compiler = row_compiler(graph, config, constants, share=share, capacity=capacity, chips=chips, rank=rank, ends=ends)
    return compiler.run(LOWERINGS, len(compiler.graph.operations), progress)


def row_compiler(
    graph: RowGraph,
    config: ChipConfig,
    constants: Constants,
    *,
    share: float = 0.25,
    capacity: int = 0,
    given: frozenset[str] = frozenset(),
    taken: frozenset[str] = frozenset(),
    chips: int = 1,
    rank: int = 0,
    ends: frozenset[int] = frozenset(),
) -> RowCompiler:
    """A compiler for a graph with copies where it needs some, which has placed its inputs; see `RowCompiler`."""
    compiler = RowCompiler(*with_copies(graph, constants, taken), config, share, capacity, given, taken, chips, rank, ends)
    _place_inputs(compiler)
    return compiler


def _place_inputs(compiler: RowCompiler) -> None:
    """Inputs that lie in X or P banks are loaded before the first epoch."""
    graph = compiler.graph
    for name, (_, _, rows, _) in graph.inputs.items():
        form = graph.format(name)
        if name in compiler.given:
            continue
        if form is Format.ANGLES:
            known: dict[bytes, Home] = {}
            for operation in graph.operations:
                if isinstance(operation, Rope) and operation.angles == name:
                    spread = compiler.layout_of(operation.source)
                    channel = np.where(spread.channel[:, :1] >= 0, spread.channel[:, :1] % operation.head_size, -1)
                    key = channel.tobytes()
                    if key not in known:
                        known[key] = _load(compiler, name, "p", RowLayout(rows, spread.nodes, 1, channel, spread.lead), form)
                    compiler.angles[operation.name] = known[key]
        elif form in (Format.WIDE, Format.INT16, Format.INT8):
            # Caches are read in memory.
            readers = [each for each in compiler.readers[name] if form is not Format.INT8 or isinstance(each, RowLinear)]
            for kind in sorted({compiler.kind_for(each, name) for each in readers}):
                words = result_words(kind, form)
                _load(compiler, name, kind, compiler.layout_of(name, words), form)


def _load(compiler: RowCompiler, name: str, kind: str, layout: RowLayout, form: Format) -> Home:
    home, _ = compiler.place(name, kind, layout)
    select = HostSelect.X if kind == "x" else HostSelect.P
    for node, numbers in enumerate(byte_numbers(layout, form)):
        content = np.zeros(numbers.shape, np.uint8)
        compiler.epoch.words.append(Words(select, node, home.base, content, name, numbers))
    return home
