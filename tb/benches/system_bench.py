"""Bench for several accelerators in a ring: one simulator of all with their memories and links."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.links import flit_user_layout
from podweave.spec.register_types import address_width

from ..build.simulate import running_simulator
from .accelerator_task import ACCESSES, CHANNEL
from .design_bench import BuildOptions, DesignBench, Harness, Sidecar, sv_source
from .simulated_system import SimulatedSystem
from .simulator import SERVER

MOST_CHIPS = 8
_Self = TypeVar("_Self", bound="SystemBench")
# Inputs of a subordinate that its host always holds.
_CONSTANT = {"awprot": "3'b0", "arprot": "3'b0", "wstrb": "4'hf", "bready": "1'b1", "rready": "1'b1"}
_CHIP = re.compile(r"(?:c(?P<chip>\d+)_)?(?P<name>\w+)")
_MANAGER = re.compile(r"m(?P<manager>\d+)_axi_(?P<name>\w+)")


class SystemBench(DesignBench):
    @classmethod
    def of(cls: type[_Self], config: ChipConfig, chips: int = 1, **options: Any) -> _Self:
        """Emit and build accelerators of ``config``. ``options``: those of `BuildOptions`.

        With links in ``config``, chip i sends to chip i + 1, and the last to chip 0.
        """
        if not 1 <= chips <= MOST_CHIPS:
            raise ValueError(f"a system has 1 to {MOST_CHIPS} chips, got {chips}")
        if config.prefetch is None:
            raise ValueError(f"{config.name} has no table [prefetch]: it is no accelerator")
        parameters = {
            "CHIPS": chips,
            "MANAGERS": config.managers,
            "DATA_BITS": config.prefetch.data_width,
            "ADDRESS_BITS": config.prefetch.address_width,
            "OFFSET_BITS": address_width(config.managers),
            "ACCESSES": ACCESSES,
        }
        # One class for all channels, as for all blocks of the design that repeat.
        repeated = ["hbm_channel"]
        if config.links is not None:
            parameters |= {"LINKS": 1, "FLIT_BITS": config.links.flit_bits, "USER_BITS": flit_user_layout().width}
            repeated.append("link")
        control = "".join(f'no_inline -module "{module}"\n' for module in repeated)
        taps = [f"c{i}.control__engine_start" for i in range(chips)] if chips > 1 else ["control__engine_start"]

        def harness(sidecar: Sidecar) -> Harness:
            sources = {"design.sv": _instance(sidecar, config.managers)}
            sources |= {f"{name}.sv": sv_source(f"{name}.sv") for name in ("host", "hbm_channel", "link")}
            return Harness("accelerator_harness", ["clk", "rst", "go", "awaited"], parameters, sources, control, taps)

        return cls(config, *cls.made(config, harness, BuildOptions(**options), chips=chips), chips=chips)

    @contextlib.contextmanager
    def system(
        self,
        *,
        timings: Sequence[HbmTiming] = (),
        links: Sequence[LinkTiming] = (),
        seed: int = 0,
        channel_bytes: int,
        waves: Path | None = None,
    ) -> Iterator[SimulatedSystem]:
        """A simulator, reset and waiting, for the body of the ``with``; it ends with it.

        Parameters
        ----------
        timings : sequence of HbmTiming
            Of the memory of each chip; by default, all as `HbmTiming` says.
        links : sequence of LinkTiming
            Of the link behind each chip; by default, all as `LinkTiming` says.
        seed : int
            Of the initial state of a bench built with a random one.
        channel_bytes : int
            Memory of each manager; the file that holds it is sparse.
        waves : Path, optional
            Where to write a VCD of everything; the bench must be built for it.
        """
        with tempfile.TemporaryDirectory(prefix="podweave-accelerator-") as name:
            directory = Path(name)
            path = directory / "memory"
            with path.open("wb") as file:
                file.truncate(self.chips * self.config.managers * channel_bytes)
            self.write_job(directory, {"config": self.config, "chips": self.chips, "memory": str(path)}, waves)
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
                system = SimulatedSystem(
                    self.config,
                    process,
                    connection,
                    directory,
                    memory,
                    timings or [HbmTiming()] * self.chips,
                    links or [LinkTiming()] * self.chips,
                )
                yield system
                system.close()


def _instance(sidecar: Sidecar, managers: int) -> str:
    """The macro by which the harness has its design, with all ports connected."""
    connections = []
    for port in sidecar["ports"]:
        if port["name"] == "clk":
            connections.append(".clk")
            continue
        found = _CHIP.fullmatch(port["name"])
        assert found
        chip, name = int(found["chip"] or 0), found["name"]
        if manager := _MANAGER.fullmatch(name):
            to = f"{manager['name']}[{chip * managers + int(manager['manager'])}]"
        elif name.startswith("s_axil_"):
            lite = name.removeprefix("s_axil_")
            to = _CONSTANT.get(lite) or f"lite_{lite}[{chip}]"
        else:
            to = f"{'interrupt' if name == 'irq' else name}[{chip}]"
        connections.append(f".{port['name']}({to})")
    top = sidecar["top"]
    return f"`define DESIGN {top} {top} ( \\\n  " + ", \\\n  ".join(connections) + ");\n"
