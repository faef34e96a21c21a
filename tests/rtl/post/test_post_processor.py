"""rtl.post.post_processor: in lockstep with its cycle model, on legal and on broken jobs, with random P words in every cycle."""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
import pytest

from podweave.golden.cycle.chip.post import ERRORS
from podweave.golden.layers.requant import requantize
from podweave.spec.config import ChipConfig
from podweave.spec.errors import PostError
from podweave.spec.jobs import Reduce, post_job_layout
from podweave.spec.row_functions import Destination
from podweave.tb.lockstep.ports import LockstepError
from tests.rtl.post.post_stimulus import (
    CONFIGS,
    CYCLES,
    PROLOGUE,
    ROWS,
    PostStimulus,
    base_job,
    bench_of,
    check,
    post_stimulus,
    quiet,
    set_parameters,
    steps,
    words_of,
)

LONG = ("8x4_psum20", "4x4_scale16_even", "4x12", "4x8_lanes2_sum23_scale17", "rows_4x4", "4x12_lanes2_even")
LONG += ("8x8_lanes4_scale24", "4x4_psum24_sum20_scale24_even", "rows_16x16_lanes4", "rows_2x2_psum20_scale18")
"""What others have, too, only in other combinations: these are of the campaign."""
FAST = ("4x4", "3x1_psum17", "4x12_lanes2_zero", "rows_8x4_lanes2_psum24_even")
"""Square, one wide, wide, with rows."""
MARKS = {key: [pytest.mark.campaign if key in LONG else pytest.mark.more] for key in CONFIGS if key not in FAST}
KEYS = [pytest.param(key, marks=MARKS.get(key, [])) for key in CONFIGS]


@pytest.mark.parametrize("key", KEYS)
def test_random_legal_jobs(key: str) -> None:
    for seed in range(3):
        stimulus = post_stimulus(np.random.default_rng([seed, len(key)]), CONFIGS[key])
        model, expected = check(key, stimulus, seed)
        assert model.first_error is None, model.events
        assert len(model.service.job) == len(stimulus.jobs) > (12 if key in ROWS else 25)
        words = expected["y_valid"].value.astype(bool)
        data = expected["y_data"]
        assert words.sum() > (30 if key in ROWS else 150)
        # Most words are known in spite of parameters that change under them, and many have not saturated.
        assert data.known[words].mean() > (0.75 if key in ROWS else 0.9)
        assert (np.abs(data.value[words]) < 127).mean() > 0.2


def corrupt(rng: np.random.Generator, stimulus: PostStimulus, config: ChipConfig) -> None:
    """One field of one job to a random value that fits its bits."""
    job = stimulus.jobs[int(rng.integers(len(stimulus.jobs)))]
    fields = post_job_layout(config).fields
    field = fields[int(rng.integers(len(fields)))]
    low = -(1 << (field.width - 1)) if field.signed else 0
    value = int(rng.integers(low, low + (1 << field.width)))
    if field.name == "start" and rng.random() < 0.8:
        value = max(0, job["start"] + int(rng.integers(-6, 7)))
    if field.name in ("n0", "n1", "n2", "n3"):
        value = int(rng.integers(0, 6))
    job[field.name] = value


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.more
def test_random_broken_jobs(key: str) -> None:
    """One field of a few jobs set to anything: whatever the hardware then does, it is what the model says."""
    seen: set[str] = set()
    for seed in range(4):
        rng = np.random.default_rng([seed, 99, len(key)])
        stimulus = post_stimulus(rng, CONFIGS[key])
        for _ in range(int(rng.integers(1, 5))):
            corrupt(rng, stimulus, CONFIGS[key])
        model, _ = check(key, stimulus, seed)
        seen |= {name for name, cycles in model.events.items() if len(cycles)}
    assert seen, "no corruption had any effect"


