"""predict.chip: the cycles of a GEMM on one pod are those of the closed form."""

from __future__ import annotations

import pytest

from podweave.compiler.compile_network import compile_network
from podweave.golden.cycle.pod.span import gemm_cycles
from podweave.ir.layers import gemm
from podweave.predict.chip import accesses, predict, sums_span
from podweave.runs.jobs import layer_graph
from podweave.spec.presets import load_config


@pytest.mark.parametrize("preset", ["pod4", "pod8", "pod16", "pod32"])
@pytest.mark.parametrize(("m", "k", "n"), [(64, 64, 64), (40, 32, 32), (100, 64, 7), (32, 33, 64)])
def test_a_gemm_takes_the_cycles_of_its_closed_form(preset: str, m: int, k: int, n: int) -> None:
    config = load_config(preset)
    program = compile_network(layer_graph(gemm(m, k, n)), config).program
    array = config.array
    shape = {"rows": array.rows, "cols": array.cols, "row_groups": array.row_groups, "col_groups": array.col_groups}
    assert sums_span(program).cycles == gemm_cycles(m, k, n, latency=config.read_latency, **shape)
    (moved,) = accesses(program)
    assert moved["last"] - moved["first"] + 1 == sums_span(program).cycles
    assert moved["x"]["numbers"] == m * k * -(-n // array.cols)
    # The beginning of an epoch, and what post-processors do behind the last sum.
    assert 0 < predict(program).cycles - sums_span(program).cycles <= 16
