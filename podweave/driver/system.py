"""Several accelerators in a ring as software sees them: each a `Device`, started together, waited for together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from numpy.typing import NDArray

from podweave.compiler.memory.image import MemoryImage
from podweave.spec.config import ChipConfig
from podweave.spec.links import RUN_WIDTH

from .device import FOREVER, Bus, Device, DeviceError, RunCounters, Start

COLD = Start(warm=False)
LOOK_CYCLES = 1 << 16
"""Cycles after which chips that are waited for are looked at: one that was reset never raises its interrupt."""


class SystemBus(Protocol):
    """The ways to all accelerators of a ring, and what is done to all at the same time."""

    @property
    def chips(self) -> Sequence[Bus]: ...
    def play(
        self, accesses: Mapping[int, Sequence[tuple[int, int | None]]], delays: Mapping[int, int] | None = None
    ) -> Mapping[int, Sequence[int]]:
        """By chip, registers to read (value None) or write, all chips at once, each ``delays`` cycles later; the values read."""

    def wait_interrupts(
        self, chips: Sequence[int], max_cycles: int, progress: Callable[[int], None] | None = None
    ) -> Mapping[int, bool]:
        """By chip, whether its interrupt is raised: as soon as all are, or after ``max_cycles`` cycles."""


class System:
    """Accelerators of one configuration; chip i sends to the next, and the last to chip 0.

    Errors are `DeviceError`; their messages name the chip, if there are several.

    Members
    -------
    devices : list of Device
        The chips, in the order of the ring. What is legal while a run is on, their class says.
    run_number : int
        LINK_RUN of the last run, whoever started it: by it, chips with links tell what belongs to it.

    >>> system = System(bus, config)                         # doctest: +SKIP
    >>> system.load(images)                                  # doctest: +SKIP
    >>> system.write_input(1, "image", pixels)               # doctest: +SKIP
    >>> system.run(delays=[0, 300])                          # doctest: +SKIP
    >>> logits = system.read_output(0, "logits")             # doctest: +SKIP
    """

    def __init__(self, bus: SystemBus, config: ChipConfig):
        """Raises `DeviceError` if there is no accelerator of this configuration on one of the buses."""
        self.bus, self.config = bus, config
        self.devices: list[Device] = []
        for chip, way in enumerate(bus.chips):
            with self._named(chip):
                self.devices.append(Device(way, config))
        # A chip that was reset since has 0.
        self.run_number = max(device.read("LINK_RUN") for device in self.devices) if config.links else 0

    def load(self, images: Sequence[MemoryImage]) -> None:
        """Put a program into the memory of each chip."""
        self._each(images, "programs", Device.load)

    def select(self, images: Sequence[MemoryImage]) -> None:
        """Go on with programs that `load` has put there."""
        self._each(images, "programs", Device.select)

    def write_input(self, chip: int, name: str, tensor: NDArray, number: int = 0) -> None:
        """As `Device.write_input`."""
        with self._named(chip):
            self.devices[chip].write_input(name, tensor, number)

    def read_input(self, chip: int, name: str) -> NDArray:
        with self._named(chip):
            return self.devices[chip].read_input(name)

    def read_output(self, chip: int, name: str, number: int = 0) -> NDArray:
        """As `Device.read_output`."""
        with self._named(chip):
            return self.devices[chip].read_output(name, number)

    def start(self, how: Start = COLD, *, delays: Sequence[int] | None = None) -> None:
        """Start a run of all chips, in the same way; by default a cold one. ``link_run`` is this class's to choose.

        ``delays``: cycles by which each starts later than the others, 0 by default; a chip whose last run has failed or was aborted
        also resets itself before, which takes a few cycles (`reset`). Raises `DeviceError` if a chip refuses; the runs of the
        others have ended then.
        """
        if delays is not None and len(delays) != len(self.devices):
            raise DeviceError(f"there are {len(self.devices)} chips, got {len(delays)} delays")
        self.run_number = (self.run_number + 1) % (1 << RUN_WIDTH)
        number = self.run_number if self.config.links else None
        for chip, device in enumerate(self.devices):
            with self._named(chip):
                device.prepare(replace(how, link_run=number))
        writes = {chip: [device.start_access()] for chip, device in enumerate(self.devices)}
        self.bus.play(writes, dict(enumerate(delays or [])))
        refused = []
        for chip, device in enumerate(self.devices):
            try:
                with self._named(chip):
                    device.require_started()
            except DeviceError as error:
                refused.append(str(error))
        if refused:
            self.abort()
            raise DeviceError("; ".join(refused))

    def wait(self, max_cycles: int = FOREVER, progress: Callable[[int], None] | None = None) -> None:
        """Wait for the end of all runs; raises `DeviceError`, with what each chip says, if one failed, was aborted, lasts longer
        than ``max_cycles``, or if the chip was reset, for which nobody waits."""
        raised = self._raised(max_cycles, progress)
        found = []
        for chip, device in enumerate(self.devices):
            try:
                with self._named(chip):
                    device.finish(chip in raised, max_cycles)
            except DeviceError as error:
                found.append(str(error))
        if found:
            raise DeviceError("; ".join(found))

    def _raised(self, max_cycles: int, progress: Callable[[int], None] | None) -> list[int]:
        """The chips with their interrupts raised, when those of all are that were not reset, or after ``max_cycles``."""
        chips, waited = list(range(len(self.devices))), 0
        while True:
            part = min(LOOK_CYCLES, max_cycles - waited)
            raised = self.bus.wait_interrupts(chips, part, _behind(waited, progress))
            waited += part
            if all(raised.values()) or waited >= max_cycles:
                return [chip for chip in chips if raised[chip]]
            chips = [chip for chip in chips if raised[chip] or not self.devices[chip].was_reset()]

    def run(
        self,
        how: Start = COLD,
        *,
        delays: Sequence[int] | None = None,
        max_cycles: int = FOREVER,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """`start` and `wait`."""
        self.start(how, delays=delays)
        self.wait(max_cycles, progress)

    def abort(self) -> None:
        """End the runs of all chips that are at one, and wait for their ends."""
        for chip, device in enumerate(self.devices):
            if device.fields("STATUS")["BUSY"]:
                device.abort()
                with contextlib.suppress(DeviceError), self._named(chip):
                    device.wait()

    def reset(self) -> None:
        """Bring all chips into their initial state, as `Device.reset` does: a start behind it takes all the same time.

        A chip whose ``rst`` was pulsed has forgotten its registers too: `select` or `load` before the next start.
        """
        for chip, device in enumerate(self.devices):
            with self._named(chip):
                device.reset()

    def counters(self) -> list[RunCounters]:
        """Those of the last run of each chip."""
        return [device.counters() for device in self.devices]

    def _each(self, given: Sequence[MemoryImage], what: str, do: Callable[[Device, MemoryImage], None]) -> None:
        if len(given) != len(self.devices):
            raise DeviceError(f"there are {len(self.devices)} chips, got {len(given)} {what}")
        for chip, (device, mine) in enumerate(zip(self.devices, given, strict=True)):
            with self._named(chip):
                do(device, mine)

    @contextlib.contextmanager
    def _named(self, chip: int) -> Iterator[None]:
        """What a `DeviceError` of the ``with`` body begins with."""
        try:
            yield
        except DeviceError as error:
            if len(self.bus.chips) == 1:
                raise
            raise DeviceError(f"chip {chip}: {error}") from error


def _behind(waited: int, progress: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """``progress`` of a wait that comes after ``waited`` cycles of others."""
    return progress and (lambda done: progress(waited + done))
