"""Bench for an accelerator: a simulator of it with its memory, driven from here as a driver would drive the hardware."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from ..build.simulate import running_simulator
from .accelerator_task import ACCESSES, CHANNEL
from .design_bench import BuildOptions, DesignBench, Harness, Sidecar, sv_source
from .simulated_bus import SERVER, SimulatedBus


class AcceleratorBench(DesignBench):
    @classmethod
    def of(cls, config: ChipConfig, **options: Any) -> AcceleratorBench:
        """Emit and build the accelerator of ``config``. ``options``: those of `BuildOptions`."""
        if config.prefetch is None:
            raise ValueError(f"{config.name} has no table [prefetch]: it is no accelerator")
        width, address_width = config.prefetch.data_width, config.prefetch.address_width

        def harness(sidecar: Sidecar) -> Harness:
            parameters = {
                "MANAGERS": config.managers,
                "DATA_BITS": width,
                "ADDRESS_BITS": address_width,
                "OFFSET_BITS": sidecar["axi"]["subordinate"]["address_width"],
                "ACCESSES": ACCESSES,
            }
            sources = {"manager_ports.sv": _manager_ports(sidecar), "hbm_channel.sv": sv_source("hbm_channel.sv")}
            # One class for all channels, as for all blocks of the design that repeat.
            control = 'no_inline -module "hbm_channel"\n'
            taps = ["control__engine_start"]
            return Harness("accelerator_harness", ["clk", "rst", "go"], parameters, sources, control, taps)

        return cls(config, *cls.made(config, harness, BuildOptions(**options)))

    @contextlib.contextmanager
    def session(
        self, *, timing: HbmTiming | None = None, seed: int = 0, channel_bytes: int, waves: Path | None = None
    ) -> Iterator[SimulatedBus]:
        """A simulator, reset and waiting, for the body of the ``with``; it ends with it.

        ``timing``: of the memory. ``seed``: of the initial state of a bench built with a random one. ``channel_bytes``: memory of
        each manager; the file that holds it is sparse. ``waves``: where to write a VCD of everything; the bench must be built for
        it.
        """
        with tempfile.TemporaryDirectory(prefix="podweave-accelerator-") as name:
            directory = Path(name)
            path = directory / "memory"
            with path.open("wb") as file:
                file.truncate(self.config.managers * channel_bytes)
            self.write_job(directory, {"config": self.config, "memory": str(path)}, waves)
            connection, other = Pipe()
            with contextlib.closing(connection), contextlib.ExitStack() as running:
                with other:
                    process = running.enter_context(
                        running_simulator(
                            self.build,
                            SERVER,
                            directory,
                            seed=seed,
                            plusargs=self.initial_state(seed),
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
    connections += _looped_links(sidecar)
    return "`define MANAGER_PORTS \\\n  " + ", \\\n  ".join(connections) + "\n" + _link_wires(sidecar)


def _looped_links(sidecar: dict[str, Any]) -> list[str]:
    """A chip alone is its own neighbour: what it sends comes in the next cycle."""
    names = [port["name"] for port in sidecar["ports"] if port["name"].startswith("link_")]
    return [f".{name}(looped_{name})" for name in names]


def _link_wires(sidecar: dict[str, Any]) -> str:
    ports = {port["name"]: port for port in sidecar["ports"] if port["name"].startswith("link_")}
    lines = [f"logic [{port['width'] - 1}:0] looped_{name};" for name, port in ports.items()]
    flit = [f"looped_link_rx_{name} <= looped_link_tx_{name};" for name in ("valid", "data", "user", "crc")]
    back = [f"looped_link_tx_{name} <= looped_link_rx_{name};" for name in ("credit", "credit_run")]
    if ports:
        lines += ["assign {looped_link_tx_ready, looped_link_tx_up, looped_link_rx_up} = '1;"]
        lines += ["always_ff @(posedge clk) begin", *flit, *back, "end"]
    return "`define LINK_WIRES \\\n  " + " \\\n  ".join([*lines, ""]) + "\n"
