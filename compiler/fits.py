"""What is refused of a graph before anything is compiled, or there are constants."""

from __future__ import annotations

from podweave.ir.graph import Graph
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_graph import RowGraph
from podweave.spec.config import ChipConfig

from .lower.job_count import require_jobs_fit, require_sums_fit
from .rows.compile_rows import require_row_functions, require_tiles_fit


def require_fits(graph: Graph, config: ChipConfig) -> None:
    """Raises `WorkloadError` for layers that no machine could compile or hold the values of, and for rows on what has no row
    functions; takes no time."""
    layers = graph.operations
    if isinstance(graph, RowGraph):
        require_row_functions(graph, config)
        layers = graph.layers if isinstance(graph, MixedGraph) else ()
        for each in graph.rows if isinstance(graph, MixedGraph) else graph.operations:
            each.require_values_fit()
        require_tiles_fit(graph, config)
    for operand in (operand for operation in layers for operand in operation.operands):
        if config.pods > 1:
            operand.layer.require_values_fit()
        require_jobs_fit(operand.layer, config)
        if config.pods > 1:
            require_sums_fit(operand.layer, config)
