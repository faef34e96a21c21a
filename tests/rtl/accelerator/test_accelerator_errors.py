"""rtl.accelerator: aborts, resets and errors of whole accelerators, each followed by a clean run."""

from __future__ import annotations

import pytest

from podweave.golden.cycle.memory.hbm import SLVERR, ErrorRange
from podweave.spec.descriptors import DescriptorKind, PrefetchError
from podweave.spec.errors import NodeErrors, PodError
from podweave.spec.load_port import HostSelect
from podweave.spec.register_types import ErrorSource, NodeWords, Refusal, Ring
from tests.rtl.accelerator.accelerator_driver import DONE
from tests.rtl.accelerator.accelerator_runs import add_constants, add_jobs, assert_clean_run, driven, small_load, some_words
from tests.rtl.chip.test_chip import Exchange


def test_run_takes_as_long_whenever_it_starts() -> None:
    with driven() as driver:
        cycles = set()
        for idle in (0, 1, 17, 1000):
            driver.bus.advance(idle)
            cycles.add(assert_clean_run(driver, idle))
        assert len(cycles) == 1


@pytest.mark.parametrize("after", [1, 60, 200, 400])
def test_abort_ends_a_run_and_the_next_is_clean(after: int) -> None:
    with driven(seed=after) as driver:
        for node in range(driver.config.pods):
            driver.load(node, HostSelect.X, 0, some_words(driver.config, HostSelect.X, 250, node))
            driver.store(node, HostSelect.X, 0, 250)
        # Its tag is never complete.
        for manager, ring in driver.rings:
            driver.add(manager, ring, DescriptorKind.NOP)
        driver.start()
        driver.bus.advance(after)
        driver.write("CONTROL", ABORT=1)
        assert driver.finish(5000) == DONE | {"ABORTED": 1}
        assert assert_clean_run(driver, 9) == assert_clean_run(driver, 10)


def test_run_waits_for_tags_that_do_not_come() -> None:
    with driven() as driver:
        small_load(driver, 3)
        driver.rings[0, "DEMAND"].pop()
        driver.rings[0, "DEMAND"].append(driver.rings[0, "DEMAND"][-1])
        driver.start()
        assert not driver.bus.wait_interrupt(3000)
        assert driver.fields("STATUS")["BUSY"]
        assert driver.fields("COMPLETE", 0) == {"DEMAND": 0, "PREFETCH": 1}
        assert driver.fields("COMPLETE", 1) == {"DEMAND": 1, "PREFETCH": 1}
        driver.write("CONTROL", START=1)
        assert driver.fields("STATUS")["REASON"] == Refusal.BUSY
        driver.write("CONTROL", ABORT=1)
        assert driver.finish(1000)["ABORTED"]
        assert_clean_run(driver, 4)


def test_reset_in_mid_run() -> None:
    for seed, after in ((1, 30), (2, 120), (3, 333)):
        with driven(seed=seed) as driver:
            for node in range(driver.config.pods):
                driver.load(node, HostSelect.W, 0, some_words(driver.config, HostSelect.W, 250, node))
                driver.store(node, HostSelect.W, 0, 250)
            driver.end(0)
            driver.start()
            driver.bus.advance(after)
            assert driver.fields("STATUS")["BUSY"]
            driver.bus.reset()
            assert not driver.fields("STATUS")["BUSY"]
            assert_clean_run(driver, seed)


def test_error_of_the_memory_names_manager_tag_and_address() -> None:
    with driven() as driver:
        small_load(driver, 5)
        failing = driver.rings[1, "DEMAND"][1]
        assert (failing["select"], failing["unit"]) == (HostSelect.X, 1)
        driver.bus.inject([ErrorRange(failing["address"] + 32, failing["address"] + 33, SLVERR)])
        assert driver.run() == DONE | {"ERROR": 1}
        assert driver.fields("ERROR_SOURCE") == {"SOURCE": ErrorSource.ENGINE, "MANAGER": 1}
        assert driver.fields("ERROR", 1) == {"CODE": PrefetchError.READ_SLVERR, "RING": Ring.DEMAND, "TAG": 0}
        address = driver.read("ERROR_ADDRESS", 1)
        assert failing["address"] // 16 * 16 <= address <= failing["address"] + 32
        assert driver.fields("ERROR", 0)["CODE"] == PrefetchError.NONE
        assert driver.fields("CHIP_ERROR")["ANY"] == 0
        driver.bus.inject([])
        assert_clean_run(driver, 6)
        assert driver.fields("ERROR", 1)["CODE"] == PrefetchError.NONE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": 9}, PrefetchError.UNKNOWN_KIND),
        ({"n1": 0}, PrefetchError.ZERO_LENGTH),
        ({"address": 1 << 32}, PrefetchError.BEYOND_MEMORY),
        ({"unit": 2}, PrefetchError.BAD_TARGET),
    ],
)
def test_wrong_descriptor_is_refused(change: dict[str, int], code: PrefetchError) -> None:
    with driven() as driver:
        small_load(driver, 5)
        driver.rings[0, "DEMAND"][1] |= change
        assert driver.run() == DONE | {"ERROR": 1}
        assert driver.fields("ERROR", 0)["CODE"] == code
        assert driver.read("ERROR_ADDRESS", 0) == driver.read("DEMAND_BASE", 0) + 64
        assert_clean_run(driver, 6)


def test_error_of_a_node_is_read_through_the_load_port() -> None:
    with driven() as driver:
        config = driver.config
        exchange = Exchange(config)
        add_constants(driver, exchange)
        beyond = exchange.epoch.streams["p_base"].copy()
        beyond[2] = config.memory.p_words - 4
        add_jobs(driver, exchange, 0, p_base=beyond)
        driver.end(0)
        driver.end(1)
        driver.end(2)
        assert driver.run(2) == DONE | {"ERROR": 1}
        assert driver.fields("ERROR_SOURCE")["SOURCE"] == ErrorSource.NODE
        assert driver.read("EPOCHS_DONE") == 0
        errors = [driver.node_word(node, NodeWords.ERRORS, NodeErrors.POD) for node in range(config.pods)]
        assert errors == [0, 0, 1 << PodError.P_ADDRESS, 0]
        time = driver.node_word(2, NodeWords.ERRORS, NodeErrors.POD_TIME)
        assert time > int(exchange.epoch.streams["start"][2])
        driver.write("CONTROL", SOFT_RESET=1)
        driver.bus.advance(10)
        assert driver.fields("CHIP_ERROR")["ANY"] == 0
        assert driver.node_word(2, NodeWords.ERRORS, NodeErrors.POD) == 0
        assert_clean_run(driver, 7)
