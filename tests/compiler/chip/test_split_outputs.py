"""compiler.chip.split_outputs: a network whose large nodes are split computes the same, and fits where it did not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.executor import execute_chip
from podweave.compiler.chip.split_outputs import SplitGraph, split_outputs
from podweave.golden.graph import evaluate
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from podweave.ir.verify import verify
from podweave.spec.config import ChipConfig
from tests.compiler.chip.chip_graphs import HEALTH, SAME, chain, chip, conv, graphs
from tests.compiler.chip.policies import HALF, policy


def require_same(graph: Graph, config: ChipConfig, share: float, seed: int = 0) -> SplitGraph:
    """Every tensor is that of the graph as it was, joined from its parts."""
    split = split_outputs(graph, config, policy(share))
    parameters = random_parameters(graph, seed)
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    expected = evaluate(graph, parameters, inputs)
    found = split.join(evaluate(split.graph, split.constants(parameters), inputs))
    # Those that are seen interleaved have a copy of all parts.
    assert {name for name in found if not name.endswith("/joined")} == expected.keys()
    for name, value in expected.items():
        assert_array_equal(found[name], value, err_msg=name, strict=True)
    for node in graph.operations:
        parts = split.parts.get(node.name, ())
        assert len(parts) != 1
        if parts:
            # One behind the other, in whole column tiles, or whole groups.
            assert [begin for _, begin, _ in parts] == [0, *(end for *_, end in parts[:-1])]
            assert parts[-1][2] == node.output[3]
            sizes = {o.layer.outputs // o.layer.groups for o in node.operands if o.layer.groups > 1 and not o.is_diagonal}
            within = [begin % size for size in sizes for _, begin, _ in parts]
            assert all(begin % config.array.cols == 0 for begin in within or (begin for _, begin, _ in parts))
    return split


def test_random_graphs() -> None:
    """Many of them have something to split."""
    split = []

    @settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=HEALTH)
    @given(
        graphs(), st.sampled_from([(4, 4), (8, 4), (4, 8), (1, 2)]), st.sampled_from([8, 16, 40]), st.sampled_from([0.3, 0.5, 1.0])
    )
    def run(graph: Graph, array: tuple[int, int], w_words: int, share: float) -> None:
        split.append(bool(require_same(graph, chip(2, *array, w_words=w_words), share).parts))

    run()
    assert sum(split) > len(split) // 8


def parts_of(graph: Graph, pods: int, w_words: int, share: float = 0.5) -> dict[str, list[int]]:
    """Where the parts of each node end."""
    split = require_same(graph, chip(pods, 4, 4, w_words=w_words), share)
    return {name: [end for *_, end in parts] for name, parts in split.parts.items()}


LARGE = chain((1, 2, 2, 4), 8, 40, 40)
"""The last layer has 10 column tiles of 40 words."""


def test_by_hand() -> None:
    # Half of 240 words are 3 column tiles; the layer before has 10 of 8 words.
    assert parts_of(LARGE, 2, 120) == {"n2": [8, 20, 28, 40]}
    assert parts_of(LARGE, 2, 120, 1.0) == {"n2": [20, 40]}
    assert parts_of(LARGE, 2, 399) == {"n2": [20, 40]}
    assert parts_of(LARGE, 2, 400) == {}
    # Ten tiles are no work for more than ten pods: there are only as many parts as banks cannot hold, in whatever shares.
    assert parts_of(LARGE, 16, 36) == {}
    assert parts_of(LARGE, 16, 35) == {"n2": [20, 40]}
    # Where a column tile does not fit, there is one for each pod, of which the reduction is to be split.
    assert parts_of(LARGE, 2, 4) == {"n1": [*range(4, 44, 4)], "n2": [*range(8, 48, 8)]}


def test_names_of_parts_are_read_in_their_place() -> None:
    """By what concatenates, adds, pools or comes after."""
    shape = (1, 3, 3, 40)
    diagonal = dataclasses.replace(conv("diagonal", shape, 40), groups=40)
    nodes = (
        Linear("a", (Operand(("in",), conv("a", shape, 40)),)),
        Linear("b", (Operand(("a", "in2"), conv("b", (1, 3, 3, 44), 5)),)),
        Linear("c", (Operand(("in",), conv("c", shape, 40)), Operand(("in",), diagonal)), after=("a", "in")),
        Linear("d", (Operand(("c",), conv("d", shape, 40, **SAME)),)),
        Linear("pool", (Operand(("d",), diagonal),), Window("max", (2, 2), (1, 1)), identity=True),
    )
    graph = Graph("g", {"in": shape, "in2": (1, 3, 3, 4)}, nodes)
    split = require_same(graph, chip(2, 4, 4, w_words=150), 0.5)
    assert {"a", "c", "d"} <= split.parts.keys()
    names = {node.name: node for node in split.graph.operations}
    first = tuple(part for part, *_ in split.parts["a"])
    assert names["b"].operands[0].sources == (*first, "in2")
    assert all(names[part].after == (*first, "in") for part, *_ in split.parts["c"])
    # What takes each channel from one of several tensors stays whole, if it fits.
    assert names["pool"].operands[0].sources == tuple(part for part, *_ in split.parts["d"])
    tight = require_same(graph, chip(2, 4, 4, w_words=18), 0.5)
    names = {node.name: node for node in tight.graph.operations}
    assert len(tight.parts["pool"]) > 2
    for part, begin, end in tight.parts["pool"]:
        found = [name for name, first, last in tight.parts["d"] if first < end and begin < last]
        assert names[part].operands[0].sources == tuple(found)


def test_what_is_read_by_channels_is_split_if_it_does_not_fit() -> None:
    """Wherever readers begin and end."""
    shape = (1, 3, 3, 40)
    grouped = conv("grouped", shape, 40, 3, groups=2)
    slice_of = Operand(("a",), conv("slice", (1, 3, 3, 7), 3), channels=(5, 7))
    nodes = (
        Linear("a", (Operand(("in",), conv("a", shape, 40)),)),
        Linear("grouped", (Operand(("a",), grouped),)),
        Linear("slice", (slice_of,)),
    )
    graph = Graph("g", {"in": shape}, nodes)
    # Ten column tiles of 40 words.
    assert not require_same(graph, chip(2, 4, 4, w_words=2000), 0.5).parts
    split = require_same(graph, chip(2, 4, 4, w_words=40), 0.5)
    assert split.parts.keys() == {"a", "grouped"}
    # Channels 5 to 11 are of two parts.
    assert [(begin, end) for _, begin, end in split.parts["a"]][:3] == [(0, 8), (8, 16), (16, 24)]
    assert split.graph.operations[-1].operands[0].sources == ("a/0", "a/8")
    assert split.graph.operations[-1].operands[0].channels == (5, 7)


@pytest.mark.parametrize(
    ("groups", "outputs", "w_words", "edges"),
    [
        # A group has five column tiles, in pieces of at most two; a group is one and a half, and two are three tiles.
        (2, 40, 64, [4, 12, 20, 24, 32, 40]),
        (8, 48, 20, [*range(6, 54, 6)]),
        (8, 48, 32, [12, 24, 36, 48]),
    ],
)
def test_groups_are_split_between_them_or_inside_of_one(groups: int, outputs: int, w_words: int, edges: list[int]) -> None:
    shape = (1, 3, 3, 40)
    graph = Graph("g", {"in": shape}, (Linear("a", (Operand(("in",), conv("a", shape, outputs, groups=groups)),)),))
    split = require_same(graph, chip(2, 4, 4, w_words=w_words), 0.5)
    assert [end for *_, end in split.parts["a"]] == edges
    for (_, begin, end), part in zip(split.parts["a"], split.graph.operations, strict=True):
        of_group, first = outputs // groups, begin * groups // outputs
        last = -(-end * groups // outputs)
        assert part.operands[0].channels == (first * 40 // groups, (last - first) * 40 // groups)
        assert part.operands[0].layer.groups == max(1, (end - begin) // of_group)


def test_diagonals_of_some_channels_are_cut_like_the_rest() -> None:
    shape = (1, 3, 3, 60)
    diagonal = dataclasses.replace(conv("diagonal", (1, 3, 3, 40), 40), groups=40)
    operands = (Operand(("in",), conv("sum", shape, 40)), Operand(("in",), diagonal, channels=(13, 40), residual=True))
    graph = Graph("g", {"in": shape}, (Linear("sum", operands),))
    split = require_same(graph, chip(2, 4, 4, w_words=200), 0.5)
    assert [node.operands[1].channels for node in split.graph.operations] == [
        (13 + begin, end - begin) for _, begin, end in split.parts["sum"]
    ]
    assert len(split.graph.operations) > 2
    # Of several sources, each part takes those that it needs, and of them the channels.
    two = Graph("g", {"a": (1, 3, 3, 30), "b": (1, 3, 3, 10)}, (Linear("sum", (Operand(("a", "b"), diagonal),)),))
    split = require_same(two, chip(2, 4, 4, w_words=8), 0.5)
    taken = [
        (end, *(getattr(node.operands[0], name) for name in ("sources", "channels")))
        for (*_, end), node in zip(split.parts["sum"], split.graph.operations, strict=True)
    ]
    assert taken == [
        (8, ("a",), (0, 8)),
        (16, ("a",), (8, 8)),
        (24, ("a",), (16, 8)),
        (32, ("a", "b"), (24, 8)),
        (40, ("b",), (2, 8)),
    ]


def test_join_leaves_what_is_not_there() -> None:
    split = require_same(LARGE, chip(2, 4, 4, w_words=120), 0.5)
    (first, *_), value = split.parts["n2"], np.zeros((1, 2, 2, 8), np.int8)
    assert split.join({first[0]: value, "other": value}).keys() == {first[0], "other"}
    # Tensors are as they were but for parts, and no part is left beside its whole.
    parts = {part: np.full((1, 2, 2, end - begin), begin, np.int8) for part, begin, end in split.parts["n2"]}
    joined = split.join({"other": value} | dict(reversed(parts.items())))
    assert joined.keys() == {"other", "n2"}
    assert joined["n2"][0, 0, 0].tolist() == [begin for _, begin, end in split.parts["n2"] for _ in range(begin, end)]


def test_parts_run_where_the_node_does_not_fit() -> None:
    """In epochs, through W banks that hold a fraction of a layer."""
    config = chip(2, 4, 4, w_words=120)
    with pytest.raises(WorkloadError, match=r"^n2: W bank \d is full: "):
        compile_epochs(LARGE, config, HALF)
    split = require_same(LARGE, config, 0.5)
    whole = random_parameters(LARGE, 3)
    parameters = split.constants(whole)
    programs = compile_epochs(split.graph, config, HALF, tables=parameters.table_of)
    assert len(programs) > 2
    inputs = {"in": np.random.default_rng(3).integers(-128, 128, (1, 2, 2, 4), dtype=np.int8)}
    found = split.join(execute_chip(programs, inputs, parameters)[0])
    assert found.keys() == {"n2"}
    assert_array_equal(found["n2"], evaluate(LARGE, whole, inputs)["n2"], strict=True)


def test_every_node_that_reads_inputs_has_the_first_epochs_share() -> None:
    """Of three like nodes, each is split into as many parts, whatever was split before it."""
    nodes = tuple(Linear(name, (Operand(("in",), conv(name, (1, 2, 2, 4), 32)),)) for name in "kqv")
    graph = Graph("g", {"in": (1, 2, 2, 4)}, nodes)
    split = split_outputs(graph, chip(2, 4, 4, w_words=64), policy(0.5, 0.25))
    assert [len(split.parts[name]) for name in "kqv"] == [2, 2, 2]


def test_names_of_parts_are_none_of_the_users() -> None:
    """``q/16`` is a node of the user's, and an output that was split comes out whole."""
    conv_of = {name: conv(name, (1, 2, 2, 4), outputs) for name, outputs in (("q", 32), ("q/16", 4))}
    nodes = tuple(Linear(name, (Operand(("in",), layer),)) for name, layer in conv_of.items())
    graph = Graph("g", {"in": (1, 2, 2, 4)}, nodes)
    split = require_same(graph, chip(2, 4, 4, w_words=32), 0.25)
    assert [name for name, *_ in split.parts["q"]] == ["q/0", "q/16'"]
    assert split.graph.outputs == ("q/0", "q/16'", "q/16")


