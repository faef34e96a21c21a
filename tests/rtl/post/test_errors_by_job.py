"""Errors of the first job of a post-processor, and of one behind another; scalars of no statistic, and every root as one."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.spec.errors import PostError
from podweave.spec.row_functions import Destination, Saturate, Scalar, Statistic
from podweave.tb.benches.block_bench import BlockRun
from tests.rtl.post.post_stimulus import CONFIGS, PostStimulus, base_job, bench_of, check, post_stimulus, quiet, set_parameters

pytestmark = pytest.mark.more

KEY = "rows_8x4_lanes2_psum24_even"
Jobs = list[tuple[int, dict[str, int]]]
RUN = 10
"""The epoch begins."""
FIRST, TO_X, LAST_ROW = {"start": 20}, {"destination": 1}, {"statistic": 1, "row": 31}
# Of a job: the cycle of its push, and what is different; the error is that of the last one.
CASES: dict[str, tuple[PostError, Jobs]] = {
    "late": (PostError.LATE, [(RUN + 30, FIRST)]),
    "late, behind one": (PostError.LATE, [(2, FIRST), (RUN + 90, {"start": 80})]),
    "too many": (PostError.OVERFLOW, [(2 + i, {"start": 300}) for i in range(12)]),
    "too many, behind one": (PostError.OVERFLOW, [(2, FIRST), *((RUN + 40 + i, {"start": 300}) for i in range(12))]),
    "no words": (PostError.ILLEGAL, [(2, FIRST | {"n2": 0})]),
    "no words, behind one": (PostError.ILLEGAL, [(2, FIRST), (3, {"start": 60, "n3": 0})]),
    "P word": (PostError.P_ADDRESS, [(2, FIRST | {"p_base": 74, "p_step0": 1, "n0": 2})]),
    "P word, behind one": (PostError.P_ADDRESS, [(2, FIRST | LAST_ROW), (3, {"start": 60, "p_base": 0, "p_step2": -1, "n2": 2})]),
    "X word": (PostError.X_ADDRESS, [(2, FIRST | {"x_base": 0, "x_step2": -1, "n2": 2} | TO_X)]),
    "X word, behind one": (
        PostError.X_ADDRESS,
        [(2, FIRST), (3, {"start": 60, "x_base": 49, "x_step2": 1, "n2": 2, "destination": 1})],
    ),
    "not ready": (PostError.ROW_NOT_READY, [(2, FIRST | {"subtract": 1, "row": 17})]),
    "not ready, behind one": (PostError.ROW_NOT_READY, [(2, FIRST), (3, {"start": 60, "row_scale": 1, "row": 3})]),
    "no time": (PostError.SCALAR_BUSY, [(2, FIRST | {"statistic": 1, "scalar": 1, "n3": 2})]),
    "no time, behind one": (PostError.SCALAR_BUSY, [(2, FIRST), (3, {"start": 60, "statistic": 2, "scalar": 2, "n3": 3})]),
}


def stimulus_of(jobs: Jobs) -> PostStimulus:
    stimulus = quiet(KEY, 420)
    # P words are anything.
    stimulus.p_data[:] = np.random.default_rng(3).integers(-300, 300, stimulus.p_data.shape)
    stimulus.job_cycles[:] = [cycle for cycle, _ in jobs]
    stimulus.jobs[:] = [base_job(KEY, **fields) for _, fields in jobs]
    return stimulus


@functools.cache
def observed() -> dict[str, dict[str, NDArray[np.int64]]]:
    """What the RTL does in each case, in one simulation."""
    inputs = [stimulus_of(jobs).inputs(CONFIGS[KEY]) for _, jobs in CASES.values()]
    return dict(zip(CASES, bench_of(KEY).run_all([BlockRun(each) for each in inputs], seed=2), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_errors_of_the_first_job_and_of_a_later_one(case: str) -> None:
    error, jobs = CASES[case]
    stimulus = stimulus_of(jobs)
    model = stimulus.model(CONFIGS[KEY])
    expected = model.outputs(stimulus.p_data, stimulus.parameters, stimulus.rows)
    bench_of(KEY).check(expected, observed()[case])
    assert model.first_error is not None
    assert {name for name, cycles in model.events.items() if (cycles == model.first_error).any()} == {error.name.lower()}
    assert int(expected["errors"].value[-1]) >> error & 1
    # Of a later one, the first is through.
    assert int((model.service.begin < model.first_error).sum()) == int("behind" in case) + int(
        error in (PostError.P_ADDRESS, PostError.X_ADDRESS, PostError.ROW_NOT_READY, PostError.SCALAR_BUSY)
    )


@pytest.mark.parametrize("scalar", [Scalar.RECIPROCAL, Scalar.RSQRT])
def test_a_scalar_of_no_statistic_is_nothing(scalar: Scalar) -> None:
    """Jobs without a statistic do the same with any code."""
    stimulus = post_stimulus(np.random.default_rng([2, 8]), CONFIGS[KEY])
    changed = [job for job in stimulus.jobs if job["statistic"] == Statistic.NONE]
    assert len(changed) > 2
    _, before = check(KEY, stimulus, seed=1)
    for job in changed:
        job["scalar"] = int(scalar)
    model, expected = check(KEY, stimulus, seed=1)
    assert model.first_error is None
    assert all((expected[name].value == trace.value).all() for name, trace in before.items())


def test_every_root_scales_a_row() -> None:
    """Statistics of 32 rows at a time, whose totals have one root of the table after the other; then the rows by their scales."""
    entries = np.random.default_rng(5).permutation(np.arange(64, 256))
    rows, of_row, spare = 32, 16, 40
    block = rows * of_row + 2 * rows + 2 * spare
    stimulus = quiet(KEY, RUN + block * len(entries) // rows + spare)
    stimulus.p_data[:] = np.random.default_rng(3).integers(-8000, 8000, stimulus.p_data.shape)
    set_parameters(stimulus, 1, 0, 0, 0, 0)
    assert stimulus.rows is not None
    for first in range(len(entries) // rows):
        start = first * block + spare
        # A total comes behind the last word of its row; each stands there for as long as a row takes.
        at, totals = RUN + start + of_row, entries[first * rows : (first + 1) * rows] << 8
        stimulus.rows.total[at : at + rows * of_row] = np.repeat(totals, of_row)
        statistic = {"statistic": int(Statistic.SUM), "scalar": int(Scalar.RSQRT), "n2": of_row // 2, "n3": rows}
        scaled = {"start": start + rows * of_row + spare, "row_scale": 1, "n3": rows, "x_step3": 1}
        scaled |= {"destination": int(Destination.STORE), "saturate": int(Saturate.WIDE)}
        stimulus.jobs += [base_job(KEY, start=start, **statistic), base_job(KEY, **scaled)]
        stimulus.job_cycles += [start, start + 1]
    model, expected = check(KEY, stimulus, seed=1)
    assert model.first_error is None
    read = [RUN + 2 + job["start"] + 2 * row for job in stimulus.jobs[1::2] for row in range(rows)]
    # Each sum of a word, times the mantissa of the root of its row, by 2**8: totals have 16 bits.
    mantissa = np.rint(2**23 / np.sqrt(256 * entries + 128))
    scaled_words = np.rint(stimulus.p_data[read] * mantissa[:, None] / 2**8).astype(np.int64)
    np.testing.assert_array_equal(expected["own_data"].value[expected["own_valid"].value == 1], scaled_words)
