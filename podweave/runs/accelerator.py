"""Networks on an accelerator, through a `Device`, with all they need in memory; outputs and all counters are compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CheckRules, CompiledNetwork, CompileOptions, compile_network, in_channels
from podweave.golden.graph import evaluate
from podweave.ir.graph import Graph
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.build.simulate import SimulationError

from ..driver.device import Device, DeviceError, RunCounters
from .figures import device_figures
from .jobs import Job, model_constants
from .road import Progress, Simulated, Simulation, Tensors, Way, run_jobs
from .verdict import Comparison


@dataclass(frozen=True)
class DeviceResult:
    """What a run left: ``outputs`` as they lie in memory, by the names of operations as they run."""

    outputs: Tensors
    counters: RunCounters


class AcceleratorWay(Way[CompiledNetwork]):
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
        cut: int = 0,
        check: CheckRules = "auto",
    ):
        options = CompileOptions(from_memory=True, partition=partition, policy=policy or BankPolicy(), cut=cut, check=check)
        super().__init__(config, options)
        self.timing, self.prefetch, self.cap = timing or HbmTiming(), prefetch, cap

    def compile(self, job: Job, progress: Progress) -> CompiledNetwork:
        return compile_network(job.graph, self.config, job.constants, self.options, progress=progress)

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

    def simulate(
        self,
        bench: AcceleratorBench,
        jobs: Sequence[Job],
        networks: Sequence[CompiledNetwork],
        predictions: Sequence[Prediction],
        simulation: Simulation,
        progress: Progress,
    ) -> Simulated:
        run, began = Simulated(), time.perf_counter()
        channel_bytes = networks[0].memory.channel_bytes
        try:
            with bench.session(
                timing=self.timing, seed=simulation.seed, channel_bytes=channel_bytes, waves=simulation.waves
            ) as bus:
                device, loaded = Device(bus, self.config), None
                for number, (job, network, prediction) in enumerate(zip(jobs, networks, predictions, strict=True), start=1):
                    if loaded is not network:
                        device.load(network.memory)
                        loaded = network
                    for name, tensor in job.inputs.items():
                        device.write_input(name, tensor)
                    device.run(
                        prefetch=self.prefetch,
                        cap=self.cap,
                        max_cycles=2 * prediction.cycles + 100_000,
                        progress=device_progress(progress, number, len(jobs), prediction.cycles),
                    )
                    outputs: Tensors = {name: device.read_output(name) for name in network.memory.outputs}
                    run.results.append(DeviceResult(outputs, device.counters()))
                run.cycles, run.peak_bytes = bus.cycles, bus.peak_bytes()
        except (SimulationError, DeviceError) as error:
            run.failure = error
        run.wall_s["simulate"] = time.perf_counter() - began
        return run

    def compare(
        self, job: Job, network: CompiledNetwork, prediction: Prediction, result: DeviceResult
    ) -> tuple[dict[str, Any], Tensors]:
        cycles = result.counters.device["CYCLES"]
        found = Comparison(cycles, prediction.cycles)
        outputs = network.split.join(result.outputs)
        expected = evaluate(job.graph, job.constants, job.inputs)
        for name in job.graph.outputs:
            found.values(f"outputs of {name}", expected[name], outputs[name])
        found.counters(prediction.counters, result.counters.device)
        found.counters(prediction.nodes, result.counters.nodes)
        row = {"network": job.graph.name, **device_figures(network, prediction, self.timing), **found.row()}
        row |= {"counters": result.counters.device, "timeline": prediction.timeline}
        row["mac_per_cycle"] = job.graph.macs / cycles
        row["utilization"] = row["mac_per_cycle"] / (self.config.pods * self.config.array.multipliers)
        return row, outputs

    def facts(self) -> dict[str, Any]:
        return {"through": "axi", "prefetch": self.prefetch, "cap": self.cap, "memory": dataclasses.asdict(self.timing)}


def run_on_device(
    jobs: Sequence[Job],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    policy: BankPolicy | None = None,
    partition: int | None = None,
    cut: int = 0,
    check: CheckRules = "auto",
    progress: Progress,
    **simulation: Any,
) -> tuple[dict[str, Any], list[Tensors], list[CompiledNetwork]]:
    """`run_jobs` on an accelerator. ``simulation``: members of a `Simulation`."""
    compiled: dict[str, Any] = {"policy": policy, "partition": partition, "cut": cut, "check": check}
    way = AcceleratorWay(config, timing=timing, prefetch=prefetch, cap=cap, **compiled)
    return run_jobs(jobs, way, Simulation(**simulation), progress)


def device_progress(progress: Progress, number: int, count: int, predicted: int) -> Callable[[int], None]:
    """Tells which of so many runs is simulated, and how far it is."""
    which = f" {number}/{count}" if count > 1 else ""
    return lambda cycles: progress(f"simulating run{which}: {min(1.0, cycles / predicted):.0%}")


def model_on_device(
    graphs: Sequence[Graph],
    config: ChipConfig,
    *,
    timing: HbmTiming | None = None,
    prefetch: bool = True,
    cap: int = 0,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[CompiledNetwork]]:
    """Compile networks and predict what a run of each takes, without RTL."""
    way, rows, networks = AcceleratorWay(config, timing=timing, prefetch=prefetch, cap=cap, partition=partition), [], []
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
