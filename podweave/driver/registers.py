"""Registers of an accelerator by name, and what they say went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import PrefetchError
from podweave.spec.errors import BankError, NetworkId, NodeErrors, PodError, PostError
from podweave.spec.links import LinkError
from podweave.spec.register_map import IDENTITY, ErrorSource, NodeWords, Refusal, RegisterMap, config_hash


class DeviceError(RuntimeError):
    """The device refused something, or a run ended with an error; the message names it."""


class Bus(Protocol):
    """The way to an accelerator: its AXI4-Lite port, the memory of its AXI4 managers, and its interrupt line."""

    def read32(self, offset: int) -> int: ...
    def write32(self, offset: int, value: int) -> None: ...
    def read_memory(self, address: int, size: int) -> NDArray[np.uint8]: ...
    def write_memory(self, address: int, data: NDArray[np.uint8]) -> None: ...
    def wait_interrupt(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        """Whether the interrupt is raised within ``max_cycles`` cycles; ``progress`` may be told of cycles that have passed."""


class DeviceRegisters:
    """The registers of an accelerator on a bus."""

    def __init__(self, bus: Bus, config: ChipConfig):
        """Raises `DeviceError` if there is no accelerator of this configuration on the bus."""
        self.bus, self.config, self.registers = bus, config, RegisterMap(config)
        identity = self.read("ID")
        if identity != IDENTITY:
            raise DeviceError(f"no accelerator on this bus: ID reads {identity:#010x}, expected {IDENTITY:#010x}")
        found = self.read("CONFIG_HASH")
        if found != config_hash(config):
            chip = self.registers.unpack("CHIP", self.read("CHIP"))
            raise DeviceError(
                f"the accelerator is of another configuration than {config.name}: it has {chip['PODS']} pods, "
                f"{chip['MANAGERS']} managers, and hash {found:#010x}, expected {config_hash(config):#010x}"
            )

    def read(self, name: str, manager: int | None = None) -> int:
        """The value of a register, of one word or two."""
        offset = self.registers.offset(name, manager)
        value = self.bus.read32(offset)
        if self.registers[name].words == 2:
            value |= self.bus.read32(offset + 4) << 32
        return value

    def fields(self, name: str, manager: int | None = None) -> dict[str, int]:
        return self.registers.unpack(name, self.read(name, manager))

    def write(self, name: str, manager: int | None = None, **fields: int) -> None:
        """Write a register: all its fields, those that are not named as 0."""
        offset, value = self.registers.offset(name, manager), self.registers.pack(name, **fields)
        for word in range(self.registers[name].words):
            self.bus.write32(offset + 4 * word, value >> 32 * word & 0xFFFFFFFF)

    def node_word(self, node: int, words: NodeWords, index: int) -> int:
        """A word of a node's counters or errors."""
        self.write("NODE_SELECT", NODE=node, WORDS=int(words), INDEX=int(index))
        return self.read("NODE_DATA")

    def errors(self) -> list[str]:
        """What went wrong since the last start, in words."""
        found = []
        for manager in range(self.config.managers):
            error = self.fields("ERROR", manager)
            if error["CODE"]:
                ring = ("demand", "prefetch")[error["RING"]]
                address = self.read("ERROR_ADDRESS", manager)
                found.append(
                    f"prefetch engine {manager}: {sentence(PrefetchError(error['CODE']))} "
                    f"(tag {error['TAG']} of the {ring} ring, address {address:#x})"
                )
        if self.config.links:
            error = self.fields("LINK_ERROR")
            if error["CODE"]:
                found.append(f"collective engine: {sentence(LinkError(error['CODE']))} (collective {error['ID']})")
        record = self.fields("NETWORK_ERROR")
        if record["VALID"]:
            network = NetworkId(record["NETWORK"]).name
            found.append(
                f"network {network}, plane {record['PLANE']}: two words met at stage {record['STAGE']}, port {record['PORT']}"
            )
        if self.fields("CHIP_ERROR")["ANY"]:
            for node in range(self.config.pods):
                words = {word: self.node_word(node, NodeWords.ERRORS, word) for word in NodeErrors}
                for word, time, kind, what in (
                    (NodeErrors.POD, NodeErrors.POD_TIME, PodError, "pod"),
                    (NodeErrors.POST, NodeErrors.POST_TIME, PostError, "post-processor"),
                ):
                    if words[word]:
                        found.append(f"{what} {node}, time {words[time]}: {named(kind, words[word])}")
                if words[NodeErrors.BANK]:
                    found.append(f"bank {node}: {named(BankError, words[NodeErrors.BANK])}")
        source = self.fields("ERROR_SOURCE")["SOURCE"]
        return found or ([f"error of source {ErrorSource(source).name.lower()}"] if source else [])


def named(kind: type, bits: int) -> str:
    return ", ".join(error.name.lower() for error in kind if bits >> error & 1)  # type: ignore[attr-defined]


def sentence(code: PrefetchError | Refusal | LinkError) -> str:
    return code.name.lower().replace("_", " ")
