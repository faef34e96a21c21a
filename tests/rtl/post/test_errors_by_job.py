"""Errors of the first job of a post-processor, and of one behind another; scalars of no statistic."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.spec.errors import PostError
from podweave.spec.row_functions import Scalar, Statistic
from podweave.tb.benches.block_bench import BlockRun
from tests.rtl.post.post_stimulus import CONFIGS, PostStimulus, base_job, bench_of, check, post_stimulus, quiet

pytestmark = pytest.mark.blocks

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
