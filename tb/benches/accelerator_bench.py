"""Bench for an accelerator: a simulator of it with its memory, driven from here as a driver would drive the hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from podweave.predict.memory_timing import HbmTiming

from .simulated_bus import SimulatedBus
from .system_bench import SystemBench


class AcceleratorBench(SystemBench):
    """A `SystemBench` of one chip."""

    @contextlib.contextmanager
    def session(
        self, *, timing: HbmTiming | None = None, seed: int = 0, channel_bytes: int, waves: Path | None = None
    ) -> Iterator[SimulatedBus]:
        """A simulator, reset and waiting, for the body of the ``with``; it ends with it.

        ``timing``: of the memory. ``seed``: of the initial state of a bench built with a random one. ``channel_bytes``: memory of
        each manager; the file that holds it is sparse. ``waves``: where to write a VCD of everything; the bench must be built for
        it.
        """
        with self.system(timings=[timing or HbmTiming()], seed=seed, channel_bytes=channel_bytes, waves=waves) as system:
            yield system.chips[0]
