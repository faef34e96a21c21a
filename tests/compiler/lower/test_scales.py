"""compiler.lower.scales: constants with multipliers of more bits than a configuration has."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.compiler.lower.scales import require_scales_fit
from podweave.compiler.rows import norms
from podweave.compiler.rows.passes import uniform
from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters, with_scale_bits, without_zero_points
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.runs.jobs import chip_jobs
from podweave.spec.presets import load_config
from tests.podweave.runs.row_jobs import small_chip

CHIP = load_config("chip2x4").replace(scale_bits=20)


@pytest.mark.parametrize("from_memory", [True, False])
def test_wide_multipliers_are_refused_where_they_do_not_fit(from_memory: bool) -> None:
    (job,) = chip_jobs("conv:4x4x8x8,kernel=3x3,padding=1", 1)
    (name,) = job.constants
    options = CompileOptions(from_memory=from_memory)
    most = int(job.constants[name].multiplier.max())
    sentence = (
        f"{name}: its multiplier {most} has 31 bits, more than scale_bits (20) of chip2x4; quantise scales to 20 bits "
        "(podweave.ir.quantise.quantize_scale, or podweave.ir.constants.with_scale_bits)"
    )
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        compile_network(job.graph, CHIP, job.constants, options)
    fewer = with_scale_bits(job.constants, 20)
    narrow = compile_network(job.graph, CHIP, fewer, options)
    # What is quantised for fewer bits runs on chips that have more, in the same jobs.
    wide = compile_network(job.graph, CHIP.replace(scale_bits=31), fewer, options)
    for ours, theirs in zip(narrow.programs, wide.programs, strict=True):
        assert all((column == theirs.posts[field]).all() for field, column in ours.posts.items())


def test_the_largest_multiplier_that_fits() -> None:
    (job,) = chip_jobs("gemm:4x8x8", 1)
    (name,) = job.constants

    def with_multiplier(multiplier: int) -> dict[str, Parameters]:
        held = job.constants[name]
        return {name: replace(held, multiplier=np.where(np.arange(8) == 5, multiplier, 1).astype(np.int32))}

    compile_network(job.graph, CHIP, with_multiplier((1 << 20) - 1))
    with pytest.raises(WorkloadError, match="its multiplier 1048576 has 21 bits"):
        compile_network(job.graph, CHIP, with_multiplier(1 << 20))


def test_rows_too() -> None:
    (job,) = chip_jobs("gated_16_24", 1)
    config, options = small_chip().replace(scale_bits=17), CompileOptions(from_memory=True)
    with pytest.raises(WorkloadError, match=r"has 31 bits, more than scale_bits \(17\) of rows2x4"):
        compile_network(job.graph, config, job.constants, options)
    compile_network(job.graph, config, with_scale_bits(job.constants, 17), options)


def test_gains_of_norms_may_be_negative() -> None:
    (job,) = chip_jobs("encoder_8_2_12", 1, scale_bits=17)
    config, options, name = small_chip().replace(scale_bits=17), CompileOptions(from_memory=True), "output_norm"
    held = job.constants[name]

    def with_multiplier(multiplier: int) -> dict[str, Parameters]:
        return {**job.constants, name: replace(held, multiplier=np.where(np.arange(8) == 5, multiplier, 1).astype(np.int32))}

    compile_network(job.graph, config, with_multiplier(1 - (1 << 17)), options)
    sentence = r"^output_norm: its multiplier 131072 has 18 bits, more than scale_bits \(17\) of rows2x4"
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(job.graph, config, with_multiplier(-1 << 17), options)
    rounded = with_scale_bits(with_multiplier(-(1 << 17) - 2), 17)
    assert rounded[name].multiplier[5] == -(1 << 16) - 1
    assert rounded[name].shift[5] == held.shift[5] - 1
    compile_network(job.graph, config, rounded, options)


def test_what_a_lowering_multiplies_by_must_fit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = chip_jobs("encoder_8_2_12", 1, scale_bits=17)
    config, options = small_chip().replace(scale_bits=17), CompileOptions(from_memory=True)
    compile_network(job.graph, config, job.constants, options)
    monkeypatch.setattr(norms, "uniform", lambda lanes, multiplier=1, *rest, **more: uniform(lanes, 1 << 17, *rest, **more))
    sentence = r"^embedding_norm: a pass of it multiplies by 131072, which has 18 bits, more than scale_bits \(17\) of rows2x4$"
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(job.graph, config, job.constants, options)


@pytest.mark.parametrize("name", ["conv:4x4x8x8,kernel=3x3,padding=1", "gemm:4x150x8"])
def test_sums_that_saturate_must_be_beyond_every_result(name: str) -> None:
    """The rule at its edges: with 20 bits, sums of 2**19 and more need scales of at least 2**-12."""
    config, graph = load_config("chip2x4").replace(sum_bits=20), chip_jobs(name, 1)[0].graph
    (operation,) = graph.operations
    least = random_parameters(graph, 1)[operation.name]
    largest = 128 * np.abs(least.weights[0].astype(int)).sum(axis=(0, 1, 2))

    def said(**values: int) -> str:
        here = np.arange(8) == 3
        parts = {part: np.where(here, value, part == "multiplier").astype(np.int32) for part, value in values.items()}
        try:
            compile_network(graph, config, {operation.name: replace(least, **parts)})
        except WorkloadError as error:
            return str(error)
        return ""

    beyond = (1 << 19) - int(largest[3])
    for bias in (beyond, -beyond) if beyond > 0 else (0, 5):
        assert said(bias=bias, multiplier=(1 << 20) - 1, shift=32) == (
            f"{operation.name}: sums of channel 3 may be {largest[3] + abs(bias)}, more than sum_bits (20) of chip2x4 hold, and "
            "its scale is 1048575 / 2**32: then it must be at least 2**-12; quantise its weights in larger steps"
        )
        assert said(bias=bias, multiplier=1 << 20, shift=32) == said(bias=bias, multiplier=0, shift=32) == ""
    if beyond > 0:
        assert said(bias=beyond - 1, multiplier=1, shift=62) == ""


def test_sums_of_windows() -> None:
    """Those of all positions together."""
    config, layer = load_config("chip2x4").replace(sum_bits=20, p_words=8192, x_words=8192), "digits/average_pool"
    (job,) = chip_jobs(layer, 0)
    (name,) = job.constants
    held = replace(job.constants[name], multiplier=np.full(32, 1, np.int32), shift=np.full(32, 13, np.int32))
    assert (1 << 19) // (128 * 16) == 256
    compile_network(job.graph, config, {name: replace(held, bias=np.full(32, 2048 * 255 - 1, np.int32))})
    with pytest.raises(WorkloadError, match="average_pool: sums of channel 0 may be 524288, more than sum_bits"):
        compile_network(job.graph, config, {name: replace(held, bias=np.full(32, 2048 * 255, np.int32))})


def test_scales_are_rounded_once_and_only_where_they_are_wide() -> None:
    (job,) = chip_jobs("conv:4x4x8x8,kernel=3x3,padding=1", 1)
    (name,) = job.constants
    held = job.constants[name]
    mixed = replace(held, multiplier=np.where(np.arange(8) < 4, held.multiplier, 3).astype(np.int32))
    found = with_scale_bits({name: mixed}, 24)[name]
    np.testing.assert_array_equal(found.multiplier[4:], 3)
    np.testing.assert_array_equal(found.shift[4:], held.shift[4:])
    # By the integers themselves: seven bits fewer, a half to the even neighbour.
    halves = [divmod(int(m), 128) for m in held.multiplier[:4]]
    expected = [whole + (rest > 64 or (rest == 64 and whole % 2 == 1)) for whole, rest in halves]
    assert found.multiplier[:4].tolist() == expected
    assert (found.shift[:4] == held.shift[:4] - 7).all()
    assert with_scale_bits({name: held}, 31)[name] is held
    # A multiplier of one bit too many that is rounded up takes one shift less.
    up = with_scale_bits({name: replace(held, multiplier=np.full(8, (1 << 31) - 1, np.int32))}, 16)[name]
    assert (up.multiplier == 1 << 15).all()
    assert (up.shift == held.shift - 16).all()


def test_results_move_by_one_step_at_most() -> None:
    """24 bits and 31 differ in one of some millions of results, 16 in one of some hundreds."""
    graph = chip_jobs("conv:28x28x64x64,kernel=3x3,padding=1", 0)[0].graph
    held = random_parameters(graph, 2)
    inputs = {name: np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    (name,) = held

    def outputs(bits: int) -> np.ndarray:
        return evaluate(graph, with_scale_bits(held, bits), inputs)[name].astype(int)

    exact = outputs(31)
    differ = {bits: np.abs(outputs(bits) - exact) for bits in (16, 24)}
    assert differ[24].max() <= 1
    assert differ[24].mean() < 1e-4
    assert differ[16].max() == 1
    assert 1e-5 < differ[16].mean() < 5e-3


def test_zero_points_that_a_chip_adds_or_not() -> None:
    (job,), config = chip_jobs("conv:40x40x3x8,kernel=1x1", 1), load_config("chip2x4")
    (name,) = job.constants
    held = {name: replace(job.constants[name], zero_point=-100)}
    require_scales_fit(job.graph, held, config.replace(zero_points=True))
    with pytest.raises(
        WorkloadError, match=rf"^{name}: its results have the zero point -100, and chip2x4 adds none \(zero_points of "
    ):
        require_scales_fit(job.graph, held, config)
    folded = without_zero_points(held)
    require_scales_fit(job.graph, folded, config)
    exact, near = (evaluate(job.graph, each, job.inputs)[name].astype(int) for each in (held, folded))
    # Off by half a unit of the sums at most: far less than a step, so by one step now and then.
    assert 0 < np.count_nonzero(exact != near) < exact.size // 50
    assert np.abs(exact - near).max() == 1
    with pytest.raises(WorkloadError, match="the zero point -100 does not fit a bias"):
        without_zero_points({name: replace(held[name], multiplier=np.array(0, np.int32))})
