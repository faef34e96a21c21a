"""compiler.pod.executor finds every planted fault, and the closed form of GEMM cycles holds where it says."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.compiler.pod.executor import ProgramError, execute
from podweave.compiler.pod.layer_compiler import compile_layer
from podweave.compiler.pod.program import Program
from podweave.golden.cycle.pod.span import Span, gemm_cycles, pod_span
from podweave.golden.layers.conv import conv2d
from podweave.ir.frontends import load_workload
from podweave.ir.layers import Layer, gemm, parse_workload
from podweave.predict.pod import predicted_spans
from podweave.spec.jobs import Accumulate, Emit
from podweave.spec.presets import load_config

POD4 = load_config("pod4")
# Two K steps for each of two column tiles, accumulated in the pod or in the P banks; and one with all loops in use.
IN_POD = compile_layer(gemm(10, 8, 7), POD4)
IN_BANKS = compile_layer(gemm(10, 8, 7), POD4.replace(accumulator_rows=0))
LOOPS = compile_layer(parse_workload("conv:4x5x4x4,kernel=2x2,batch=2"), POD4.replace(accumulator_rows=32))
PROGRAMS = {"in_pod": IN_POD, "in_banks": IN_BANKS, "loops": LOOPS}


def operands(layer: Layer) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    rng = np.random.default_rng(7)
    return tuple(rng.integers(-128, 128, shape, dtype=np.int8) for shape in (layer.input_shape, layer.weight_shape))


def golden(layer: Layer, x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    return conv2d(x, w, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)


def altered(program: Program, queue: str, field: str, job: int, value: int) -> Program:
    (epoch,) = program.epochs
    jobs = {name: column.copy() for name, column in getattr(epoch, queue).items()}
    assert jobs[field][job] != value
    jobs[field][job] = value
    return dataclasses.replace(program, epochs=(dataclasses.replace(epoch, **{queue: jobs}),))


@pytest.mark.parametrize("name", PROGRAMS)
def test_untouched_program_is_right(name: str) -> None:
    layer = PROGRAMS[name].lowered.layer
    x, w = operands(layer)
    assert_array_equal(execute(PROGRAMS[name], x, w), golden(layer, x, w), strict=True)


def test_programs_are_as_the_plants_expect() -> None:
    codes = [(IN_POD, [1, 2, 1, 2], [0, 1, 0, 1]), (IN_BANKS, [0] * 4, [1, 2, 1, 2]), (LOOPS, [1, 2, 2, 2], [0, 0, 0, 1])]
    for program, accumulate, emit in codes:
        (epoch,) = program.epochs
        assert epoch.streams["accumulate"].tolist() == accumulate
        assert epoch.streams["emit"].tolist() == emit
        assert epoch.streams["swap"].tolist() == [1] * 4
    assert [LOOPS.epochs[0].streams[f"n{i}"].tolist() for i in range(3)] == [[4] * 4, [3] * 4, [2] * 4]


@pytest.mark.parametrize(
    ("queue", "field", "job", "value", "sentence"),
    [
        # Loads of 4 rows at 0, 4, 14, 24; streams of 10 words at 4, 14, 24, 34.
        ("streams", "start", 0, 3, "weights of load 0 are swapped in before they are complete"),
        ("streams", "start", 1, 13, "stream job 1 starts before the one before it has ended"),
        ("streams", "start", 2, 35, "stream job 3 starts before the one before it has ended"),
        ("loads", "start", 1, 3, "load job 1 starts before the one before it has ended"),
        ("loads", "start", 2, 13, "load 2 overwrites weights before they are swapped in"),
        ("loads", "start", 3, 31, "weights of load 3 are swapped in before they are complete"),
        ("streams", "swap", 1, 0, "4 weight loads for 3 swaps"),
    ],
)
def test_wrong_time_is_found(queue: str, field: str, job: int, value: int, sentence: str) -> None:
    program = altered(IN_POD, queue, field, job, value)
    with pytest.raises(ProgramError, match=f"^epoch 0: {re.escape(sentence)}$"):
        execute(program, *operands(program.lowered.layer))


@pytest.mark.parametrize(
    ("queue", "field", "job", "value", "sentence"),
    [
        ("loads", "w_base", 1, 1021, "load job 1: W address 1024 is outside of 0 to 1023"),
        ("loads", "w_step", 0, -1, "load job 0: W address -1 is outside of 0 to 1023"),
        ("streams", "x_base", 0, 1020, "stream job 0: X address 1024 is outside of 0 to 1023"),
        ("streams", "x_step0", 0, -1, "stream job 0: X address -1 is outside of 0 to 1023"),
        ("streams", "p_base", 3, 1015, "stream job 3: P address 1024 is outside of 0 to 1023"),
        ("streams", "p_step0", 1, -1, "stream job 1: P address -1 is outside of 0 to 1023"),
        ("streams", "accumulator_base", 2, 7, "stream job 2: accumulator row 16 is outside of 0 to 15"),
    ],
)
def test_address_out_of_range_is_found(queue: str, field: str, job: int, value: int, sentence: str) -> None:
    program = altered(IN_POD, queue, field, job, value)
    with pytest.raises(ProgramError, match=f"^epoch 0, {re.escape(sentence)}$"):
        execute(program, *operands(program.lowered.layer))


def test_address_of_what_is_not_emitted_does_not_matter() -> None:
    program = altered(IN_POD, "streams", "p_base", 0, 1020)
    x, w = operands(program.lowered.layer)
    assert_array_equal(execute(program, x, w), golden(program.lowered.layer, x, w))


def plants(name: str) -> list[tuple[str, str, int, int]]:
    """Every wrong value that must show, for every job."""
    (epoch,) = PROGRAMS[name].epochs
    found = []
    for job in range(len(epoch.loads["start"])):
        here = {field: int(column[job]) for field, column in epoch.loads.items()}
        found += [("loads", "w_base", job, here["w_base"] + 1), ("loads", "w_bank", job, 1 - here["w_bank"])]
        found += [("loads", "w_step", job, 2), ("loads", "w_step", job, 0), ("loads", "rows", job, here["rows"] - 1)]
    for job in range(len(epoch.streams["start"])):
        here = {field: int(column[job]) for field, column in epoch.streams.items()}
        changes = {"x_base": here["x_base"] + 1, "x_bank": 1 - here["x_bank"], "n0": here["n0"] - 1}
        changes |= {f"x_step{i}": here[f"x_step{i}"] + 1 for i in range(3) if here[f"n{i}"] > 1}
        if here["emit"] != Emit.NONE:
            changes |= {"p_base": here["p_base"] + 1, "p_bank": 1 - here["p_bank"], "emit": Emit.NONE}
            changes |= {f"p_step{i}": here[f"p_step{i}"] + 1 for i in range(3) if here[f"n{i}"] > 1}
            found.append(("streams", "emit", job, Emit.STORE + Emit.ACCUMULATE - here["emit"]))
        if here["accumulate"] != Accumulate.BYPASS:
            changes |= {"accumulator_base": 2, "accumulate": Accumulate.BYPASS}
            found.append(("streams", "accumulate", job, Accumulate.INIT + Accumulate.ADD - here["accumulate"]))
        found += [("streams", field, job, value) for field, value in changes.items()]
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_wrong_job_gives_a_wrong_result_or_an_error(name: str) -> None:
    layer = PROGRAMS[name].lowered.layer
    x, w = operands(layer)
    right = golden(layer, x, w)
    assert len(plants(name)) > 40
    for plant in plants(name):
        try:
            result = execute(altered(PROGRAMS[name], *plant), x, w)
        except ProgramError:
            continue
        assert not np.array_equal(result, right), plant


@pytest.mark.parametrize("operand", [0, 1])
def test_one_wrong_bit_of_an_operand_shows(operand: int) -> None:
    layer = IN_POD.lowered.layer
    data = operands(layer)
    right = golden(layer, *data)
    data[operand].flat[-1] ^= 1
    assert not np.array_equal(execute(IN_POD, *data), right)


def cycles(program: Program) -> int:
    return sum(span.cycles for span in predicted_spans(program))


@st.composite
def gemms(draw: st.DrawFn) -> tuple[tuple[int, int, int], dict[str, Any]]:
    group_rows, group_cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    m = draw(st.integers(1, 60))
    changes = {
        "group_rows": group_rows,
        "group_cols": group_cols,
        "rows": group_rows * draw(st.integers(1, 3)),
        "cols": group_cols * draw(st.integers(1, 3)),
        "latency": draw(st.integers(1, 6)),
        # One chunk of M, or the P banks.
        "accumulator_rows": draw(st.sampled_from((0, m, m + 5))),
        "x_words": 4096,
    }
    return (m, draw(st.integers(1, 40)), draw(st.integers(1, 30))), changes


@settings(derandomize=True, deadline=None, max_examples=200)
@given(gemms())
def test_closed_form_of_gemm_cycles(case: tuple[tuple[int, int, int], dict[str, Any]]) -> None:
    (m, k, n), changes = case
    config = POD4.replace(**changes)
    program = compile_layer(gemm(m, k, n), config)
    assert len(program.epochs) == 1
    array = config.array
    expected = gemm_cycles(
        *(m, k, n),
        rows=array.rows,
        cols=array.cols,
        latency=config.memory.latency,
        row_groups=array.row_groups,
        col_groups=array.col_groups,
    )
    assert cycles(program) == expected


def test_span_ends_with_the_last_word_that_is_written() -> None:
    # Words of cycles 4 to 8 and 9 to 11; 3 + 2 + 1 + 1 cycles later they are written, if they are.
    times = [np.array(column) for column in ([0, 4], [4, 9], [5, 3])]
    sizes = {"latency": 3, "row_groups": 2, "col_groups": 1}
    assert pod_span(*times, np.array([True, True]), **sizes) == Span(0, 18)
    assert pod_span(*times, np.array([True, False]), **sizes) == Span(0, 15)
    assert pod_span(times[0] + 2, *times[1:], np.array([True, False]), **sizes).cycles == 14


def test_gemm_cycles_by_hand() -> None:
    # 5 x 6 x 7 on pod4: loads of 4 and 2 rows, twice. Streams of 5 from 4, 9, 14, 19; 3 + 1 + 1 + 1 cycles to the last write.
    assert gemm_cycles(5, 6, 7, rows=4, cols=4, latency=3, row_groups=1, col_groups=1) == 4 + 4 * 5 + 6
    assert cycles(compile_layer(gemm(5, 6, 7), POD4)) == 30
    # Streams of 1 do not hide the loads: swaps at 4, 6, 10, 12.
    assert gemm_cycles(1, 6, 7, rows=4, cols=4, latency=3, row_groups=1, col_groups=1) == 12 + 1 + 6
    assert cycles(compile_layer(gemm(1, 6, 7), POD4)) == 19


@pytest.mark.parametrize(
    ("network", "macs", "most"),
    [("resnet50_224", 3_857_973_248, 3_850_000), ("resnet50_224_scalesim", 3_479_536_384, 3_550_000)],
)
def test_resnet50_keeps_a_pod_busy(network: str, macs: int, most: int) -> None:
    config, layers = load_config("pod32"), load_workload(network)
    assert len(layers) == 54
    assert sum(layer.macs for layer in layers) == macs
    total = sum(cycles(compile_layer(layer, config)) for layer in layers)
    # No schedule takes fewer cycles than there are products for each multiplier.
    assert macs / 1024 <= total <= most
