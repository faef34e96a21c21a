"""Compiled layers through the pod in RTL: bit-exact, cycle-exact, and every port of every cycle as the model says."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from podweave.compiler.pod.layer_compiler import compile_layer
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import Layer, parse_workload
from podweave.predict.pod import predicted_spans
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from podweave.tb.benches.pod_bench import PodBench
from podweave.tb.benches.pod_task import PodRun, Task
from podweave.tb.build.simulate import SimulationError

POD4 = load_config("pod4")
CONFIGS = {
    "pod4": POD4,
    "4x4_no_accumulators": POD4.replace(accumulator_rows=0),
    "1x1": POD4.replace(rows=1, cols=1, group_rows=1, group_cols=1, latency=1),
    "4x8_of_2x4": POD4.replace(cols=8, group_rows=2, accumulator_rows=7, latency=9),
    "16x8_of_4x4": POD4.replace(rows=16, cols=8, banks=3, x_words=700, w_words=333, p_words=257),
    "8x32_of_1x1_no_accumulators": POD4.replace(rows=8, cols=32, group_rows=1, group_cols=1, accumulator_rows=0),
}
GEMMS = [
    *("gemm:1x1x1", "gemm:1x40x30", "gemm:40x1x30", "gemm:40x30x1", "gemm:37x61x29", "gemm:64x64x64"),
    # Larger than queues, accumulators, and any bank of the small configurations: several epochs, K cut between them.
    "gemm:1200x24x20",
    "gemm:9x900x50",
]
CONVS = [
    "conv:9x11x6x10,kernel=3x3,stride=2,padding=1",
    "conv:10x8x5x7,kernel=3x3,padding=same,dilation=2",
    "conv:8x8x12x12,kernel=3x3,groups=depthwise,padding=1",
    "conv:7x6x20x9,kernel=1x1,batch=2",
    "conv:15x15x3x8,kernel=7x7,stride=2x1,padding=3",
    "conv:6x7x8x4,kernel=2x3,groups=2,batch=3",
]


@functools.cache
def bench_of(key: str) -> PodBench:
    return PodBench.of(CONFIGS[key], jobs=16384, optimize="build", random_initial_state=True)


def task_of(layer: Layer, config: ChipConfig, seed: int = 0) -> tuple[Task, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in (layer.input_shape, layer.weight_shape))
    golden = conv2d(x, w, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)
    return Task(compile_layer(layer, config), x, w), golden


def assert_exact(run: PodRun, task: Task, golden: np.ndarray) -> None:
    np.testing.assert_array_equal(run.result, golden)
    assert run.epoch_cycles == [span.cycles for span in predicted_spans(task.program)]
    assert run.errors == []
    for counters, epoch in zip(run.counters, task.program.epochs, strict=True):
        assert counters["x_words"] == epoch.words_streamed.sum()
        assert counters["w_words"] == epoch.loads["rows"].sum()
        assert counters["p_words"] == epoch.words_streamed[epoch.streams["emit"] != 0].sum()


@pytest.mark.parametrize("key", CONFIGS)
def test_layers_in_lockstep(key: str) -> None:
    layers = [parse_workload(text) for text in GEMMS + CONVS]
    # One multiplier takes a cycle per MAC, and its banks an epoch per thousand.
    limit = 10**5 if CONFIGS[key].array.multipliers == 1 else 10**6
    pairs = [task_of(layer, CONFIGS[key]) for layer in layers if layer.macs <= limit]
    assert len(pairs) >= 10
    runs = bench_of(key).run([task for task, _ in pairs], lockstep=True)
    for run, (task, golden) in zip(runs, pairs, strict=True):
        assert_exact(run, task, golden)
        # Far more than the written words were compared: every port in every cycle.
        assert run.compared > 15 * run.cycles
    assert any(len(task.program.epochs) > 1 for task, _ in pairs)


def test_result_check_runs_without_python_per_cycle() -> None:
    task, golden = task_of(parse_workload("gemm:37x61x29"), POD4)
    (run,) = bench_of("pod4").run([task])
    assert_exact(run, task, golden)
    assert run.compared == 0


def test_reset_in_mid_run_and_random_initial_state_change_nothing() -> None:
    task, golden = task_of(parse_workload("gemm:37x61x29"), POD4)
    for seed, cycle in enumerate((2, 50, 1777)):
        (run,) = bench_of("pod4").run([task], lockstep=True, seed=seed, reset_at=cycle)
        assert_exact(run, task, golden)


@pytest.mark.parametrize(
    ("port", "lane"),
    [("p_data", 3), ("x_data", 0), ("w_data", 2), ("p_valid", None), ("x_request_address", None), ("load_ready", None)],
)
def test_lockstep_checker_names_a_flipped_bit(port: str, lane: int | None) -> None:
    task, _ = task_of(parse_workload("gemm:20x30x10"), POD4)
    where = f" lane {lane}" if lane is not None else ""
    with pytest.raises(SimulationError, match=rf"cycle 321, port {port}{where}: expected"):
        bench_of("pod4").run([task], lockstep=True, corrupt={"port": port, "cycle": 321, "lane": lane, "bit": 0})


def test_result_and_cycle_checks_see_a_fault_in_the_hardware() -> None:
    """A design in which a product loses its sign, and one that takes a cycle longer, are told from a right one."""

    def wrong_product(verilog: str) -> str:
        assert verilog.count("$signed(x[15:8]) * $signed(w_1)") == 1
        return verilog.replace("$signed(x[15:8]) * $signed(w_1)", "$signed(x[15:8]) * w_1")

    task, golden = task_of(parse_workload("gemm:20x30x10"), POD4)
    bench = PodBench.of(POD4, jobs=16384, optimize="build", alter=wrong_product)
    (run,) = bench.run([task])
    assert (run.result != golden).any()
    assert run.cycles == predicted_spans(task.program)[0].cycles
    with pytest.raises(SimulationError, match=r"port p_data lane \d: expected"):
        bench.run([task], lockstep=True)

    def one_cycle_late(verilog: str) -> str:
        for old, new in (
            ("  reg p_valid;", "  reg p_valid; reg p_late;"),
            ("else p_valid <= writes;", "else begin p_late <= writes; p_valid <= p_late; end"),
        ):
            assert verilog.count(old) == 1
            verilog = verilog.replace(old, new)
        return verilog

    bench = PodBench.of(POD4, jobs=16384, optimize="build", alter=one_cycle_late)
    (run,) = bench.run([task])
    assert run.cycles == predicted_spans(task.program)[0].cycles + 1


def test_an_unchanged_design_is_not_built_again() -> None:
    first = bench_of("pod4").build
    again = PodBench.of(POD4, jobs=16384, optimize="build", random_initial_state=True).build
    assert not again.fresh
    assert again.directory == first.directory
    other = PodBench.of(POD4.replace(latency=2), jobs=16384, optimize="build", random_initial_state=True).build
    assert other.directory != first.directory


def test_hardware_errors_are_reported_by_name() -> None:
    task, _ = task_of(parse_workload("gemm:20x30x10"), POD4)
    task.program.epochs[0].streams["x_base"][5] = 1023
    (run,) = bench_of("pod4").run([task])
    assert len(run.errors) >= 1
    assert "x_address" in run.errors[0]
