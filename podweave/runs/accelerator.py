"""Networks on an accelerator, through a `Device`, with all they need in memory; outputs and all counters are compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.policy import EASY, WHOLE_CHIP, BankPolicy
from podweave.compiler.compile_network import CheckRules, CompiledNetwork, CompileOptions, in_channels
from podweave.compiler.memory.image import MemoryImage
from podweave.golden.graph import evaluate
from podweave.golden.layers.fixed_point import Rounding
from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench

from ..driver.device import Start
from .devices import DeviceResult, DeviceWay, compare_chip
from .figures import device_figures, stream_figures
from .jobs import Job, in_batches, model_constants, stream_passes
from .kept_networks import compile_kept
from .road import COLD, Conditions, Progress, Simulation, Tensors, run_jobs
from .verdict import Comparison


class AcceleratorWay(DeviceWay[CompiledNetwork]):
    """``timing``: of the memory. ``prefetch``, ``cap``: as `Start` has them. For the rest see `CompileOptions`."""

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
        cut: int = 0,
        check: CheckRules = "auto",
    ):
        options = CompileOptions(
            from_memory=True,
            partition=partition,
            policy=policy or BankPolicy(),
            prefetch_ratios=prefetch_ratios or {},
            cut=cut,
            check=check,
        )
        super().__init__(config, options)
        self.timing, self.prefetch, self.cap = timing or HbmTiming(), prefetch, cap

    def compile(self, job: Job, progress: Progress) -> CompiledNetwork:
        return self.compile_passes(job.graph, job.constants, job.passes, progress)

    def compile_passes(self, graph: Graph, constants: Constants, passes: int, progress: Progress) -> CompiledNetwork:
        """A network for runs of so many passes.

        One pass loads while it computes, and an epoch leaves room for what comes next. With many, weights that fit may stay on the
        chip, and an epoch take all of it: what is predicted to take fewer cycles is taken.
        """
        options = replace(self.options, passes=passes)
        network = compile_kept(graph, self.config, constants, options, progress=progress)
        memory, array = self.config.memory, self.config.array
        fits = graph.weights <= memory.banks * memory.w_words * array.cols
        if passes == 1 or not fits or isinstance(graph, RowGraph) or options.policy != BankPolicy():
            return network
        best, least = network, self._further_cycles(network)
        for policy in (EASY, WHOLE_CHIP):
            try:
                other = compile_kept(graph, self.config, constants, replace(options, policy=policy), progress=progress)
            except WorkloadError:
                continue
            cycles = self._further_cycles(other)
            if cycles < least:
                best, least = other, cycles
        return best

    def _further_cycles(self, network: CompiledNetwork) -> int:
        """What passes behind the first take, three of them at the most."""
        one, more = (
            predict_accelerator(network, self.timing, prefetch=self.prefetch, cap=self.cap, passes=passes).cycles
            for passes in (1, min(4, network.memory.passes))
        )
        return more - one

    def stream_figures(self, network: CompiledNetwork, cycles: int, alone: Graph, constants: Constants) -> dict[str, Any]:
        """As of `stream_figures`; ``alone``: the network on as many images as the workload names."""
        return stream_figures(network, cycles, compile_kept(alone, self.config, constants, self.options), self.timing)

    def together(self, networks: list[CompiledNetwork]) -> list[CompiledNetwork]:
        """With channels of one size: those of the memory do not move from run to run."""
        most = max(network.memory.channel_bytes for network in networks)
        return [in_channels(network, most) for network in networks]

    def conditions(self, network: CompiledNetwork, job: Job, before: CompiledNetwork | None) -> Conditions:
        return Conditions((network.memory.bases(job.inputs),), network.memory.may_stay and network is before)

    def predict(self, network: CompiledNetwork, conditions: Conditions = COLD) -> Prediction:
        bases, warm = next(iter(conditions.bases), ()), conditions.warm
        return predict_accelerator(network, self.timing, prefetch=self.prefetch, cap=self.cap, bases=bases, warm=warm)

    def bench(self, networks: Sequence[CompiledNetwork], options: dict[str, Any]) -> AcceleratorBench:
        return AcceleratorBench.of(self.config, **options)

    def images(self, network: CompiledNetwork) -> list[MemoryImage]:
        return [network.memory]

    def feeds(self, network: CompiledNetwork, job: Job) -> Sequence[Sequence[Mapping[str, NDArray]]]:
        return [job.feeds]

    def surroundings(self) -> dict[str, Any]:
        return {"timings": [self.timing]}

    def start(self) -> Start:
        return Start(prefetch=self.prefetch, cap=self.cap)

    def compare(
        self, job: Job, network: CompiledNetwork, prediction: Prediction, result: Sequence[DeviceResult]
    ) -> tuple[dict[str, Any], Tensors]:
        (left,) = result
        cycles = left.counters.device["CYCLES"]
        found = Comparison(cycles, prediction.cycles)
        expected = [_outputs(job, inputs, self.config.rounding) for inputs in job.feeds]
        outputs = compare_chip(found, network, prediction, left, expected)
        figures = device_figures(network, prediction, self.timing, warm=left.warm)
        row = {"network": job.graph.name, "warm": left.warm, **figures, **found.row()}
        if job.alone:
            row |= self.stream_figures(network, cycles, job.alone, job.constants)
        row |= {"counters": left.counters.device, "timeline": prediction.timeline}
        row["mac_per_cycle"] = row["macs"] / cycles
        row["utilization"] = row["mac_per_cycle"] / (self.config.pods * self.config.array.multipliers)
        return row, {name: np.concatenate([tensors[name] for tensors in outputs]) for name in outputs[0]}

    def facts(self) -> dict[str, Any]:
        found = {"through": "axi", "prefetch": self.prefetch, "cap": self.cap}
        return found | {"prefetch_ratios": dict(self.options.prefetch_ratios), "memory": dataclasses.asdict(self.timing)}


def _outputs(job: Job, inputs: Mapping[str, NDArray], rounding: Rounding) -> Tensors:
    """Those of the golden model."""
    whole = evaluate(job.graph, job.constants, inputs, rounding)
    return {name: whole[name] for name in job.graph.outputs}


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
    cut: int = 0,
    check: CheckRules = "auto",
    progress: Progress,
    **simulation: Any,
) -> tuple[dict[str, Any], list[Tensors], list[CompiledNetwork]]:
    """`run_jobs` on an accelerator. ``simulation``: members of a `Simulation`."""
    compiled: dict[str, Any] = {
        "policy": policy,
        "partition": partition,
        "cut": cut,
        "prefetch_ratios": prefetch_ratios,
        "check": check,
    }
    way = AcceleratorWay(config, timing=timing, prefetch=prefetch, cap=cap, **compiled)
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
    images: int | None = None,
    batch: int | None = None,
    constants: Constants | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[CompiledNetwork]]:
    """Compile networks and predict what a run of each takes, without RTL; ``images``: on a stream of so many, in passes of
    ``batch``, by default as many as the network sees; ``constants``: of a network that has some."""
    way = AcceleratorWay(config, timing=timing, prefetch=prefetch, cap=cap, partition=partition, prefetch_ratios=prefetch_ratios)
    rows, networks = [], []
    show = progress or (lambda _: None)
    wall = {"compile": 0.0, "model": 0.0}
    for alone in graphs:
        began = time.perf_counter()
        graph = in_batches(alone, batch)
        passes = stream_passes(graph, images) if images else 1
        held = constants if constants is not None else model_constants(graph, scale_bits=config.scale_bits)
        network = way.compile_passes(graph, held, passes, show)
        made = time.perf_counter()
        show(f"predicting {graph.name}")
        prediction = way.predict(network)
        figures = device_figures(network, prediction, way.timing)
        if images:
            figures |= way.stream_figures(network, prediction.cycles, alone, held)
        rate = figures["macs"] / prediction.cycles
        rows.append(
            {
                "network": graph.name,
                "cycles": prediction.cycles,
                "predicted_cycles": prediction.cycles,
                **figures,
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
