"""compiler.chip.copies: padding of every kind is written by post-processors, once, where it is, and with its own value."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.bank_image import parameter_image
from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.epoch_program import ConstantSet, EpochProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.golden.graph import evaluate
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand, Window
from podweave.predict.chip import predict
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PLANES
from tests.compiler.chip.chip_graphs import HEALTH, Case, chip, conv, equal, run_case

Pairs = tuple[tuple[int, int], tuple[int, int]]


def padded(shape: tuple[int, int, int, int], padding: Pairs, outputs: int = 5, pad_value: int = 0, **options: Any) -> Graph:
    """A node that reads another one with padding around it."""
    first = Linear("first", (Operand(("in",), conv("first", shape, shape[3])),))
    second = Linear("second", (Operand(("first",), conv("second", shape, outputs, padding=padding, **options), pad_value),))
    return Graph("padded", {"in": shape}, (first, second))


def pooled(shape: tuple[int, int, int, int], padding: Pairs, window: Window, pad_value: int = -128) -> Graph:
    channels = shape[3]
    layer = dataclasses.replace(conv("pool", shape, channels), groups=channels, padding=padding)
    first = Linear("first", (Operand(("in",), conv("first", shape, channels)),))
    pool = Linear("pool", (Operand(("first",), layer, pad_value),), window, identity=True)
    return Graph("pooled", {"in": shape}, (first, pool))


def around(size: int) -> Pairs:
    return ((size, size), (size, size))


def pad_jobs(program: EpochProgram) -> np.ndarray:
    return np.flatnonzero(program.posts["p_base"] == zero_word(program.config))


def words_of_padding(program: EpochProgram) -> int:
    """Words that jobs write as padding."""
    jobs = pad_jobs(program)
    return int((program.posts["n2"][jobs] * program.posts["n3"][jobs]).sum())


CHIPS = {
    "one slot": chip(2, 4, 4),
    "two slots": chip(2, 8, 4),
    "two slices": chip(4, 4, 8, 0),
    "planes": chip(4, 4, 4, y_planes=2),
    "lanes": chip(4, 4, 4, lanes=2),
}


@pytest.mark.parametrize("size", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("name", CHIPS)
def test_padding_of_convolutions(name: str, kernel: int, size: int) -> None:
    """Of 3 rows or columns of padding a kernel of 3 sees one position without anything else, one of 1 sees them all."""
    program = run_case(Case(padded((2, 5, 4, 7), around(size), kernel=kernel), CHIPS[name], None, size))
    assert bool(len(pad_jobs(program))) == (size > 0)


@pytest.mark.parametrize("partition", [None, 0, 8])
@pytest.mark.parametrize("padding", [((3, 0), (0, 0)), ((0, 3), (0, 0)), ((0, 0), (3, 0)), ((0, 0), (0, 3)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_padding_on_one_side(padding: Pairs, partition: int | None, stride: tuple[int, int]) -> None:
    program = run_case(Case(padded((1, 4, 6, 4), padding, kernel=2, stride=stride), CHIPS["one slot"], partition, 1))
    assert len(pad_jobs(program))


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_maximum_with_padding(size: int, kernel: int) -> None:
    """A window without anything but padding gives -128: neither 0 nor what the table of the node before makes of -128."""
    graph = pooled((1, 5, 5, 6), around(size), Window("max", (kernel, kernel), (1, 1)))
    parameters = random_parameters(graph, 2)
    assert parameters["first"].table is not None
    expected = evaluate(graph, parameters, {"in": np.zeros((1, 5, 5, 6), np.int8)})
    assert (expected["pool"][0, 0, 0] == -128).all() == (kernel <= size)
    for config in CHIPS.values():
        program = run_case(Case(graph, config, None, 2))
        assert {item.value for item in program.parameters if isinstance(item, ConstantSet)} == {-128}


@pytest.mark.parametrize("value", [-128, -1, 0, 1, 127])
def test_value_of_padding(value: int) -> None:
    run_case(Case(padded((1, 3, 3, 5), around(2), pad_value=value, kernel=3), CHIPS["two slots"], None, 4))
    run_case(Case(pooled((1, 3, 3, 5), around(1), Window("sum", (2, 2), (1, 1)), value), CHIPS["one slot"], None, 4))


def test_two_values_around_one_tensor() -> None:
    """They are apart in X banks, and a post-processor has one set for each value, however many jobs there are."""
    shape = (1, 6, 6, 8)
    zeros, least = (dataclasses.replace(conv(n, shape, 8), groups=8, padding=around(1)) for n in ("zeros", "least"))
    nodes = (
        Linear("first", (Operand(("in",), conv("first", shape, 8)),)),
        Linear("zeros", (Operand(("first",), zeros),), Window("max", (3, 3), (1, 1)), identity=True),
        Linear("least", (Operand(("first",), least, -128),), Window("max", (3, 3), (1, 1)), identity=True),
        Linear("again", (Operand(("first",), conv("again", shape, 3, 3, padding=around(1))),)),
    )
    program = run_case(Case(Graph("values", {"in": shape}, nodes), chip(2, 4, 4), None, 5))
    constants = [item for item in program.parameters if isinstance(item, ConstantSet)]
    assert {item.value for item in constants} == {0, -128}
    assert len({(item.value, item.bank) for item in constants}) == len(constants)
    assert len(constants) < len(pad_jobs(program))
    lanes = {(bank, index): values for bank, index, values in parameter_image(program, random_parameters(program.graph, 5))}
    for item in constants:
        bias, multiplier, shift, zero_point = lanes[item.bank, item.index]
        assert bias.tolist() == [item.value] * 4
        assert multiplier.tolist() == [1] * 4
        assert shift.tolist() == zero_point.tolist() == [0] * 4


def test_no_table_and_no_wire_for_padding() -> None:
    """A pad is written by the post-processor beside its X bank, in every slot that has channels, and past no table."""
    program = run_case(Case(padded((1, 5, 5, 12), around(2), kernel=3), chip(4, 8, 4, 0, y_planes=2), None, 6))
    posts, jobs = program.posts, pad_jobs(program)
    assert (posts["bank"][jobs] == posts["x_bank"][jobs]).all()
    assert not posts["activate"][jobs].any()
    # 12 channels are a word of two slots, and one of one.
    assert set(posts["slot"][jobs]) == {0, 1}
    assert (posts["slot"][jobs] == 1).sum() * 2 == (posts["slot"][jobs] == 0).sum()


def test_planes_of_y_alone_are_used() -> None:
    """More planes of X, W and P change no job; with a second one of Y, words are sent that would have had to wait."""
    graph = padded((1, 8, 8, 16), around(0), 16)
    cycles = []
    for y in (1, 2):
        few, many = (compile_graph(graph, chip(8, 4, 4, **dict.fromkeys(PLANES, n) | {"y_planes": y})) for n in (1, 8))
        assert equal(few, many)
        assert set(few.posts["x_plane"]) == set(range(y))
        cycles.append(predict(few).cycles)
    assert cycles[1] < cycles[0]


def test_words_of_padding_by_hand() -> None:
    """All of a 3 x 4 image with 1 above, 2 below, 3 at the left and 4 at the right: what lies between two rows is one box."""
    graph = padded((2, 3, 4, 4), ((1, 2), (3, 4)), outputs=4)
    program = run_case(Case(graph, chip(2, 4, 4), 0, 7))
    posts, jobs = program.posts, pad_jobs(program)
    sizes = [(int(posts["n3"][job]), int(posts["n2"][job])) for job in jobs]
    # 11 x 6 positions, 12 of them not padding: a row and 3, twice 7, and the rest; per image.
    assert sorted(sizes) == sorted(2 * [(1, 11 + 3), (2, 7), (1, 4 + 2 * 11)])
    assert words_of_padding(program) == 2 * (6 * 11 - 12)


@pytest.mark.parametrize("edge", [14, 15, 16, 31])
def test_runs_longer_than_a_count(edge: int) -> None:
    """Counts of 4 bits hold 15: runs before, between and behind the rows, and rows of padding beside them, are cut."""
    config, counts = chip(2, 4, 4, 0, count_width=4), []
    for padding in (((edge, 0), (0, 0)), ((0, 1), (edge, 0)), ((0, 0), (0, edge)), ((edge, 1), (2, edge))):
        program = run_case(Case(padded((1, 3, 2, 4), padding, stride=(3, 5)), config, 0, 8))
        jobs = pad_jobs(program)
        assert len(jobs)
        counts += [int(program.posts[name][jobs].max()) for name in ("n2", "n3")]
    assert max(counts) == 15


def test_more_rows_beside_padding_than_a_count() -> None:
    """A patch of few positions far apart: the columns of padding beside it go on for more rows than a job has."""
    program = run_case(Case(padded((1, 100, 2, 4), around(3), stride=(9, 1)), chip(2, 4, 4, 0, count_width=4), 0, 9))
    jobs = pad_jobs(program)
    assert program.posts["n3"][jobs].max() == 15


def test_counts_of_16_bits() -> None:
    """88209 words of padding around one position: more than a job of 65535 sends."""
    size, config = 297, chip(2, 4, 4, 0, x_words=2**17, time_width=20)
    graph = padded((1, 1, 1, 4), ((0, size - 1), (0, size - 1)), outputs=4, stride=(8, 8))
    program = run_case(Case(graph, config, 0, 10))
    jobs = pad_jobs(program)
    assert config.pod.count_width == 16
    assert sorted(program.posts["n2"][jobs]) == [size**2 - 1 - 65535, 65535]


@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=HEALTH)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 2),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.sampled_from([4, 16]),
    st.sampled_from([None, 0, 8]),
    st.sampled_from(list(CHIPS.values())),
    st.integers(-128, 127),
)
def test_any_padding(
    shape: tuple[int, int, int, int],
    padding: Pairs,
    stride: tuple[int, int],
    kernel: int,
    count_width: int,
    partition: int | None,
    config: ChipConfig,
    value: int,
) -> None:
    kernel = min(kernel, *(size + sum(pad) for size, pad in zip(shape[1:3], padding, strict=True)))
    graph = padded(shape, padding, kernel=kernel, stride=stride, pad_value=value)
    run_case(Case(graph, config.replace(count_width=count_width), partition, 11))
