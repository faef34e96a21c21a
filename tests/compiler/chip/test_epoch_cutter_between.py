"""compiler.chip.epoch_cutter: what is handed on stays, what is dead is used again, and outputs leave when they are there."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.compiler.chip import epoch_cutter as epochs_module
from podweave.compiler.chip.bank_image import outputs
from podweave.compiler.chip.bank_words import BankWords
from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import Machine, execute_chip
from podweave.compiler.chip.producers import Producer
from podweave.compiler.chip.state import SchedulerState
from podweave.compiler.jobs import Place, ProgramError
from podweave.compiler.lower.boxes import positions
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear, Operand, Window
from tests.compiler.chip.chip_graphs import SAME, chain, chip, conv
from tests.compiler.chip.policies import HALF
from tests.compiler.chip.test_epoch_cutter import W_CHAIN, Case, bury, names, run_case, words_of


def test_words_that_nobody_reads_are_used_again() -> None:
    """Twelve layers of 32 words in each P bank, in banks that hold four."""
    graph, config = chain((1, 8, 8, 4), *[4] * 12), chip(2, 4, 4, p_words=129)
    with pytest.raises(WorkloadError, match="P bank"):
        compile_graph(graph, config)
    programs = run_case(Case(graph, config))
    places = [{(item.place.bank, item.place.base) for item in program.accumulated} for program in programs]
    assert len(programs) >= 4
    assert any(places[0] & later for later in places[1:])
    for program in programs[1:]:
        # Only the last layer of the epoch before.
        assert {item.operation for item in program.carried} == {program.operations[0] - 1}


def residual_at_the_end(length: int) -> Graph:
    """A chain whose last layer also reads what the first one gave."""
    graph = chain((1, 6, 6, 4), *[4] * length)
    first, last = graph.operations[0], graph.operations[-1]
    side = Operand((first.name,), conv("side", first.output, 4))
    end = Linear("end", (Operand((last.name,), conv("end", last.output, 4, **SAME)), side))
    return Graph("late", graph.inputs, (*graph.operations, end))


def test_live_words_stay_where_they_are() -> None:
    programs = run_case(Case(residual_at_the_end(8), chip(2, 4, 4, p_words=100)))
    assert len(programs) >= 4
    kept = [item for item in programs[0].accumulated if item.operation == 0]
    for program in programs[1:]:
        assert {item for item in program.carried if item.operation == 0} == set(kept)
        words = {(i.place.bank, i.place.base + w) for i in program.accumulated for w in range(words_of(i))}
        assert words.isdisjoint({(i.place.bank, i.place.base + w) for i in kept for w in range(words_of(i))})


def test_outputs_of_early_epochs() -> None:
    """Nodes that nobody reads: each is sent in the epoch that computes it, once, and its words are free afterwards."""
    shape = (1, 6, 6, 4)
    nodes: list[Linear] = []
    source = "in"
    for number in range(6):
        nodes.append(Linear(f"n{number}", (Operand((source,), conv(f"n{number}", shape, 4)),)))
        nodes.append(Linear(f"out{number}", (Operand((f"n{number}",), conv(f"out{number}", shape, 4)),)))
        source = f"n{number}"
    graph = Graph("outputs", {"in": shape}, tuple(nodes))
    programs = run_case(Case(graph, chip(2, 4, 4, w_words=32)))
    assert len(programs) >= 3
    sent = [{graph.operations[item.operation].name for item in program.stored} for program in programs]
    assert sum(len(found) for found in sent) == 6
    assert set().union(*sent) == {f"out{number}" for number in range(6)}
    assert sent[0]
    for epoch, program in enumerate(programs):
        assert all(not graph.operations[item.operation].name.startswith("out") for item in program.carried)
        assert sent[epoch] <= set(names(graph, program))
    parameters = random_parameters(graph)
    constants = Constants(parameters)
    inputs = {"in": np.ones(shape, np.int8)}
    found, _ = execute_chip(compile_epochs(graph, chip(2, 4, 4, w_words=32), HALF, tables=constants.table_of), inputs, constants)
    expected = evaluate(graph, parameters, inputs)
    assert found.keys() == set().union(*sent)
    for name, value in found.items():
        assert_array_equal(value, expected[name], strict=True)


def test_outputs_that_do_not_fit_beside_the_rest() -> None:
    """Seven outputs of 36 words: what X banks cannot hold until the end of the epoch is for the next one."""
    shape = (1, 6, 6, 4)
    nodes = tuple(Linear(f"n{i}", (Operand(("in",), conv(f"n{i}", shape, 4)),)) for i in range(7))
    programs = run_case(Case(Graph("outputs", {"in": shape}, nodes), chip(2, 4, 4, x_words=90)))
    assert len(programs) > 1
    assert {item.operation for item in programs[0].stored} == set(programs[0].operations)


def test_after_across_epochs() -> None:
    """What is to come after a node of an earlier epoch may begin at once, even if nothing is left of that node."""
    shape = (1, 6, 6, 4)
    nodes = [
        Linear("a", (Operand(("in",), conv("a", shape, 4)),)),
        *(Linear(f"n{i}", (Operand(("a" if i == 0 else f"n{i - 1}",), conv(f"n{i}", shape, 4)),)) for i in range(6)),
        Linear("late", (Operand(("in",), conv("late", shape, 4)),), after=("n0", "n4", "in")),
        Linear("last", (Operand(("in",), conv("last", shape, 4)),), after=("late",)),
    ]
    graph = Graph("after", {"in": shape}, tuple(nodes))
    programs = run_case(Case(graph, chip(2, 4, 4, w_words=24)))
    epoch = {name: number for number, program in enumerate(programs) for name in names(graph, program)}
    assert epoch["n0"] < epoch["late"]
    assert epoch["n4"] <= epoch["late"] <= epoch["last"]
    late = programs[epoch["late"]]
    assert "n0" not in {graph.operations[item.operation].name for item in late.carried}
    # Without its wish it would be in the first epoch.
    free = dataclasses.replace(graph, operations=tuple(dataclasses.replace(node, after=()) for node in nodes))
    assert "late" in names(free, run_case(Case(free, chip(2, 4, 4, w_words=24)))[0])


def test_pooled_and_concatenated_across_epochs() -> None:
    """Windows, padding of -128, channels and concatenation of what earlier epochs left."""
    shape = (2, 6, 6, 8)
    pool = dataclasses.replace(conv("pool", shape, 8), groups=8, padding=((1, 1), (1, 1)))
    nodes = (
        Linear("a", (Operand(("in",), conv("a", shape, 8, **SAME)),)),
        Linear("b", (Operand(("a",), conv("b", shape, 8, **SAME)),), Window("max", (2, 2), (2, 2))),
        Linear("pool", (Operand(("a",), pool, -128),), Window("max", (3, 3), (2, 2)), identity=True),
        Linear("c", (Operand(("b", "pool", "b"), conv("c", (2, 3, 3, 24), 9, **SAME)),)),
        Linear("d", (Operand(("c",), conv("d", (2, 3, 3, 5), 6), channels=(3, 5)),)),
        Linear(
            "mean", (Operand(("d",), dataclasses.replace(conv("mean", (2, 3, 3, 6), 6), groups=6)),), Window("sum", (3, 3), (1, 1))
        ),
    )
    graph = Graph("net", {"in": shape}, nodes)
    for config in (
        chip(2, 4, 4, w_words=400),
        chip(4, 8, 4, 0, w_words=400, kind="crossbar"),
        chip(4, 4, 8, w_words=300, y_planes=2),
    ):
        assert len(run_case(Case(graph, config))) > 1


# The checks above, seen to fail.


def test_words_given_back_too_early_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a later epoch reads is free, and something else is stored there."""
    case = Case(residual_at_the_end(8), chip(2, 4, 4, p_words=100))
    kept, release = epochs_module.EpochCutter._kept, BankWords.release

    def careless(self: epochs_module.EpochCutter, state: SchedulerState) -> dict[str, Producer]:
        result = kept(self, state)
        if "n0" in result:
            for fragment in itertools.chain.from_iterable(result["n0"].fragments.values()):
                self.storage.release(fragment.place, positions(fragment.box))
        return result

    def lenient(self: BankWords, place: Place, words: int) -> None:
        with contextlib.suppress(ValueError):
            release(self, place, words)

    monkeypatch.setattr(epochs_module.EpochCutter, "_kept", careless)
    with pytest.raises(ValueError, match=r"^P bank \d: words \d+ to \d+ are not all taken$"):
        run_case(case)
    monkeypatch.setattr(BankWords, "release", lenient)
    with pytest.raises(ProgramError, match=r"which an earlier epoch left there$"):
        run_case(case)


