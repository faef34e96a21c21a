"""What benches of whole designs have in common: emitting, building, and starting a simulation with a job."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError

from ..build.blocks import block_of, modules_of
from ..build.circuit import circuit_of, tap_port, tap_width
from ..build.emission import Design, emitted_design
from ..build.simulate import simulate
from ..build.verilate import HARNESS_DIRECTORY, Assembly, Build, build, stub
from .storage import stride

Sidecar = dict[str, Any]
# Blocks that an error lists.
_SOME = 24
LEAST_SECONDS = 4e-6
"""What a cycle must take on one core for threads to be worth their barriers."""


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
        More lines of the control file, about the harness.
    taps : sequence of str
        Signals of the design that the harness reads beside its ports, as the macro TAPS, the first in its lowest bits (`circuit_of`
        says where they may be).
    """

    top: str
    public_inputs: list[str]
    parameters: Mapping[str, int]
    sources: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    taps: Sequence[str] = ()


_CONTROL = "`verilator_config\n"


def sv_source(name: str) -> str:
    """The text of a file of ``tb/sv``."""
    return (HARNESS_DIRECTORY / "sv" / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class BuildOptions:
    """How a bench is built, and runs.

    Parameters
    ----------
    plain : bool
        Have Verilator make one model of the whole Verilog text, and not a class of each block: slower from a few pods on, and what
        the other way is held against.
    optimize : {"speed", "build", "none"}
        For long runs, for many small builds, or for one short run.
    random_initial_state : bool
        Registers and memories begin with bits that the seed of a run chooses.
    waves : bool
        Runs can write a VCD.
    waves_of : sequence of str
        Blocks that it shows, by the end of their names ("node_3", "chip.root"); by default, all.
    threads : int
        Cores over which the blocks of a design are spread; what comes out does not depend on it.
    least_s : float
        Seconds that a cycle must take on one core to be spread.
    checking : bool
        Evaluate also what need not be evaluated, and end the simulation if it makes a difference; slow.
    record : Path, optional
        A file for the values of all ports of all blocks after each cycle, as `DesignBench.recorded` reads it; slow.
    alter : callable, optional
        Changes the emitted Verilog: how a test plants a fault.
    rewire : callable, optional
        Changes the text of the circuit, as that of a `Circuit`: the same for faults in the simulation itself.
    progress : callable, optional
        Told what is being done.

    Errors
    ------
    ValueError
        ``alter`` changes a module that is only wires and not ``plain``.
    ConfigError
        ``waves_of`` names nothing.
    """

    plain: bool = False
    optimize: str = "speed"
    random_initial_state: bool = False
    waves: bool = False
    waves_of: Sequence[str] = ()
    threads: int = 1
    least_s: float = LEAST_SECONDS
    checking: bool = False
    record: Path | None = None
    alter: Callable[[str], str] | None = None
    rewire: Callable[[str], str] | None = None
    progress: Callable[[str], None] | None = None


@dataclass(frozen=True)
class DesignBench:
    """A simulator of the design of a configuration, or of several side by side. ``emit_seconds``: what emitting it took, or finding
    it."""

    config: ChipConfig
    build: Build
    emit_seconds: float
    options: BuildOptions
    chips: int = field(default=1, kw_only=True)

    @staticmethod
    def made(
        config: ChipConfig, harness: Callable[[Sidecar], Harness], options: BuildOptions, *, top: str | None = None, chips: int = 1
    ) -> tuple[Build, float, BuildOptions]:
        """Emit and build a design in a harness that its sidecar decides; what a bench has of it. ``top``, ``chips``: as of
        `emitted_design`."""
        began = time.perf_counter()
        design = emitted_design(config, top=top, chips=chips)
        seconds = time.perf_counter() - began
        around = harness(design.sidecar)
        verilog = options.alter(design.verilog) if options.alter else design.verilog
        plain = options.plain
        read = ", ".join(f"{design.sidecar['top']}.{tap if plain else tap_port(tap)}" for tap in reversed(around.taps))
        own = {
            # What the harness uses comes before it.
            **({"taps.sv": f"`define TAPS {{{read}}}\n"} if around.taps else {}),
            **around.sources,
            f"{around.top}.sv": sv_source(f"{around.top}.sv"),
        }
        settings: dict[str, Any] = {"top": around.top, "public_inputs": around.public_inputs, "parameters": around.parameters}
        settings |= {name: getattr(options, name) for name in ("optimize", "random_initial_state", "waves", "progress")}
        name = design.sidecar["top"]
        if plain:
            control = design.control + public_arrays(design.sidecar) + around.control
            if options.record:
                circuit = circuit_of(**design.circuit, top=name, scope="")
                control += "".join(_recordable(block, ports) for block, ports in circuit.ports.items())
            return build({"design.v": verilog, **own}, control=control, **settings), seconds, options
        taps = {tap_port(tap): tap_width(design.circuit["wiring"], name, tap) for tap in around.taps}
        text, public = stub(name, design.sidecar["ports"], taps)
        assembly = assembled(design, verilog, f"{around.top}.{name}", around.taps, options.rewire)
        # Before anything is built.
        shown_units(options.waves_of, assembly.circuit, config, assembly.scope)
        made = build({"design.v": text, **own}, control=_CONTROL + public + around.control, assembly=assembly, **settings)
        return made, seconds, options

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
            self.write_job(directory, job, waves)
            simulate(
                self.build,
                f"podweave.tb.sim.{module}",
                directory,
                test=test,
                seed=seed,
                plusargs=self.initial_state(seed),
                progress=progress,
            )
            with (directory / "outcome.pickle").open("rb") as handle:
                return pickle.load(handle)

    def initial_state(self, seed: int) -> list[str]:
        """Arguments of a simulator that was built with a random initial state. All bits are 1 where ports are recorded: random
        ones come from names of registers, which depend on how a model is built."""
        if self.options.record:
            return ["+verilator+rand+reset+1"]
        return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]

    def write_job(self, directory: Path, job: dict[str, Any], waves: Path | None) -> None:
        """Where the simulator's side finds it, and how it is to run."""
        if waves is not None and not self.build.traced:
            raise ValueError("this bench was built without waves: of(..., waves=True)")
        run: dict[str, Any] = {name: getattr(self.options, name) for name in ("threads", "least_s", "checking")}
        run["record"] = self.options.record and (str(self.options.record.resolve()), self.recorded_ports())
        circuit = self._circuit()
        shown = shown_units(self.options.waves_of, circuit, self.config, self.build.scope)
        run |= {"waves": waves and str(waves.resolve()), "waves_of": shown}
        with (directory / "job.pickle").open("wb") as handle:
            pickle.dump(job | {"run": run}, handle)

    def recorded_ports(self) -> list[tuple[str, str, int]]:
        """Unit, name and width of the ports of all blocks."""
        design = emitted_design(self.config, top=self.build.top.removesuffix("_harness"), chips=self.chips)
        top = design.sidecar["top"]
        circuit = circuit_of(**design.circuit, top=top, scope=f"{self.build.top}.{top}")
        return [
            (unit, name, width) for unit, block in circuit.units.items() if block for name, width in circuit.ports[block].items()
        ]

    def recorded(self) -> dict[tuple[str, str], NDArray[np.uint8]]:
        """By unit and port, its bytes after each cycle of all runs so far: (cycles, bytes)."""
        assert self.options.record is not None
        ports = self.recorded_ports()
        sizes = [stride(width) for *_, width in ports]
        rows = np.fromfile(self.options.record, np.uint8).reshape(-1, sum(sizes))
        parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
        return {(unit, name): part for (unit, name, _), part in zip(ports, parts, strict=True)}

    def units(self) -> dict[str, str]:
        """The blocks of a design that is simulated block by block, by name: the module of each."""
        return units_of(self._circuit())

    def _circuit(self) -> str:
        return (self.build.directory / "circuit").read_text(encoding="utf-8") if self.build.scope else ""