@pytest.mark.campaign
@pytest.mark.parametrize("key", KEYS)
def test_campaign(key: str) -> None:
    """Many more of both kinds."""
    for seed in range(100, 160):
        rng = np.random.default_rng([seed, len(key)])
        stimulus = post_stimulus(rng, CONFIGS[key])
        for _ in range(int(rng.integers(0, 3))):
            corrupt(rng, stimulus, CONFIGS[key])
        check(key, stimulus, seed)


def late(s: PostStimulus) -> None:
    s.jobs[4]["start"] = s.jobs[3]["start"]


def overflow(s: PostStimulus) -> None:
    first = s.job_cycles[0]
    s.jobs[:] = [dict(s.jobs[0], start=200 + 9 * i) for i in range(6)]
    s.job_cycles[:] = [first + i for i in range(6)]


def p_address(s: PostStimulus) -> None:
    s.jobs[5].update(p_base=74, p_step0=1, n0=2, n1=1)


def x_address(s: PostStimulus) -> None:
    s.jobs[5].update(x_base=0, n2=2, x_step2=-1)


DIRECTED = {
    PostError.LATE: [late],
    PostError.OVERFLOW: [overflow],
    PostError.ILLEGAL: [
        *(lambda s, n=n: s.jobs[4].update({n: 0}) for n in ("n0", "n1", "n2", "n3")),
        *(lambda s, n=n, v=v: s.jobs[4].update({n: v}) for n, v in (("parameters", 5), ("table", 3), ("slice", 3), ("slot", 1))),
    ],
    PostError.P_ADDRESS: [p_address],
    PostError.X_ADDRESS: [x_address],
}


def row_not_ready(s: PostStimulus) -> None:
    s.jobs[5].update(subtract=1, row=17, n3=1)


def scalar_busy(s: PostStimulus) -> None:
    # Two rows whose values arrive one after the other.
    s.jobs[5].update(statistic=1, scalar=1, n3=2, n2=1, n0=2, n1=1, gap=0, destination=0, row=3)


ROW_DIRECTED = {
    PostError.ILLEGAL: [
        lambda s: s.jobs[4].update(combine=3),
        lambda s: s.jobs[4].update(destination=5),
        lambda s: s.jobs[4].update(scalar=3),
        lambda s: s.jobs[4].update(wide_table=1, table=1),
        lambda s: s.jobs[4].update(level=3),
        lambda s: s.jobs[4].update(parameters=4, parameters_step=1, n2=2),
        lambda s: s.jobs[4].update(row=31, n3=2, statistic=1),
        lambda s: s.jobs[4].update(length=31, length_step=1, n3=2, masked=1),
    ],
    PostError.X_ADDRESS: [
        lambda s: s.jobs[5].update(x_base=49, destination=2, n2=1, n3=1),
        lambda s: s.jobs[5].update(x_base=75, destination=3, n2=1, n3=1),
    ],
    PostError.ROW_NOT_READY: [row_not_ready],
    PostError.SCALAR_BUSY: [scalar_busy],
}
SPOILT = [("4x12_lanes2_zero", error, spoil) for error, spoils in DIRECTED.items() for spoil in spoils]
SPOILT += [("rows_8x4_lanes2_psum24_even", error, spoil) for error, spoils in ROW_DIRECTED.items() for spoil in spoils]


@pytest.mark.parametrize("error", PostError, ids=lambda error: error.name.lower())
def test_every_error_is_raised_named_and_sticky(error: PostError) -> None:
    for key, spoil in [(key, spoil) for key, of, spoil in SPOILT if of == error]:
        stimulus = post_stimulus(np.random.default_rng(4), CONFIGS[key])
        spoil(stimulus)
        model, expected = check(key, stimulus, seed=1)
        assert model.first_error is not None
        first = {name for name, cycles in model.events.items() if len(cycles) and cycles.min() == model.first_error}
        assert first == {error.name.lower()}
        # The RTL was equal to the model in every cycle: the bit is set, stays set, and no job starts any more.
        errors = expected["errors"].value
        assert not errors[: model.first_error + 1].any()
        assert (errors[model.first_error + 1 :] & 1 << error).all()
        assert expected["error_time"].value[-1] == model.next_time[model.first_error]
        assert not (model.service.begin > model.first_error).any()


