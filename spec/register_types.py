"""What a register is, and the codes of the fields of registers."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .descriptors import TAG_WIDTH

WORD_WIDTH = 32
MANAGER_BASE = 0x400
"""Registers of manager m stand at this + m * `MANAGER_PITCH`."""
MANAGER_PITCH = 0x40
COUNTER_WIDTH = 48
"""Bits of a counter of cycles or beats; at 1 GHz it wraps after three days."""
MAX_EPOCHS = 2**TAG_WIDTH - 2


class Access(enum.Enum):
    RO = "ro"
    """Read only; a write is answered with SLVERR."""
    RW = "rw"
    """What was written is read back."""
    W1C = "w1c"
    """Events set bits; writing a 1 clears its bit."""
    WO = "wo"
    """A write acts with its value, bytes without strobe as 0; reads as 0."""
    PULSE = "pulse"
    """Every bit written as 1 acts once; reads as 0."""


class Refusal(enum.IntEnum):
    """Why a command was refused."""

    NONE = 0
    BUSY = 1
    """START, SOFT_RESET or CLEAR while a run or a reset is on."""
    EPOCHS = 2
    """START with more than `MAX_EPOCHS` epochs."""
    RING_BASE = 3
    """START with a ring that does not begin at a multiple of 64 bytes."""
    RING_SIZE = 4
    """START with a ring for 0 descriptors."""
    PASSES = 5
    """START with 0 passes, or more than `MAX_EPOCHS` epochs in all of them. Only with passes."""


class ErrorSource(enum.IntEnum):
    """Where the first error of a run came from."""

    NONE = 0
    ENGINE = 1
    """The prefetch engine of a manager: see its ERROR."""
    NODE = 2
    """A node: read the errors of all nodes through NODE_DATA."""
    NETWORK = 3
    """Two words met in a network: see NETWORK_ERROR."""
    LINK = 4
    """A collective or a link: see LINK_ERROR. Only with links."""


class NodeWords(enum.IntEnum):
    """What NODE_DATA reads of a node."""

    COUNTERS = 0
    """By `Counter`."""
    ERRORS = 1
    """By `NodeErrors`."""


class Ring(enum.IntEnum):
    DEMAND = 0
    PREFETCH = 1


@dataclass(frozen=True)
class RegisterField:
    """``low``: first bit of the register. ``value``: at reset, or always if the register is constant. ``codes``: its meanings."""

    name: str
    low: int
    width: int
    doc: str
    value: int = 0
    codes: type[enum.IntEnum] | None = None

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """``offset``: in bytes, of the least significant of its ``words`` of 32 bits.

    ``constant``: always reads as its reset value. ``locked``: not to be written while a run is on (SLVERR). ``managers``: as many
    copies, one per manager; 0: one for all. Reading the first word of a register that is read only and has two takes the second
    one with it: they are of the same moment if that is read next.
    """

    name: str
    offset: int
    access: Access
    fields: tuple[RegisterField, ...]
    doc: str
    words: int = 1
    constant: bool = False
    locked: bool = False
    managers: int = 0

    @property
    def copies(self) -> int:
        return max(1, self.managers)

    @property
    def reset(self) -> int:
        return sum(field.value << field.low for field in self.fields)

    @property
    def mask(self) -> int:
        return sum(field.mask for field in self.fields)

    @property
    def word_names(self) -> tuple[str, ...]:
        return (f"{self.name}_LO", f"{self.name}_HI") if self.words > 1 else (self.name,)

    def port(self, field: RegisterField) -> str:
        """Name of the field's port on the register file."""
        return (self.name if field.name == "VALUE" else f"{self.name}_{field.name}").lower()


def address_width(managers: int) -> int:
    """Bits of a byte address of the AXI4-Lite port: a page of 4 KiB, or two if there are so many managers."""
    return max(12, (MANAGER_BASE + MANAGER_PITCH * managers - 1).bit_length())


def manager_width(managers: int) -> int:
    """Bits of the number of a manager."""
    return max(4, (managers - 1).bit_length())
