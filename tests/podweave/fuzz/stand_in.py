"""What stands in for simulators: what comes out of it is as predicted, but for what a test changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Runs:
    """In place of `run_jobs`: reports that are as predicted, and what was asked for."""

    def __init__(self) -> None:
        self.ways: list[Any] = []
        self.seeds: list[int] = []
        self.networks: list[Any] = []
        self.graphs: list[Any] = []
        self.change: dict[str, Any] = {}
        self.cycles = 0

    def __call__(self, jobs: Sequence[Any], way: Any, simulation: Any, progress: Any, *, compiled: list[Any]) -> Any:
        assert simulation.bench == "bench"
        assert len(jobs) == len(compiled)
        networks, rows = way.together(list(compiled)), []
        for job, network, before in zip(jobs, networks, (None, *networks), strict=False):
            cycles = way.predict(network, way.conditions(network, job, before)).cycles
            self.cycles += cycles
            rows.append({"network": job.graph.name, "verdict": "pass", "cycles": cycles, "compared": 7, "predicted_cycles": cycles})
        rows[-1] |= self.change
        self.ways.append(way)
        self.seeds.append(simulation.seed)
        self.networks += networks
        self.graphs += [job.graph for job in jobs]
        return {"networks": rows, "failure": None, "verdict": rows[-1]["verdict"]}, [], networks
