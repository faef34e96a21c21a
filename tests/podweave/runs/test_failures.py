"""podweave.runs: a simulation that could not run has no verdict, and its report says why."""

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
from podweave.tb.build.simulate import SimulationError


class _Broken:
    emit_seconds, build = 0.0, SimpleNamespace(seconds=0.0)

    def run(self, *arguments: Any, **options: Any) -> Any:
        raise SimulationError("the simulator ended with exit code 9")


def test_a_simulation_that_fails_has_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("chip2x4")
    monkeypatch.setattr("podweave.runs.chip.ChipBench.of", lambda *_, **__: _Broken())
    report, outputs, _ = run_jobs(chip_jobs("gemm:4x4x4", 1), ChipWay(config), Simulation(), lambda _: None)
    assert (report["verdict"], outputs) == ("none", [])
    assert "the simulator ended with exit code 9" in report["failure"]


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