def test_a_pooling_that_reads_more_than_all_x_banks_is_split() -> None:
    """A position of it reads 9 x 10 words; two banks have 96 of them, and a part may read half."""
    shape = (1, 3, 3, 40)
    ones = dataclasses.replace(conv("mean", shape, 40), groups=40)
    mean = Linear("mean", (Operand(("in",), ones),), Window("sum", (3, 3), (1, 1)), identity=True)
    graph = Graph("g", {"in": shape}, (mean,))
    assert not require_same(graph, chip(2, 4, 4, x_words=64), 1.0).parts
    assert [end for *_, end in require_same(graph, chip(2, 4, 4, x_words=48), 1.0).parts["mean"]] == [20, 40]


def test_a_pooling_that_sums_more_than_all_p_banks_hold_is_split() -> None:
    """A position of it has 9 sums for each of 10 column tiles; a P bank has 17 words beside its zeros: one tile."""
    shape = (1, 3, 3, 40)
    ones = dataclasses.replace(conv("mean", shape, 40), groups=40)
    mean = Linear("mean", (Operand(("in",), ones),), Window("sum", (3, 3), (1, 1)), identity=True)
    graph = Graph("g", {"in": shape}, (mean,))
    assert [end for *_, end in require_same(graph, chip(2, 4, 4, p_words=18), 1.0).parts["mean"]] == [8, 16, 24, 32, 40]


