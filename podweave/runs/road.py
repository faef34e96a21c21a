"""The road from networks to a verdict: compile, predict, build, simulate, compare. Pods, chips and accelerators each say how."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from podweave.compiler.compile_network import CompileOptions
from podweave.spec.config import ChipConfig
from podweave.tb.build.simulate import verdict
from podweave.tb.build.verilate import Build

from .jobs import Job

Progress = Callable[[str], None]
Tensors = dict[str, NDArray[Any]]


class Compiled(Protocol):
    """What is compiled of a network. ``checked``: it was held against the rules of the hardware."""

    @property
    def checked(self) -> bool: ...


Network = TypeVar("Network", bound=Compiled)


class Bench(Protocol):
    """A simulator that is there, and what it took to emit its design, in seconds."""

    @property
    def build(self) -> Build: ...
    @property
    def emit_seconds(self) -> float: ...


@dataclass(frozen=True)
class Simulation:
    """How jobs are simulated.

    Parameters
    ----------
    seed : int
        Of the initial state.
    waves : Path, optional
        Where to write a VCD.
    waves_of : sequence of str
        Blocks that it shows, by the ends of their names; all, if there is none.
    threads : int
        Cores over which the blocks of a chip are spread.
    bench : Bench, optional
        A simulator that is there; else one is built for speed.
    """

    seed: int = 0
    waves: Path | None = None
    waves_of: Sequence[str] = ()
    threads: int = 1
    bench: Bench | None = None

    def options(self, progress: Progress) -> dict[str, Any]:
        """Those of a bench (`tb.benches.design_bench.BuildOptions`)."""
        chosen = {"waves": self.waves is not None, "waves_of": tuple(self.waves_of), "threads": self.threads}
        return {**chosen, "progress": progress}


@dataclass
class Simulated:
    """``results``: of the first jobs, in order; of all unless there is a ``failure``. ``cycles``: all that were simulated.

    ``wall_s``: seconds by phase, "simulate" among them: only while the simulator runs. ``peak_bytes``: the memory that it took.
    """

    results: list[Any] = field(default_factory=list)
    cycles: int = 0
    wall_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    failure: Exception | None = None


@dataclass(frozen=True)
class Conditions:
    """On what the cycles of a run depend, beside its network.

    Parameters
    ----------
    bases : tuple of tuple of int
        Values of base registers of each chip, the only ones of a job's inputs on which they do; empty: all are 0.
    warm : bool
        The chip is as a run of this network has left it.
    """

    bases: tuple[tuple[int, ...], ...] = ()
    warm: bool = False


COLD = Conditions()
"""Nothing is left of any run before, and base registers are 0."""


class Way(ABC, Generic[Network]):
    """How networks run on one kind of hardware.

    Members
    -------
    config, options
        What is compiled for, and how.
    rows : str
        What reports call the rows of jobs.
    """

    rows = "networks"

    def __init__(self, config: ChipConfig, options: CompileOptions):
        self.config, self.options = config, options

    @abstractmethod
    def compile(self, job: Job, progress: Progress) -> Network:
        """One network."""

    def together(self, networks: list[Network]) -> list[Network]:
        """What is changed for networks that run one after the other."""
        return networks

    def conditions(self, network: Network, job: Job, before: Network | None) -> Conditions:
        """On what the cycles of a job depend, beside its network; ``before``: that of the job before, if there is one."""
        return COLD

    @abstractmethod
    def predict(self, network: Network, conditions: Conditions = COLD) -> Any:
        """The prediction; it has ``cycles``."""

    @abstractmethod
    def bench(self, networks: Sequence[Network], options: dict[str, Any]) -> Bench:
        """A simulator for them, built with some options."""

    @abstractmethod
    def simulate(
        self,
        bench: Any,
        jobs: Sequence[Job],
        networks: Sequence[Network],
        predictions: Sequence[Any],
        simulation: Simulation,
        progress: Progress,
    ) -> Simulated:
        """Run the jobs."""

    @abstractmethod
    def compare(self, job: Job, network: Network, prediction: Any, result: Any) -> tuple[dict[str, Any], Tensors]:
        """The row of a job, and the outputs that came out of the RTL."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What else a report says of the way."""

    def totals(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Over all jobs."""
        total = {key: sum(row[key] for row in rows) for key in ("mismatches", "cycles", "predicted_cycles", "macs")}
        most = total["cycles"] * self.config.pods * self.config.array.multipliers
        return total | {"utilization": total["macs"] / most}


def compile_jobs(jobs: Sequence[Job], way: Way[Network], progress: Progress) -> list[Network]:
    """The network of each job; equal graphs with equal constants, and as many passes, share one."""
    known: dict[tuple[str, str, int], int] = {}
    networks: list[Network] = []
    which = []
    for job in jobs:
        key = (repr(job.graph), job.constants.digest, job.passes)
        if key not in known:
            known[key] = len(networks)
            networks.append(way.compile(job, progress))
        which.append(known[key])
    together = way.together(networks)
    return [together[index] for index in which]


def run_jobs(
    jobs: Sequence[Job],
    way: Way[Network],
    simulation: Simulation,
    progress: Progress,
    *,
    compiled: list[Network] | None = None,
) -> tuple[dict[str, Any], list[Tensors], list[Network]]:
    """The report, the outputs of each job that came out of the RTL, and the networks. ``compiled``: those, if they are there."""
    clock = time.perf_counter
    began = clock()
    networks = compile_jobs(jobs, way, progress) if compiled is None else way.together(compiled)
    wall = {"compile": clock() - began}
    began = clock()
    progress("predicting cycles")
    known: dict[tuple[int, Conditions], Any] = {}
    predictions = []
    for job, network, before in zip(jobs, networks, (None, *networks), strict=False):
        key = id(network), way.conditions(network, job, before)
        if key not in known:
            known[key] = way.predict(network, key[1])
        predictions.append(known[key])
    wall["model"] = clock() - began
    bench = simulation.bench
    if bench is None:
        progress("emitting Verilog")
        bench = way.bench(networks, simulation.options(progress))
    wall |= {"emit": bench.emit_seconds, "build": bench.build.seconds}
    progress("simulating")
    run = way.simulate(bench, jobs, networks, predictions, simulation, progress)
    wall |= run.wall_s
    began = clock()
    rows, found = [], []
    for job, network, prediction, result in zip(jobs, networks, predictions, run.results, strict=False):
        progress(f"comparing {job.graph.name} with the golden model")
        row, tensors = way.compare(job, network, prediction, result)
        rows.append(row)
        found.append(tensors)
    wall["check"] = wall.get("check", 0.0) + clock() - began
    config = way.config
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "seed": simulation.seed, **way.facts()}
    report["verdict"] = verdict([row["verdict"] for row in rows], len(jobs), run.failure)
    report |= {"failure": run.failure and str(run.failure), "checked": all(network.checked for network in networks)}
    report[way.rows] = rows
    if rows:
        report |= way.totals(rows)
        report["sim_cycles_per_s"] = run.cycles / wall["simulate"]
        report["sim_peak_bytes"] = run.peak_bytes
        report["sim_mmac_per_s"] = report["macs"] / wall["simulate"] / 1e6
    else:
        # Nothing was compared: no figure that a reader could take for a measurement.
        report |= {"mismatches": None, "cycles": None, "macs": sum(job.graph.macs for job in jobs)}
        report["predicted_cycles"] = sum(prediction.cycles for prediction in predictions)
    return report | {"wall_s": wall}, found, networks
