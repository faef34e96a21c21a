"""Bench for an accelerator: a simulator of it with its memory, driven from here as a driver would drive the hardware."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from ..build.emission import emitted_design
from ..build.simulate import running_simulator
from ..build.verilate import HARNESS_DIRECTORY, Build, build
from .accelerator_task import ACCESSES, CHANNEL
from .chip_bench import hierarchical_blocks, public_arrays
from .simulated_bus import SERVER, SimulatedBus

_HARNESS = "accelerator_harness"


@dataclass(frozen=True)
class AcceleratorBench:
    config: ChipConfig
    build: Build
    emit_seconds: float

    @classmethod
    def of(
        cls,
        config: ChipConfig,
        *,
        hierarchical: bool | None = None,
        optimize: str = "speed",
        random_initial_state: bool = False,
        waves: bool = False,
        alter: Callable[[str], str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> AcceleratorBench:
        """Emit and build the accelerator of ``config``; arguments as those of `ChipBench.of`."""
        if config.dma is None:
            raise ValueError(f"{config.name} has no table [dma]: it is no accelerator")
        began = time.perf_counter()
        verilog, control, sidecar = emitted_design(config)
        seconds = time.perf_counter() - began
        axi = sidecar["axi"]
        sources = {
            name: (HARNESS_DIRECTORY / "sv" / name).read_text(encoding="utf-8") for name in ("hbm_channel.sv", f"{_HARNESS}.sv")
        }
        made = build(
            {"design.v": alter(verilog) if alter else verilog, "manager_ports.sv": _manager_ports(sidecar), **sources},
            top=_HARNESS,
            public_inputs=["clk", "rst", "go"],
            # One class for all channels, as for all blocks of the design that repeat.
            control=control + public_arrays(sidecar) + 'no_inline -module "hbm_channel"\n',
            parameters={
                "MANAGERS": config.managers,
                "DATA_BITS": config.dma.data_width,
                "ADDRESS_BITS": config.dma.address_width,
                "OFFSET_BITS": axi["subordinate"]["address_width"],
                "ACCESSES": ACCESSES,
            },
            optimize=optimize,
            random_initial_state=random_initial_state,
            waves=waves,
            hierarchical=hierarchical_blocks(config, sidecar, hierarchical),
            progress=progress,
        )
        return cls(config, made, seconds)

    @contextlib.contextmanager
    def session(
        self, *, timing: HbmTiming | None = None, seed: int = 0, channel_bytes: int, waves: Path | None = None
    ) -> Iterator[SimulatedBus]:
        """A simulator, reset and waiting, for the body of the ``with``; it ends with it.

        ``timing``: of the memory. ``seed``: of the initial state of a bench built with a random one. ``channel_bytes``: memory of
        each manager; the file that holds it is sparse. ``waves``: where to write a VCD of everything; the bench must be built for
        it.
        """
        if waves is not None and not self.build.traced:
            raise ValueError("this bench was built without waves: AcceleratorBench.of(..., waves=True)")
        with tempfile.TemporaryDirectory(prefix="podweave-accelerator-") as name:
            directory = Path(name)
            path = directory / "memory"
            with path.open("wb") as file:
                file.truncate(self.config.managers * channel_bytes)
            with (directory / "job.pickle").open("wb") as handle:
                pickle.dump({"config": self.config, "memory": str(path), "waves": waves is not None}, handle)
            connection, other = Pipe()
            with contextlib.closing(connection), contextlib.ExitStack() as running:
                with other:
                    process = running.enter_context(
                        running_simulator(
                            self.build,
                            SERVER,
                            directory,
                            seed=seed,
                            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"],
                            waves=waves and waves.resolve(),
                            environment={CHANNEL: str(other.fileno())},
                            pass_fds=[other.fileno()],
                        )
                    )
                memory = np.memmap(path, np.uint8, "r+")
                bus = SimulatedBus(self.config, process, connection, directory, memory, timing or HbmTiming())
                yield bus
                bus.close()


def _manager_ports(sidecar: dict[str, Any]) -> str:
    """Connects port m<i>_axi_<name> of the accelerator to <name>[i]."""
    prefixes = [manager["prefix"] for manager in sidecar["axi"]["managers"]]
    names = [port["name"] for port in sidecar["ports"]]
    pairs = [(name, prefix, i) for i, prefix in enumerate(prefixes) for name in names if name.startswith(prefix)]
    connections = [f".{name}({name.removeprefix(prefix)}[{i}])" for name, prefix, i in pairs]
    return "`define MANAGER_PORTS \\\n  " + ", \\\n  ".join(connections) + "\n"