def test_words_that_are_not_given_back_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = epochs_module.EpochCutter._kept

    def careful(self: epochs_module.EpochCutter, state: SchedulerState) -> dict[str, Producer]:
        self.readers = self.waiting = Counter({node.name: 1 for node in self.graph.operations})
        return original(self, state)

    monkeypatch.setattr(epochs_module.EpochCutter, "_kept", careful)
    with pytest.raises(AssertionError):
        run_case(Case(W_CHAIN, chip(2, 4, 4, w_words=32)))


def test_garbage_in_dead_words_is_seen() -> None:
    """A program that is not told of what it reads gets garbage, and the result is another one."""
    graph, config = W_CHAIN, chip(2, 4, 4, w_words=32)
    parameters = random_parameters(graph)
    constants = Constants(parameters)
    inputs = {"in": np.random.default_rng(0).integers(-128, 128, graph.inputs["in"], dtype=np.int8)}
    programs = compile_epochs(graph, config, HALF, tables=constants.table_of)
    found = []
    for forgotten in (False, True):
        machine = Machine(config)
        for epoch, program in enumerate(programs):
            bury(machine, dataclasses.replace(program, carried=()) if forgotten and epoch == 1 else program)
            machine.load(program, inputs, parameters)
            machine.run(program, constants.tables)
        found.append(outputs(programs[-1], machine.x)["n9"])
    assert_array_equal(found[0], evaluate(graph, parameters, inputs)["n9"])
    assert (found[0] != found[1]).any()
