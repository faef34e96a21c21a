"""The way from Python to a simulated accelerator: its registers, memory and interrupt, one synchronous call after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import ErrorRange
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from .accelerator_task import ACCESSES
from .chip_task import Readback
from .simulator import Simulator


class SimulatedBus:
    """One accelerator of a simulator that runs as long as a session, and only while it is asked for something.

    Time passes for all accelerators alike, whichever is asked for something. Every method raises `SimulationError`, with the end of
    the simulator's log, if the simulation is at its end.

    Members
    -------
    simulator, chip : Simulator, int
        What it is a part of, and which.
    memory : array of uint8
        All of it; what is written here is read there at once, and the other way round.
    timing : HbmTiming
        Of its channels.
    """

    def __init__(self, simulator: Simulator, chip: int, memory: NDArray[np.uint8], timing: HbmTiming):
        self.simulator, self.chip, self.memory, self.timing = simulator, chip, memory, timing

    @property
    def config(self) -> ChipConfig:
        return self.simulator.config

    @property
    def cycles(self) -> int:
        """Simulated so far."""
        return self.simulator.cycles

    def read32(self, offset: int) -> int:
        (value,) = self._play([(offset, None)])
        return value

    def write32(self, offset: int, value: int) -> None:
        self.write_many([(offset, value)])

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """(offset, value) of registers, in order; raises `BusError` for the first refused; those behind it may be written."""
        for begin in range(0, len(writes), ACCESSES):
            self._play(writes[begin : begin + ACCESSES])

    def read_memory(self, address: int, size: int) -> NDArray[np.uint8]:
        self._within(address, size)
        return np.array(self.memory[address : address + size])

    def write_memory(self, address: int, data: NDArray[np.uint8]) -> None:
        self._within(address, len(data))
        self.memory[address : address + len(data)] = data

    def wait_interrupt(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        """Whether the interrupt is raised within ``max_cycles``; ``progress`` is told of cycles so far about twice a second."""
        return self.simulator.wait_interrupts([self.chip], max_cycles, progress)[self.chip]

    def advance(self, cycles: int) -> None:
        """Let time pass."""
        self.simulator.advance(cycles)

    def reset(self) -> None:
        """Pulse ``rst`` of this accelerator and of what is at its AXI ports, at any time; the others go on. Memory stays as it is,
        with so much of a burst that was being written as had come."""
        self.check_rules()
        self.simulator.reset_chips([self.chip])

    def inject(self, errors: Sequence[ErrorRange]) -> None:
        """From now on the memory answers with ``errors``, and with no others; only while no run is on."""
        size, whole = len(self.memory) // self.config.managers, len(self.memory)
        tables = [
            self.timing.of_channel(m).table(base=m * size, end=(m + 1) * size, errors=errors, place=self.chip * whole)
            for m in range(self.config.managers)
        ]
        self.simulator.ask("configure", self.chip, tables)

    def bank(self, region: Readback) -> NDArray[Any]:
        """Words of a bank past all ports: int8 (words, lanes) of an X or W bank, int32 of a P bank."""
        return self.simulator.ask("bank", self.chip, region)

    def node_array(self, which: Any, node: int) -> NDArray[np.uint8]:
        """An array of a node past all ports, (words, bytes); ``which`` as in `tb.sim.nodes.NodeArrays`."""
        return self.simulator.ask("words", self.chip, which, node)

    def peak_bytes(self) -> int:
        """The most memory that the simulator has had so far."""
        return self.simulator.peak_bytes()

    def check_rules(self) -> None:
        """Raise `SimulationError` if a manager has broken a rule of AXI4 since the last reset."""
        self.simulator.check_rules()

    def kill(self) -> None:
        """End the simulator, whatever it does."""
        self.simulator.kill()

    def _play(self, accesses: Sequence[tuple[int, int | None]]) -> list[int]:
        return self.simulator.play({self.chip: accesses})[self.chip]

    def _within(self, address: int, size: int) -> None:
        if address < 0 or address + size > len(self.memory):
            raise ValueError(f"bytes {address:#x} to {address + size:#x} are not in a memory of {len(self.memory):#x} bytes")
