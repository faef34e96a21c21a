"""compiler.chip.split_sums: a network whose reductions are split computes the same, in epochs that add to the same sums."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.compiler.chip.check.parts import check_left
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.executor import execute_chip
from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.chip.split_outputs import SplitGraph, split_outputs
from podweave.compiler.chip.split_sums import split_sums
from podweave.compiler.jobs import ProgramError
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.verify import verify
from podweave.spec.config import ChipConfig
from tests.compiler.chip.chip_graphs import SAME, chip, conv
from tests.compiler.chip.policies import HALF

SHAPE = (1, 4, 4, 40)


def split(graph: Graph, config: ChipConfig, policy: BankPolicy = HALF) -> SplitGraph:
    parts = split_outputs(graph, config, policy)
    made, sums = split_sums(parts.graph, config, policy)
    return dataclasses.replace(parts, graph=verify(made), sums=sums)


def compiled(graph: Graph, config: ChipConfig, policy: BankPolicy = HALF) -> tuple[SplitGraph, tuple[EpochProgram, ...]]:
    """A graph whose tensors, by the golden model and by its programs, are those of the graph as it was."""
    found = split(graph, config, policy)
    whole, rng = random_parameters(graph), np.random.default_rng(0)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    expected = evaluate(graph, whole, inputs)
    constants = found.constants(whole)
    joined = found.join(evaluate(found.graph, constants, inputs))
    assert joined.keys() == expected.keys()
    for name, value in expected.items():
        assert_array_equal(joined[name], value, err_msg=name, strict=True)
    programs = compile_epochs(found.graph, config, policy, tables=constants.table_of)
    outputs = found.join(execute_chip(programs, inputs, Constants(constants))[0])
    for name in graph.outputs:
        assert_array_equal(outputs[name], expected[name], err_msg=name, strict=True)
    for program in programs:
        check_chip(program)
    check_left(programs)
    return found, programs


def layer_graph(*operands: Operand, window: Window | None = None) -> Graph:
    return Graph("g", {"in": SHAPE, "other": SHAPE}, (Linear("a", operands, window),))


def taken(found: SplitGraph) -> list[tuple[object, ...]]:
    """Of the parts of ``a``, what they take of operands: number, channels, rows and columns of the kernel."""
    return [tuple((each.operand, each.channels, each.rows, each.columns) for each in part.takes) for part in found.sums["a"]]


WHOLE = (0, 1), (0, 1)


def test_channels_are_parts() -> None:
    """Ten steps of 4 words, where two banks have 32; half of a bank is two steps, of each of two pods."""
    found, programs = compiled(layer_graph(Operand(("in",), conv("a", SHAPE, 3))), chip(2, 4, 4, w_words=16))
    assert taken(found) == [((0, channels, *WHOLE),) for channels in ((0, 12), (12, 24), (24, 40))]
    assert [each.adds_to for each in found.graph.operations] == ["", "a/k0", "a/k1"]
    assert found.names("a") == ("a/k0", "a/k1", "a")
    # Each epoch finds what the one before has left, in the same places.
    assert len({tuple(item.place for item in program.accumulated) for program in programs}) == 1
    assert [len(program.carried) > 0 for program in programs] == [False, True, True]
    assert not any(len(program.posts["start"]) for program in programs[:-1])


def test_nothing_is_split_that_fits() -> None:
    graph = layer_graph(Operand(("in",), conv("a", SHAPE, 3)))
    assert not split(graph, chip(2, 4, 4, w_words=20)).sums
    assert split(graph, chip(2, 4, 4, w_words=19)).sums


def test_taps_are_parts() -> None:
    """Of one word of channels, whole rows of the kernel, or some taps of one; padding stays where it is."""
    layer = conv("a", (1, 4, 4, 4), 3, 5, padding=((2, 2), (2, 2)), dilation=(1, 1))
    graph = Graph("g", {"in": (1, 4, 4, 4)}, (Linear("a", (Operand(("in",), layer),)),))
    found, _ = compiled(graph, chip(2, 4, 4, w_words=32))
    rows = [each.rows for part in found.sums["a"] for each in part.takes]
    assert rows == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    few, _ = compiled(graph, chip(2, 4, 4, w_words=8))
    columns = [(each.rows, each.columns) for part in few.sums["a"] for each in part.takes]
    assert columns == [((row, row + 1), span) for row in range(5) for span in ((0, 1), (1, 3), (3, 5))]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_groups_have_parts_that_one_bank_holds(share: float) -> None:
    """Two column tiles of four pods: a pod has all groups of its outputs, and no other one takes some of their steps."""
    graph = layer_graph(Operand(("in",), conv("a", SHAPE, 8, groups=8, **SAME)))
    found, _ = compiled(graph, chip(8, 4, 4, w_words=64), BankPolicy(bank_share=share, first_epoch_share=1.0))
    assert len(found.sums["a"]) > 1


@pytest.mark.parametrize(
    ("size", "kernel", "pads", "w_words"),
    [
        # Taps that read beyond the image on both sides, on one, on the other.
        (3, 7, (3, 3), 24),
        (3, 7, (5, 1), 48),
        (3, 7, (0, 6), 56),
        (3, 5, (2, 0), 24),
        # Two that see it, and one that does alone, of rows.
        (2, 6, (2, 2), 24),
        (1, 5, (4, 0), 48),
        (1, 5, (0, 4), 48),
    ],
)
def test_taps_that_read_padding_alone_are_with_others(size: int, kernel: int, pads: tuple[int, int], w_words: int) -> None:
    """Every part has some of the image."""
    layer = conv("a", (1, size, size + 1, 4), 3, kernel, padding=(pads, pads))
    graph = Graph("g", {"in": (1, size, size + 1, 4)}, (Linear("a", (Operand(("in",), layer, pad_value=-9),)),))
    found, _ = compiled(graph, chip(2, 4, 4, w_words=w_words))
    taps = np.zeros((kernel, kernel), int)
    for each in (each for part in found.sums["a"] for each in part.takes):
        taps[slice(*each.rows), slice(*each.columns)] += 1
        for (begin, end), of, sums in zip((each.rows, each.columns), (size, size + 1), layer.output_size, strict=True):
            assert begin - pads[0] < of
            assert end - 1 - pads[0] + sums > 0
    assert (taps == 1).all()


@pytest.mark.parametrize(
    "graph",
    [
        # A residual, and one of some channels of two tensors, with the last of the channels.
        layer_graph(
            Operand(("in",), conv("a", SHAPE, 40)),
            Operand(
                ("in", "other"), dataclasses.replace(conv("r", (1, 4, 4, 40), 40), groups=40), channels=(13, 40), residual=True
            ),
        ),
        layer_graph(Operand(("in",), conv("a", SHAPE, 6, **SAME)), Operand(("other",), conv("b", SHAPE, 6))),
        layer_graph(Operand(("in", "other"), conv("a", (1, 4, 4, 50), 5), channels=(17, 50))),
        layer_graph(Operand(("in",), conv("a", SHAPE, 5, 2)), window=Window("max", (2, 2), (1, 1))),
        layer_graph(Operand(("in",), conv("a", SHAPE, 5, 2)), window=Window("sum", (3, 2), (1, 2))),
        layer_graph(Operand(("in",), conv("a", SHAPE, 80, 3, groups=40))),
        layer_graph(Operand(("in",), conv("a", SHAPE, 20, groups=2, **SAME))),
        layer_graph(Operand(("in",), conv("a", (1, 4, 4, 40), 8, 3, stride=(2, 1), padding=((0, 1), (1, 0))))),
    ],
)
@pytest.mark.parametrize("w_words", [24, pytest.param(8, marks=pytest.mark.campaign)])
def test_all_kinds_of_operations(graph: Graph, w_words: int) -> None:
    found, _ = compiled(graph, chip(2, 4, 4, w_words=w_words))
    assert found.sums


def test_what_a_position_reads_is_split_where_x_banks_do_not_hold_it() -> None:
    graph = layer_graph(Operand(("in",), conv("a", SHAPE, 3, 4)))
    config = chip(2, 4, 4, x_words=80)
    assert len(split(graph, config).sums["a"]) == 2
    assert not split(graph, config.replace(x_words=128)).sums


def test_all_sums_are_kept_where_that_loads_less() -> None:
    """16 positions of 40 channels read 160 words, more than two X banks hold, and three column tiles have 120 of W: 24 of sums."""
    graph = layer_graph(Operand(("in",), conv("a", SHAPE, 12)))
    config = chip(2, 4, 4, x_words=64, w_words=64, p_words=128)
    found, programs = compiled(graph, config)
    # Half of the X banks are four of ten words of channels.
    assert taken(found) == [((0, channels, *WHOLE),) for channels in ((0, 12), (12, 24), (24, 40))]
    assert len(programs) > 1
    # With fewer activations, weights, or words for sums, bands load no more.
    for change in ({"x_words": 96}, {"w_words": 128}, {"p_words": 24}):
        assert not split(graph, config.replace(**change)).sums


def chain() -> tuple[Graph, tuple[EpochProgram, ...]]:
    graph = layer_graph(Operand(("in",), conv("a", SHAPE, 3)))
    found, programs = compiled(graph, chip(2, 4, 4, w_words=16))
    return found.graph, programs


def test_a_part_that_stores_in_place_of_adding_is_refused() -> None:
    """The first of its streams that adds."""
    _, programs = chain()
    emit = programs[1].streams["emit"].copy()
    emit[np.flatnonzero(emit == 2)[0]] = 1
    wrong = dataclasses.replace(programs[1], streams=programs[1].streams | {"emit": emit})
    with pytest.raises(ProgramError, match=r": stores P bank \d address \d+, which an earlier epoch left there$"):
        check_chip(wrong)


def test_a_part_that_is_left_out_is_refused() -> None:
    """The last part, as if the second had been done; and a part that does not write all of its sums."""
    graph, programs = chain()
    left = tuple(dataclasses.replace(item, operation=0) for item in programs[2].carried)
    with pytest.raises(ProgramError, match=r": adds to P bank \d address \d+, which an earlier epoch left there$"):
        check_chip(dataclasses.replace(programs[2], carried=left))
    with pytest.raises(
        ProgramError, match=r"^epoch 1 finds sums of a/k1 in P bank \d from word \d+ on, which the epoch before does not"
    ):
        check_left((programs[0], programs[2]))
    more = dataclasses.replace(programs[1].accumulated[0], place=dataclasses.replace(programs[1].accumulated[0].place, base=900))
    with pytest.raises(ProgramError, match=r"^a/k1: no stream writes P bank \d address \d+, which has sums of it$"):
        check_chip(dataclasses.replace(programs[1], accumulated=(*programs[1].accumulated, more)))
    assert [each.name for each in graph.operations] == ["a/k0", "a/k1", "a"]


def test_what_is_sent_after_the_wrong_part_is_refused() -> None:
    """Jobs of the last epoch in the one before, and as sums of the part of that epoch."""
    graph, programs = chain()
    last = programs[2]
    early = {name: getattr(last, name) for name in ("posts", "parameters", "stored", "tables")}
    wrong = dataclasses.replace(programs[1], operation_of_post=last.operation_of_post, **early)
    with pytest.raises(ProgramError, match=r"^post job 0 .*: sends sums of a from P bank \d address \d+, which has those of a/k1$"):
        check_chip(wrong)
    sets = tuple(dataclasses.replace(item, operation=1) for item in last.parameters)
    wrong = dataclasses.replace(wrong, operation_of_post=np.ones_like(last.operation_of_post), parameters=sets)
    with pytest.raises(ProgramError, match=r"^post job 0 .*: sends sums of a/k1, to which a adds$"):
        check_chip(wrong)
    assert graph.outputs == ("a",)


def test_sums_that_another_epoch_overwrites_are_refused() -> None:
    """An epoch between that does not know of them may store there; then the next one may not find them."""
    _, programs = chain()
    between = dataclasses.replace(programs[0], carried=())
    check_chip(between)
    with pytest.raises(
        ProgramError, match=r"^epoch 2 finds sums of a/k1 in P bank \d from word \d+ on, which the epoch before does not"
    ):
        check_left((programs[0], between, programs[2]))


def test_a_program_that_leaves_a_part_out_computes_something_else() -> None:
    """The executor is no checker of rules: what it finds is wrong."""
    graph, programs = chain()
    whole = random_parameters(layer_graph(Operand(("in",), conv("a", SHAPE, 3))), 0)
    found = split(layer_graph(Operand(("in",), conv("a", SHAPE, 3))), chip(2, 4, 4, w_words=16))
    inputs = {name: np.full(shape, 100, np.int8) for name, shape in graph.inputs.items()}
    constants = Constants(found.constants(whole))
    right = execute_chip(programs, inputs, constants)[0]["a"]
    assert (execute_chip((programs[0], programs[2]), inputs, constants)[0]["a"] != right).any()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"adds_to": "none"}, "g: a adds to none, which no earlier operation sums up"),
        ({"adds_to": "in"}, "g: a adds to in, which no earlier operation sums up"),
        (
            {"window": Window("max", (2, 2), (1, 1))},
            "g: a adds (1, 4, 4, 3) sums to a/k1, which has (1, 4, 4, 3), or has another window",
        ),
        ({"adds_to": "a/k0"}, "g: a/k1 adds to a/k0, which gives no tensor then, but a reads it as well"),
        ({"outputs": ("a/k1", "a")}, "g: a adds to a/k1, which gives no tensor then, but it is an output"),
    ],
)
def test_rules_of_sums(change: dict[str, object], sentence: str) -> None:
    graph, _ = chain()
    outputs = change.pop("outputs", graph.outputs)
    last = dataclasses.replace(graph.operations[-1], **change)
    wrong = dataclasses.replace(graph, operations=(*graph.operations[:-1], last), outputs=outputs)
    with pytest.raises(Exception, match=f"^{re.escape(sentence)}$"):
        verify(wrong)
