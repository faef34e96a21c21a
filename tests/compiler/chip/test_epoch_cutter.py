"""compiler.chip.epoch_cutter: graphs cut by small banks and by shares compute what the golden models compute, epoch by epoch."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.compiler.chip.bank_image import accumulators, needed_accumulators, outputs
from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_program import Accumulated, EpochProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import Machine
from podweave.golden.cycle.chip.chip import ChipGeometry, chip_figures
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from tests.compiler.chip.chip_graphs import HEALTH, SAME, chain, chip, equal, golden_accumulators, graphs, own_tables
from tests.compiler.chip.policies import HALF, policy

GARBAGE = 0x5A5A5A5A


@dataclasses.dataclass(frozen=True)
class Case:
    graph: Graph
    config: ChipConfig
    share: float = 0.5
    partition: int | None = None
    seed: int = 0
    own_tables: bool = False


def names(graph: Graph, program: EpochProgram) -> list[str]:
    return [graph.operations[index].name for index in program.operations]


def words_of(item: Accumulated) -> int:
    return int(np.prod([end - begin for begin, end in item.box]))


def run_case(case: Case) -> tuple[EpochProgram, ...]:
    """Compile, check every epoch, execute them one after the other, compare everything; dead words become garbage."""
    graph, config = case.graph, case.config
    assert config.post is not None
    parameters = random_parameters(graph, case.seed)
    parameters = own_tables(parameters, case.seed) if case.own_tables else parameters
    constants = Constants(parameters)
    rng = np.random.default_rng(case.seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    programs = compile_epochs(graph, config, policy(case.share), tables=constants.table_of, partition=case.partition)
    assert sorted(index for program in programs for index in program.operations) == list(range(len(graph.operations)))
    expected = evaluate(graph, parameters, inputs)
    sums = golden_accumulators(graph, parameters, expected)
    machine, found = Machine(config), {}
    for epoch, program in enumerate(programs):
        check_chip(program)
        require_order(graph, programs[: epoch + 1])
        require_carried(graph, programs, epoch)
        bury(machine, program)
        machine.load(program, inputs, parameters)
        machine.run(program, {slot: constants.tables[number] for slot, number in program.tables.items()})
        here = outputs(program, machine.x)
        assert here.keys() == set(names(graph, program)) & set(graph.outputs)
        found |= here
        held, needed = accumulators(program, machine.p), needed_accumulators(program)
        for name in names(graph, program):
            assert needed[name].any()
            assert_array_equal(held[name][needed[name]], sums[name][needed[name]], err_msg=name)
    for name, value in found.items():
        assert_array_equal(value, expected[name], err_msg=name, strict=True)
    assert not machine.p[:, zero_word(config)].any()
    require_shares(programs, case.share)
    return programs


def read_names(graph: Graph) -> set[str]:
    return {source for node in graph.operations for operand in node.operands for source in operand.sources}


def require_order(graph: Graph, programs: Sequence[EpochProgram]) -> None:
    """Nodes of the last of these programs come after all that they read or that they are to come after."""
    done = [name for program in programs for name in names(graph, program)]
    for index in programs[-1].operations:
        node = graph.operations[index]
        before = {source for operand in node.operands for source in operand.sources} | set(node.after)
        assert before <= set(graph.inputs) | set(done[: done.index(node.name)])


def require_carried(graph: Graph, programs: Sequence[EpochProgram], epoch: int) -> None:
    """What an epoch finds is all that earlier ones have computed and that it or a later one reads: no more, and no less."""
    later = {index for program in programs[epoch:] for index in program.operations}
    live = {source for index in later for operand in graph.operations[index].operands for source in operand.sources}
    expected = [
        item for program in programs[:epoch] for item in program.accumulated if graph.operations[item.operation].name in live
    ]
    assert set(programs[epoch].carried) == set(expected)
    assert len(programs[epoch].carried) == len(expected)


def bury(machine: Machine, program: EpochProgram) -> None:
    """Write garbage over all words of P banks that nobody may read."""
    live = np.zeros(machine.p.shape[:2], bool)
    live[:, zero_word(machine.config)] = True
    for item in program.carried:
        words = slice(item.place.base, item.place.base + words_of(item))
        assert not live[item.place.bank, words].any()
        live[item.place.bank, words] = True
    machine.p[~live] = GARBAGE


def ring_words(program: EpochProgram) -> dict[str, set[tuple[int, int]]]:
    """Each (bank, word) of W banks that an epoch reads, and each (bank, set) of parameters that it has."""
    loads = program.loads
    jobs = zip(*(loads[name].tolist() for name in ("w_bank", "w_base", "rows")), strict=True)
    weights = {(bank, base + row) for bank, base, rows in jobs for row in range(rows)}
    return {"w": weights, "set": {(item.bank, item.index) for item in program.parameters}}


def fullest(program: EpochProgram) -> dict[str, int]:
    """Words and jobs of the bank or store that has the most of each kind."""
    places = {kind: np.array([bank for bank, _ in words], np.int64) for kind, words in ring_words(program).items()}
    places |= {"load": program.loads["pod"], "stream": program.streams["pod"], "post": program.posts["bank"]}
    return {kind: int(np.bincount(banks, minlength=1).max()) for kind, banks in places.items()}


def require_shares(programs: Sequence[EpochProgram], share: float) -> None:
    """An epoch of several nodes keeps to its share. Of two with up to half each, the second can be loaded during the first."""
    config = programs[0].config
    assert config.post is not None
    assert config.program is not None
    stores = {kind: getattr(config.program, f"{kind}_jobs") for kind in ("load", "stream", "post")}
    depths = {"w": config.memory.w_words, "set": config.post.parameter_sets, **stores}
    shared = [len(program.operations) > 1 for program in programs]
    for program, several in zip(programs, shared, strict=True):
        for kind, most in fullest(program).items():
            assert most <= (max(2 if kind in stores else 1, int(depths[kind] * share)) if several else depths[kind])
    for first, second, both in zip(programs, programs[1:], map(all, itertools.pairwise(shared)), strict=False):
        if both and share <= 0.5:
            words = ring_words(first), ring_words(second)
            assert all(words[0][kind].isdisjoint(words[1][kind]) for kind in ("w", "set"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random graphs on chips of which something or other is too small for all of it."""
    rows, cols = draw(st.sampled_from([(4, 4), (4, 4), (8, 4), (4, 8), (4, 1), (1, 2)]))
    config = chip(
        draw(st.sampled_from([2, 4, 8])),
        rows,
        cols,
        draw(st.sampled_from([0, 8, 24, 256])),
        y_planes=draw(st.sampled_from([1, 2])),
        kind=draw(st.sampled_from(["butterfly", "butterfly", "crossbar"])),
        x_words=draw(st.sampled_from([16384, 400, 200])),
        w_words=draw(st.sampled_from([16384, 250, 90])),
        p_words=draw(st.sampled_from([16384, 300, 120])),
        parameter_sets=draw(st.sampled_from([256, 16, 10])),
        load_jobs=draw(st.sampled_from([2**16, 100])),
        stream_jobs=draw(st.sampled_from([2**16, 160])),
        post_jobs=draw(st.sampled_from([2**16, 160])),
    )
    # With prefetch engines, mappings are chosen with the time of the memory in mind.
    prefetch = draw(st.sampled_from([None, PrefetchConfig(managers=1, data_width=64), PrefetchConfig(managers=2, data_width=512)]))
    config = dataclasses.replace(config, prefetch=prefetch)
    share = draw(st.sampled_from([0.5, 0.5, 0.5, 0.3, 1.0]))
    graph = draw(graphs().filter(lambda graph: len(graph.operations) > 2))
    return Case(graph, config, share, draw(st.sampled_from([None, None, 8, 0])), draw(st.integers(0, 99)))