def test_errors_have_the_names_and_bits_of_the_model() -> None:
    assert [error.name.lower() for error in PostError] == list(ERRORS)
    assert {error for _, error, _ in SPOILT} == set(PostError)


def test_two_planes_need_two_cycles() -> None:
    """A period of 1 is illegal for them, and only for them."""
    key = "rows_4x4"
    for destination, wrong in ((Destination.PLANES, True), (Destination.X, False)):
        stimulus = quiet(key, 120)
        stimulus.jobs, stimulus.job_cycles = [base_job(key, start=5, destination=int(destination))], [2]
        model, _ = check(key, stimulus, seed=1)
        assert bool(len(model.events["illegal"])) == wrong


@pytest.mark.parametrize("row", [0, 1, 6, 15])
@pytest.mark.more
def test_a_register_that_is_taken_again_is_not_ready(row: int) -> None:
    """By hand: a sum, who reads it, a second sum into the same register or into another one, who reads again at once."""
    key = "rows_4x4"
    for second, wrong in ((row, True), (row ^ 8, False), (row ^ 1, False)):
        stimulus = quiet(key, 150)
        taken = {"statistic": 1, "destination": int(Destination.NONE)}
        stimulus.jobs = [
            base_job(key, start=5, row=row, **taken),
            base_job(key, start=40, row=row, subtract=1),
            base_job(key, start=60, row=second, **taken),
            base_job(key, start=62, row=row, subtract=1),
        ]
        stimulus.job_cycles = [2, 3, 4, 60]
        model, _ = check(key, stimulus, seed=1)
        # Read in cycle 11 + 62, looked at two cycles later.
        assert model.events["row_not_ready"].tolist() == ([75] if wrong else [])


@pytest.mark.parametrize("key", ["4x4", "4x12_lanes2_zero"])
def test_words_out_of_range_leave_no_trace(key: str) -> None:
    """By hand: three windows of two words, of which the last reads outside, or all but the first do, but not at their ends; then
    three outputs, of which the last is outside."""
    stimulus = quiet(key, 120)
    shape = {"n0": 2, "n1": 1, "n2": 3, "n3": 1, "x_base": 48, "x_step2": 1}
    jobs = [
        base_job(key, start=5, **shape, p_base=71, p_step0=1, p_step2=1),
        base_job(key, start=5, **shape, p_base=73, p_step0=-3, p_step2=5),
        base_job(key, start=30, **shape | {"n0": 1}, p_base=10, p_step2=1),
    ]
    reads, writes = [[71, 72, 73, 74], [73, 70, 72, 74], [10, 11, 12]], [[48, 49], [48], [48, 49]]
    errors = [PostError.P_ADDRESS, PostError.P_ADDRESS, PostError.X_ADDRESS]
    for job, read, written, error in zip(jobs, reads, writes, errors, strict=True):
        stimulus.jobs, stimulus.job_cycles = [job], [1]
        check(key, stimulus, seed=2)
        observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
        assert observed["p_read_address"][observed["p_read_enable"] == 1].tolist() == read
        assert observed["y_address"][observed["y_valid"] == 1].tolist() == written
        assert observed["errors"][-1] & 1 << error
        assert not observed["busy"][-1]


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.more
def test_jobs_of_three_slices(wrong: bool) -> None:
    """With and without activation, of each table; if something is wrong, the last job leaves the X bank in its second word."""
    key = "4x12"
    stimulus = post_stimulus(np.random.default_rng([wrong, 3]), CONFIGS[key])
    values = {name: {job[name] for job in stimulus.jobs} for name in ("slice", "activate", "table")}
    assert values == {"slice": {0, 1, 2}, "activate": {0, 1}, "table": {0, 1, 2}}
    if wrong:
        stimulus.jobs[-1] |= {"x_base": 49, "x_step2": 1, "n2": 2, "n3": 1}
    model, _ = check(key, stimulus, seed=1)
    assert {name for name, cycles in model.events.items() if len(cycles)} == ({"x_address"} if wrong else set())


