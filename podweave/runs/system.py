"""Graphs of rows on chips in a ring, each a `Device` with a part of the graph; outputs and counters of every chip are compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from podweave.compiler.compile_network import CheckRules, CompiledNetwork, CompileOptions, in_channels
from podweave.compiler.compile_system import compile_system
from podweave.compiler.memory.image import MemoryImage
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.partition import Partition, partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import Prediction
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.tb.benches.system_bench import SystemBench

from ..driver.device import Start
from .devices import DeviceResult, DeviceWay, compare_chip
from .figures import device_figures
from .jobs import Job, model_constants
from .road import COLD, Conditions, Progress, Simulation, Tensors, run_jobs
from .verdict import Comparison

Divide = Callable[[RowGraph, Constants, int], Partition]


@dataclass(frozen=True, eq=False)
class SystemNetwork:
    """A network among chips. ``chips``: what each runs, by rank."""

    partition: Partition
    chips: tuple[CompiledNetwork, ...]

    @property
    def checked(self) -> bool:
        return all(network.checked for network in self.chips)

    @property
    def images(self) -> list[MemoryImage]:
        """What lies in the memories of the chips before a run."""
        return [network.memory for network in self.chips]

    def bases(self, inputs: Mapping[str, NDArray]) -> tuple[tuple[int, ...], ...]:
        """Values of base registers of each chip, in a run on ``inputs`` of the whole graph."""
        return tuple(image.bases(mine) for image, mine in zip(self.images, self.partition.cut(inputs), strict=True))


@dataclass(frozen=True)
class SystemPrediction:
    """``chips``: of each, by rank. ``delays``: cycles by which they start later than the first that does."""

    chips: tuple[Prediction, ...]
    delays: tuple[int, ...]

    @property
    def cycles(self) -> int:
        """From the first start to the last end."""
        return span(self.delays, [prediction.cycles for prediction in self.chips])


def span(delays: Sequence[int], cycles: Sequence[int]) -> int:
    """From the first start to the last end of runs that start so much later and take so long."""
    return max(late + own for late, own in zip(delays, cycles, strict=True)) - min(delays)


def require_links(config: ChipConfig) -> None:
    """Raises `ConfigError` for a configuration of which several chips make no ring."""
    if config.links is None:
        raise ConfigError(f"{config.name} has no table [links]: its chips cannot be joined")


class SystemWay(DeviceWay[SystemNetwork]):
    """Chips of one configuration in a ring.

    Parameters
    ----------
    config : ChipConfig
        Of every chip, with ``links``.
    chips : int
        How many there are.
    timing : HbmTiming, optional
        Of the memory of each.
    link : LinkTiming, optional
        Of each link; their seeds differ.
    delays : sequence of int, optional
        Cycles by which each starts later than without.
    prefetch, beneath, cap
        as `Start` has them.
    prefetch_ratios : mapping of str to float, optional
        As of `CompileOptions`.
    divide : callable
        Makes the parts of a graph for so many chips: `partition`, or `partition_rows`.
    check : {"auto", "always", "never"}
        As of `CompileOptions`.

    Raises
    ------
    ConfigError
        For a configuration without links.
    """

    def __init__(
        self,
        config: ChipConfig,
        chips: int,
        *,
        timing: HbmTiming | None = None,
        link: LinkTiming | None = None,
        delays: Sequence[int] | None = None,
        prefetch: bool = True,
        beneath: bool = True,
        cap: int = 0,
        prefetch_ratios: Mapping[str, float] | None = None,
        divide: Divide = partition,
        check: CheckRules = "auto",
    ):
        require_links(config)
        super().__init__(config, CompileOptions(from_memory=True, check=check, prefetch_ratios=prefetch_ratios or {}))
        self.chips, self.timing, self.link = chips, timing or HbmTiming(), link or LinkTiming()
        self.delays = tuple(delays or [0] * chips)
        if len(self.delays) != chips:
            raise ValueError(f"there are {chips} chips, got {len(self.delays)} delays")
        self.prefetch, self.beneath, self.cap, self.divide = prefetch, beneath, cap, divide

    def compile(self, job: Job, progress: Progress) -> SystemNetwork:
        parts = self.divide(require_rows(job.graph), job.constants, self.chips)
        return SystemNetwork(parts, compile_system(parts, self.config, self.options, progress=progress))

    def together(self, networks: list[SystemNetwork]) -> list[SystemNetwork]:
        """With channels of one size, in all chips: those of the memory do not move from run to run."""
        most = max(chip.memory.channel_bytes for network in networks for chip in network.chips)
        return [SystemNetwork(network.partition, tuple(in_channels(chip, most) for chip in network.chips)) for network in networks]

    def conditions(self, network: SystemNetwork, job: Job, before: SystemNetwork | None) -> Conditions:
        return Conditions(network.bases(job.inputs))

    @property
    def settings(self) -> dict[str, Any]:
        """What `predict_system` must know of the way."""
        found = {"timing": self.timing, "link": self.link, "starts": self.delays}
        return found | {"prefetch": self.prefetch, "beneath": self.beneath, "cap": self.cap}

    def predict(self, network: SystemNetwork, conditions: Conditions = COLD) -> SystemPrediction:
        return SystemPrediction(predict_system(network.chips, **self.settings, bases=conditions.bases), self.delays)

    def bench(self, networks: Sequence[SystemNetwork], options: dict[str, Any]) -> SystemBench:
        return SystemBench.of(self.config, self.chips, **options)

    def images(self, network: SystemNetwork) -> list[MemoryImage]:
        return network.images

    def feeds(self, network: SystemNetwork, job: Job) -> Sequence[Sequence[Mapping[str, NDArray]]]:
        return [[inputs] for inputs in network.partition.cut(job.inputs)]

    def surroundings(self) -> dict[str, Any]:
        return {"timings": [self.timing] * self.chips, "links": [self.link.of_link(i) for i in range(self.chips)]}

    def start(self) -> Start:
        return Start(prefetch=self.prefetch, beneath=self.beneath, cap=self.cap, warm=False)

    @property
    def late(self) -> Sequence[int]:
        return self.delays

    def compare(
        self, job: Job, network: SystemNetwork, prediction: SystemPrediction, result: Sequence[DeviceResult]
    ) -> tuple[dict[str, Any], Tensors]:
        """Of every chip, what it has of the outputs of the whole graph on one chip."""
        cycles = span(self.delays, [each.counters.device["CYCLES"] for each in result])
        found = Comparison(cycles, prediction.cycles)
        whole = evaluate(job.graph, job.constants, job.inputs)
        expected = network.partition.cut({name: whole[name] for name in job.graph.outputs})
        outputs: list[Tensors] = []
        chips = []
        for rank, (chip, predicted, each, wanted) in enumerate(zip(network.chips, prediction.chips, result, expected, strict=True)):
            outputs += compare_chip(found, chip, predicted, each, [wanted], f"chip {rank}: ")
            chips.append(self.chip_row(chip, predicted, each.counters.device))
        row = {"network": job.graph.name, **found.row(), **self.together_row(job.graph, cycles, prediction), "chips": chips}
        # A chip that differs from another in a tensor that both have was found above.
        return row, network.partition.join(outputs) if not found.mismatches else {}

    def chip_row(self, chip: CompiledNetwork, predicted: Prediction, counters: dict[str, int]) -> dict[str, Any]:
        """Of a report, what a chip did; ``counters`` of the device, measured or predicted."""
        return {
            "cycles": counters["CYCLES"],
            "predicted_cycles": predicted.cycles,
            **device_figures(chip, predicted, self.timing),
            "collectives": len(chip.collectives),
            "counters": counters,
            "timeline": predicted.timeline,
        }

    def together_row(self, graph: Graph, cycles: int, prediction: SystemPrediction) -> dict[str, Any]:
        """Of a report, what all chips did. ``slowest``: the chip that is predicted to end last."""
        rate = graph.macs / cycles
        ends = [late + each.cycles for late, each in zip(self.delays, prediction.chips, strict=True)]
        return {
            "macs": graph.macs,
            "mac_per_cycle": rate,
            "utilization": rate / (self.chips * self.config.pods * self.config.array.multipliers),
            "slowest": ends.index(max(ends)),
        }

    def facts(self) -> dict[str, Any]:
        found = {"through": "axi", "chips": self.chips, "delays": list(self.delays)}
        found |= {"prefetch": self.prefetch, "beneath": self.beneath, "cap": self.cap}
        found["prefetch_ratios"] = dict(self.options.prefetch_ratios)
        return found | {"memory": dataclasses.asdict(self.timing), "link": dataclasses.asdict(self.link)}

    def totals(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        found = super().totals(rows)
        return found | {"utilization": found["utilization"] / self.chips}


def require_rows(graph: Graph) -> RowGraph:
    """Raises `WorkloadError` for a graph that chips cannot share, whatever its sizes."""
    if not isinstance(graph, RowGraph) or isinstance(graph, MixedGraph):
        what = "has layers" if isinstance(graph, MixedGraph) else "is a graph of layers"
        raise WorkloadError(f"{graph.name} {what}: what chips share are graphs of operations on rows, as language models are")
    return graph


def run_on_system(
    jobs: Sequence[Job], way: SystemWay, *, progress: Progress, **simulation: Any
) -> tuple[dict[str, Any], list[Tensors], list[SystemNetwork]]:
    """`run_jobs` on chips in a ring. ``simulation``: members of a `Simulation`."""
    return run_jobs(jobs, way, Simulation(**simulation), progress)


def model_on_system(graph: RowGraph, way: SystemWay, progress: Progress) -> tuple[dict[str, Any], SystemNetwork]:
    """Compile a graph for chips in a ring and predict what a run of them takes, without RTL."""
    began = time.perf_counter()
    (network,) = way.together([way.compile(Job(graph, model_constants(graph, scale_bits=way.config.scale_bits), {}), progress)])
    made = time.perf_counter()
    progress(f"predicting {graph.name}")
    prediction = way.predict(network)
    wall = {"compile": made - began, "model": time.perf_counter() - made}
    cycles = {"cycles": prediction.cycles, "predicted_cycles": prediction.cycles}
    chips = [way.chip_row(chip, own, own.counters) for chip, own in zip(network.chips, prediction.chips, strict=True)]
    row = {"network": graph.name, **cycles, **way.together_row(graph, prediction.cycles, prediction), "chips": chips}
    report = {"config": way.config.name, "pods": way.config.pods, **way.facts(), "networks": [row]}
    return report | {key: row[key] for key in ("cycles", "macs", "utilization")} | {"wall_s": wall}, network
