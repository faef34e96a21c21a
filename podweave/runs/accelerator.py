"""Networks on an accelerator, through a `Device`, with all they need in memory; outputs and all counters are compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CheckRules, CompiledNetwork, CompileOptions, in_channels
from podweave.compiler.memory.image import MemoryImage
from podweave.golden.graph import evaluate
from podweave.ir.graph import Graph
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench

from .devices import DeviceResult, DeviceWay, compare_chip
from .figures import device_figures
from .jobs import Job, model_constants
from .kept_networks import compile_kept
from .road import Progress, Simulation, Tensors, run_jobs
from .verdict import Comparison


class AcceleratorWay(DeviceWay[CompiledNetwork]):
    """``timing``: of the memory. ``prefetch``, ``cap``: as `Device.start` takes them. For the rest see `CompileOptions`."""

    def __init__(
        self,
        config: ChipConfig,
        *,
        timing: HbmTiming | None = None,
        prefetch: bool = True,
        cap: int = 0,
        policy: BankPolicy | None = None,
        partition: int | None = None,
        prefetch_ratios: Mapping[str, float] | None = None,
        check: CheckRules = "auto",
    ):
        options = CompileOptions(
            from_memory=True,
            partition=partition,
            policy=policy or BankPolicy(),
            prefetch_ratios=prefetch_ratios or {},
            check=check,
        )
        super().__init__(config, options)
        self.timing, self.prefetch, self.cap = timing or HbmTiming(), prefetch, cap

    def compile(self, job: Job, progress: Progress) -> CompiledNetwork:
        return compile_kept(job.graph, self.config, job.constants, self.options, progress=progress)

    def together(self, networks: list[CompiledNetwork]) -> list[CompiledNetwork]:
        """With channels of one size: those of the memory do not move from run to run."""
        most = max(network.memory.channel_bytes for network in networks)
        return [in_channels(network, most) for network in networks]

    def bases(self, network: CompiledNetwork, job: Job) -> tuple[int, ...]:
        return network.memory.bases(job.inputs)

    def predict(self, network: CompiledNetwork, bases: tuple[int, ...] = ()) -> Prediction:
        return predict_accelerator(network, self.timing, prefetch=self.prefetch, cap=self.cap, bases=bases)

    def bench(self, networks: Sequence[CompiledNetwork], options: dict[str, Any]) -> AcceleratorBench:
        return AcceleratorBench.of(self.config, **options)

    def images(self, network: CompiledNetwork) -> list[MemoryImage]:
        return [network.memory]

    def inputs(self, network: CompiledNetwork, job: Job) -> Sequence[Mapping[str, NDArray]]:
        return [job.inputs]

    def surroundings(self) -> dict[str, Any]:
        return {"timings": [self.timing]}

    def start_options(self) -> dict[str, Any]:
        return {"prefetch": self.prefetch, "cap": self.cap}

    def compare(
        self, job: Job, network: CompiledNetwork, prediction: Prediction, result: Sequence[DeviceResult]
    ) -> tuple[dict[str, Any], Tensors]:
        (left,) = result
        cycles = left.counters.device["CYCLES"]
        found = Comparison(cycles, prediction.cycles)
        whole = evaluate(job.graph, job.constants, job.inputs)
        outputs = compare_chip(found, network, prediction, left, {name: whole[name] for name in job.graph.outputs})
        row = {"network": job.graph.name, **device_figures(network, prediction, self.timing), **found.row()}
        row |= {"counters": left.counters.device, "timeline": prediction.timeline}
        row["mac_per_cycle"] = job.graph.macs / cycles
        row["utilization"] = row["mac_per_cycle"] / (self.config.pods * self.config.array.multipliers)
        return row, outputs

    def facts(self) -> dict[str, Any]:
        found = {"through": "axi", "prefetch": self.prefetch, "cap": self.cap}
        return found | {"prefetch_ratios": dict(self.options.prefetch_ratios), "memory": dataclasses.asdict(self.timing)}


def run_on_device(
    jobs: Sequence[Job],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    policy: BankPolicy | None = None,
    partition: int | None = None,
    prefetch_ratios: Mapping[str, float] | None = None,
    check: CheckRules = "auto",
    progress: Progress,
    **simulation: Any,
) -> tuple[dict[str, Any], list[Tensors], list[CompiledNetwork]]:
    """`run_jobs` on an accelerator. ``simulation``: members of a `Simulation`."""
    way = AcceleratorWay(
        config,
        timing=timing,
        prefetch=prefetch,
        cap=cap,
        policy=policy,
        partition=partition,
        prefetch_ratios=prefetch_ratios,
        check=check,
    )
    return run_jobs(jobs, way, Simulation(**simulation), progress)


def model_on_device(
    graphs: Sequence[Graph],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    partition: int | None = None,
    prefetch_ratios: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[CompiledNetwork]]:
    """Compile networks and predict what a run of each takes, without RTL."""
    way = AcceleratorWay(config, timing=timing, prefetch=prefetch, cap=cap, partition=partition, prefetch_ratios=prefetch_ratios)
    rows, networks = [], []
    show = progress or (lambda _: None)
    wall = {"compile": 0.0, "model": 0.0}
    for graph in graphs:
        began = time.perf_counter()
        network = way.compile(Job(graph, model_constants(graph, scale_bits=config.scale_bits), {}), show)
        made = time.perf_counter()
        show(f"predicting {graph.name}")
        prediction = way.predict(network)
        rate = graph.macs / prediction.cycles
        rows.append(
            {
                "network": graph.name,
                "cycles": prediction.cycles,
                "predicted_cycles": prediction.cycles,
                **device_figures(network, prediction, way.timing),
                "mac_per_cycle": rate,
                "utilization": rate / (config.pods * config.array.multipliers),
                "counters": prediction.counters,
                "timeline": prediction.timeline,
            }
        )
        wall["compile"] += made - began
        wall["model"] += time.perf_counter() - made
        networks.append(network)
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, **way.facts(), "networks": rows}
    return report | {key: sum(row[key] for row in rows) for key in ("cycles", "macs")} | {"wall_s": wall}, networks