@pytest.mark.parametrize("reduce", [Reduce.MAX, Reduce.SUM])
def test_pooling_three_by_three_with_stride_two(reduce: Reduce) -> None:
    """The contract itself, without the cycle model: 7 x 9 positions to 3 x 4, then bias, scale and table."""
    key, rng = "4x12", np.random.default_rng(6)
    height, width = 7, 9
    image = rng.integers(-500, 500, (height, width, 12))
    stimulus = quiet(key, 400)
    bias, multiplier, shift = rng.integers(-100, 100, 12), rng.integers(1 << 28, 1 << 31, 12), rng.integers(32, 36, 12)
    set_parameters(stimulus, 0, 3, bias, multiplier, shift)
    table = rng.integers(-128, 128, 256)
    stimulus.parameters.table.valid[:256] = True
    stimulus.parameters.table.address[:256] = 256 * 2 + np.arange(256)
    stimulus.parameters.table.data[:256] = table & 0xFF
    counts = [3, 3, 4, 3]
    where = {"p_base": 5, "x_base": 20, "slice": 2, "slot": 0}
    what = {"reduce": int(reduce), "parameters": 3, "activate": 1, "table": 2}
    job = base_job(start=270, **where, **what, **{f"n{i}": n for i, n in enumerate(counts)})
    x_steps = steps("x", [0, 0, 1, 4], [1, 1, 4, 3])
    job |= steps("p", [1, width, 2, 2 * width], counts) | {name: x_steps[name] for name in ("x_step2", "x_step3")}
    stimulus.jobs, stimulus.job_cycles = [job], [100]
    order = [(2 * y + v, 2 * x + u) for y, x, v, u in product(range(3), range(4), range(3), range(3))]
    # The word read in cycle t is on the port in cycle t + 1; the epoch begins in cycle 10, with time 0 in cycle 11.
    for i, (y, x) in enumerate(order):
        stimulus.p_data[11 + 270 + i + 1] = image[y, x]
    observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
    read = observed["p_read_address"][observed["p_read_enable"] == 1]
    assert read.tolist() == [5 + width * y + x for y, x in order]

    windows = np.stack([image[y, x] for y, x in order]).reshape(12, 9, 12)
    reduced = (windows.max(axis=1) if reduce == Reduce.MAX else windows.sum(axis=1)) + bias
    outputs = table[requantize(reduced.astype(np.int32), multiplier, shift).astype(np.uint8)][:, 8:12]
    valid = observed["y_valid"] == 1
    assert observed["y_data"][valid].tolist() == outputs.tolist()
    assert observed["y_address"][valid].tolist() == list(range(20, 32))
    assert np.flatnonzero(valid).tolist() == [11 + 270 + 9 * i + 8 + 6 for i in range(12)]
    assert len(np.unique(outputs)) > 20


def test_requantises_as_the_golden_model_does_at_the_extremes() -> None:
    """Sums, multipliers and shifts at the ends of their ranges, and around one half; back to back, a set per job."""
    key = "4x4"
    sums = np.array([-(2**31), 2**31 - 1, -(2**31) + 1, 0, 1, -1, 3, -3, 2**30, -(2**30), 127, -129, 255, -255, 5, -5])
    scales = [(m, s) for m in (2**31 - 1, 2**30, 1, 0, 3) for s in (0, 1, 31, 62)]
    stimulus = quiet(key, 200)
    results = []
    for first in range(0, len(scales), 4):
        multiplier, shift = (np.array(part) for part in zip(*scales[first : first + 4], strict=True))
        index = first // 4
        set_parameters(stimulus, index, index, 0, multiplier, shift)
        stimulus.jobs.append(base_job(start=20 + 16 * index, n2=16, parameters=index, x_step2=1))
        stimulus.job_cycles.append(12 + 14 * index)
        for i, value in enumerate(sums):
            stimulus.p_data[11 + 20 + 16 * index + i + 1] = value
        results.append(requantize(np.repeat(sums[:, None], 4, axis=1).astype(np.int32), multiplier, shift))
    cycles, _, data = words_of(key, stimulus)
    np.testing.assert_array_equal(data, np.concatenate(results))
    # Jobs with different sets follow each other without a bubble.
    assert cycles.tolist() == [11 + 20 + 6 + i for i in range(80)]


