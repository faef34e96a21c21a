"""Several simulated accelerators in a ring: the way to each, and to their links."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from .simulated_bus import SimulatedBus
from .simulator import Simulator


class SimulatedSystem(Simulator):
    """A simulator, reset and waiting.

    Members
    -------
    chips : list of SimulatedBus
        The way to each accelerator.
    """

    def __init__(
        self,
        config: ChipConfig,
        process: subprocess.Popen,
        connection: Connection,
        directory: Path,
        memory: NDArray[np.uint8],
        timings: Sequence[HbmTiming],
        links: Sequence[LinkTiming],
    ):
        super().__init__(config, len(timings), process, connection, directory)
        parts = memory.reshape(len(timings), -1)
        self.chips = [SimulatedBus(self, chip, parts[chip], timing) for chip, timing in enumerate(timings)]
        for bus in self.chips:
            bus.inject(())
        self.configure_links(links)
        self.reset()

    def configure_links(self, links: Sequence[LinkTiming]) -> None:
        """From now on links are so, that behind chip 0 first; only while no flit is under way. Nothing happens without links."""
        if len(links) != len(self.chips):
            raise ValueError(f"there are {len(self.chips)} links, got {len(links)}")
        if self.config.links is not None:
            self.ask("configure_links", [link.table() for link in links])