def units_of(circuit: str) -> dict[str, str]:
    """The blocks in the text of a circuit, by name: the module of each."""
    words = [line.split() for line in circuit.splitlines() if line.startswith("unit ")]
    return {name: module for _, module, name in words[1:]}


def shown_units(wanted: Sequence[str], circuit: str, config: ChipConfig, scope: str) -> list[str]:
    """The blocks that some ends of names mean; `ConfigError` for one that means none."""
    found, units = [], units_of(circuit)
    for end in wanted:
        names = [name for name in units if f".{name}".endswith(f".{end}")]
        if not names:
            known = [name.removeprefix(f"{scope}.") for name in units]
            some = ", ".join(known[:_SOME]) + (f" and {len(known) - _SOME} more" if len(known) > _SOME else "")
            raise ConfigError(f"{config.name} has no block {end}; it has {some or 'none: it is one block'}")
        found += names
    return found


def assembled(
    design: Design, verilog: str, scope: str, taps: Sequence[str] = (), rewire: Callable[[str], str] | None = None
) -> Assembly:
    """The blocks of a design, of which ``verilog`` is the text, changed or not, and their circuit."""
    wiring, modules = design.circuit["wiring"], modules_of(verilog)
    if verilog != design.verilog:
        changed = [name for name, text in modules_of(design.verilog).items() if name in wiring and modules.get(name) != text]
        if changed:
            raise ValueError(f"module {changed[0]} is only wires: its Verilog is not read in a simulation that is not plain")
    circuit = circuit_of(wiring, design.circuit["paths"], design.sidecar["top"], scope, taps)
    below = {name: list(module["instances"]) for name, module in design.sidecar["modules"].items()}
    control = design.control + public_arrays(design.sidecar)
    names = dict.fromkeys(name for name in circuit.units.values() if name)
    text = circuit.text()
    return Assembly([block_of(name, modules, below, control) for name in names], rewire(text) if rewire else text, scope)


def _recordable(block: str, ports: Mapping[str, int]) -> str:
    """Lines of a control file by which a model of a whole design shows the ports of a block, a class of its own as elsewhere."""
    return f'no_inline -module "{block}"\n' + "".join(f'public_flat_rd -module "{block}" -var "{port}"\n' for port in ports)


def public_arrays(sidecar: dict[str, Any]) -> str:
    """Lines of a control file for the arrays that a bench reaches past the ports."""
    variables = {"sram": "words", "lookup_table": "words", "counters": "values"}
    kinds = {name: module["kind"] for name, module in sidecar["modules"].items()}
    return "".join(
        f'public_flat_rw -module "{name}" -var "{variables[kind]}"\n' for name, kind in kinds.items() if kind in variables
    )
