"""The registers of an accelerator: one description, from which RTL, C header, documentation and runtime come.

Plain tables without hardware: `register_types` says what a register is, `register_list` has all of them, and here they are by name.
"""

from __future__ import annotations

from .config import ChipConfig
from .register_list import IDENTITY, config_hash, counters, register_list
from .register_types import MANAGER_PITCH, MAX_EPOCHS, Access, ErrorSource, NodeWords, Refusal, Register, RegisterField, Ring

__all__ = [
    "IDENTITY",
    "MANAGER_PITCH",
    "MAX_EPOCHS",
    "Access",
    "ErrorSource",
    "NodeWords",
    "Refusal",
    "Register",
    "RegisterField",
    "RegisterMap",
    "Ring",
    "config_hash",
    "counters",
    "register_list",
]


class RegisterMap:
    """The registers by name, for software.

    >>> from dataclasses import replace
    >>> from podweave.spec.config_parts import PrefetchConfig
    >>> from podweave.spec.presets import load_config
    >>> registers = RegisterMap(replace(load_config("chip2x4"), prefetch=PrefetchConfig(managers=2)))
    >>> hex(registers.offset("STATUS")), hex(registers.offset("DEMAND_TAIL", 1))
    ('0x24', '0x44c')
    >>> registers.pack("CONTROL", START=1)
    1
    >>> registers.unpack("STATUS", 0x110)["REASON"]
    <Refusal.BUSY: 1>
    """

    def __init__(self, config: ChipConfig):
        self.config = config
        self.registers = {register.name: register for register in register_list(config)}

    def __getitem__(self, name: str) -> Register:
        if name not in self.registers:
            raise KeyError(f"there is no register {name!r}")
        return self.registers[name]

    def offset(self, name: str, manager: int | None = None) -> int:
        """Byte offset of the first word of a register; for one that each manager has, of that of ``manager``."""
        register = self[name]
        if register.managers == 0 and manager is not None:
            raise ValueError(f"register {name} is not of a manager, got manager {manager}")
        if register.managers and (manager is None or not 0 <= manager < register.managers):
            raise ValueError(f"register {name} is of managers 0 to {register.managers - 1}, got {manager}")
        return register.offset + MANAGER_PITCH * (manager or 0)

    def pack(self, name: str, **fields: int) -> int:
        """The value of a register, of two words if it has them; fields that are not named are 0."""
        known, value = {field.name: field for field in self[name].fields}, 0
        for field_name, content in fields.items():
            if field_name not in known:
                raise KeyError(f"register {name} has no field {field_name!r}; it has {', '.join(known)}")
            field = known[field_name]
            if not 0 <= content < 1 << field.width:
                raise ValueError(f"{name}.{field_name} has {field.width} bits, got {content}")
            value |= content << field.low
        return value

    def unpack(self, name: str, value: int) -> dict[str, int]:
        """The fields of a value; codes that have a name as members of their enumeration."""
        found: dict[str, int] = {}
        for field in self[name].fields:
            content = (value & field.mask) >> field.low
            named = field.codes is not None and content in set(field.codes)
            found[field.name] = field.codes(content) if field.codes and named else content
        return found
