"""golden.cycle.chip.post: wide requantisation, memories that the host writes, walks and errors, worked by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from podweave.golden.cycle.chip.host_writes import HostWrites
from podweave.golden.cycle.chip.post import Parameters, PostGeometry, PostModel
from podweave.golden.cycle.chip.rows import scaled
from podweave.golden.cycle.pod.jobs import Pushes
from podweave.golden.layers.requant import requantize

GEOMETRY = PostGeometry(
    rows=2,
    cols=4,
    psum_width=20,
    queue_depth=2,
    time_width=16,
    banks=2,
    y_planes=1,
    x_words=10,
    p_words=20,
    parameter_sets=2,
    tables=1,
)
FIELDS = ("start", "n0", "n1", "n2", "n3", "p_base", "reduce", "parameters", "activate", "table", "slice", "slot")
FIELDS += ("x_bank", "x_plane", "x_base", "x_step2", "x_step3", *(f"p_step{i}" for i in range(4)))


def model(cycles: int, *jobs: dict[str, int]) -> PostModel:
    """Jobs pushed in cycles 0, 1, ...; an epoch from cycle 2 on, so that time 0 is cycle 3."""
    filled = [dict.fromkeys(FIELDS, 0) | {f"n{i}": 1 for i in range(4)} | job for job in jobs]
    fields = {name: np.array([job[name] for job in filled], np.int64) for name in FIELDS}
    return PostModel(GEOMETRY, np.arange(cycles) >= 2, Pushes(np.arange(len(jobs)), fields))


def to_int8(total: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *, even: bool = False) -> np.ndarray:
    ends = np.full(len(total), -128), np.full(len(total), 127)
    return scaled(total, multiplier, shift, ends, even=even)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.integers(-(2**32), 2**32 - 2), st.integers(0, 2**31 - 1), st.integers(0, 62))
def test_scaled_is_exact(total: int, multiplier: int, shift: int) -> None:
    exact = Fraction(total) * multiplier / 2**shift
    rounded = int(abs(exact) + Fraction(1, 2))
    expected = max(-128, min(127, -rounded if total < 0 else rounded))
    given_values = np.array([total]), np.array([multiplier]), np.array([shift])
    assert to_int8(*given_values).tolist() == [expected]
    # Python rounds a half to the even neighbour.
    assert to_int8(*given_values, even=True).tolist() == [max(-128, min(127, round(exact)))]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 62))
def test_scaled_is_requantize_where_both_are_defined(total: int, multiplier: int, shift: int) -> None:
    wide = to_int8(np.array([total]), np.array([multiplier]), np.array([shift]))
    assert_array_equal(wide, requantize(np.array([total], np.int32), multiplier, shift))


@pytest.mark.parametrize(("shift", "expected"), [(62, 2), (57, 64), (56, 127)])
def test_scaled_at_the_end_of_its_range(shift: int, expected: int) -> None:
    """-2**32 times (2**31 - 1) is just above -2**63."""
    got = to_int8(np.array([-(2**32), 2**32 - 2]), np.array([2**31 - 1] * 2), np.array([shift] * 2))
    assert got.tolist() == [-expected if expected < 127 else -128, expected]


def test_host_writes() -> None:
    writes = HostWrites(np.array([1, 0, 1, 1, 0], bool), np.array([3, 3, 5, 3, 3]), np.array([10, 11, 12, 13, 14]))
    cycle, address = np.array([0, 1, 3, 4, 4, 4]), np.array([3, 3, 3, 3, 5, 4])
    data, known = writes.read(cycle, address)
    # In the cycle of the write, after it, in the cycle of the next, after that; another address; one never written.
    assert known.tolist() == [False, True, False, True, True, False]
    assert data[[1, 3, 4]].tolist() == [10, 13, 12]


def test_nothing_written_is_unknown() -> None:
    writes = HostWrites(np.zeros(4, bool), np.zeros(4, int), np.zeros((4, 2), int))
    data, known = writes.read(np.array([1, 2]), np.array([0, 0]))
    assert data.shape == (2, 2)
    assert not known.any()


def test_no_jobs() -> None:
    ports = model(10).requests()
    assert not any(ports[name].value.any() for name in ("busy", "errors", "p_read_enable", "y_valid"))
    assert ports["job_ready"].value.all()


def test_walk_by_hand() -> None:
    """2 x 1 words to a window, 2 x 2 windows."""
    walked = model(
        60, {"start": 4, "n0": 2, "n2": 2, "n3": 2, "p_base": 3, "p_step0": 1, "p_step2": 4, "p_step3": -6, "x_step3": 2}
    )
    ports = walked.requests()
    read = ports["p_read_enable"].value == 1
    assert np.flatnonzero(read).tolist() == list(range(7, 15))
    assert ports["p_read_address"].value[read].tolist() == [3, 4, 8, 9, 3, 4, 8, 9]
    written = ports["y_valid"].value == 1
    assert np.flatnonzero(written).tolist() == [14, 16, 18, 20]
    assert ports["y_address"].value[written].tolist() == [0, 0, 2, 2]
    assert np.flatnonzero(ports["busy"].value).tolist() == list(range(1, 21))


def test_errors_by_hand() -> None:
    outside = model(40, {"start": 1, "n0": 3, "p_base": 18, "p_step0": 1, "n2": 2}, {"start": 20})
    assert {name: cycles.tolist() for name, cycles in outside.events.items() if len(cycles)} == {"p_address": [6, 7, 8, 9]}
    # Loop 2 does not step back: the second window begins outside, and stays there.
    assert not outside.requests()["y_valid"].value.any()
    assert np.flatnonzero(outside.requests()["errors"].value == 8).tolist() == list(range(7, 40))
    assert outside.requests()["error_time"].value[-1] == 4
    assert outside.service.job.tolist() == [0]


def test_outputs_by_hand() -> None:
    """Lanes 2 and 3: the larger of two words, plus a bias, by 1/2; lane 3 is looked up in the table at the place of -3."""
    cycles = 30
    job = {"start": 2, "n0": 2, "slice": 1, "parameters": 1, "activate": 1}
    p_data = np.zeros((cycles, 4), np.int64)
    p_data[6], p_data[7] = [9, 9, -20, 4], [9, 9, -19, -5]
    valid = np.arange(cycles) == 0
    at = np.full(cycles, 1)
    bias, one = np.tile([0, 0, 14, -10], (cycles, 1)), np.ones((cycles, 4), int)
    table = HostWrites(np.arange(cycles) == 1, np.full(cycles, 0xFD), np.full(cycles, 0x80))
    parameters = Parameters(HostWrites(valid, at, bias), HostWrites(valid, at, one), HostWrites(valid, at, one), table)
    data = model(cycles, job).outputs(p_data, parameters)["y_data"]
    # (-19 + 14) / 2 = -2.5 to -3, (4 - 10) / 2 = -3; the word read last in cycle 6 is on the port in cycle 12.
    assert data.value[12].tolist() == [-128, -128]
    assert not data.known[:12].any()
    assert data.known[12:].all()
