"""Runs and models of workloads: what `podweave run` and `podweave model` report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.pod.layer_compiler import compile_layer
from podweave.compiler.pod.program import Program
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import Layer
from podweave.predict.pod import predicted_spans
from podweave.spec.config import ChipConfig
from podweave.tb.benches.pod_bench import PodBench
from podweave.tb.benches.pod_task import PodRun, Task
from podweave.tb.build.simulate import SimulationError, verdict

Progress = Callable[[str], None]
CHECKS = ("lockstep", "result")


@dataclass
class Compiled:
    """A layer with its program and what the exact model predicts of it."""

    layer: Layer
    program: Program
    predicted_cycles: int


def compile_workload(layers: list[Layer], config: ChipConfig, progress: Progress) -> list[Compiled]:
    compiled = []
    for number, layer in enumerate(layers, start=1):
        progress(f"compiling {layer.name} ({number}/{len(layers)})")
        program = compile_layer(layer, config)
        compiled.append(Compiled(layer, program, sum(span.cycles for span in predicted_spans(program))))
    return compiled


def model_workload(layers: list[Layer], config: ChipConfig, progress: Progress) -> dict[str, Any]:
    """The figures of `run_workload` that need no RTL."""
    began = time.perf_counter()
    compiled = compile_workload(layers, config, progress)
    rows = [_figures(item, item.predicted_cycles, config) for item in compiled]
    return {
        "config": config.name,
        "layers": rows,
        **_total(rows, config),
        "wall_s": {"model": time.perf_counter() - began},
    }


def run_workload(
    layers: list[Layer],
    config: ChipConfig,
    *,
    check: str,
    seed: int,
    waves: Path | None = None,
    progress: Progress,
    data: list[tuple[NDArray[np.int8], NDArray[np.int8]]] | None = None,
) -> tuple[dict[str, Any], list[PodRun]]:
    """Compile, run in RTL, and compare with the golden model and the predicted cycles; returns the report and the runs.

    ``data``: (activations, weights) per layer; random from ``seed`` by default.
    """
    if check not in CHECKS:
        raise ValueError(f"check must be one of {', '.join(CHECKS)}, got {check!r}")
    clock = time.perf_counter
    began = clock()
    compiled = compile_workload(layers, config, progress)
    wall = {"compile": clock() - began}
    data = data or random_data(layers, seed)
    tasks = [Task(item.program, *operands) for item, operands in zip(compiled, data, strict=True)]
    jobs = max(len(epoch.streams["start"]) for item in compiled for epoch in item.program.epochs)

    progress("emitting Verilog")
    bench = PodBench.of(config, jobs=jobs, waves=waves is not None, progress=progress)
    wall |= {"emit": bench.emit_seconds, "build": bench.build.seconds}
    failure: SimulationError | None = None
    runs: list[PodRun] = []
    progress("simulating")
    try:
        runs = bench.run(tasks, lockstep=check == "lockstep", seed=seed, waves=waves, progress=progress)
    except SimulationError as error:
        failure = error

    rows = []
    began = clock()
    for item, task, run in zip(compiled, tasks, runs, strict=False):
        progress(f"comparing {item.layer.name} with the golden model")
        rows.append(_verdict(item, task, run, config))
    golden_s = clock() - began
    for phase in ("start", "load", "simulate", "check"):
        wall[phase] = sum(run.wall_s.get(phase, 0.0) for run in runs)
    wall["check"] += golden_s
    report: dict[str, Any] = {
        "config": config.name,
        "check": check,
        "seed": seed,
        "verdict": verdict([row["verdict"] for row in rows], len(tasks), failure),
        "failure": failure and str(failure),
        "layers": rows,
    }
    if runs:
        report |= _total(rows, config)
        report["mismatches"] = sum(row["mismatches"] for row in rows)
        report["compared_port_values"] = sum(run.compared for run in runs)
        simulated = sum(run.simulated_cycles for run in runs)
        report["sim_cycles_per_s"] = simulated / wall["simulate"]
        report["sim_mmac_per_s"] = report["macs"] / wall["simulate"] / 1e6
    else:
        # Nothing was compared: no figure that a reader could take for a measurement.
        report |= {"mismatches": None, "cycles": None, "macs": sum(layer.macs for layer in layers)}
        report["predicted_cycles"] = sum(item.predicted_cycles for item in compiled)
    report["wall_s"] = wall
    return report, runs


def random_data(layers: list[Layer], seed: int) -> list[tuple[NDArray[np.int8], NDArray[np.int8]]]:
    """Uniform int8 activations and weights for every layer, the same for the same seed."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> NDArray[np.int8]:
        return rng.integers(-128, 128, shape, dtype=np.int8)

    return [(draw(layer.input_shape), draw(layer.weight_shape)) for layer in layers]


def golden_result(layer: Layer, activations: NDArray[np.int8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The untiled layer."""
    return conv2d(
        activations,
        weights,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _figures(item: Compiled, cycles: int, config: ChipConfig) -> dict[str, Any]:
    layer = item.layer
    rate = layer.macs / cycles
    return {
        "layer": layer.name,
        "M": layer.positions,
        "K": layer.reduction,
        "N": layer.outputs,
        "epochs": len(item.program.epochs),
        "cycles": cycles,
        "predicted_cycles": item.predicted_cycles,
        "macs": layer.macs,
        "mac_per_cycle": rate,
        "utilization": rate / config.array.multipliers,
    }


def _verdict(item: Compiled, task: Task, run: PodRun, config: ChipConfig) -> dict[str, Any]:
    golden = golden_result(item.layer, task.activations, task.weights)
    wrong = np.argwhere(golden != run.result)
    exact = not len(wrong) and run.cycles == item.predicted_cycles and not run.errors
    row: dict[str, Any] = {"verdict": "pass" if exact else "fail", "mismatches": len(wrong)}
    row |= _figures(item, run.cycles, config)
    row["errors"] = run.errors
    if len(wrong):
        at = tuple(wrong[0].tolist())
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("image", "row", "column", "output"), at, strict=True))
        row["first_mismatch"] = f"{where}: expected {golden[at]}, got {run.result[at]}"
    return row


def _total(rows: list[dict[str, Any]], config: ChipConfig) -> dict[str, Any]:
    total = {key: sum(row[key] for row in rows) for key in ("epochs", "cycles", "predicted_cycles", "macs")}
    rate = total["macs"] / total["cycles"]
    return total | {"mac_per_cycle": rate, "utilization": rate / config.array.multipliers}
