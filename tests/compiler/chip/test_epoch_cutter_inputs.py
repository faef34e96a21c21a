"""compiler.chip.epoch_cutter: inputs that several nodes read are loaded once, and stay in the X banks from epoch to epoch."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.compiler.chip.bank_image import outputs
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_program import EpochProgram, ExternalUnit
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import Machine
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand
from tests.compiler.chip.check.chip_programs import changed, pads, refused
from tests.compiler.chip.chip_graphs import SAME, chip, conv
from tests.compiler.chip.policies import HALF
from tests.compiler.chip.test_epoch_cutter import Case, run_case

SHAPE = (1, 6, 6, 4)


def reader(name: str, source: str = "in", kernel: int = 1, **options: object) -> Linear:
    return Linear(name, (Operand((source,), conv(name, SHAPE, 4, kernel, **options)),))  # type: ignore[arg-type]


def readers(count: int) -> Graph:
    """Nodes that all read the same words of the input."""
    return Graph("readers", {"in": SHAPE}, tuple(reader(f"n{i}") for i in range(count)))


def words_of(items: tuple[ExternalUnit, ...]) -> int:
    return sum(item.region.words for item in items)


def spans(items: tuple[ExternalUnit, ...]) -> set[tuple[int, int]]:
    return {(item.place.bank, item.place.base + word) for item in items for word in range(item.region.words)}


def require_resident(programs: tuple[EpochProgram, ...]) -> None:
    """What an epoch finds in X banks is what the one before had in them; nothing is loaded over it."""
    assert not programs[0].resident
    for before, program in itertools.pairwise(programs):
        assert set(program.resident) <= {*before.resident, *before.external_units}
        assert spans(program.resident).isdisjoint(spans(program.external_units))


def test_nodes_share_what_the_host_loads() -> None:
    """Of one epoch: once for each bank that reads it, whoever does, unless they read other words."""
    program = compile_graph(readers(5), chip(2, 4, 4), partition=0)
    check_chip(program)
    assert len(program.external_units) == len({item.place.bank for item in program.external_units})
    assert all(item.region.words == 36 for item in program.external_units)
    other = Graph("other", {"in": SHAPE}, (reader("a"), reader("b", **SAME), reader("c", padding=((1, 0), (0, 0))), reader("d")))
    loaded = compile_graph(other, chip(2, 4, 4), partition=0).external_units
    assert {"a", "b", "c"} <= {other.operations[item.operation].name for item in loaded}


def test_inputs_stay_in_x_banks() -> None:
    """Each epoch has as much of a layer as before, and loads nothing."""
    programs = run_case(Case(readers(9), chip(2, 4, 4, w_words=24)))
    require_resident(programs)
    assert len(programs) >= 3
    assert words_of(programs[0].external_units) > 0
    assert not any(program.external_units for program in programs[1:])
    assert all(set(program.resident) == set(programs[0].external_units) for program in programs[1:])


def test_two_inputs_and_nodes_between() -> None:
    """Inputs that are read late, again, with padding, by their channels, and on both ends of X banks that are nearly full."""
    nodes = (
        reader("a"),
        reader("b", "a", **SAME),
        reader("c", "in2", **SAME),
        reader("d", "b"),
        reader("e", "in", **SAME),
        Linear("f", (Operand(("in",), conv("f", (1, 6, 6, 2), 4), channels=(1, 2)), Operand(("d",), conv("f/side", SHAPE, 4)))),
        reader("g", "in2", **SAME),
        reader("h"),
        Linear("i", (Operand(("in", "in2"), conv("i", (1, 6, 6, 8), 5)),)),
        Linear("j", (Operand(("in2", "in"), conv("j", (1, 6, 6, 8), 5)),)),
    )
    graph = Graph("two", {"in": SHAPE, "in2": SHAPE}, nodes)
    for config in (chip(2, 4, 4, w_words=100), chip(2, 4, 4, w_words=100, x_words=200), chip(4, 8, 4, 0, w_words=120)):
        programs = run_case(Case(graph, config, seed=3))
        require_resident(programs)
        assert len(programs) > 2
        assert any(program.resident for program in programs)


@pytest.mark.parametrize(("x_words", "stay"), [(340, False), (400, True)])
def test_inputs_make_room_for_what_does_not_fit_beside_them(x_words: int, stay: bool) -> None:
    """A node that takes more of the X banks than the inputs leave, or just as much."""
    deep = reader("deep", "n0", 3, padding=((6, 6), (6, 6)))
    last = dataclasses.replace(reader("last"), after=("deep",))
    graph = Graph("room", {"in": SHAPE}, (*(reader(f"n{i}") for i in range(4)), deep, last))
    programs = run_case(Case(graph, chip(2, 4, 4, w_words=40, x_words=x_words)))
    require_resident(programs)
    assert [program.operations for program in programs] == [(0, 1, 2, 3), (4,), (5,)]
    assert [bool(program.resident) for program in programs] == [False, stay, stay]
    assert [bool(program.external_units) for program in programs] == [True, False, not stay]


def test_nothing_is_sent_over_inputs_that_stay() -> None:
    """Planted: a word of activations on top of what an earlier epoch left in the X banks."""
    nodes = (*(reader(f"n{i}") for i in range(6)), reader("b", "n0", **SAME), reader("c"))
    programs = compile_epochs(Graph("g", {"in": SHAPE}, nodes), chip(2, 4, 4, w_words=24), HALF)
    legal = programs[1]
    assert legal.resident
    check_chip(legal)
    place = legal.resident[0].place
    job = int(np.flatnonzero(~pads(legal) & (legal.posts["x_bank"] == place.bank))[-1])
    refused(changed(legal, "posts", job, x_base=place.base, n2=1, n3=1), r"on top of what the host loaded$")
    refused(
        dataclasses.replace(legal, external_units=(*legal.external_units, legal.resident[0])),
        r"^X bank \d address \d+ is loaded twice by the host$",
    )
    without = dataclasses.replace(legal, resident=())
    refused(without, r"^stream job \d+ .*: reads X bank \d address \d+ in cycle \d+, slot 0 of which is never written$")


@pytest.mark.parametrize("forgotten", [False, True])
def test_x_banks_that_are_not_kept_are_seen(forgotten: bool) -> None:
    """The machine keeps what a program says is there, and nothing else."""
    graph, config = readers(6), chip(2, 4, 4, w_words=16)
    parameters = random_parameters(graph)
    constants = Constants(parameters)
    inputs = {"in": np.random.default_rng(1).integers(-128, 128, SHAPE, dtype=np.int8)}
    expected, machine, wrong = evaluate(graph, parameters, inputs), Machine(config), 0
    for program in compile_epochs(graph, config, HALF, tables=constants.table_of):
        machine.load(dataclasses.replace(program, resident=()) if forgotten else program, inputs, parameters)
        machine.run(program, constants.tables)
        for name, value in outputs(program, machine.x).items():
            if forgotten:
                wrong += bool((value != expected[name]).any())
            else:
                assert_array_equal(value, expected[name], strict=True)
    assert bool(wrong) == forgotten