def run_or_refuse(case: Case) -> int:
    """Epochs of a case, 0 if it does not fit: then for a reason that names a limit and the excess."""
    try:
        return len(run_case(case))
    except WorkloadError as error:
        sentence = str(error)
    assert re.search(r" [1-9]\d* more than .*\(.*\d+\)$", sentence), sentence
    return 0


def test_random_graphs() -> None:
    """Many of them have several epochs, and few are refused: else they would not be worth much."""
    found: list[int] = []

    @settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=HEALTH)
    @given(cases())
    def run(case: Case) -> None:
        found.append(run_or_refuse(case))

    run()
    assert sum(epochs > 1 for epochs in found) > len(found) // 5
    assert max(found) > 3
    assert sum(epochs == 0 for epochs in found) < len(found) // 3


@pytest.mark.campaign
@settings(deadline=None, max_examples=3000, suppress_health_check=HEALTH, print_blob=True)
@given(cases())
def test_random_graphs_campaign(case: Case) -> None:
    run_or_refuse(case)


# What cuts a graph.

W_CHAIN = chain((1, 8, 8, 4), *[4] * 10)
"""Ten layers of one weight tile of four words, over positions for both of two pods."""


def test_cut_by_hand() -> None:
    """Both pods hold each weight tile: 16 of 32 words are four layers, and every second epoch begins in the middle of the bank."""
    programs = run_case(Case(W_CHAIN, chip(2, 4, 4, w_words=32), partition=32))
    assert [program.operations for program in programs] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    for bank in (0, 1):
        bases = [[item.place.base for item in program.weights if item.place.bank == bank] for program in programs]
        assert bases == [[0, 4, 8, 12], [16, 20, 24, 28], [0, 4]]
    whole = run_case(Case(W_CHAIN, chip(2, 4, 4, w_words=32), share=1.0, partition=32))
    assert [len(program.operations) for program in whole] == [8, 2]


