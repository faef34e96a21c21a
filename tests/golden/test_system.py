"""golden.system: on any number of chips, tensors are those of the whole graph, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from podweave.fuzz.random_rows import random_rows
from podweave.golden.graph import evaluate
from podweave.golden.system import evaluate_system
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import RowLinear

TEXTS = (TextRows(1, 5), TextRows(2, 9, slot=1), TextRows(1, 4, position=1, span=3, slot=2))
SHARED = (TextRows(2, 11), TextRows(1, 10, slot=1, shared=4))


def batch(heads: int, texts: tuple[TextRows, ...]) -> RowGraph:
    return decoder(DecoderSizes(8 * heads, 2 * heads, heads, 24 * heads, 2), texts, "batch", head=HeadSettings(40 * heads))


def graphs(chips: int) -> dict[str, RowGraph]:
    """Sizes that so many chips share."""
    names = (
        f"llama_{32 * chips}_{2 * chips}_{chips}_{24 * chips}_2,rows=3,context=9",
        f"llama_48_{chips}_{chips}_{7 * chips},rows=1,context=2,head=6",
        f"gated_32_{6 * chips},rows=4",
        f"attention_{3 * chips}_{chips}_4,rows=3,context=6",
        f"encoder_{8 * chips}_{chips}_{5 * chips}_2,rows=4",
    )
    found = {name: load_graph(name) for name in names}
    found |= {"batch": batch(chips, TEXTS), "shared": batch(chips, SHARED)}
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("chips", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_chips_give_the_bits_of_the_whole(chips: int, seed: int) -> None:
    for name, graph in graphs(chips).items():
        constants, inputs = random_row_parameters(graph, seed), random_row_inputs(graph, seed)
        found = partition(verify_rows(graph), constants, chips)
        whole, parts = evaluate(graph, constants, inputs), evaluate_system(found.shares, found.cut(inputs))
        joined = found.join(parts)
        assert joined.keys() == whole.keys()
        for tensor, values in whole.items():
            assert values.any() or tensor in graph.inputs, (name, tensor)
            assert joined[tensor].dtype == values.dtype
            assert np.array_equal(joined[tensor], values), (name, tensor)


def test_random_graphs_that_chips_share() -> None:
    count = reduced = 0
    for seed in range(120):
        job = random_rows(seed)
        for chips in (2, 3, 4):
            try:
                found = partition(job.graph, job.constants, chips)
            except WorkloadError:
                continue
            whole = evaluate(job.graph, job.constants, job.inputs)
            joined = found.join(evaluate_system(found.shares, found.cut(job.inputs)))
            assert all(np.array_equal(joined[name], values) for name, values in whole.items()), (seed, chips)
            count += 1
            reduced += any(isinstance(each, RowLinear) and each.reduced for each in found.shares[0].graph.operations)
    assert count > 60
    assert reduced > 20


def test_one_chip_alone_is_refused() -> None:
    graph = load_graph("gated_32_48,rows=2")
    assert isinstance(graph, RowGraph)
    found = partition(graph, random_row_parameters(graph), 2)
    share, inputs = found.shares[0], found.cut(random_row_inputs(graph))
    with pytest.raises(WorkloadError, match=r"^down: its sums are added over several chips, and this is one$"):
        evaluate(share.graph, share.constants, inputs[0])
    other = replace(share, graph=replace(share.graph, operations=share.graph.operations[:-1]))
    with pytest.raises(ValueError, match="shorter"):
        evaluate_system([share, other], inputs)
    linear = share.graph.operations[-1]
    assert isinstance(linear, RowLinear)
    alone = replace(share, graph=replace(share.graph, operations=(*share.graph.operations[:-1], replace(linear, reduced=False))))
    with pytest.raises(WorkloadError, match=r"^down: chips of a ring compute the same operations, in the same order$"):
        evaluate_system([share, alone], inputs)
