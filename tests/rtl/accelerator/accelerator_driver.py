"""A driver for tests of accelerators: rings and words made by hand, placed in the memory of a simulated bus."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind, descriptor_layout, memory_stride
from podweave.spec.load_port import HostSelect
from podweave.spec.register_map import RegisterMap
from podweave.spec.register_types import NodeWords
from podweave.tb.benches.simulated_bus import SimulatedBus

RINGS = ("DEMAND", "PREFETCH")


class Driver:
    """One run after the other: descriptors are collected, then written into memory and started.

    Memory of a channel is given out from its beginning; what was there stays until a `forget`.
    """

    def __init__(self, bus: SimulatedBus, config: ChipConfig):
        self.bus, self.config, self.registers = bus, config, RegisterMap(config)
        self.forget()

    def forget(self) -> None:
        channel = len(self.bus.memory) // self.config.managers
        self.free = [manager * channel for manager in range(self.config.managers)]
        self.rings: dict[tuple[int, str], list[dict[str, int]]] = {
            (manager, ring): [] for manager in range(self.config.managers) for ring in RINGS
        }

    def read(self, name: str, manager: int | None = None) -> int:
        offset = self.registers.offset(name, manager)
        words = [self.bus.read32(offset + 4 * i) for i in range(self.registers[name].words)]
        return sum(word << 32 * i for i, word in enumerate(words))

    def fields(self, name: str, manager: int | None = None) -> dict[str, int]:
        return self.registers.unpack(name, self.read(name, manager))

    def write(self, name: str, manager: int | None = None, **fields: int) -> None:
        offset, value = self.registers.offset(name, manager), self.registers.pack(name, **fields)
        words = range(self.registers[name].words)
        self.bus.write_many([(offset + 4 * i, value >> 32 * i & 0xFFFFFFFF) for i in words])

    def node_word(self, node: int, words: NodeWords, index: int) -> int:
        self.write("NODE_SELECT", NODE=node, WORDS=words, INDEX=index)
        return self.read("NODE_DATA")

    def reserve(self, manager: int, size: int, skew: int = 0) -> int:
        """Address of ``size`` bytes, ``skew`` bytes behind a multiple of 64."""
        address = self.free[manager] + skew
        self.free[manager] = -(-(address + size) // 64) * 64
        return address

    def place(self, manager: int, data: NDArray[np.uint8], skew: int = 0) -> int:
        address = self.reserve(manager, len(data), skew)
        self.bus.write_memory(address, data)
        return address

    def strided(self, select: HostSelect, words: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Words (n, bytes) as they lie in memory."""
        padded = np.zeros((len(words), memory_stride(self.config, select)), np.uint8)
        padded[:, : words.shape[1]] = words
        return padded.reshape(-1)

    def add(self, manager: int, ring: str, kind: DescriptorKind, **fields: int) -> None:
        values = {field.name: 0 for field in descriptor_layout().fields} | {"n1": 1, "n2": 1, "step0": 1}
        self.rings[manager, ring].append(values | {"kind": kind} | fields)

    def load(
        self,
        node: int,
        select: HostSelect,
        base: int,
        words: NDArray[np.uint8],
        *,
        ring: str = "DEMAND",
        skew: int = 0,
        **fields: int,
    ) -> None:
        manager, unit = divmod(node, self.config.nodes_per_manager)
        address = self.place(manager, self.strided(select, words), skew)
        place = {"select": select, "unit": unit, "base": base, "address": address, "n0": len(words)}
        self.add(manager, ring, DescriptorKind.LOAD, **place | fields)

    def store(self, node: int, select: HostSelect, base: int, count: int, *, skew: int = 0, **fields: int) -> tuple[int, int]:
        """Where in memory the words will be, and their bytes; those around are 0xA5."""
        manager, unit = divmod(node, self.config.nodes_per_manager)
        size = count * memory_stride(self.config, select)
        address = self.reserve(manager, size + 64, skew)
        self.bus.write_memory(address - skew, np.full(skew + size + 64, 0xA5, np.uint8))
        place = {"select": select, "unit": unit, "base": base, "address": address, "n0": count}
        self.add(manager, "DEMAND", DescriptorKind.STORE, **place | fields)
        return address, size

    def end(self, tag: int) -> None:
        """A tag ends in all rings."""
        for manager, ring in self.rings:
            self.add(manager, ring, DescriptorKind.NOP, tag=tag, last=1)

    def prepare(self, epochs: int) -> None:
        self.write("EPOCHS", VALUE=epochs)
        self.write("MEMORY_BYTES", VALUE=len(self.bus.memory))
        self.write("IRQ_PENDING", DONE=1, ERROR=1, EPOCH=1, REFUSED=1)
        self.write("IRQ_ENABLE", DONE=1)
        for (manager, ring), found in self.rings.items():
            packed = pack_jobs(descriptor_layout(), {name: np.array([d[name] for d in found], object) for name in found[0]})
            assert packed.shape[1] == DESCRIPTOR_BYTES
            self.write(f"{ring}_BASE", manager, VALUE=self.place(manager, packed.reshape(-1)))
            self.write(f"{ring}_SIZE", manager, VALUE=len(found))
            self.write(f"{ring}_TAIL", manager, VALUE=len(found))

    def start(self, epochs: int = 0) -> None:
        self.prepare(epochs)
        self.write("CONTROL", START=1)

    def run(self, epochs: int = 0, limit: int = 200_000) -> dict[str, int]:
        """The fields of STATUS after the run."""
        self.start(epochs)
        return self.finish(limit)

    def finish(self, limit: int = 200_000) -> dict[str, int]:
        assert self.bus.wait_interrupt(limit), self.fields("STATUS")
        self.write("IRQ_PENDING", DONE=1, ERROR=1, EPOCH=1, REFUSED=1)
        return self.fields("STATUS")


DONE: dict[str, Any] = {"BUSY": 0, "DONE": 1, "ERROR": 0, "ABORTED": 0, "REFUSED": 0, "REASON": 0}
"""STATUS after a run in which nothing went wrong."""