def test_the_first_epoch_may_be_smaller() -> None:
    """A quarter of 16 words is one layer; where not even one fits, it is as large as the others."""
    for first, nodes in ((0.25, [1, 4, 4, 1]), (0.5, [2, 4, 4]), (0.2, [4, 4, 2]), (1.0, [4, 4, 2])):
        programs = compile_epochs(W_CHAIN, chip(2, 4, 4, w_words=32), policy(0.5, first), partition=32)
        assert [len(program.operations) for program in programs] == nodes
        for program in programs:
            check_chip(program)


@pytest.mark.parametrize(
    ("graph", "changes", "epochs"),
    [
        (W_CHAIN, {"w_words": 16}, 5),
        (W_CHAIN, {"parameter_sets": 6}, 3),
        (chain((1, 8, 8, 4), *[4] * 6), {"x_words": 100}, 3),
        (W_CHAIN, {"p_words": 140}, 3),
        (chain((1, 6, 6, 8), *[8] * 6), {"load_jobs": 40}, 3),
        (chain((1, 6, 6, 8), *[8] * 6), {"stream_jobs": 60}, 3),
        (chain((1, 6, 6, 8), *[8] * 6, **SAME), {"post_jobs": 64}, 3),
        (chain((1, 16, 16, 4), *[4] * 4), {"time_width": 9}, 2),
    ],
    ids=["w_bank", "parameter_sets", "x_bank", "p_bank", "load_store", "stream_store", "post_store", "time"],
)
def test_whatever_is_full_ends_the_epoch(graph: Graph, changes: dict[str, int], epochs: int) -> None:
    config = chip(2, 4, 4)
    assert len(run_case(Case(graph, config))) == 1
    programs = run_case(Case(graph, config.replace(**changes)))
    assert len(programs) >= epochs


@pytest.mark.parametrize("pods", [2, 8])
def test_one_epoch_is_the_program_of_the_graph(pods: int) -> None:
    """Where there is room, nothing is chosen in another way than for a graph as a whole."""
    for graph in (W_CHAIN, chain((1, 6, 6, 8), 12, 7, **SAME)):
        programs = compile_epochs(graph, chip(pods, 4, 4), HALF)
        assert len(programs) == 1
        assert equal(programs[0], compile_graph(graph, chip(pods, 4, 4)))


def test_the_same_epochs_every_time() -> None:
    case = Case(chain((1, 6, 6, 8), 12, 12, 12, 12, **SAME), chip(4, 4, 4, w_words=300))
    first, second = (compile_epochs(case.graph, case.config, HALF) for _ in range(2))
    assert len(first) > 1
    assert all(equal(left, right) for left, right in zip(first, second, strict=True))


def test_times_and_figures_are_those_of_an_epoch() -> None:
    """Each begins at time 0, ends with its own last word, and has counted its own words only."""
    config = chip(4, 4, 4, w_words=300)
    programs = run_case(Case(chain((1, 6, 6, 8), 12, 12, 12, 12, **SAME), config))
    assert len(programs) > 1
    geometry = ChipGeometry(
        pods=4, write_latency=config.write_latency, post_latency=config.post_latency, epoch_overhead=config.epoch_overhead
    )
    for program in programs:
        figures = chip_figures(program.loads, program.streams, program.posts, geometry)
        assert min(int(jobs["start"].min(initial=9)) for jobs in (program.loads, program.streams, program.posts)) == 0
        ends = [
            program.streams["start"] + program.words_streamed + config.write_latency,
            program.posts["start"] + program.words_read + config.post_latency,
        ]
        assert figures.cycles == max(int(end.max(initial=0)) for end in ends) - 1 + config.epoch_overhead
        assert figures.counters["x_words"].sum() == program.words_streamed.sum()
        sums = sum(words_of(item) for item in program.accumulated)
        assert figures.counters["p_stores"].sum() == sums
        assert set(program.operation_of_stream) == set(program.operations)
        assert (
            {item.operation for item in program.weights}
            == {item.operation for item in program.accumulated}
            == set(program.operations)
        )
    whole = compile_graph(programs[0].graph, chip(4, 4, 4))
    alone = chip_figures(whole.loads, whole.streams, whole.posts, geometry)
    assert all(chip_figures(p.loads, p.streams, p.posts, geometry).cycles < alone.cycles for p in programs)


