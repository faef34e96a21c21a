"""Networks on an accelerator: compiled, predicted, run in RTL through a `Device` with all they need in memory, and compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.compile_network import SHARE, Compiled, compile_for_device, in_channels
from podweave.golden.graph import evaluate
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.build.simulate import SimulationError, verdict

from ..driver.device import Device, DeviceError
from .figures import device_figures
from .jobs import Job

Progress = Callable[[str], None]


def run_on_device(
    jobs: Sequence[Job],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    share: float = SHARE,
    partition: int | None = None,
    seed: int = 0,
    waves: Path | None = None,
    bench: AcceleratorBench | None = None,
    progress: Progress,
) -> tuple[dict[str, Any], list[dict[str, NDArray[np.int8]]], list[Compiled]]:
    """Run networks one after the other, and compare outputs, cycles and all counters with golden model and prediction.

    ``timing``: of the memory. ``prefetch``, ``cap``: as `Device.start` takes them. ``bench``: a simulator of ``config`` that is
    there; else one is built for speed. Returns the report, the outputs that came out of memory, and what was compiled.
    """
    clock, timing = time.perf_counter, timing or HbmTiming()
    began = clock()
    known = _compiled_in_one_memory(jobs, config, share, partition, progress)
    compiled = [known[_key(job)] for job in jobs]
    wall = {"compile": clock() - began}
    began = clock()
    progress("predicting cycles")
    predictions = {key: predict_accelerator(each, timing, prefetch=prefetch, cap=cap) for key, each in known.items()}
    wall["model"] = clock() - began
    if bench is None:
        progress("emitting Verilog")
        bench = AcceleratorBench.of(config, waves=waves is not None, progress=progress)
    wall |= {"emit": bench.emit_seconds, "build": bench.build.seconds}
    began = clock()
    failure: SimulationError | DeviceError | None = None
    rows, found, simulated = [], [], 0
    channel_bytes = compiled[0].image.channel_bytes
    try:
        with bench.session(timing=timing, seed=seed, channel_bytes=channel_bytes, waves=waves) as bus:
            device, loaded = Device(bus, config), None
            for number, (job, each) in enumerate(zip(jobs, compiled, strict=True), start=1):
                if loaded is not each:
                    device.load(each.image)
                    loaded = each
                prediction = predictions[_key(job)]
                show = _progress(progress, number, len(jobs), prediction)
                row, outputs = _run(device, job, each, prediction, timing, prefetch, cap, show)
                rows.append(row)
                found.append(outputs)
                if row["verdict"] != "pass":
                    break
            simulated = bus.cycles
    except (SimulationError, DeviceError) as error:
        failure = error
    wall["simulate"] = clock() - began
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "seed": seed, "host": "axi"}
    report |= {"prefetch": prefetch, "cap": cap, "memory": dataclasses.asdict(timing)}
    reached = verdict([row["verdict"] for row in rows], len(jobs), failure)
    report |= {"verdict": reached, "failure": failure and str(failure), "networks": rows}
    if rows:
        report |= {key: sum(row[key] for row in rows) for key in ("mismatches", "cycles", "predicted_cycles", "macs")}
        report["utilization"] = report["macs"] / (report["cycles"] * config.pods * config.array.multipliers)
        report["sim_cycles_per_s"] = simulated / wall["simulate"]
    return report | {"wall_s": wall}, found, compiled


def _key(job: Job) -> tuple[int, int]:
    """Batches of one network share its program."""
    return id(job.graph), id(job.parameters)


def _compiled_in_one_memory(
    jobs: Sequence[Job], config: ChipConfig, share: float, partition: int | None, progress: Progress
) -> dict[tuple[int, int], Compiled]:
    """What jobs run, by `_key`, with channels of one size: those of the memory do not move from run to run."""
    different = {_key(job): job for job in jobs}
    known = {
        key: compile_for_device(job.graph, config, job.parameters, share=share, partition=partition, progress=progress)
        for key, job in different.items()
    }
    most = max(each.image.channel_bytes for each in known.values())
    return {key: in_channels(each, different[key].parameters, most) for key, each in known.items()}


def _progress(progress: Progress, number: int, count: int, prediction: Prediction) -> Callable[[int], None]:
    which = f" {number}/{count}" if count > 1 else ""
    return lambda cycles: progress(f"simulating run{which}: {min(1.0, cycles / prediction.cycles):.0%}")


def _run(
    device: Device,
    job: Job,
    compiled: Compiled,
    prediction: Prediction,
    timing: HbmTiming,
    prefetch: bool,
    cap: int,
    progress: Callable[[int], None],
) -> tuple[dict[str, Any], dict[str, NDArray[np.int8]]]:
    for name, tensor in job.inputs.items():
        device.write_input(name, tensor)
    device.run(prefetch=prefetch, cap=cap, max_cycles=2 * prediction.cycles + 100_000, progress=progress)
    outputs = compiled.split.join({name: device.read_output(name) for name in compiled.image.outputs})
    counters = device.counters()
    expected = evaluate(job.graph, job.parameters, job.inputs)
    mismatches = sum(int((tensor != expected[name]).sum()) for name, tensor in outputs.items())
    differing = [name for name, value in prediction.counters.items() if counters.device[name] != value]
    for name, values in prediction.nodes.items():
        if (values != counters.nodes[name]).any():
            differing.append(f"{name} of {int((values != counters.nodes[name]).sum())} nodes")
    cycles = counters.device["CYCLES"]
    exact = not mismatches and not differing and cycles == prediction.cycles
    row: dict[str, Any] = {
        "network": job.graph.name,
        "verdict": "pass" if exact else "fail",
        "mismatches": mismatches,
        "compared": sum(tensor.size for tensor in outputs.values()),
        **device_figures(compiled, prediction, timing),
        "cycles": cycles,
        "predicted_cycles": prediction.cycles,
        "counters_differing": differing,
        "counters": counters.device,
        "timeline": prediction.timeline,
    }
    row["mac_per_cycle"] = job.graph.macs / cycles
    row["utilization"] = row["mac_per_cycle"] / (device.config.pods * device.config.array.multipliers)
    return row, outputs


def model_on_device(
    graphs: Sequence[Graph],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Compiled]]:
    """Compile networks and predict what a run of each takes, without RTL."""
    timing, rows, found = timing or HbmTiming(), [], []
    wall = {"compile": 0.0, "model": 0.0}
    for graph in graphs:
        began = time.perf_counter()
        # Values do not change cycles.
        compiled = compile_for_device(graph, config, random_parameters(graph, 0), partition=partition, progress=progress)
        made = time.perf_counter()
        if progress:
            progress(f"predicting {graph.name}")
        prediction = predict_accelerator(compiled, timing, prefetch=prefetch, cap=cap)
        rate = graph.macs / prediction.cycles
        rows.append(
            {
                "network": graph.name,
                "cycles": prediction.cycles,
                **device_figures(compiled, prediction, timing),
                "mac_per_cycle": rate,
                "utilization": rate / (config.pods * config.array.multipliers),
                "counters": prediction.counters,
                "timeline": prediction.timeline,
            }
        )
        wall["compile"] += made - began
        wall["model"] += time.perf_counter() - made
        found.append(compiled)
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "host": "axi", "prefetch": prefetch, "cap": cap}
    report |= {"memory": dataclasses.asdict(timing), "networks": rows}
    return report | {key: sum(row[key] for row in rows) for key in ("cycles", "macs")} | {"wall_s": wall}, found
