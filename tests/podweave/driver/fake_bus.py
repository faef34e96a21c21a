"""A bus without hardware behind it, and an image for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.rings import Ring
from podweave.compiler.memory.tensors import TensorMap
from podweave.spec.config import ChipConfig
from podweave.spec.register_map import RegisterMap
from podweave.spec.register_types import MANAGER_PITCH, Access, NodeWords
from tests.podweave.runs.small_accelerator import CONFIG

CHANNEL = 4096
Effect = Callable[["FakeBus"], None]


class FakeBus:
    """Registers that keep what is written, memory, and what the test says: ``commands`` by name of the bit, ``interrupts``."""

    def __init__(self, config: ChipConfig = CONFIG) -> None:
        self.map = RegisterMap(config)
        self.memory = np.full(CONFIG.managers * CHANNEL, 0xA5, np.uint8)
        self.words: dict[int, int] = {}
        self.access: dict[int, Access] = {}
        for register in self.map.registers.values():
            for copy in range(register.copies):
                for word in range(register.words):
                    offset = register.offset + MANAGER_PITCH * copy + 4 * word
                    self.words[offset] = register.reset >> 32 * word & 0xFFFFFFFF
                    self.access[offset] = register.access
        self.node_words: dict[tuple[int, NodeWords, int], int] = {}
        self.log: list[tuple[str, int]] = []
        """("read" or "write", offset) of registers, in order."""
        self.commands: dict[str, Effect] = {"START": lambda bus: bus.set("STATUS", DONE=1)}
        self.interrupts = True
        self.waits: list[tuple[int, Any]] = []

    def set(self, name: str, manager: int | None = None, **fields: int) -> None:
        offset, value = self.map.offset(name, manager), self.map.pack(name, **fields)
        for word in range(self.map[name].words):
            self.words[offset + 4 * word] = value >> 32 * word & 0xFFFFFFFF

    def value(self, name: str, manager: int | None = None) -> int:
        offset = self.map.offset(name, manager)
        return sum(self.words[offset + 4 * word] << 32 * word for word in range(self.map[name].words))

    def read32(self, offset: int) -> int:
        self.log.append(("read", offset))
        if offset == self.map.offset("NODE_DATA"):
            chosen = self.map.unpack("NODE_SELECT", self.value("NODE_SELECT"))
            return self.node_words.get((chosen["NODE"], NodeWords(chosen["WORDS"]), chosen["INDEX"]), 0)
        return self.words[offset]

    def write32(self, offset: int, value: int) -> None:
        assert self.access[offset] != Access.RO
        assert 0 <= value < 1 << 32
        self.log.append(("write", offset))
        if offset == self.map.offset("CONTROL"):
            for command in (name for name, on in self.map.unpack("CONTROL", value).items() if on):
                self.commands[command](self)
        elif self.access[offset] == Access.W1C:
            self.words[offset] &= ~value
        else:
            self.words[offset] = value

    def read_memory(self, address: int, size: int) -> NDArray[np.uint8]:
        assert 0 <= address <= address + size <= len(self.memory)
        return self.memory[address : address + size].copy()

    def write_memory(self, address: int, data: NDArray[np.uint8]) -> None:
        assert 0 <= address <= address + len(data) <= len(self.memory)
        assert data.dtype == np.uint8
        self.memory[address : address + len(data)] = data

    def wait_interrupt(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        self.waits.append((max_cycles, progress))
        return self.interrupts


def tensor_map(shape: tuple[int, ...], addresses: list[int], elements: list[int]) -> TensorMap:
    return TensorMap(shape, np.array(addresses), np.array(elements))


def small_image(base: int = 0) -> MemoryImage:
    """An image that nothing could run, with a tensor of six elements that is in memory twice, in both channels."""

    def rings(first: int, lengths: tuple[int, int]) -> tuple[Ring, ...]:
        return tuple(Ring(base + m * CHANNEL + first, {"kind": np.zeros(n)}) for m, n in enumerate(lengths))

    places = [100, 102, 104, CHANNEL + 7, CHANNEL + 9, CHANNEL + 8, CHANNEL + 20, CHANNEL + 21]
    inputs = {
        "image": tensor_map((1, 1, 2, 3), places, [0, 1, 2, 3, 4, 5, 0, 5]),
        "other": tensor_map((1, 1, 1, 1), [300], [0]),
    }
    outputs = {"logits": tensor_map((1, 2, 1, 2), [CHANNEL + 50, 61, 60, CHANNEL + 40], [3, 0, 1, 2])}
    content = ((8, np.arange(4, dtype=np.uint8)), (CHANNEL + 1000, np.full(2, 77, np.uint8)))
    return MemoryImage(CONFIG, 5, CHANNEL, content, rings(512, (3, 4)), rings(1024, (5, 6)), inputs, outputs)