# Nodes that need more than a share.


def wide(*outputs: int) -> Graph:
    return chain((1, 4, 4, 4), *outputs)


def test_a_large_node_gets_an_epoch_of_its_own() -> None:
    """Layers of 8, 8, 40, 40, 8 and 8 outputs: the weights of 40 x 40 are 50 tiles in each bank, more than half of it."""
    programs = run_case(Case(wide(8, 8, 40, 40, 8, 8), chip(2, 4, 4, w_words=240)))
    assert (3,) in [program.operations for program in programs]
    alone = next(program for program in programs if program.operations == (3,))
    assert fullest(alone)["w"] == 200
    assert all(fullest(program)["w"] <= 120 for program in programs if program is not alone)


def test_a_node_that_takes_all_of_the_banks() -> None:
    """200 words of 200, behind an epoch after which the rings stand at word 36: they begin again."""
    graph = chain((1, 4, 4, 3), 40, 40)
    programs = run_case(Case(graph, chip(2, 4, 4, w_words=200)))
    assert [program.operations for program in programs] == [(0,), (1,)]
    assert fullest(programs[0])["w"] % 4
    assert fullest(programs[1])["w"] == 200
    assert min(item.place.base for item in programs[1].weights) == 0
    # With one word more there is no need to.
    more = run_case(Case(graph, chip(2, 4, 4, w_words=203)))
    assert more[1].weights[0].place.base == fullest(more[0])["w"]


LARGE = chain((1, 4, 4, 4), 8, 40, 40)


@pytest.mark.parametrize(
    ("graph", "changes", "sentence"),
    [
        (LARGE, {"w_words": 196}, r"n2: W bank \d is full: 4 words more are 4 more than w_words \(196\)"),
        (chain((1, 4, 4, 4), 8, 40), {"parameter_sets": 5}, r"n1: post-processor \d is full: 1 sets more .* parameter_sets \(5\)"),
        (LARGE, {"x_words": 40}, r"n2: X bank \d is full: (\d+) words more are (\d+) more than x_words \(40\)"),
        (
            LARGE,
            {"p_words": 97},
            r"n2: P bank \d is full: (\d+) words more are (\d+) more than are free in one piece \(\d+ of p_words 97\)",
        ),
        (LARGE, {"load_jobs": 49}, r"the program has (\d+) jobs for the store of unit \d, (\d+) more than load_jobs \((49)\)"),
        (LARGE, {"stream_jobs": 40}, r"the program has (\d+) jobs for the store of unit \d, (\d+) more than stream_jobs \((40)\)"),
        (
            chain((1, 8, 8, 4), 8, 40, **SAME),
            {"post_jobs": 4},
            r"the program has (\d+) jobs for the store of unit \d, (\d+) more than post_jobs \((4)\)",
        ),
        (
            chain((1, 32, 32, 4), 4, 4),
            {"time_width": 9},
            r"the epoch would last (\d+) cycles, (\d+) more than time_width allows \((511)\)",
        ),
        (
            chain((1, 2, 2, 3), 3, 9, 2),
            {"psum_width": 17},
            r"n2: the reduction K is 9, 6 more than psum_width 17 sums without wrapping \(3\)",
        ),
    ],
    ids=["w_bank", "parameter_sets", "x_bank", "p_bank", "load_store", "stream_store", "post_store", "time", "reduction"],
)
def test_what_cannot_fit_is_refused(graph: Graph, changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        compile_epochs(graph, chip(2, 4, 4).replace(**changes), HALF)
    found = re.fullmatch(sentence, str(caught.value))
    assert found, str(caught.value)
    if len(found.groups()) == 3:
        count, excess, limit = map(int, found.groups())
        assert count - excess == limit


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01])
def test_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=rf"^bank_share must be more than 0 and at most 1, got {share}$"):
        policy(share)
    with pytest.raises(ValueError, match=rf"^first_epoch_share must be more than 0 and at most 1, got {share}$"):
        policy(0.5, share)


def test_progress() -> None:
    """Nodes of earlier epochs and of this attempt, of all; a last time when all are done."""
    told: list[tuple[int, int]] = []
    programs = compile_epochs(W_CHAIN, chip(2, 4, 4, w_words=32), HALF, progress=lambda done, count: told.append((done, count)))
    assert len(programs) > 1
    assert {count for _, count in told} == {10}
    assert {done for done, _ in told} == set(range(1, 11))
    assert told[-1] == (10, 10)
