"""What is refused of a graph before anything is compiled."""

from __future__ import annotations

from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph, verify_mixed, verify_mixed_constants
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.verify import verify, verify_constants
from podweave.spec.config import ChipConfig

from .lower.job_count import require_jobs_fit, require_sums_fit
from .lower.scales import require_scales_fit
from .rows.compile_rows import require_row_functions, require_tiles_fit


def require_fits(graph: Graph, config: ChipConfig, *, from_memory: bool = False) -> None:
    """Raises `WorkloadError` for layers that no machine could compile or hold the values of, and for rows on what has no row
    functions; takes no time. ``from_memory``: a graph of layers may be cut until it fits."""
    layers = graph.operations
    if isinstance(graph, RowGraph):
        require_row_functions(graph, config)
        layers = graph.layers if isinstance(graph, MixedGraph) else ()
        for each in graph.rows if isinstance(graph, MixedGraph) else graph.operations:
            each.require_values_fit()
        require_tiles_fit(graph, config)
    for operation in layers:
        if operation.is_product and not config.has_rows:
            raise WorkloadError(
                f"{operation.name} multiplies two tensors, which {config.name} cannot: its row_registers (of [post]) are 0; "
                "chip16x32_products has them"
            )
    for operand in (operand for operation in layers for operand in operation.operands):
        operand.layer.require_values_fit()
        require_jobs_fit(operand.layer, config)
        if not from_memory or isinstance(graph, MixedGraph):
            require_sums_fit(operand.layer, config)


def require_rules(graph: Graph, constants: Constants | None, config: ChipConfig, *, from_memory: bool) -> None:
    """Raises `WorkloadError` for a graph or constants that break a rule, and as `require_fits` does; ValueError for a network from
    memory without constants."""
    if isinstance(graph, RowGraph):
        require_row_functions(graph, config)
        if not from_memory:
            raise WorkloadError(f"{graph.name} has operations on rows, which run from memory, over AXI")
    else:
        require_fits(verify(graph), config, from_memory=from_memory)
    if constants is None:
        if from_memory:
            raise ValueError("a network that runs from memory needs its constants")
        return
    if isinstance(graph, MixedGraph):
        verify_mixed_constants(verify_mixed(graph), constants)
        require_fits(graph, config)
    elif isinstance(graph, RowGraph):
        verify_row_constants(verify_rows(graph), constants)
    else:
        verify_constants(graph, constants)
    require_scales_fit(graph, constants, config)
