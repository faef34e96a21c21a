"""Networks on accelerators, through their driver, with all they need in memory; outputs and counters of every chip are compared."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.memory.image import MemoryImage
from podweave.predict.accelerator import Prediction
from podweave.tb.benches.system_bench import SystemBench
from podweave.tb.build.simulate import SimulationError

from ..driver.device import DeviceError, RunCounters, Start
from ..driver.system import System
from .jobs import Job
from .road import Network, Progress, Simulated, Simulation, Tensors, Way
from .verdict import Comparison


@dataclass(frozen=True)
class DeviceResult:
    """What a run left of a chip: ``outputs`` of each pass as they lie in its memory, by the names of operations as they run.
    ``warm``: whether it was a warm run."""

    outputs: tuple[Tensors, ...]
    counters: RunCounters
    warm: bool


class DeviceWay(Way[Network]):
    """On one accelerator, or several beside each other; the result of a job is a `DeviceResult` of each."""

    @abstractmethod
    def images(self, network: Network) -> Sequence[MemoryImage]:
        """What lies in the memory of each chip before a run."""

    @abstractmethod
    def feeds(self, network: Network, job: Job) -> Sequence[Sequence[Mapping[str, NDArray]]]:
        """What of the inputs of a job each chip is given, pass by pass."""

    @abstractmethod
    def surroundings(self) -> dict[str, Any]:
        """``timings`` and ``links`` of `SystemBench.system`."""

    @abstractmethod
    def start(self) -> Start:
        """How runs are started."""

    @property
    def late(self) -> Sequence[int] | None:
        """``delays`` of `System.start`."""
        return None

    def simulate(
        self,
        bench: SystemBench,
        jobs: Sequence[Job],
        networks: Sequence[Network],
        predictions: Sequence[Any],
        simulation: Simulation,
        progress: Progress,
    ) -> Simulated:
        run, began = Simulated(), time.perf_counter()
        channel_bytes = self.images(networks[0])[0].channel_bytes
        try:
            with bench.system(
                **self.surroundings(), seed=simulation.seed, channel_bytes=channel_bytes, waves=simulation.waves
            ) as bus:
                system, loaded = System(bus, self.config), None
                for number, (job, network, prediction) in enumerate(zip(jobs, networks, predictions, strict=True), start=1):
                    images = self.images(network)
                    if loaded is not network:
                        system.load(images)
                        loaded = network
                    for chip, feeds in enumerate(self.feeds(network, job)):
                        for pass_number, inputs in enumerate(feeds):
                            for name, tensor in inputs.items():
                                system.write_input(chip, name, tensor, pass_number)
                    system.run(
                        self.start(),
                        delays=self.late,
                        max_cycles=2 * prediction.cycles + 100_000,
                        progress=device_progress(progress, number, len(jobs), prediction.cycles),
                    )
                    found = []
                    for chip, (image, counters) in enumerate(zip(images, system.counters(), strict=True)):
                        outputs: tuple[Tensors, ...] = tuple(
                            {name: system.read_output(chip, name, pass_number) for name in image.outputs}
                            for pass_number in range(job.passes)
                        )
                        found.append(DeviceResult(outputs, counters, system.devices[chip].warm))
                    run.results.append(found)
                run.cycles, run.peak_bytes = bus.cycles, bus.peak_bytes()
        except (SimulationError, DeviceError) as error:
            run.failure = error
        run.wall_s["simulate"] = time.perf_counter() - began
        return run


def compare_chip(
    found: Comparison,
    network: CompiledNetwork,
    predicted: Prediction,
    result: DeviceResult,
    expected: Sequence[Mapping[str, NDArray]],
    whose: str = "",
) -> list[Tensors]:
    """Hold what a run left of a chip, pass by pass, against what it should; ``whose``: what is found of it begins with that. Its
    outputs."""
    outputs = [network.split.join(tensors) for tensors in result.outputs]
    for number, (wanted, tensors) in enumerate(zip(expected, outputs, strict=True)):
        where = f" of pass {number}" if len(expected) > 1 else ""
        for name, tensor in wanted.items():
            found.values(f"{whose}outputs of {name}{where}", tensor, tensors[name])
    found.counters(predicted.counters, result.counters.device, whose)
    found.counters(predicted.nodes, result.counters.nodes, whose)
    return outputs


def device_progress(progress: Progress, number: int, count: int, predicted: int) -> Callable[[int], None]:
    """Tells which of so many runs is simulated, and how far it is."""
    which = f" {number}/{count}" if count > 1 else ""
    return lambda cycles: progress(f"simulating run{which}: {min(1.0, cycles / predicted):.0%}")
