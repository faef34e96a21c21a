"""The control as a whole, over its bus: settings, runs, counters, errors and the nodes, as software sees them."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.lib.wiring import In

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.control.software_control import SoftwareControl, control_members
from podweave.rtl.parts.load_port import load_port_members
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.spec.register_map import MANAGER_PITCH, RegisterMap
from podweave.tb.build.simulate import SimulationError, simulate
from podweave.tb.build.verilate import Build, build

CHIP = load_config("chip2x4").replace(pods=4, banks=4)
CONFIGS = {
    "2 managers": replace(CHIP, prefetch=PrefetchConfig(managers=2, address_width=36, base_registers=3)),
    "1 manager": replace(CHIP, prefetch=PrefetchConfig(managers=1, address_width=32, data_width=64)),
    "links": replace(CHIP, prefetch=PrefetchConfig(managers=2, address_width=36), links=LinksConfig(flit_bits=64)),
}
TESTS = (
    *("settings_reach_the_engines", "a_run", "events_are_counted_by_their_names", "errors_and_resets"),
    "nodes_are_read_between_loads",
)


@functools.cache
def built(key: str) -> Build:
    block = SoftwareControl(CONFIGS[key])
    emitted = emit_block(block)
    return build(
        {"design.v": emitted.verilog},
        top=emitted.top,
        public_inputs=["clk", "rst", *block.signature.members],
        control=emitted.control,
        optimize="build",
        random_initial_state=True,
    )


def simulated(key: str, test: str, directory: Path, **changes: object) -> None:
    config = CONFIGS[key]
    assert config.prefetch is not None
    members = control_members(config).items()
    task = {
        "managers": config.managers,
        "nodes": config.pods,
        "address_width": config.prefetch.address_width,
        "base_registers": config.prefetch.base_registers,
        "host_bits": config.host_bits,
        "latency": config.host_read_latency,
        "pitch": MANAGER_PITCH,
        "links": config.links is not None,
        "inputs": [name for name, member in members if member.flow is In and not name.startswith("s_axil_")],
        "port": {name.removeprefix("host_"): width for name, width in load_port_members(config).items()},
        "registers": {r.name: {"offset": r.offset, "words": r.words} for r in RegisterMap(config).registers.values()},
    }
    (directory / "task.json").write_text(json.dumps(task | changes))
    simulate(
        built(key), "podweave.tb.sim.control_axi", directory, test=test, plusargs=["+verilator+rand+reset+2", "+verilator+seed+3"]
    )


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("key", ["2 managers", pytest.param("1 manager", marks=pytest.mark.campaign)])
def test_control(key: str, test: str, tmp_path: Path) -> None:
    simulated(key, test, tmp_path)


@pytest.mark.parametrize("test", ["a_run", "collectives", "a_collective_fails"])
def test_control_of_a_chip_with_links(test: str, tmp_path: Path) -> None:
    simulated("links", test, tmp_path)


@pytest.mark.parametrize(
    ("test", "changes"),
    [("nodes_are_read_between_loads", {"latency": 4}), ("settings_reach_the_engines", {"address_width": 37})],
)
def test_a_bench_with_wrong_expectations_fails(test: str, changes: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(SimulationError):
        simulated("2 managers", test, tmp_path, **changes)
