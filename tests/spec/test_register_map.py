"""spec.register_map: offsets and codes that never change, no register on top of another, packing by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.descriptors import PrefetchError
from podweave.spec.links import LinkError
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.spec.register_map import Access, ErrorSource, NodeWords, Refusal, Register, RegisterMap, Ring, counters
from podweave.spec.register_types import MANAGER_BASE, MANAGER_PITCH, address_width

SMALL = replace(load_config("chip2x4"), prefetch=PrefetchConfig(managers=2, address_width=32))
LARGE = replace(
    load_config("chip256x32").replace(x_planes=1, w_planes=2, p_planes=4, y_planes=8),
    prefetch=PrefetchConfig(managers=64, address_width=64, data_width=512),
)
BASED = replace(SMALL, prefetch=PrefetchConfig(managers=2, address_width=32, base_registers=15))
LINKED = replace(SMALL, links=LinksConfig(flit_bits=64, buffer_words=1024, jobs=65536))
CONFIGS = {"small": SMALL, "large": LARGE, "based": BASED, "linked": LINKED}

# Offset, words, access, locked.
BY_HAND = {
    **{name: (offset, 1, "ro", 0) for name, offset in (("ID", 0), ("VERSION", 4), ("CHIP", 8), ("ARRAY", 12), ("BUS", 16))},
    "CONFIG_HASH": (0x14, 1, "ro", 0),
    "CONTROL": (0x20, 1, "pulse", 0),
    "STATUS": (0x24, 1, "ro", 0),
    "IRQ_ENABLE": (0x28, 1, "rw", 0),
    "IRQ_PENDING": (0x2C, 1, "w1c", 0),
    "EPOCHS": (0x30, 1, "rw", 1),
    "OPTIONS": (0x34, 1, "rw", 0),
    "CAP": (0x38, 1, "rw", 0),
    "MEMORY_BYTES": (0x40, 2, "rw", 1),
    "CANCEL": (0x48, 1, "wo", 0),
    "NODE_SELECT": (0x50, 1, "rw", 0),
    "NODE_DATA": (0x54, 1, "ro", 0),
    "ERROR_SOURCE": (0x60, 1, "ro", 0),
    "CHIP_ERROR": (0x64, 1, "ro", 0),
    "NETWORK_ERROR": (0x68, 1, "ro", 0),
    "EPOCHS_DONE": (0x70, 1, "ro", 0),
    "EPOCH_CYCLES": (0x74, 1, "ro", 0),
    "TOTAL_CYCLES": (0x78, 1, "ro", 0),
    **{
        name: (0x100 + 8 * i, 2, "ro", 0)
        for i, name in enumerate(
            (
                *("CYCLES", "RUN_CYCLES", "WAIT_PREFETCH", "WAIT_DEMAND", "WAIT_STORE", "DESCRIPTOR_BEATS", "DEMAND_BEATS"),
                *("PREFETCH_BEATS", "WRITE_BEATS", "HBM_BUSY", "STALL_GATE", "STALL_CAP", "STALL_GAP", "STALL_BUFFER", "STALL_BUS"),
            )
        )
    },
    "PREFETCH_HITS": (0x178, 1, "ro", 0),
    "PREFETCH_LATE": (0x17C, 1, "ro", 0),
    "PREFETCH_UNUSED": (0x180, 1, "ro", 0),
    **{f"BASE{i}": (0x2F8 + 8 * i, 2, "rw", 1) for i in range(1, 16)},
    "DEMAND_BASE": (0x400, 2, "rw", 1),
    "DEMAND_SIZE": (0x408, 1, "rw", 1),
    "DEMAND_TAIL": (0x40C, 1, "rw", 0),
    "PREFETCH_BASE": (0x410, 2, "rw", 1),
    "PREFETCH_SIZE": (0x418, 1, "rw", 1),
    "PREFETCH_TAIL": (0x41C, 1, "rw", 0),
    "COMPLETE": (0x420, 1, "ro", 0),
    "ERROR": (0x424, 1, "ro", 0),
    "ERROR_ADDRESS": (0x428, 2, "ro", 0),
}


OF_LINKS = {
    "LINKS": (0x18, 1, "ro", 0),
    "LINK_JOBS": (0x1C, 1, "ro", 0),
    "FIRST_COLLECTIVE": (0x80, 1, "rw", 1),
    "LINK_RUN": (0x84, 1, "rw", 1),
    "LINK_TIMEOUT": (0x88, 1, "rw", 1),
    "LINK_ERROR": (0x8C, 1, "ro", 0),
    "COLLECTIVE_CYCLES": (0x200, 2, "ro", 0),
    "LINK_SENT": (0x208, 2, "ro", 0),
    "LINK_RECEIVED": (0x210, 2, "ro", 0),
    "WAIT_NEIGHBOUR": (0x218, 2, "ro", 0),
    "BENEATH_BEATS": (0x220, 2, "ro", 0),
}


@pytest.mark.parametrize("key", CONFIGS)
def test_the_map_by_hand(key: str) -> None:
    registers = RegisterMap(CONFIGS[key]).registers.values()
    expected = {name: entry for name, entry in BY_HAND.items() if key == "based" or not re.fullmatch(r"BASE\d+", name)}
    expected |= OF_LINKS if key == "linked" else {}
    assert {r.name: (r.offset, r.words, r.access.value, r.locked) for r in registers} == expected
    assert {r.name for r in registers if r.managers} == {name for name, entry in BY_HAND.items() if entry[0] >= MANAGER_BASE}
    assert all(r.managers in (0, CONFIGS[key].managers) for r in registers)


def words(registers: list[Register]) -> list[int]:
    return [r.offset + MANAGER_PITCH * copy + 4 * word for r in registers for copy in range(r.copies) for word in range(r.words)]


@pytest.mark.parametrize("key", CONFIGS)
def test_no_two_words_and_no_two_fields_lie_on_each_other(key: str) -> None:
    registers = list(RegisterMap(CONFIGS[key]).registers.values())
    offsets = words(registers)
    assert len(set(offsets)) == len(offsets)
    assert all(offset % 4 == 0 and offset < 1 << address_width(CONFIGS[key].managers) for offset in offsets)
    assert max(r.offset + 4 * r.words for r in registers if r.managers) <= MANAGER_BASE + MANAGER_PITCH
    for register in registers:
        assert register.doc.endswith(".")
        assert sum(field.mask for field in register.fields) == register.mask < 1 << 32 * register.words
        union = 0
        for field in register.fields:
            assert field.doc
            assert not union & field.mask
            assert 0 <= field.value < 1 << field.width
            union |= field.mask
        # Only what nothing changes has a value of its own at reset, or what software may set.
        assert register.reset == 0 or register.constant or register.access is Access.RW
    assert words(registers[:3]) == [0, 4, 8]


def test_widths_follow_the_configuration() -> None:
    small, large = (RegisterMap(config) for config in (SMALL, LARGE))
    assert [small[name].fields[0].width for name in ("MEMORY_BYTES", "DEMAND_BASE", "ERROR_ADDRESS")] == [33, 32, 32]
    assert [large[name].fields[0].width for name in ("MEMORY_BYTES", "DEMAND_BASE", "ERROR_ADDRESS")] == [64, 64, 64]
    names = ("X_PLANES", "W_PLANES", "P_PLANES", "Y_PLANES")
    assert small.unpack("CHIP", small["CHIP"].reset) == {"PODS": 2, "MANAGERS": 2, **dict.fromkeys(names, 0)}
    assert large.unpack("CHIP", large["CHIP"].reset) == {"PODS": 256, "MANAGERS": 64, **dict(zip(names, range(4), strict=True))}
    assert large.unpack("BUS", large["BUS"].reset) == {"DATA_WIDTH": 512, "ADDRESS_WIDTH": 64, "DESCRIPTORS": 4}
    assert small["ID"].reset.to_bytes(4, "little") == b"PodW"


def test_hash_tells_configurations_apart() -> None:
    configs: list[ChipConfig] = [SMALL, LARGE, BASED, SMALL.replace(max_burst=16), SMALL.replace(x_words=128)]
    assert len({RegisterMap(config)["CONFIG_HASH"].reset for config in configs}) == len(configs)
    assert RegisterMap(SMALL)["CONFIG_HASH"].reset == RegisterMap(ChipConfig.from_toml(SMALL.to_toml()))["CONFIG_HASH"].reset


def test_packing_by_hand() -> None:
    registers = RegisterMap(SMALL)
    assert registers.pack("NODE_SELECT", NODE=1, WORDS=NodeWords.ERRORS, INDEX=4) == 0x40101
    assert registers.pack("CANCEL", TAG=7, MANAGER=1) == 0x10007
    assert registers.pack("MEMORY_BYTES", VALUE=1 << 32) == 1 << 32
    assert registers.unpack("ERROR", 0x0005_0103) == {"CODE": PrefetchError.WRITE_SLVERR, "RING": Ring.PREFETCH, "TAG": 5}
    assert registers.unpack("ERROR_SOURCE", 0x101) == {"SOURCE": ErrorSource.ENGINE, "MANAGER": 1}
    # A code without a name stays a number.
    assert registers.unpack("STATUS", 0x701)["REASON"] == 7
    assert registers.offset("ERROR_ADDRESS", 1) == 0x468


def test_what_is_not_there_is_refused() -> None:
    registers = RegisterMap(SMALL)
    with pytest.raises(KeyError, match="no register 'COLOUR'"):
        registers.offset("COLOUR")
    with pytest.raises(KeyError, match="STATUS has no field 'COLOUR'; it has BUSY, DONE"):
        registers.pack("STATUS", COLOUR=1)
    with pytest.raises(ValueError, match=r"CANCEL\.TAG has 16 bits, got 65536"):
        registers.pack("CANCEL", TAG=65536)
    for manager in (None, 2, -1):
        with pytest.raises(ValueError, match="DEMAND_TAIL is of managers 0 to 1, got"):
            registers.offset("DEMAND_TAIL", manager)
    with pytest.raises(ValueError, match="STATUS is not of a manager, got manager 0"):
        registers.offset("STATUS", 0)


def test_codes_are_stable() -> None:
    assert [code.name for code in Refusal] == ["NONE", "BUSY", "EPOCHS", "RING_BASE", "RING_SIZE", "PASSES"]
    assert [code.name for code in ErrorSource] == ["NONE", "ENGINE", "NODE", "NETWORK", "LINK"]
    for kind in (Refusal, ErrorSource, NodeWords, Ring):
        assert [code.value for code in kind] == list(range(len(kind)))


def test_registers_of_links() -> None:
    registers = RegisterMap(LINKED)
    facts = {"FLIT_BITS": 64, "BUFFER_WORDS": 1024}
    assert registers.unpack("LINKS", registers["LINKS"].reset) == facts
    assert registers["LINK_JOBS"].reset == 65536
    assert [registers[name].reset for name in ("FIRST_COLLECTIVE", "LINK_RUN", "LINK_TIMEOUT")] == [0xFFFF, 0, 1 << 20]
    assert registers.unpack("LINK_ERROR", 0x0102_0003) == {"CODE": LinkError.WRONG_LENGTH, "ID": 0x102}
    assert registers.unpack("ERROR_SOURCE", 4)["SOURCE"] is ErrorSource.LINK


@pytest.mark.parametrize("config", [SMALL, LINKED])
def test_every_counter_has_a_register_of_its_width(config: ChipConfig) -> None:
    registers = RegisterMap(config)
    for name, width, _ in counters(config):
        assert registers[name].fields[0].width == width
        assert registers[name].words == -(-width // 32)
