"""Layers on one pod: each runs by itself, on data of its own; partial sums are compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.pod.program import Program
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import Layer
from podweave.predict.pod import accesses, predicted_spans
from podweave.spec.config import ChipConfig
from podweave.tb.benches.pod_bench import PodBench
from podweave.tb.benches.pod_task import PodRun, Task
from podweave.tb.build.simulate import SimulationError

from .jobs import Job, layer_graph, layer_jobs
from .road import COLD, Conditions, Progress, Simulated, Simulation, Tensors, Way, run_jobs
from .verdict import Comparison

CHECKS = ("lockstep", "result", "rules")


@dataclass(frozen=True)
class PodPrediction:
    """Exact cycles of all epochs of a layer."""

    cycles: int


class PodWay(Way[CompiledNetwork]):
    rows = "layers"

    def __init__(self, config: ChipConfig, check: str = "result"):
        super().__init__(config, CompileOptions())
        self.check = check

    def compile(self, job: Job, progress: Progress) -> CompiledNetwork:
        return compile_network(job.graph, self.config, job.constants, self.options, progress=progress)

    def predict(self, network: CompiledNetwork, conditions: Conditions = COLD) -> PodPrediction:
        return PodPrediction(sum(span.cycles for span in predicted_spans(_program(network))))

    def bench(self, networks: Sequence[CompiledNetwork], options: dict[str, Any]) -> PodBench:
        jobs = max(len(epoch.streams["start"]) for network in networks for epoch in _program(network).epochs)
        return PodBench.of(self.config, jobs=jobs, **options)

    def simulate(
        self,
        bench: PodBench,
        jobs: Sequence[Job],
        networks: Sequence[CompiledNetwork],
        predictions: Sequence[PodPrediction],
        simulation: Simulation,
        progress: Progress,
    ) -> Simulated:
        tasks = []
        for job, network in zip(jobs, networks, strict=True):
            (activations,), (held,) = job.inputs.values(), job.constants.values()
            tasks.append(Task(_program(network), activations, held.weights[0]))
        try:
            runs = bench.run(
                tasks, lockstep=self.check == "lockstep", seed=simulation.seed, waves=simulation.waves, progress=progress
            )
        except SimulationError as error:
            return Simulated(failure=error)
        wall = {phase: sum(run.wall_s.get(phase, 0.0) for run in runs) for phase in ("start", "load", "simulate", "check")}
        return Simulated(list(runs), sum(run.simulated_cycles for run in runs), wall)

    def compare(
        self, job: Job, network: CompiledNetwork, prediction: PodPrediction, result: PodRun
    ) -> tuple[dict[str, Any], Tensors]:
        (operation,), (activations,), (held,) = job.graph.operations, job.inputs.values(), job.constants.values()
        layer = operation.operands[0].layer
        found = Comparison(result.cycles, prediction.cycles, errors=result.errors)
        found.values("partial sums", golden_result(layer, activations, held.weights[0]), result.result)
        row = found.row() | _figures(network, prediction.cycles, result.cycles)
        return row | {"compared_port_values": result.compared}, {operation.name: result.result}

    def facts(self) -> dict[str, Any]:
        return {"check": self.check}

    def totals(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        compared = {key: sum(row[key] for row in rows) for key in ("mismatches", "compared_port_values")}
        return _total(rows, self.config) | compared


def model_workload(layers: list[Layer], config: ChipConfig, progress: Progress) -> dict[str, Any]:
    """The figures of `run_workload` that need no RTL."""
    began = time.perf_counter()
    way, rows = PodWay(config), []
    for number, layer in enumerate(layers, start=1):
        progress(f"compiling {layer.name} ({number}/{len(layers)})")
        network = compile_network(layer_graph(layer), config, options=way.options)
        cycles = way.predict(network).cycles
        rows.append(_figures(network, cycles, cycles))
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
) -> tuple[dict[str, Any], list[Tensors]]:
    """Compile, run in RTL, and compare with the golden model and the predicted cycles; returns the report and the partial sums.

    ``data``: (activations, weights) per layer; random from ``seed`` by default.
    """
    if check not in CHECKS:
        raise ValueError(f"check must be one of {', '.join(CHECKS)}, got {check!r}")
    for layer in layers:
        layer.require_values_fit()
    jobs = layer_jobs(layers, seed, data)
    report, found, _ = run_jobs(jobs, PodWay(config, check), Simulation(seed=seed, waves=waves), progress)
    return report, found


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


def _program(network: CompiledNetwork) -> Program:
    (program,) = network.layers
    return program


def _figures(network: CompiledNetwork, predicted: int, cycles: int) -> dict[str, Any]:
    (operation,), config = network.graph.operations, network.config
    layer = operation.operands[0].layer
    rate = layer.macs / cycles
    return {
        "layer": layer.name,
        "M": layer.positions,
        "K": layer.reduction,
        "N": layer.outputs,
        "epochs": len(_program(network).epochs),
        "cycles": cycles,
        "predicted_cycles": predicted,
        "macs": layer.macs,
        "mac_per_cycle": rate,
        "utilization": rate / config.array.multipliers,
        "accesses": accesses(_program(network)),
    }


def _total(rows: list[dict[str, Any]], config: ChipConfig) -> dict[str, Any]:
    total = {key: sum(row[key] for row in rows) for key in ("epochs", "cycles", "predicted_cycles", "macs")}
    rate = total["macs"] / total["cycles"]
    return total | {"mac_per_cycle": rate, "utilization": rate / config.array.multipliers}