def test_parts_of_what_is_seen_enlarged() -> None:
    """Neighbours are seen of each part; interleaved positions of a copy of all of them, by a diagonal too, which is split."""
    shape = (1, 3, 4, 6)
    deep = Linear("deep", (Operand(("in",), conv("deep", shape, 32)),))
    near, apart = Upsampling(2, 2), Upsampling(2, 2, interleaved=True)
    first = Operand(("deep",), conv("near", (1, 6, 8, 20), 16), channels=(4, 20), upsampled=(near,))
    wide = Linear("wide", (Operand(("deep",), conv("wide", (1, 6, 8, 32), 24), upsampled=(near,)),))
    second = Operand(("deep", "wide"), conv("both", (1, 6, 8, 32), 32, groups=32), upsampled=(apart, Upsampling()))
    third = Operand(("deep",), conv("some", (1, 6, 8, 5), 6), channels=(2, 5), upsampled=(apart,))
    operations = (deep, Linear("near", (first,)), wide, Linear("both", (second,)), Linear("some", (third,)))
    graph = Graph("g", {"in": shape}, operations, ("near", "both", "some"))
    split = require_same(verify(graph), chip(2, 4, 4, w_words=16), 1.0)
    assert {"deep", "wide"} <= split.parts.keys()
    made = verify(split.graph)
    assert "deep/joined" in {operation.name for operation in made.operations}
    constants = split.constants(whole := random_parameters(graph))
    programs = compile_epochs(made, chip(2, 4, 4), HALF, tables=constants.table_of)
    inputs = {"in": np.random.default_rng(3).integers(-128, 128, shape, dtype=np.int8)}
    found, expected = split.join(execute_chip(programs, inputs, constants)[0]), evaluate(graph, whole, inputs)
    for name in graph.outputs:
        assert_array_equal(found[name], expected[name], err_msg=name, strict=True)
