"""The registers over AXI4-Lite, by a master that others wrote: every word, any order, any stalls."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.lib.wiring import In

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.control.csr import Csr
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.spec.register_map import MANAGER_PITCH, Access, RegisterMap
from podweave.tb.build.simulate import SimulationError, simulate
from podweave.tb.build.verilate import Build, build

CONFIG = replace(
    load_config("chip2x4"),
    prefetch=PrefetchConfig(managers=2, address_width=40, base_registers=3),
    links=LinksConfig(flit_bits=64, buffer_words=512),
)
MANY = replace(load_config("chip256x32"), prefetch=PrefetchConfig(managers=64))
"""Their registers take two pages."""


@functools.cache
def built(config: ChipConfig) -> tuple[Build, dict[str, int]]:
    """The register file, and widths of its inputs that are not of the bus."""
    block = Csr(config)
    emitted = emit_block(block)
    ports = ["clk", "rst", *block.signature.members]
    made = build(
        {"design.v": emitted.verilog},
        top=emitted.top,
        public_inputs=ports,
        control=emitted.control,
        optimize="build",
        random_initial_state=True,
    )
    members = block.signature.members.items()
    return made, {name: int(m.shape) for name, m in members if m.flow is In and not name.startswith("s_axil_")}


def table(config: ChipConfig = CONFIG) -> list[dict[str, Any]]:
    """Every word of every register as the bench knows it."""
    words = []
    for register in RegisterMap(config).registers.values():
        for copy in range(register.copies):
            for word in range(register.words):
                low = 32 * word
                ports = []
                for field in register.fields:
                    begin, end = max(field.low, low), min(field.low + field.width, low + 32)
                    if begin < end and not register.constant:
                        first = copy * field.width + begin - field.low
                        place = {"first": first, "width": end - begin, "low": begin - low, "total": register.copies * field.width}
                        ports.append({"name": register.port(field), **place})
                words.append(
                    {
                        "offset": register.offset + copy * MANAGER_PITCH + 4 * word,
                        "access": register.access.value,
                        "reset": register.reset >> low & 0xFFFFFFFF,
                        "mask": register.mask >> low & 0xFFFFFFFF,
                        "locked": register.locked,
                        "constant": register.constant,
                        "second": word == 1 and register.access is Access.RO,
                        "slow": register.name == "NODE_DATA",
                        "valid": f"{register.name.lower()}_valid",
                        "ports": ports,
                    }
                )
    return words


def simulated(
    test: str,
    directory: Path,
    *,
    seed: int = 0,
    steps: int = 250,
    words: list[dict[str, Any]] | None = None,
    config: ChipConfig = CONFIG,
) -> None:
    made, inputs = built(config)
    registers = RegisterMap(config)
    pulses = [registers["CONTROL"].port(field) for field in registers["CONTROL"].fields]
    task = {
        "words": words or table(config),
        "inputs": inputs,
        "pulses": [*pulses, "cancel_valid"],
        "enable": registers.offset("IRQ_ENABLE"),
        "pending": registers.offset("IRQ_PENDING"),
        "steps": steps,
    }
    (directory / "task.json").write_text(json.dumps(task))
    plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed + 1}"]
    simulate(made, "podweave.tb.sim.csr_axi", directory, test=test, seed=seed, plusargs=plusargs)


TESTS = (
    "address_and_data_in_any_order",
    "every_transfer_has_its_response",
    "both_words_are_of_one_moment",
    "interrupts",
    "slow_reads",
    "reset_in_mid_transfer",
)


@pytest.mark.parametrize("test", ["every_register", *TESTS])
def test_registers(test: str, tmp_path: Path) -> None:
    simulated(test, tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_random_traffic(seed: int, tmp_path: Path) -> None:
    simulated("random_traffic", tmp_path, seed=seed)


@pytest.mark.campaign
def test_registers_of_many_managers(tmp_path: Path) -> None:
    assert max(word["offset"] for word in table(MANY)) > 0x1000
    simulated("random_traffic", tmp_path, config=MANY)


def entry(words: list[dict[str, Any]], name: str) -> dict[str, Any]:
    offset = RegisterMap(CONFIG).offset(name)
    return next(word for word in words if word["offset"] == offset)


def _swap_ports(words: list[dict[str, Any]]) -> None:
    ports = entry(words, "NODE_SELECT")["ports"]
    ports[0]["name"], ports[1]["name"] = ports[1]["name"], ports[0]["name"]


FAULTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "reset value": (lambda words: entry(words, "OPTIONS").update(reset=0), "options_prefetch shows 0x1, expected 0x0"),
    "constant": (lambda words: entry(words, "ARRAY").update(reset=0), "register at 0xc reads 0x40004, expected 0x0"),
    "mask": (lambda words: entry(words, "OPTIONS").update(mask=7), "register at 0x34 reads 0x[0-3], expected 0x[4-7]"),
    "access": (lambda words: entry(words, "CONTROL").update(access="ro", ports=[]), "write of 0x20: OKAY"),
    "lock": (lambda words: entry(words, "EPOCHS").update(locked=False), "write of 0x30: SLVERR"),
    "missing": (lambda words: words.remove(entry(words, "TOTAL_CYCLES")), "read of 0x78: OKAY"),
    "port": (_swap_ports, "node_select_words shows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_is_wrong_in_one_entry_is_seen(fault: str, tmp_path: Path) -> None:
    words = table()
    FAULTS[fault][0](words)
    with pytest.raises(SimulationError, match=FAULTS[fault][1]):
        simulated("every_register" if fault != "mask" else "random_traffic", tmp_path, steps=1000, words=words)
