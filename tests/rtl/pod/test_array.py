"""Array groups and arrays in lockstep with their cycle models: every output port, every cycle."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.cycle.pod import array as model
from podweave.spec.config_parts import ArrayConfig
from podweave.tb.cases.pod_stimulus import array_bench, array_stimulus, group_bench, group_stimulus
from podweave.tb.lockstep.ports import LockstepError

GROUPS = [(1, 1), (2, 4), (1, 8), (16, 16)]
RARE = [*((r, c, 32) for r, c in ((4, 4), (4, 2), (3, 5), (8, 8))), (4, 4, 20)]
"""Groups of the campaign: rows, columns, bits of a sum."""
ARRAYS = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (4, 8), (16, 8), (8, 32)]
GROUPINGS = {"1x1": (1, 1), "2x4": (2, 4), "4x4": (4, 4), "full": None}


FAST = ("1x1_of_1x1", "2x2_of_1x1", "4x4_of_2x4", "4x8_of_4x4", "8x8_of_8x8", "16x8_of_2x4")
"""Square and not, one wide, of groups of one, of several and of all."""
LARGE = ("8x32_of_8x16", "32x32_of_16x16")
"""All others are of the campaign."""


def geometries() -> list[ArrayConfig]:
    """Every array with every grouping that divides it; groups beyond 16 x 16 stand for the full array of 32."""
    found = []
    for rows, cols in ARRAYS:
        for grouping in GROUPINGS.values():
            group_rows, group_cols = grouping or (min(rows, 16), min(cols, 16))
            config = (rows, cols, group_rows, group_cols)
            if rows % group_rows == 0 and cols % group_cols == 0 and config not in found:
                found.append(config)
    found.append((32, 32, 32, 32))
    return [ArrayConfig(rows=r, cols=c, group_rows=gr, group_cols=gc) for r, c, gr, gc in found]


def name(config: ArrayConfig) -> str:
    return f"{config.rows}x{config.cols}_of_{config.group_rows}x{config.group_cols}_psum{config.psum_width}"


def marks(config: ArrayConfig) -> list[pytest.MarkDecorator]:
    if name(config).startswith(FAST):
        return []
    return [pytest.mark.more if name(config).startswith(LARGE) else pytest.mark.campaign]


def expected_group(stimulus: dict, config: ArrayConfig) -> dict:
    return model.array_group(
        stimulus["x_i"],
        stimulus["p_i"],
        stimulus["w_i"],
        stimulus["token_i"],
        stimulus["swap_i"],
        psum_width=config.psum_width,
    )


def expected_array(stimulus: dict, config: ArrayConfig) -> dict:
    return model.array(stimulus["x"], stimulus["swap"], stimulus["w"], stimulus["token"], psum_width=config.psum_width)


@pytest.mark.parametrize(
    ("rows", "cols", "psum"),
    [*((r, c, 32) for r, c in GROUPS), (2, 3, 17), *(pytest.param(r, c, p, marks=pytest.mark.campaign) for r, c, p in RARE)],
)
def test_group_lockstep(rows: int, cols: int, psum: int) -> None:
    config = ArrayConfig(rows=rows, cols=cols, group_rows=rows, group_cols=cols, psum_width=psum)
    bench = group_bench(config, random_initial_state=True)
    rng = np.random.default_rng([rows, cols, psum])
    compared = 0
    for seed in range(2):
        stimulus = group_stimulus(rng, config, 1500)
        compared += bench.check(expected_group(stimulus, config), bench.run(stimulus, seed=seed))
    # Known from the first swap of loaded weights on, at the latest a few hundred cycles in.
    assert compared > 2 * 1000 * cols


@pytest.mark.parametrize(
    "config",
    [pytest.param(each, id=name(each), marks=marks(each)) for each in geometries()],
)
def test_array_lockstep(config: ArrayConfig) -> None:
    bench = array_bench(config, random_initial_state=True)
    rng = np.random.default_rng([config.rows, config.cols, config.group_rows, config.group_cols])
    stimulus = array_stimulus(rng, config, 1200)
    compared = bench.check(expected_array(stimulus, config), bench.run(stimulus))
    assert compared > 600 * config.cols


def test_array_is_a_matrix_product() -> None:
    """The contract itself, without the cycle model: a loaded tile times rows of activations, at the stated latency."""
    config = ArrayConfig(rows=8, cols=12, group_rows=4, group_cols=3)
    rng = np.random.default_rng(5)
    x, w = rng.integers(-128, 128, (20, 8)), rng.integers(-128, 128, (8, 12))
    stimulus = {
        "x": np.zeros((60, 8), np.int8),
        "w": np.zeros((60, 12), np.int8),
        "token": np.zeros((60, 4), bool),
        "swap": np.zeros((60, 2), bool),
    }
    start = 10
    for j in range(4):
        stimulus["w"][start + j : start + j + 8, 3 * j : 3 * j + 3] = w[:, 3 * j : 3 * j + 3]
        stimulus["token"][start + j, j] = True
    for i in range(2):
        begin = start + 8 + i
        stimulus["x"][begin : begin + 20, 4 * i : 4 * i + 4] = x[:, 4 * i : 4 * i + 4]
        stimulus["swap"][begin, i] = True
    p = array_bench(config).run(stimulus)["p"]
    for j in range(4):
        first = start + 8 + config.row_groups + 1 + j
        np.testing.assert_array_equal(p[first : first + 20, 3 * j : 3 * j + 3], x @ w[:, 3 * j : 3 * j + 3])


def test_reset_in_mid_run_changes_nothing() -> None:
    config = ArrayConfig(rows=4, cols=8, group_rows=2, group_cols=4)
    bench = array_bench(config, random_initial_state=True)
    stimulus = array_stimulus(np.random.default_rng(11), config, 800)
    for seed, cycle in enumerate((1, 7, 333)):
        bench.check(expected_array(stimulus, config), bench.run(stimulus, seed=seed, reset_at=cycle))


@pytest.mark.parametrize(("port", "lane", "bit"), [("p", 7, 0), ("p", 0, 31)])
def test_array_checker_sees_one_flipped_bit(port: str, lane: int, bit: int) -> None:
    config = ArrayConfig(rows=4, cols=8, group_rows=2, group_cols=4)
    bench = array_bench(config)
    stimulus = array_stimulus(np.random.default_rng(1), config, 600)
    observed = bench.run(stimulus)
    expected = expected_array(stimulus, config)
    bench.check(expected, observed)
    observed[port][555, lane] ^= 1 << bit
    with pytest.raises(LockstepError, match=rf"cycle 555, port {port} lane {lane}: expected"):
        bench.check(expected, observed)


@pytest.mark.parametrize("port", ["x_o", "p_o", "w_o", "token_o", "swap_o"])
def test_group_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    config = ArrayConfig(rows=4, cols=4, group_rows=4, group_cols=4)
    bench = group_bench(config, random_initial_state=True)
    stimulus = group_stimulus(np.random.default_rng(1), config, 600)
    observed = bench.run(stimulus)
    expected = expected_group(stimulus, config)
    bench.check(expected, observed)
    values = observed[port]
    at = (444, values.shape[1] - 1) if values.ndim == 2 else (444,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"cycle 444, port {port}{lane}: expected"):
        bench.check(expected, observed)
