"""What is seen enlarged, and averages of which borders have scales of their own: jobs by hand, refusals, and planted faults."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import EpochProgram, ParameterSet
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import execute_chip
from podweave.compiler.jobs import ProgramError
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from tests.compiler.chip.chip_graphs import chip, conv

CONFIG = chip(2, 4, 4)
SHAPE = (1, 3, 5, 4)


def seeing(seen: Upsampling, channels: int, kernel: int = 3) -> Graph:
    """A node of so many channels, and one that sees it enlarged, with padding around if its kernel is larger than 1."""
    first = Linear("first", (Operand(("in",), conv("first", SHAPE, channels)),))
    shape = seen.of(first.output)
    second = conv("second", shape, 4, kernel, padding=((kernel // 2, kernel // 2), (kernel // 2, kernel // 2)))
    return Graph("g", {"in": SHAPE}, (first, Linear("second", (Operand(("first",), second, upsampled=(seen,)),))))


def averaging() -> Graph:
    first = Linear("first", (Operand(("in",), conv("first", SHAPE, 4)),))
    layer = dataclasses.replace(conv("mean", SHAPE, 4), groups=4, padding=((1, 1), (1, 1)))
    window = Window("sum", (3, 3), (1, 1), leaves_pads_out=True)
    return Graph("g", {"in": SHAPE}, (first, Linear("mean", (Operand(("first",), layer),), window, identity=True)))


def is_right(program: EpochProgram) -> bool:
    """Whether all outputs are those of the golden model."""
    graph, rng = program.graph, np.random.default_rng(1)
    constants = Constants(random_parameters(graph))
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    found, _ = execute_chip(program, inputs, constants)
    expected = evaluate(graph, constants, inputs)
    return all(np.array_equal(found[name], expected[name]) for name in graph.outputs)


def compiled(graph: Graph, partition: int | None = None) -> EpochProgram:
    return compile_graph(graph, CONFIG, tables=Constants(random_parameters(graph)).table_of, partition=partition)


def sending(program: EpochProgram) -> np.ndarray:
    """Jobs that send words of the first node, and not padding."""
    return np.flatnonzero((program.operation_of_post == 0) & (program.posts["p_base"] != program.config.memory.p_words - 1))


def with_post(program: EpochProgram, job: int, **fields: Any) -> EpochProgram:
    posts = {name: values.copy() for name, values in program.posts.items()}
    for name, by in fields.items():
        posts[name][job] += by
    return dataclasses.replace(program, posts=posts)


def test_words_that_jobs_send() -> None:
    """Of 3 x 5 positions, each as 2 x 3: words of a job are three apart, and without halo each of 90 is sent once."""
    program = compiled(seeing(Upsampling(2, 3), 4, kernel=1), partition=0)
    jobs, posts = sending(program), program.posts
    assert {int(posts["x_step2"][job]) for job in jobs if posts["n2"][job] > 1} == {3}
    assert (posts["n2"][jobs] * posts["n3"][jobs]).sum() == 90
    assert is_right(program)


@pytest.mark.parametrize("seen", [Upsampling(2, 2), Upsampling(2, 2, interleaved=True)])
def test_a_word_that_is_a_position_off_is_found(seen: Upsampling) -> None:
    program = compiled(seeing(seen, 16))
    check_chip(program)
    with pytest.raises(ProgramError, match=r"writes X bank \d address \d+ slot 0 in cycle \d+, which is written twice"):
        check_chip(with_post(program, int(sending(program)[0]), x_base=1))


def test_channels_of_another_position_are_found() -> None:
    program = compiled(seeing(Upsampling(2, 2, interleaved=True), 16))
    assert is_right(program)
    jobs = sending(program)
    one, other = jobs[0], next(job for job in jobs if program.posts["x_base"][job] != program.posts["x_base"][jobs[0]])
    apart = int(program.posts["x_base"][other] - program.posts["x_base"][one])
    moved = with_post(with_post(program, int(one), x_base=apart), int(other), x_base=-apart)
    assert not is_right(moved)


def test_a_border_that_is_scaled_as_the_middle_is_found() -> None:
    """Nine boxes: corners of 4 positions, sides of 6, and the middle of 9."""
    program = compiled(averaging())
    assert is_right(program)
    sets = [item for item in program.parameters if isinstance(item, ParameterSet) and item.operation == 1]
    assert {item.positions for item in sets} == {0, 4, 6}
    for count in (4, 6):
        wrong = tuple(
            dataclasses.replace(item, positions=0) if isinstance(item, ParameterSet) and item.positions == count else item
            for item in program.parameters
        )
        assert not is_right(dataclasses.replace(program, parameters=wrong))


def test_parts_of_words_are_refused() -> None:
    with pytest.raises(WorkloadError) as caught:
        compile_graph(seeing(Upsampling(2, 2, interleaved=True), 12), CONFIG)
    assert str(caught.value) == (
        "second: of first, each of 4 interleaved positions has 3 channels, which is no multiple of the 4 lanes of a word of outputs"
    )