def test_sum_and_bias_have_33_bits_and_sums_of_windows_wrap_at_32() -> None:
    key = "4x4"
    low, high = -(2**31), 2**31 - 1
    stimulus = quiet(key, 80)
    set_parameters(stimulus, 0, 0, [low, high, low, high], [1, 1, 2**31 - 1, 2**31 - 1], [26, 26, 57, 57])
    set_parameters(stimulus, 1, 1, 0, 1, 0)
    stimulus.jobs = [base_job(start=5, p_base=1), base_job(start=6, p_base=1, n0=3, reduce=int(Reduce.SUM), parameters=1)]
    stimulus.job_cycles = [2, 3]
    stimulus.p_data[11 + 5 + 1] = [low, high, low, high]
    stimulus.p_data[11 + 6 + 1 : 11 + 6 + 4] = [[high, low, -100, 1], [high, low, 60, 2], [7, -7, 1, 3]]
    _, _, data = words_of(key, stimulus)
    # -2**32 / 2**26 = -64 exactly; (2**32 - 2) / 2**26 rounds to 64.
    assert data.tolist() == [[-64, 64, -64, 64], [5, -7, -39, 6]]


def test_reset_in_mid_run_and_random_initial_state_change_nothing() -> None:
    key = "8x4_psum20"
    stimulus = post_stimulus(np.random.default_rng(8), CONFIGS[key])
    for seed, cycle in enumerate((3, 800, 1111)):
        check(key, stimulus, seed=seed, reset_at=cycle)


def test_a_reset_clears_an_error() -> None:
    key = "4x12"
    broken = post_stimulus(np.random.default_rng(4), CONFIGS[key])
    late(broken)
    assert bench_of(key).run(broken.inputs(CONFIGS[key]))["errors"][1200]
    # Up to the reset the run is the broken one, whose jobs are then late again: without an epoch, nothing is left of the error.
    inputs = broken.inputs(CONFIGS[key])
    observed = bench_of(key).run(inputs, reset_at=1200)
    assert not observed["errors"][: PROLOGUE + 2].any()
    assert not observed["busy"][: min(broken.job_cycles)].any()


@functools.cache
def legal_run(key: str) -> tuple[dict, dict]:
    stimulus = post_stimulus(np.random.default_rng(21), CONFIGS[key])
    expected = stimulus.model(CONFIGS[key]).outputs(stimulus.p_data, stimulus.parameters, stimulus.rows)
    return bench_of(key).run(stimulus.inputs(CONFIGS[key])), expected


@pytest.mark.parametrize("key", ["8x4_psum20", "rows_4x4"])
def test_checker_sees_one_flipped_bit_of_every_port(key: str) -> None:
    observed, expected = legal_run(key)
    names = [port.name for port in bench_of(key).outputs]
    assert set(names) == set(expected)
    for port in names:
        values, known = observed[port].copy(), expected[port].known
        cycle = int(np.flatnonzero(known.reshape(CYCLES, -1).all(axis=1) & (np.arange(CYCLES) > 1500))[0])
        at = (cycle, values.shape[1] - 1) if values.ndim == 2 else (cycle,)
        values[at] ^= 1
        lane = f" lane {at[1]}" if len(at) == 2 else ""
        with pytest.raises(LockstepError, match=rf"at cycle {cycle}, port {port}{lane}: expected"):
            bench_of(key).check(expected, {**observed, port: values})
