"""What benches of whole designs have in common: emitting, building, and starting a simulation with a job."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podweave.spec.config import ChipConfig

from ..build.emission import emitted_design
from ..build.simulate import simulate
from ..build.verilate import HARNESS_DIRECTORY, Build, build

Sidecar = dict[str, Any]
HIERARCHICAL_FROM = 2048
"""Multipliers of a chip from which its repeated blocks are verilated on their own: below, one model builds faster."""


@dataclass(frozen=True)
class Harness:
    """What stands around a design in a simulation.

    Parameters
    ----------
    top : str
        Module of ``top.sv`` in ``tb/sv``.
    public_inputs : list of str
        Its ports that cocotb drives or reads.
    parameters : mapping of str to int
        Of the module.
    sources : mapping of str to str
        More of ``tb/sv``, or text made here, by file name.
    control : str
        More lines of the control file.
    """

    top: str
    public_inputs: list[str]
    parameters: Mapping[str, int]
    sources: Mapping[str, str] = field(default_factory=dict)
    control: str = ""


def sv_source(name: str) -> str:
    """The text of a file of ``tb/sv``."""
    return (HARNESS_DIRECTORY / "sv" / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class BuildOptions:
    """How a bench is built.

    Parameters
    ----------
    hierarchical : bool, optional
        Verilate blocks that repeat once each; by default the size of the design decides.
    optimize : {"speed", "build"}
        For long runs, or for many small builds.
    random_initial_state : bool
        Registers and memories begin with bits that the seed of a run chooses.
    waves : bool
        Runs can write a VCD.
    alter : callable, optional
        Changes the emitted Verilog: how a test plants a fault.
    progress : callable, optional
        Told what is being done.
    """

    hierarchical: bool | None = None
    optimize: str = "speed"
    random_initial_state: bool = False
    waves: bool = False
    alter: Callable[[str], str] | None = None
    progress: Callable[[str], None] | None = None


@dataclass(frozen=True)
class DesignBench:
    """A simulator of the design of a configuration. ``emit_seconds``: what emitting it took, or finding it."""

    config: ChipConfig
    build: Build
    emit_seconds: float

    @staticmethod
    def made(
        config: ChipConfig, harness: Callable[[Sidecar], Harness], options: BuildOptions, *, top: str | None = None
    ) -> tuple[Build, float]:
        """Emit and build a design (``top`` as `emit` takes it) in a harness that its sidecar decides; the build, and seconds."""
        began = time.perf_counter()
        verilog, control, sidecar = emitted_design(config, top=top)
        seconds = time.perf_counter() - began
        around = harness(sidecar)
        built = build(
            {
                "design.v": options.alter(verilog) if options.alter else verilog,
                # What the harness uses comes before it.
                **around.sources,
                f"{around.top}.sv": sv_source(f"{around.top}.sv"),
            },
            top=around.top,
            public_inputs=around.public_inputs,
            control=control + around.control,
            parameters=around.parameters,
            optimize=options.optimize,
            random_initial_state=options.random_initial_state,
            waves=options.waves,
            hierarchical=hierarchical_blocks(config, sidecar, options.hierarchical),
            progress=options.progress,
        )
        return built, seconds

    def simulated(
        self,
        module: str,
        test: str,
        job: dict[str, Any],
        *,
        seed: int = 0,
        waves: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Any:
        """What a test of a module in ``tb/sim`` leaves behind, given a job."""
        with tempfile.TemporaryDirectory(prefix="podweave-run-") as name:
            directory = Path(name)
            write_job(directory, job, waves)
            simulate(
                self.build,
                f"podweave.tb.sim.{module}",
                directory,
                test=test,
                seed=seed,
                plusargs=initial_state(seed),
                waves=waves,
                progress=progress,
            )
            with (directory / "outcome.pickle").open("rb") as handle:
                return pickle.load(handle)


def write_job(directory: Path, job: dict[str, Any], waves: Path | None) -> None:
    """Where the simulator's side finds it."""
    with (directory / "job.pickle").open("wb") as handle:
        pickle.dump(job | {"waves": waves is not None}, handle)


def initial_state(seed: int) -> list[str]:
    """Arguments of a simulator that was built with a random initial state."""
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]


def hierarchical_blocks(config: ChipConfig, sidecar: dict[str, Any], hierarchical: bool | None) -> list[str]:
    """Modules of a chip to verilate on their own; none if ``hierarchical`` is False, or None for a small chip, or of one pod."""
    if hierarchical is None:
        hierarchical = config.pods * config.array.multipliers >= HIERARCHICAL_FROM
    instances = sidecar["modules"].get("chip", {}).get("instances", {})
    return [name for name, count in instances.items() if count > 1] if hierarchical else []


def public_arrays(sidecar: dict[str, Any]) -> str:
    """Lines of a control file for the arrays that a bench reaches past the ports."""
    variables = {"sram": "words", "lookup_table": "words", "counters": "values"}
    kinds = {name: module["kind"] for name, module in sidecar["modules"].items()}
    return "".join(
        f'public_flat_rw -module "{name}" -var "{variables[kind]}"\n' for name, kind in kinds.items() if kind in variables
    )
