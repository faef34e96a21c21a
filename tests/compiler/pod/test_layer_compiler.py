"""compiler.pod.layer_compiler: any small layer on any small chip computes the golden result within every limit of the pod."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.compiler.jobs import job_layouts, pack_jobs
from podweave.compiler.lower.layer import pack_layer
from podweave.compiler.pod.executor import check_times, execute
from podweave.compiler.pod.layer_compiler import LayerCompiler, compile_layer
from podweave.compiler.pod.program import Epoch, Program
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import Layer, WorkloadError, gemm, parse_workload
from podweave.predict.pod import predicted_spans
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit
from podweave.spec.presets import load_config

POD4 = load_config("pod4")
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
sides = st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    if draw(st.integers(0, 3)) == 0:
        return gemm(draw(st.integers(1, 60)), draw(st.integers(1, 30)), draw(st.integers(1, 20)))
    groups = draw(st.integers(1, 4))
    depthwise = draw(st.booleans())
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = draw(st.tuples(sides, sides))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (max(1, e - sum(p)) + draw(st.integers(0, 6)) for e, p in zip(extent, padding, strict=True))
    return Layer(
        name="random",
        batch=draw(st.integers(1, 3)),
        height=height,
        width=width,
        channels=groups * (1 if depthwise else draw(st.integers(1, 6))),
        outputs=groups * draw(st.integers(1, 6)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layer, ChipConfig]:
    """A layer, and a chip that is as good as never large enough for one epoch but does not have to refuse it."""
    layer = draw(layers())
    group_rows, group_cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows, cols = group_rows * draw(st.integers(1, 3)), group_cols * draw(st.integers(1, 3))
    latency = draw(st.integers(1, 4))
    window = layer.kernel_extent[0] * layer.kernel_extent[1]
    # The limit on epochs: 8 weight loads with their latency.
    least = 8 * (rows + latency + rows // group_rows + cols // group_cols + 1)
    time_width = max(8, (least - 1).bit_length())
    return layer, POD4.replace(
        rows=rows,
        cols=cols,
        group_rows=group_rows,
        group_cols=group_cols,
        latency=latency,
        psum_width=draw(st.integers(24, 32)),
        accumulator_rows=draw(st.sampled_from((0, 0, 1, 3, 16, 60, 200))),
        count_width=draw(st.integers(4, 6)),
        time_width=time_width + draw(st.integers(0, 3)),
        banks=draw(st.integers(1, 3)),
        x_words=max(2, window + draw(st.integers(0, 60))),
        w_words=max(2, rows + draw(st.integers(0, 12))),
        p_words=draw(st.integers(2, 60)),
    )


def operands(layer: Layer, seed: int = 0) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-128, 128, layer.input_shape, dtype=np.int8),
        rng.integers(-128, 128, layer.weight_shape, dtype=np.int8),
    )


def golden(layer: Layer, x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    geometry: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    return conv2d(x, w, **geometry)


def walk(job: dict[str, int], memory: str) -> Iterator[int]:
    """Addresses as the stream engine makes them: one step of one loop after each word."""
    address = job[f"{memory}_base"]
    for i2 in range(job["n2"]):
        for i1 in range(job["n1"]):
            for i0 in range(job["n0"]):
                yield address
                ends = (i0 + 1 == job["n0"], i1 + 1 == job["n1"], i2 + 1 == job["n2"])
                address += job[f"{memory}_step{ends.index(False)}"] if not all(ends) else 0


def rows_of(jobs: dict[str, NDArray[np.int64]]) -> list[dict[str, int]]:
    return [dict(zip(jobs, values, strict=True)) for values in zip(*(column.tolist() for column in jobs.values()), strict=True)]


def check_limits(program: Program, epoch: Epoch) -> None:
    """Every job within the configuration; every word that is read is one that the host has put there."""
    config = program.config
    memory, pod = config.memory, config.pod
    images = {
        "x": program.x_image(epoch, np.zeros(program.lowered.layer.input_shape, np.int8)),
        "w": program.w_image(epoch, np.zeros(program.lowered.layer.weight_shape, np.int8)),
    }
    resident = {}
    for kind, image in images.items():
        put = [(place.bank, place.base + i) for place, words in image for i in range(len(words))]
        resident[kind] = set(put)
        assert len(put) == len(resident[kind])
        assert all(bank < memory.banks and word < getattr(memory, f"{kind}_words") for bank, word in put)
    for job in rows_of(epoch.loads):
        assert 1 <= job["rows"] <= config.array.rows
        assert {(job["w_bank"], job["w_base"] + i * job["w_step"]) for i in range(job["rows"])} <= resident["w"]
    for job in rows_of(epoch.streams):
        assert {(job["x_bank"], address) for address in walk(job, "x")} <= resident["x"]
        assert job["p_bank"] < memory.banks
        written = list(walk(job, "p"))
        assert min(written) >= 0
        assert max(written) < memory.p_words
        assert len(set(written)) == len(written) >= 1
        assert job["accumulate"] == Accumulate.BYPASS or job["accumulator_base"] + len(written) <= pod.accumulator_rows
        assert job["x_plane"] == job["p_plane"] == 0
    for layout, jobs in zip(job_layouts(config), (epoch.loads, epoch.streams), strict=True):
        assert set(jobs) >= {field.name for field in layout.fields}
        assert (jobs["tiles"] == 1).all()
        assert len(pack_jobs(layout, jobs)) == len(jobs["start"])


def total_cycles(program: Program) -> int:
    return sum(span.cycles for span in predicted_spans(program))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(cases(), st.integers(0, 2**32))
def test_any_layer_on_any_chip(case: tuple[Layer, ChipConfig], seed: int) -> None:
    layer, config = case
    program = compile_layer(layer, config)
    x, w = operands(layer, seed)
    assert_array_equal(execute(program, x, w), golden(layer, x, w), strict=True)
    for epoch, span in zip(program.epochs, predicted_spans(program), strict=True):
        check_times(epoch, "epoch")
        check_limits(program, epoch)
        assert span.first_request == 0
        # The time counter may not reach its end while the pod works.
        assert span.last_write < 2**config.pod.time_width - 1
    # In the P banks, whatever accumulators there are.
    assert total_cycles(program) <= total_cycles(compile_layer(layer, config.replace(accumulator_rows=0)))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(cases())
def test_neither_place_to_accumulate_takes_fewer_cycles_than_the_chosen(case: tuple[Layer, ChipConfig]) -> None:
    layer, config = case
    # Time for a whole step in small chunks, so that both places can be had at all.
    config = config.replace(time_width=20, accumulator_rows=max(1, config.pod.accumulator_rows))
    both = [total_cycles(LayerCompiler(pack_layer(layer, config.array), config, local=local).run(None)) for local in (False, True)]
    chosen = compile_layer(layer, config)
    assert total_cycles(chosen) == min(both)
    is_local = (chosen.epochs[0].streams["accumulate"] != Accumulate.BYPASS).all()
    assert is_local or both[1] > both[0]


@pytest.mark.parametrize("accumulator_rows", [0, 16])
def test_reduction_split_over_epochs(accumulator_rows: int) -> None:
    # One bank that holds one weight tile: K = 12 on 4 rows takes three epochs, for each of two column tiles.
    config = POD4.replace(banks=1, w_words=4, accumulator_rows=accumulator_rows)
    layer = gemm(9, 12, 7)
    program = compile_layer(layer, config)
    assert [len(epoch.loads["start"]) for epoch in program.epochs] == [1] * 6
    assert [len(epoch.readouts) for epoch in program.epochs] == [0, 0, 1, 0, 0, 1]
    codes = [epoch.streams["emit"].tolist() for epoch in program.epochs]
    assert codes == [[Emit.STORE], [Emit.ACCUMULATE], [Emit.ACCUMULATE]] * 2
    x, w = operands(layer)
    assert_array_equal(execute(program, x, w), golden(layer, x, w))


@pytest.mark.parametrize(
    ("text", "changes", "epochs"),
    [
        # 8 x 8 outputs of a 3 x 3 kernel: bands of 2 rows need 4 x 10 words.
        ("conv:10x10x4x4,kernel=3x3", {"x_words": 49, "banks": 1}, 4),
        ("conv:10x10x4x4,kernel=3x3", {"x_words": 50, "banks": 1}, 3),
        # Less than a row and its halo: by columns.
        ("conv:10x10x4x4,kernel=3x3", {"x_words": 29, "banks": 1}, 16),
        # 60 words of partial sums for 2 images of 64.
        ("conv:8x8x4x4,kernel=1x1,batch=2", {"p_words": 60}, 4),
        ("conv:8x8x4x4,kernel=1x1,batch=2", {"p_words": 64}, 2),
        # 2**8 - 2 - 6 - 8 = 240 cycles: 8 tiles of 120 words go into epochs two by two, larger ones do not.
        ("gemm:120x16x8", {"time_width": 8}, 4),
        ("gemm:121x16x8", {"time_width": 8}, 8),
        ("gemm:120x16x8", {}, 1),
    ],
)
def test_epochs_by_hand(text: str, changes: dict[str, int], epochs: int) -> None:
    layer, config = parse_workload(text), POD4.replace(**changes)
    program = compile_layer(layer, config)
    assert len(program.epochs) == epochs
    assert all(span.last_write < 2**config.pod.time_width - 1 for span in predicted_spans(program))
    x, w = operands(layer)
    assert_array_equal(execute(program, x, w), golden(layer, x, w))


def test_loops_that_do_not_advance_need_no_step() -> None:
    # A window as large as a bank, and a stride that no step field holds: both are for loops of one trip.
    for text in ("conv:32x32x4x4,kernel=32x32", "conv:4x4x4x4,kernel=1x1,stride=5000"):
        program = compile_layer(parse_workload(text), POD4)
        for epoch in program.epochs:
            check_limits(program, epoch)


def test_few_channels_share_words_and_small_groups_share_tiles() -> None:
    # 7 x 7 over 3 channels: a row of taps is 21 lanes, so 7 tiles and not 49; 32 depthwise channels: 9 tiles and not 288.
    pod32 = load_config("pod32")
    program = compile_layer(parse_workload("conv:8x8x3x32,kernel=7x7,padding=same"), pod32)
    assert program.epochs[0].loads["rows"].tolist() == [21] * 7
    program = compile_layer(parse_workload("conv:8x8x32x32,kernel=3x3,groups=depthwise"), pod32)
    assert program.epochs[0].loads["rows"].tolist() == [32] * 9


def test_progress_and_determinism() -> None:
    layer, config = parse_workload("conv:10x10x4x4,kernel=3x3"), POD4.replace(x_words=50)
    seen: list[tuple[int, int]] = []
    program = compile_layer(layer, config, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    again = compile_layer(layer, config)
    for first, second in zip(program.epochs, again.epochs, strict=True):
        assert_array_equal(list(first.streams.values()), list(second.streams.values()))
        assert_array_equal(list(first.loads.values()), list(second.loads.values()))


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        (
            "gemm:4x32x4",
            {"psum_width": 20},
            "gemm:4x32x4: the reduction K is 32, 1 more than psum_width 20 sums without wrapping (31)",
        ),
        ("gemm:4x65540x4", {}, "gemm:4x65540x4: the reduction K is 65540, 4 more than psum_width 32 sums without wrapping (65536)"),
        (
            "conv:9x9x4x4,kernel=3x3",
            {"x_words": 8},
            "conv:9x9x4x4,kernel=3x3: one output position needs 9 words of activations in a bank, 1 more than x_words (8)",
        ),
        (
            "conv:9x9x4x4,kernel=2x3,dilation=4x1",
            {"x_words": 12},
            "conv:9x9x4x4,kernel=2x3,dilation=4x1: one output position needs 15 words of activations in a bank, "
            "3 more than x_words (12)",
        ),
    ],
)
def test_refusals_name_the_limit_and_the_excess(text: str, changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        compile_layer(parse_workload(text), POD4.replace(**changes))


@pytest.mark.parametrize(
    ("text", "changes"),
    [("gemm:4x31x4", {"psum_width": 20}), ("conv:9x9x4x4,kernel=3x3", {"x_words": 9})],
)
def test_what_just_fits_is_not_refused(text: str, changes: dict[str, int]) -> None:
    layer = parse_workload(text)
    x, w = operands(layer)
    assert_array_equal(execute(compile_layer(layer, POD4.replace(**changes)), x, w), golden(layer, x, w))
