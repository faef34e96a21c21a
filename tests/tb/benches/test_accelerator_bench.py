"""Bench for accelerators: registers, memory and interrupt from here; what ends a simulation is said, and nothing outlives it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from podweave.predict.memory_timing import HbmTiming
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from podweave.spec.register_map import IDENTITY
from podweave.spec.register_types import NodeWords
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.accelerator_task import ACCESSES
from podweave.tb.benches.chip_task import Readback
from podweave.tb.benches.simulated_bus import SimulatedBus
from podweave.tb.benches.simulator import BusError
from podweave.tb.build.simulate import NoVerdictError, SimulationError
from tests.rtl.accelerator.accelerator_driver import DONE, Driver
from tests.rtl.accelerator.accelerator_runs import (
    CHANNEL,
    CHIP2,
    CONFIGS,
    FAST,
    TIMING,
    assert_clean_run,
    bench,
    driven,
    small_load,
)

CONFIG = CONFIGS[FAST]


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driven() as found:
        yield found


def test_registers_are_read_and_written_in_order(driver: Driver) -> None:
    bus, cap = driver.bus, driver.registers.offset("CAP")
    assert bus.read32(driver.registers.offset("ID")) == IDENTITY
    # More than the harness holds; the last of them stays.
    before = bus.cycles
    bus.write_many([(cap, i) for i in range(ACCESSES + 5)])
    assert bus.read32(cap) == ACCESSES + 4
    assert bus.cycles >= before + 2 * ACCESSES
    with pytest.raises(ValueError, match="a register has 32 bits, got 4294967296"):
        bus.write32(cap, 1 << 32)


def test_refused_accesses_raise_and_the_bus_lives_on(driver: Driver) -> None:
    bus = driver.bus
    for offset, call in (
        (0xF00, lambda: bus.read32(0xF00)),
        (0xF00, lambda: bus.write32(0xF00, 1)),
        (0, lambda: bus.write32(0, 1)),
    ):
        with pytest.raises(BusError, match=rf"of the register at 0x{offset:03x} was answered with SLVERR$"):
            call()
    with pytest.raises(BusError, match=r"^read of the register"):
        driver.node_word(CONFIG.pods, NodeWords.COUNTERS, 0)
    assert driver.node_word(CONFIG.pods - 1, NodeWords.COUNTERS, 0) == 0


def test_memory_is_shared_and_has_an_end(driver: Driver) -> None:
    bus = driver.bus
    assert bus.memory.shape == (CONFIG.managers * CHANNEL,)
    data = np.arange(100, dtype=np.uint8)
    bus.write_memory(CHANNEL - 50, data)
    np.testing.assert_array_equal(bus.memory[CHANNEL - 50 : CHANNEL + 50], data)
    found = bus.read_memory(CHANNEL - 50, 100)
    bus.memory[CHANNEL] = 0
    np.testing.assert_array_equal(found, data)
    for address, size in ((-1, 1), (2 * CHANNEL - 3, 4)):
        with pytest.raises(ValueError, match=r"are not in a memory of 0x80000 bytes$"):
            bus.read_memory(address, size)
    with pytest.raises(ValueError, match=r"^bytes 0x7fffd to 0x80001 are not"):
        bus.write_memory(2 * CHANNEL - 3, data[:4])


def test_memory_that_nothing_touches_takes_no_room() -> None:
    with bench(FAST).session(channel_bytes=1 << 32) as bus:
        assert len(bus.memory) == 1 << 33
        driver = Driver(bus, CONFIG)
        words = small_load(driver, 1)
        assert driver.run() == DONE
        assert driver.read("DEMAND_BASE", 1) > 1 << 32
        np.testing.assert_array_equal(bus.bank(Readback("X", 3, 0, 40)), words[3].view(np.int8))
        assert (bus.simulator.directory / "memory").stat().st_blocks * 512 < 1 << 24


def test_interrupt_comes_or_does_not(driver: Driver) -> None:
    bus = driver.bus
    before, seen = bus.cycles, []
    assert not bus.wait_interrupt(100_000, seen.append)
    assert bus.cycles == before + 100_000
    assert seen == sorted(set(seen))
    assert len(seen) > 1
    small_load(driver, 1)
    driver.start()
    before = bus.cycles
    assert bus.wait_interrupt(100_000)
    assert 100 < bus.cycles - before < 5000
    # It is a level.
    before = bus.cycles
    assert bus.wait_interrupt(1)
    assert bus.cycles == before
    driver.write("IRQ_PENDING", DONE=1)
    assert not bus.wait_interrupt(10)


def test_limit_of_a_wait_counts_the_cycle_of_the_interrupt(driver: Driver) -> None:
    small_load(driver, 1)
    counts = []
    for _ in range(2):
        driver.start()
        before = driver.bus.cycles
        assert driver.bus.wait_interrupt(counts[0] if counts else 100_000)
        counts.append(driver.bus.cycles - before)
        driver.write("IRQ_PENDING", DONE=1)
    assert counts[0] == counts[1]
    driver.start()
    assert not driver.bus.wait_interrupt(counts[0] - 1)
    assert driver.bus.wait_interrupt(1)


def alive(bus: SimulatedBus) -> bool:
    return bus.simulator.process.poll() is None


def test_simulator_that_dies_is_reported() -> None:
    with driven() as driver:
        os.kill(driver.bus.simulator.process.pid, signal.SIGKILL)
        with pytest.raises(NoVerdictError, match=r"^the simulator has ended:\n"):
            driver.read("ID")
        assert not alive(driver.bus)
        # There is nothing left to end in order.
    session = driven()
    driver = session.__enter__()
    os.kill(driver.bus.simulator.process.pid, signal.SIGKILL)
    with pytest.raises(NoVerdictError, match=r"^the simulator has ended:\n"):
        session.__exit__(None, None, None)
    assert not alive(driver.bus)


def test_failure_inside_is_told_with_the_log() -> None:
    with driven() as driver:
        with pytest.raises(NoVerdictError, match=r"^LookupError: no public variable 'words'") as caught:
            driver.bus.node_array(HostSelect.W, CONFIG.pods)
        assert not alive(driver.bus)
    assert "simulation.log" not in str(caught.value)
    assert "GPI" in str(caught.value)


def test_simulator_ends_with_the_session() -> None:
    with driven() as driver:
        directory = driver.bus.simulator.directory
        assert alive(driver.bus)
    assert not alive(driver.bus)
    assert not directory.exists()
    with pytest.raises(ZeroDivisionError), driven() as driver:
        raise ZeroDivisionError
    assert not alive(driver.bus)


def test_state_at_power_on_changes_nothing() -> None:
    cycles = set()
    for seed in (1, 2, 3):
        with driven(seed=seed) as driver:
            cycles.add(assert_clean_run(driver, 4))
    assert len(cycles) == 1


def test_waves_need_a_bench_that_has_them(tmp_path: Path) -> None:
    session = bench(FAST).session(channel_bytes=CHANNEL, waves=tmp_path / "waves.vcd")
    with pytest.raises(ValueError, match="this bench was built without waves"):
        session.__enter__()


@pytest.mark.campaign
def test_waves_show_the_run_and_change_nothing(tmp_path: Path) -> None:
    waves = tmp_path / "waves.vcd"
    traced = AcceleratorBench.of(CONFIG, optimize="build", waves=True)
    with traced.session(timing=TIMING, channel_bytes=CHANNEL, waves=waves) as bus:
        cycles = assert_clean_run(Driver(bus, CONFIG), 4)
    with driven() as driver:
        assert assert_clean_run(driver, 4) == cycles
    text = waves.read_text()
    for name in ("m1_axi_araddr", "engine_start", "irq"):
        assert re.search(rf"\$var wire +\d+ \S+ {name}\b", text)
    assert len(re.findall(r"^#\d+$", text, re.MULTILINE)) > 2 * cycles


@pytest.mark.campaign
def test_plain_verilator_gives_the_same() -> None:
    plain = AcceleratorBench.of(CONFIG, optimize="build", plain=True)
    with plain.session(timing=TIMING, channel_bytes=CHANNEL) as bus:
        cycles = assert_clean_run(Driver(bus, CONFIG), 4)
    with driven() as driver:
        assert assert_clean_run(driver, 4) == cycles


@pytest.mark.campaign
def test_manager_that_breaks_the_rules_is_named() -> None:
    def alter(verilog: str) -> str:
        assert verilog.count("assign m0_axi_arlen = engine_0__m_axi_arlen;") == 1
        return verilog.replace("assign m0_axi_arlen = engine_0__m_axi_arlen;", "assign m0_axi_arlen = 8'd255;")

    faulty = AcceleratorBench.of(CHIP2, optimize="build", plain=True, alter=alter)
    with faulty.session(timing=HbmTiming(), channel_bytes=CHANNEL) as bus:
        driver = Driver(bus, CHIP2)
        driver.free[0] = 4096 - 256
        for manager, ring in driver.rings:
            driver.add(manager, ring, DescriptorKind.NOP, last=1)
        driver.start()
        with pytest.raises(SimulationError, match=r"^AXI4 manager 0: a burst crosses 4 KiB$"):
            bus.wait_interrupt(2000)
        bus.kill()
