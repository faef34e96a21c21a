"""compiler.chip.epoch_scheduler: random graphs on random chips obey every rule and compute what the golden models compute."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_array_equal

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import execute_chip
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError, gemm
from podweave.ir.operations import Linear, Operand, Window
from tests.compiler.chip.chip_graphs import HEALTH, SAME, Case, cases, chain, chip, conv, equal, run_case
from tests.fast import fast_of


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=HEALTH)
@given(cases())
def test_random_graphs(case: Case) -> None:
    run_case(case)


@pytest.mark.campaign
@settings(deadline=None, max_examples=3000, suppress_health_check=HEALTH, print_blob=True)
@given(cases())
def test_random_graphs_campaign(case: Case) -> None:
    run_case(case)


@settings(derandomize=True, deadline=None, max_examples=10, suppress_health_check=HEALTH)
@given(cases())
def test_compiling_twice_gives_the_same_program(case: Case) -> None:
    first, second = (compile_graph(case.graph, case.config, partition=case.partition) for _ in range(2))
    assert equal(first, second)


@settings(derandomize=True, deadline=None, max_examples=15, suppress_health_check=HEALTH)
@given(cases())
def test_what_is_legal_on_the_butterfly_is_legal_on_the_crossbar(case: Case) -> None:
    program = compile_graph(case.graph, case.config.replace(kind="butterfly"), partition=case.partition)
    check_chip(program)
    check_chip(dataclasses.replace(program, config=case.config.replace(kind="crossbar")))


def side_steps() -> Graph:
    """A residual over 20 channels as a diagonal: column tiles have steps of their own, and not all as many."""
    shape = (1, 8, 8, 20)
    main, side = conv("main", shape, 20, 3, padding=((1, 1), (1, 1))), conv("side", shape, 20, groups=20)
    first = Linear("first", (Operand(("in",), conv("first", shape, 20)),))
    return Graph("side", {"in": shape}, (first, Linear("sum", (Operand(("first",), main), Operand(("first",), side)))))


@pytest.mark.parametrize("pods", fast_of([2, 4, 8, 16], "4", "16"))
@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (8, 4), (4, 8), (16, 16)])
@pytest.mark.parametrize("accumulator_rows", [0, 32])
def test_residual_with_steps_of_its_own(pods: int, rows: int, cols: int, accumulator_rows: int) -> None:
    run_case(Case(side_steps(), chip(pods, rows, cols, accumulator_rows, y_planes=2), None, 1))


@pytest.mark.parametrize("partition", [None, 8, 0])
@pytest.mark.parametrize("shape", [(1, 3, 3, 40), (5, 2, 2, 40), (1, 7, 3, 40), (1, 1, 13, 33)])
def test_k_split_over_uneven_boxes(shape: tuple[int, int, int, int], partition: int | None) -> None:
    """Few positions and long sums: segments of unequal size, and fewer of them than parts of K."""
    for accumulator_rows in (0, 64):
        run_case(Case(chain(shape, 40, 9, 6), chip(16, 4, 4, accumulator_rows), partition, 2))


def test_gemms() -> None:
    """A GEMM is an image of height 1."""
    first, second = gemm(37, 30, 22, name="a"), gemm(37, 22, 17, name="b")
    graph = Graph(
        "gemms", {"in": first.input_shape}, (Linear("a", (Operand(("in",), first),)), Linear("b", (Operand(("a",), second),)))
    )
    for pods in (2, 8):
        run_case(Case(graph, chip(pods, 8, 8), None, 3))


def test_progress_is_told_after_every_node() -> None:
    told: list[tuple[int, int]] = []
    compile_graph(chain((1, 4, 4, 3), 5, 6), chip(2, 4, 4), progress=lambda done, count: told.append((done, count)))
    assert told == [(1, 2), (2, 2)]


def test_a_layer_spreads_over_pods() -> None:
    program = compile_graph(chain((1, 16, 16, 8), 8, 8, **SAME), chip(16, 4, 4))
    assert len(np.unique(program.streams["pod"])) >= 8


STORE = r"the program has (\d+) jobs for the store of unit \d+, (\d+) more than"


@pytest.mark.parametrize(
    ("graph", "changes", "sentence"),
    [
        (chain((1, 8, 8, 4), 4), {"x_words": 8}, r"n0: X bank \d is full: (\d+) words more are (\d+) more than x_words \(8\)"),
        (chain((1, 4, 4, 40), 40), {"w_words": 16}, r"n0: W bank \d is full: 4 words more are 4 more than w_words \(16\)"),
        (
            chain((1, 16, 16, 4), 16),
            {"p_words": 16},
            r"n0: P bank \d is full: (\d+) words more are (\d+) more than are free in one piece \(\d+ of p_words 16\)",
        ),
        (chain((1, 8, 8, 16), 16, 16), {"load_jobs": 4}, rf"{STORE} load_jobs \(4\)"),
        (chain((1, 8, 8, 16), 16, 16), {"stream_jobs": 4}, rf"{STORE} stream_jobs \(4\)"),
        (chain((1, 8, 8, 20), 20, 20, **SAME), {"post_jobs": 4}, rf"{STORE} post_jobs \(4\)"),
        (
            chain((1, 8, 8, 4), 4, 4, 4, 4),
            {"parameter_sets": 2},
            r"n\d: post-processor \d is full: 1 sets more are 1 more than parameter_sets \(2\)",
        ),
        (
            chain((1, 1, 1, 9), 1),
            {"psum_width": 17},
            r"n0: the reduction K is 9, 6 more than psum_width 17 sums without wrapping \(3\)",
        ),
        (
            chain((1, 64, 64, 4), 4),
            {"time_width": 9},
            r"the epoch would last (\d+) cycles, (\d+) more than time_width allows \(\d+\)",
        ),
    ],
    ids=["x_bank", "w_bank", "p_bank", "load_store", "stream_store", "post_store", "parameter_sets", "reduction", "time"],
)
def test_what_does_not_fit_is_refused(graph: Graph, changes: dict[str, int], sentence: str) -> None:
    config = chip(2, 4, 4).replace(**changes)
    with pytest.raises(WorkloadError) as caught:
        compile_graph(graph, config)
    assert re.fullmatch(sentence, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "unit"), [("load", "loads", "pod"), ("stream", "streams", "pod"), ("post", "posts", "bank")]
)
def test_stores_may_be_full(name: str, kind: str, unit: str) -> None:
    """As many jobs as there are in the fullest store are enough, and one less is one too few."""
    graph = chain((1, 8, 8, 16), 16, 16, **SAME)
    most = int(np.bincount(getattr(compile_graph(graph, chip(2, 4, 4)), kind)[unit]).max())
    compile_graph(graph, chip(2, 4, 4, **{f"{name}_jobs": most}))
    sentence = rf"^the program has {most} jobs for the store of unit \d, 1 more than {name}_jobs \({most - 1}\)$"
    with pytest.raises(WorkloadError, match=sentence):
        compile_graph(graph, chip(2, 4, 4, **{f"{name}_jobs": most - 1}))


def test_patches_leave_the_zero_word_alone() -> None:
    """128 positions are one word more than banks of 128 words hold beside it: there are two patches, not one."""
    graph = chain((1, 8, 16, 4), 4)
    for p_words, patches in ((129, 1), (128, 2)):
        program = run_case(Case(graph, chip(2, 4, 4, p_words=p_words), 0, 5))
        assert len(program.accumulated) == patches


def test_window_beyond_its_field_is_refused() -> None:
    first = Linear("first", (Operand(("in",), conv("first", (1, 66, 2, 3), 3)),))
    pool = Linear(
        "pool", (Operand(("first",), conv("pool", (1, 66, 2, 3), 3, groups=3)),), Window("max", (65, 1), (1, 1)), identity=True
    )
    graph = Graph("tall", {"in": (1, 66, 2, 3)}, (first, pool))
    sentence = r"^pool: the window spans 65 positions, 2 more than window_width \(6\) allows \(63\)$"
    with pytest.raises(WorkloadError, match=sentence):
        compile_graph(graph, chip(2, 4, 4))
    run_case(Case(graph, chip(2, 4, 4, window_width=7), None, 4))
    with pytest.raises(WorkloadError, match=r"^pool: one output position takes 65 words of partial sums, 2 more than fit \(63\)$"):
        compile_graph(graph, chip(2, 4, 4, count_width=6))


@pytest.mark.parametrize("order", [("in", "first"), ("first", "in"), ("in", "first", "other", "first")])
@pytest.mark.parametrize("channels", [3, 4, 9])
def test_inputs_beside_computed_tensors_in_a_concatenation(order: tuple[str, ...], channels: int) -> None:
    """Of any widths: words hold channels of one tensor, and each is sent or loaded as its tensor wants it."""
    inputs = {"in": (1, 5, 4, channels), "other": (1, 5, 4, 2)}
    first = Linear("first", (Operand(("in",), conv("first", inputs["in"], 5)),))
    width = sum({**{name: shape[3] for name, shape in inputs.items()}, "first": 5}[name] for name in order)
    both = Operand(order, conv("both", (1, 5, 4, width), 6, 3, padding=((1, 1), (1, 1))))
    run_case(Case(Graph("mixed", inputs, (first, Linear("second", (both,)))), chip(4, 4, 4), None, 0))


def test_outputs_that_are_read_too() -> None:
    """a -> b with outputs (a, b), and (a) alone: what is asked for comes out, whoever reads it."""
    nodes = chain((1, 4, 4, 3), 5, 6).operations
    for outputs in (("n0", "n1"), ("n1", "n0"), ("n0",)):
        graph = Graph("both", {"in": (1, 4, 4, 3)}, nodes, outputs)
        constants = Constants(random_parameters(graph))
        program = compile_graph(graph, chip(2, 4, 4), tables=constants.table_of)
        check_chip(program)
        inputs = {"in": np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 3), dtype=np.int8)}
        found, _ = execute_chip(program, inputs, constants)
        expected = evaluate(graph, constants, inputs)
        assert found.keys() == set(outputs)
        for name in outputs:
            assert_array_equal(found[name], expected[name])


def test_reduction_is_that_of_all_operands_together() -> None:
    """psum_width 17 holds sums over 3 products; 2 and 2 are 4."""
    shape = (1, 2, 2, 2)
    node = Linear("sum", (Operand(("in",), conv("a", shape, 3)), Operand(("in",), conv("b", shape, 3))))
    with pytest.raises(WorkloadError, match=r"^sum: the reduction K is 4, 1 more than psum_width 17 sums without wrapping \(3\)$"):
        compile_graph(Graph("g", {"in": shape}, (node,)), chip(2, 4, 4, psum_width=17))
