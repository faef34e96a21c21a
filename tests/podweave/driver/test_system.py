"""Several chips in one simulator: each is exact whatever the others do and whenever it starts, and errors name theirs."""

from __future__ import annotations

import contextlib

import pytest

from podweave.driver.device import DeviceError
from podweave.driver.system import System
from podweave.golden.cycle.memory.hbm import SLVERR, ErrorRange
from podweave.tb.benches.simulator import BusError
from podweave.tb.benches.system_bench import SystemBench
from tests.podweave.driver.several_chips import CONFIG, assert_exact, bench, networks, running
from tests.rtl.accelerator.accelerator_runs import CHIP4

LIMIT = 100_000


@pytest.mark.parametrize("chips", [2, pytest.param(3, marks=pytest.mark.campaign)])
def test_each_chip_is_exact_whenever_it_starts(chips: int) -> None:
    with running(chips) as (_, system):
        for delays in (None, [0, 217, 5][:chips], [1001, 0, 640][:chips]):
            system.run(delays=delays, max_cycles=LIMIT)
            assert_exact(system, chips)
        assert system.run_number == 3


def test_delays_are_exact() -> None:
    """Ends of runs are as far from each other as their starts and predicted cycles say."""
    predictions = networks(2)[2]
    first, second = (prediction.cycles for prediction in predictions)
    for skew in (0, 1, 333):
        with running(2) as (bus, system):
            # The second ends last.
            delays = [0, skew + max(0, first - second) + 50]
            system.start(delays=delays)
            assert bus.chips[0].wait_interrupt(LIMIT)
            ended = bus.cycles
            assert not bus.chips[1].wait_interrupt(0)
            assert bus.chips[1].wait_interrupt(LIMIT)
            assert bus.cycles - ended == delays[1] + second - first
            system.wait(LIMIT)
            assert_exact(system, 2)


def test_a_chip_can_run_alone() -> None:
    with running(2) as (_, system):
        system.devices[1].run(max_cycles=LIMIT)
        assert_exact(system, 2, [1])
        status = system.devices[0].fields("STATUS")
        assert (status["BUSY"], status["DONE"]) == (0, 0)


def test_all_chips_are_of_blocks_that_are_compiled_once() -> None:
    one, three = bench(1), bench(3)
    assert set(three.build.made) <= {"accelerator_harness"}
    alone = one.units()
    assert set(three.units().values()) == set(alone.values())
    prefix = {name.replace(".accelerator.", ".system.c2."): block for name, block in alone.items()}
    assert {name: block for name, block in three.units().items() if ".c2." in name} == prefix
    assert len(three.units()) == 3 * len(alone)


@pytest.mark.campaign
def test_threads_change_nothing() -> None:
    spread = SystemBench.of(CONFIG, 2, optimize="build", random_initial_state=True, threads=3, least_s=0.0)
    with running(2, spread) as (_, system):
        system.run(delays=[0, 100], max_cycles=LIMIT)
        assert_exact(system, 2)


@pytest.mark.campaign
def test_plain_verilator_gives_the_same() -> None:
    plain = SystemBench.of(CONFIG, 2, optimize="build", plain=True)
    with running(2, plain) as (_, system):
        system.run(delays=[0, 100], max_cycles=LIMIT)
        assert_exact(system, 2)


def test_errors_name_the_chip() -> None:
    jobs, compiled, _ = networks(2)
    with running(2) as (bus, system):
        where = next(iter(compiled[1].memory.inputs.values()))
        first = int(where.addresses.min())
        bus.chips[1].inject([ErrorRange(first, first + 1, SLVERR)])
        with pytest.raises(DeviceError, match=r"^chip 1: prefetch engine \d: read slverr \(tag 0 of the demand ring, [^;]*$"):
            system.run(max_cycles=LIMIT)
        assert_exact(system, 2, [0])
        bus.chips[1].inject(())
        system.run(max_cycles=LIMIT)
        assert_exact(system, 2)
        with pytest.raises(DeviceError, match=r"^chip 0: no interrupt within 20 cycles: 0 epochs are done; chip 1: no interrupt"):
            system.run(max_cycles=20)
        with pytest.raises(DeviceError, match=r"^chip 0: no other run can be started while a run is on"):
            system.start()
        system.abort()
        with pytest.raises(DeviceError, match=r"^chip 1: the network has no input 'nothing'; it has"):
            system.write_input(1, "nothing", next(iter(jobs[1].inputs.values())))
        with pytest.raises(DeviceError, match=r"^chip 0: the network has no output 'nothing'"):
            system.read_output(0, "nothing")
        with pytest.raises(DeviceError, match=r"^there are 2 chips, got 3 delays$"):
            system.start(delays=[1, 2, 3])
        with pytest.raises(DeviceError, match=r"^there are 2 chips, got 1 programs$"):
            system.load([compiled[0].memory])
        with pytest.raises(DeviceError, match=r"^chip 0: the accelerator is of another configuration than chip4x16"):
            System(bus, CHIP4)
        system.run(max_cycles=LIMIT)
        assert_exact(system, 2)


def test_a_chip_that_refuses_ends_the_run_of_the_others() -> None:
    with running(2) as (bus, system):
        # Behind the back of the driver: no ring of it has a tail inside of its size.
        system.devices[1].write("DEMAND_SIZE", 0, VALUE=0)
        with pytest.raises(DeviceError, match=r"^chip 1: the device refused to start: "):
            system.start()
        assert [device.fields("STATUS")["BUSY"] for device in system.devices] == [0, 0]
        with pytest.raises(BusError, match=r"^chip 1: write of the register at 0x000 was answered with SLVERR$"):
            bus.chips[1].write32(0, 1)


def swapped(text: str) -> str:
    """A circuit in which a node of chip 1 gets its words of weights from chip 0."""
    lines = text.splitlines()
    units = [line.split()[2] for line in lines if line.startswith("unit ")]
    mine = units.index("accelerator_harness.system.c1.chip.node_0")
    for i, line in enumerate(lines):
        words = line.split()
        if words[0] == "wire" and int(words[1]) == mine and words[2] == "host_data":
            source = units[int(words[4])]
            words[4] = str(units.index(source.replace(".c1.", ".c0.")))
            lines[i] = " ".join(words)
            return "\n".join(lines) + "\n"
    raise AssertionError("no such wire")


@pytest.mark.campaign
def test_a_wire_to_the_wrong_chip_is_seen() -> None:
    faulty = SystemBench.of(CONFIG, 2, optimize="build", rewire=swapped)
    with running(2, faulty) as (_, system):
        # Words of another chip may be no jobs at all.
        with contextlib.suppress(DeviceError):
            system.run(max_cycles=LIMIT)
        assert_exact(system, 2, [0])
        with pytest.raises((AssertionError, DeviceError)):
            assert_exact(system, 2, [1])


def test_numbers_of_chips_are_checked() -> None:
    for chips in (0, 9):
        with pytest.raises(ValueError, match=rf"^a system has 1 to 8 chips, got {chips}$"):
            SystemBench.of(CONFIG, chips)
