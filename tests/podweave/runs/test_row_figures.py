"""podweave.runs.row_figures: by hand, and on a network that adds up."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest

from podweave.compiler.collective.ring import all_reduce_program
from podweave.compiler.collective.walks import BankWords
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.rows.program import RowProgram
from podweave.compiler.rows.spans import Spans, post_spans
from podweave.compiler.rows.tables import RowJobs, TileStep
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Attention, RmsNorm, RowLinear
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.runs.accelerator import model_on_device
from podweave.runs.jobs import chip_graphs
from podweave.runs.row_figures import KINDS, cycles_by_kind, epoch_cycles
from podweave.spec.jobs import Accumulate
from podweave.spec.links_config import LinksConfig
from tests.podweave.runs.row_jobs import small_chip

CHIP = small_chip()
LINEAR = RowLinear("linear", 1, source="x", width=4, outputs=4)
ATTENTION = Attention("attention", 1, query="linear", key="k", value="v", lengths="n", context=4, heads=1, kv_heads=1, head_size=4)
NORM = RmsNorm("norm", 1, source="y", width=4, scale_shift=0)
GRAPH = RowGraph("by hand", {}, (LINEAR, ATTENTION, NORM))


def epoch(outputs: tuple[Any, ...] = ()) -> RowProgram:
    """Pods are busy with weights in cycles 0 to 5, with keys in 4 to 13; a post-processor in two cycles behind that."""
    jobs = RowJobs(CHIP)
    # Two pods load in cycles 0 to 3 and stream in 4 and 5; then one loads in 4 to 7 and streams in 8 to 13.
    jobs.step(TileStep(0, {0: 0, 1: 0}, 4, (0, 0, 2), Accumulate.BYPASS, into={0: 0, 1: 0}), 4)
    jobs.step(TileStep(1, {0: 4}, 4, (0, 0, 6), Accumulate.BYPASS, into={0: 2}), 8)
    loads, streams, _ = jobs.tables()
    # Words of a window of 1, with the beats of this chip and one cycle between: behind the pods are the last two of them.
    each = CHIP.post_beats + 1
    jobs.post(1, 2, start=16 - 4 * each, n0=1, n1=1, n2=2, n3=2, gap=1)
    return RowProgram(CHIP, GRAPH, loads, streams, jobs.tables()[2], (), outputs, (), (0, 1, 2), 0)


def test_an_epoch_by_hand() -> None:
    program = epoch()
    assert (post_spans(program).begin.tolist(), post_spans(program).end.tolist()) == ([16 - 4 * (CHIP.post_beats + 1)], [16])
    assert epoch_cycles(program) == {"weights": 6, "attention": 8, "rows": 2}


def test_a_run_by_hand() -> None:
    """Two epochs of 20 cycles; the first stores something."""
    timeline = [
        {"begins": 10, "ends": 29, "waits": 9, "for_prefetch": 5},
        {"begins": 37, "ends": 56, "waits": 7, "for_prefetch": 3},
    ]
    programs = (epoch(outputs=("something",)), epoch())
    network = CompiledNetwork(GRAPH, CHIP, cast("Any", None), epochs=programs)
    found = cycles_by_kind(network, Prediction(60, 0, {}, {}, timeline))
    # 9 cycles before the first epoch and 3 before the second for prefetch rings; 4 for stores, and 4 at the end.
    assert found == {"weights": 12, "attention": 16, "rows": 4, "latency": 8, "stores": 8, "memory": 12}
    assert sum(found.values()) == 60


def test_a_run_with_a_collective_by_hand() -> None:
    """Of 30 cycles, before which the chip waits 2 cycles; what the epoch before stores goes out in 4 of those before it."""
    timeline = [
        {"begins": 10, "ends": 29, "waits": 9, "for_prefetch": 5},
        {"begins": 36, "ends": 65, "waits": 6, "for_prefetch": 2},
        {"begins": 69, "ends": 88, "waits": 3, "for_prefetch": 1},
    ]
    links = dataclasses.replace(CHIP, links=LinksConfig(flit_bits=32))
    exchange = all_reduce_program(links, 0, BankWords.of_runs([(0, 0, 4), (1, 0, 4)]), 2, 0, "linear")
    network = CompiledNetwork(GRAPH, CHIP, cast("Any", None), epochs=(epoch(outputs=("something",)), exchange, epoch()))
    found = cycles_by_kind(network, Prediction(90, 0, {}, {}, timeline))
    assert found == {"weights": 12, "attention": 16, "rows": 4, "latency": 8, "stores": 6, "memory": 14, "links": 30}
    assert sum(found.values()) == 90
    with pytest.raises(ValueError, match=r"^by hand has collectives: how long they take depends on the other chips$"):
        predict_accelerator(dataclasses.replace(network, image=cast("Any", 0)), cast("Any", None))


def test_spans_that_overlap_are_counted_once() -> None:
    begin, end = np.array([7, 0, 2, 3]), np.array([9, 4, 5, 4])
    assert Spans(begin, begin, end, begin).covered == 7
    assert Spans(begin[:0], begin[:0], end[:0], begin[:0]).covered == 0
    assert Spans(begin[:1], begin[:1] - 10, end[:1] - 10, begin[:1]).covered == 2


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("name", ["norm_22,rows=3", "gated_18_30,rows=20", "llama_16_2_2_24_2,rows=2,context=7"])
def test_kinds_add_up(name: str, prefetch: bool) -> None:
    report, _ = model_on_device(chip_graphs(name), CHIP, prefetch=prefetch)
    (row,) = report["networks"]
    kinds = row["cycles_by_kind"]
    assert tuple(kinds) == KINDS
    assert sum(kinds.values()) == row["cycles"] == row["predicted_cycles"]
    assert all(count > 0 for kind, count in kinds.items() if kind in ("rows", "latency", "stores", "memory"))
    assert (kinds["attention"] > 0, kinds["weights"] > 0) == ("llama" in name, "norm" not in name)
    # Every operation that has jobs is named by an epoch.
    named = {name for epoch in row["timeline"] for name in epoch["operations"]}
    assert named == {operation.name for operation in chip_graphs(name)[0].operations}


def test_weights_that_stand_for_others_are_loaded_as_those_are() -> None:
    """Zeros of one tile are those of the next: they do not lie in its place already."""
    chip, (graph,) = CHIP.replace(w_words=128), chip_graphs("llama_32_4_2_64_4,rows=2,context=7")
    loaded = []
    for with_weights in (False, True):
        constants = with_scale_bits(random_row_parameters(graph, with_weights=with_weights), chip.scale_bits)
        loaded.append(compile_network(graph, chip, constants, CompileOptions(from_memory=True)).memory.loaded_bytes())
    assert loaded[0] == loaded[1]
