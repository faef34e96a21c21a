"""compiler.pod.program: packed jobs against a slow packer, and what goes into and comes out of the banks."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.compiler.jobs import Jobs, Place, job_layouts, pack_jobs
from podweave.compiler.pod.layer_compiler import compile_layer
from podweave.compiler.pod.program import Readout
from podweave.ir.layers import gemm, parse_workload
from podweave.spec.layout import Field, Layout
from podweave.spec.presets import load_config

POD4 = load_config("pod4")
LAYOUTS = job_layouts(POD4)


def limits(field: Field) -> tuple[int, int]:
    if field.signed:
        return -(2 ** (field.width - 1)), 2 ** (field.width - 1) - 1
    return 0, 2**field.width - 1


def slow_pack(layout: Layout, jobs: Jobs) -> list[bytes]:
    words = []
    for job in range(len(jobs[layout.fields[0].name])):
        word = "".join(format(int(jobs[f.name][job]) % 2**f.width, f"0{f.width}b") for f in reversed(layout.fields))
        words.append(int(word, 2).to_bytes((layout.width + 7) // 8, "little"))
    return words


@st.composite
def packable(draw: st.DrawFn) -> tuple[Layout, Jobs]:
    config = POD4.replace(
        **{name: draw(st.integers(4, 5000)) for name in ("x_words", "w_words", "p_words")},
        banks=draw(st.integers(1, 20)),
        time_width=draw(st.integers(8, 32)),
        count_width=draw(st.integers(4, 24)),
    )
    layout = draw(st.sampled_from(job_layouts(config)))
    count = draw(st.integers(1, 5))
    jobs = {
        field.name: np.array(draw(st.lists(st.integers(*limits(field)), min_size=count, max_size=count)), np.int64)
        for field in layout.fields
    }
    return layout, jobs


@settings(derandomize=True, deadline=None, max_examples=150)
@given(packable())
def test_packed_jobs_are_those_of_a_slow_packer(case: tuple[Layout, Jobs]) -> None:
    layout, jobs = case
    packed = pack_jobs(layout, jobs)
    assert packed.dtype == np.uint8
    assert [row.tobytes() for row in packed] == slow_pack(layout, jobs)


def test_packed_job_by_hand() -> None:
    # start 2, rows 3 (from bit 24), bank 1 (27), base 5 (28), step -1 in 11 bits (38): 49 bits.
    job = {"start": 2, "rows": 3, "w_bank": 1, "w_base": 5, "w_step": -1}
    word = 2 | 3 << 24 | 1 << 27 | 5 << 28 | 0x7FF << 38
    packed = pack_jobs(LAYOUTS[0], {name: np.array([value]) for name, value in job.items()})
    assert packed.tolist() == [list(word.to_bytes(7, "little"))]


def test_no_jobs_pack_to_no_words() -> None:
    for layout in LAYOUTS:
        none = {field.name: np.zeros(0, np.int64) for field in layout.fields}
        assert pack_jobs(layout, none).shape == (0, (layout.width + 7) // 8)


@pytest.mark.parametrize(("layout", "field"), [(layout, field) for layout in LAYOUTS for field in layout.fields])
def test_value_that_its_field_cannot_hold_is_refused(layout: Layout, field: Field) -> None:
    low, high = limits(field)
    for value, fits in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        jobs = {f.name: np.zeros(3, np.int64) for f in layout.fields}
        jobs[field.name][2] = value
        if fits:
            assert len(pack_jobs(layout, jobs)) == 3
            continue
        sentence = f"{layout.name} 2: {field.name} is {value}, but its field holds {low} to {high}"
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            pack_jobs(layout, jobs)


def test_images_by_hand() -> None:
    # Two taps of one channel in a row: a word holds a pixel and the one to its right, zero beyond the edge.
    layer = parse_workload("conv:1x3x1x2,kernel=1x2,padding=0x1")
    program = compile_layer(layer, POD4)
    (epoch,) = program.epochs
    pixels = np.array([5, 6, 7], np.int8).reshape(1, 1, 3, 1)
    ((place, words),) = program.x_image(epoch, pixels)
    assert place == Place(0, 0)
    assert words.tolist() == [[0, 5, 0, 0], [5, 6, 0, 0], [6, 7, 0, 0], [7, 0, 0, 0]]
    # Weights [tap][output]: a row of the tile per tap, a column per output.
    weights = np.array([[1, 2], [3, 4]], np.int8).reshape(1, 2, 1, 2)
    ((place, words),) = program.w_image(epoch, weights)
    assert place == Place(0, 0)
    assert words.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert epoch.words_streamed.tolist() == [4]


def test_grouped_weights_are_block_diagonal() -> None:
    layer = parse_workload("conv:1x1x2x4,kernel=1,groups=2")
    program = compile_layer(layer, POD4)
    weights = np.array([1, 2, 3, 4], np.int8).reshape(1, 1, 1, 4)
    ((_, words),) = program.w_image(program.epochs[0], weights)
    assert words.tolist() == [[1, 2, 0, 0], [0, 0, 3, 4]]


def test_result_is_put_where_its_readout_says() -> None:
    program = compile_layer(parse_workload("conv:3x4x4x6,kernel=1,batch=2"), POD4)
    result = program.empty_result()
    assert (result.shape, result.dtype) == ((2, 3, 4, 6), np.int32)
    second_tile = program.lowered.tiles[1]
    assert second_tile.outputs.tolist() == [4, 5]
    words = np.arange(4 * 4, dtype=np.int32).reshape(4, 4)
    program.store_result(result, Readout(Place(0, 0), second_tile, (1, 1, 2), (1, 2, 2)), words)
    expected = np.zeros((2, 3, 4, 6), np.int32)
    expected[1, 1:, 2:, 4:] = [[[0, 1], [4, 5]], [[8, 9], [12, 13]]]
    assert_array_equal(result, expected)


def test_every_output_is_read_out_once() -> None:
    program = compile_layer(gemm(20, 9, 11), POD4.replace(p_words=6, w_words=4, banks=1))
    counts = program.empty_result()
    for epoch in program.epochs:
        for readout in epoch.readouts:
            once = program.empty_result()
            program.store_result(once, readout, np.ones((int(np.prod(readout.shape)), 4), np.int32))
            counts += once
    assert len(program.epochs) > 1
    assert (counts == 1).all()
