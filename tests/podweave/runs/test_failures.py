"""podweave.runs: simulations that end with an error, and networks that do not fit in each way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from podweave.compiler.chip.policy import EASY, WHOLE_CHIP, BankPolicy
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.chip import ChipWay
from podweave.runs.jobs import chip_jobs
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from podweave.tb.build.simulate import NoVerdictError, SimulationError


class _Broken:
    """A bench whose simulation ends with an error."""

    emit_seconds, build = 0.0, SimpleNamespace(seconds=0.0)

    def __init__(self, error: SimulationError):
        self.error = error

    def run(self, *arguments: Any, **options: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(("kind", "verdict"), [(SimulationError, "fail"), (NoVerdictError, "none")])
def test_simulations_that_end_with_an_error(monkeypatch: pytest.MonkeyPatch, kind: type[SimulationError], verdict: str) -> None:
    """A finding is a failure; a simulator that broke down says nothing of the hardware."""
    bench = _Broken(kind("the simulator ended with exit code 9"))
    monkeypatch.setattr("podweave.runs.chip.ChipBench.of", lambda *_, **__: bench)
    report, outputs, _ = run_jobs(chip_jobs("gemm:4x4x4", 1), ChipWay(load_config("chip2x4")), Simulation(), lambda _: None)
    assert (report["verdict"], report["networks"], outputs) == (verdict, [], [])
    assert report["failure"] == "the simulator ended with exit code 9"


def test_ways_that_a_network_does_not_fit_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several ways to place a network for many passes, one that cannot be is none: the others are compared."""
    config = load_config("chip4x16")
    (job,) = chip_jobs("gemm:64x48x32", 1, scale_bits=config.scale_bits)
    way, tried = AcceleratorWay(config), list[BankPolicy]()
    wanted = way.compile_passes(job.graph, job.constants, 1, lambda _: None)

    def compile_kept(graph: Graph, config: ChipConfig, constants: Any, options: CompileOptions, **more: Any) -> CompiledNetwork:
        tried.append(options.policy)
        if options.policy != BankPolicy():
            raise WorkloadError("it does not fit")
        return wanted

    monkeypatch.setattr("podweave.runs.accelerator.compile_kept", compile_kept)
    monkeypatch.setattr(way, "_further_cycles", lambda network: 7)
    assert way.compile_passes(job.graph, job.constants, 3, lambda _: None) is wanted
    assert tried == [BankPolicy(), EASY, WHOLE_CHIP]
