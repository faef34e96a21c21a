"""An accelerator that is its own neighbour in a ring: collectives between epochs, and what goes wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout
from podweave.spec.links import NO_COLLECTIVE, CollectiveKind, LinkError, receive_job_layout, send_job_layout, word_flits
from podweave.spec.load_port import HostSelect
from podweave.spec.register_map import counters
from podweave.spec.register_types import ErrorSource
from podweave.tb.benches.chip_task import Readback
from tests.rtl.accelerator.accelerator_driver import DONE, Driver
from tests.rtl.accelerator.accelerator_runs import (
    CONFIGS,
    FAST,
    LINKED,
    add_constants,
    add_jobs,
    assert_clean_run,
    driven,
    low_bits,
    some_words,
)
from tests.rtl.accelerator.test_accelerator import expected_outputs
from tests.rtl.chip.test_chip import WORDS, Exchange

FAILED = DONE | {"ERROR": 1}
CONFIG = CONFIGS[LINKED]


def job(layout: Layout, **fields: int) -> dict[str, int]:
    """A job of one loop; what is not named is 0."""
    return {field.name: 0 for field in layout.fields} | {"n1": 1, "n2": 1, "step0": 1} | fields


def add_collective(driver: Driver, tag: int, first: int, jobs: dict[HostSelect, list[dict[str, int]]], *, node: int = 0) -> None:
    """Jobs of a collective from word ``first`` of the stores on; the last of each says so. ``node``: whose load port is used."""
    layouts = {HostSelect.SEND_STORE: send_job_layout(CONFIG), HostSelect.RECEIVE_STORE: receive_job_layout(CONFIG)}
    for select, table in jobs.items():
        names = [field.name for field in layouts[select].fields]
        last = [{**entry, "id": tag, "last": int(i == len(table) - 1)} for i, entry in enumerate(table)]
        words = pack_jobs(layouts[select], {name: np.array([entry[name] for entry in last], np.int64) for name in names})
        driver.load(node, select, first, words, ring="PREFETCH", tag=tag)


def moved(
    kind: CollectiveKind, count: int, source: tuple[int, int], target: tuple[int, int], **fields: int
) -> dict[HostSelect, list[dict[str, int]]]:
    """One job to send ``count`` words from a node and word on, and one to receive them. ``fields``: more of the former."""
    both = {"kind": kind, "words": count, "n0": count}
    send = job(send_job_layout(CONFIG), unit=source[0], address=source[1], next=NO_COLLECTIVE, **both)
    receive = job(receive_job_layout(CONFIG), unit=target[0], address=target[1], **both)
    return {HostSelect.SEND_STORE: [send | fields], HostSelect.RECEIVE_STORE: [receive]}


def signed(raw: NDArray[np.uint8], config: ChipConfig) -> NDArray[np.int64]:
    """Words of P banks, in bytes, as numbers."""
    width, cols = config.array.psum_width, config.array.cols
    bits = low_bits(raw, width * cols).reshape(len(raw), cols, width).astype(np.int64)
    return (bits << np.arange(width)).sum(axis=2) - (bits[:, :, -1] << width)


@pytest.mark.campaign
def test_collectives_between_epochs() -> None:
    """Sums of one epoch are added to others and passed on, outputs copied; the next epoch reads what came."""
    with driven(LINKED) as driver:
        exchange = Exchange(CONFIG)
        add_constants(driver, exchange)
        add_jobs(driver, exchange, 0)
        for node in range(CONFIG.pods):
            driver.load(node, HostSelect.X, 5, exchange.x[node].view(np.uint8))
        # Sums of bank 0 are added to those of bank 3, and these, as soon as they are there, stored in bank 1.
        send, receive = send_job_layout(CONFIG), receive_job_layout(CONFIG)
        both = {"kind": CollectiveKind.P, "words": 2 * WORDS, "n0": WORDS}
        add_collective(
            driver,
            1,
            0,
            {
                HostSelect.SEND_STORE: [
                    job(send, unit=0, address=2, **both),
                    job(send, unit=3, address=2, follows=1, needs=0, next=2, **both),
                ],
                HostSelect.RECEIVE_STORE: [
                    job(receive, unit=3, address=2, add=1, **both),
                    job(receive, unit=1, address=70, **both),
                ],
            },
        )
        # Inputs of bank 2 take the place of those of bank 0.
        add_collective(driver, 2, 2, moved(CollectiveKind.X, WORDS, (2, 5), (0, 5)))
        add_jobs(driver, exchange, 1, tag=3)
        sums = [driver.store(node, HostSelect.P, base, WORDS, tag=3, after=3) for node, base in ((3, 2), (1, 70))]
        for tag in range(5):
            driver.end(tag)
        for ring in driver.rings.values():
            ring.sort(key=lambda descriptor: (descriptor["tag"], descriptor["last"]))
        driver.write("FIRST_COLLECTIVE", VALUE=1)
        driver.write("LINK_RUN", VALUE=1)
        assert driver.run(4) == DONE
        assert driver.read("EPOCHS_DONE") == 4
        assert driver.read("TOTAL_CYCLES") == 2 * exchange.cycles

        before, _ = expected_outputs(exchange, exchange.x)
        added = before[3].astype(np.int64) + before[0]
        for address, size in sums:
            np.testing.assert_array_equal(signed(driver.bus.read_memory(address, size).reshape(WORDS, -1), CONFIG), added)
        inputs = exchange.x.copy()
        inputs[0] = exchange.x[2]
        after, _ = expected_outputs(exchange, inputs)
        for node in range(CONFIG.pods):
            np.testing.assert_array_equal(driver.bus.bank(Readback("P", node, 2, WORDS)), after[node])
        # Two heads, and the flits of all words.
        flits = 2 + 2 * WORDS * word_flits(CONFIG, CollectiveKind.P) + WORDS * word_flits(CONFIG, CollectiveKind.X)
        assert driver.read("LINK_SENT") == driver.read("LINK_RECEIVED") == flits
        assert driver.read("COLLECTIVE_CYCLES") > flits
        assert driver.fields("LINK_ERROR") == {"CODE": LinkError.NONE, "ID": 0}


@pytest.mark.campaign
def test_what_comes_beneath_a_collective_is_counted() -> None:
    with driven(LINKED) as driver:
        words = some_words(CONFIG, HostSelect.P, 100, 3)
        driver.load(1, HostSelect.P, 0, words)
        add_collective(driver, 0, 0, moved(CollectiveKind.P, 100, (1, 0), (2, 100)))
        driver.end(0)
        # Weights for the epoch after the collective, which has none: only the end of the run waits for them.
        weights = some_words(CONFIG, HostSelect.W, 60, 4)
        for node in range(CONFIG.pods):
            driver.load(node, HostSelect.W, 0, weights, ring="PREFETCH", tag=1, after=1)
        driver.end(1)
        driver.write("FIRST_COLLECTIVE", VALUE=0)
        driver.write("LINK_RUN", VALUE=1)
        assert driver.run(1) == DONE
        np.testing.assert_array_equal(driver.bus.node_array(HostSelect.P, 2)[100:200], words)
        assert driver.read("BENEATH_BEATS") == 0
        # The same, but that weights may come meanwhile.
        for descriptors in driver.rings.values():
            for descriptor in descriptors:
                descriptor["after"] = 0
        driver.write("LINK_RUN", VALUE=2)
        assert driver.run(1) == DONE
        assert 10 < driver.read("BENEATH_BEATS") < driver.read("PREFETCH_BEATS")
        assert driver.read("RUN_CYCLES") == 0


@pytest.mark.campaign
def test_links_that_are_not_used_cost_no_cycle() -> None:
    cycles = {}
    for name in (FAST, LINKED):
        with driven(name) as driver:
            exchange = Exchange(driver.config)
            add_constants(driver, exchange)
            for epoch in range(2):
                add_jobs(driver, exchange, epoch)
                for node in range(driver.config.pods):
                    driver.load(node, HostSelect.X, 5, exchange.x[node].view(np.uint8), tag=epoch, after=epoch)
                driver.end(epoch)
            driver.end(2)
            for ring in driver.rings.values():
                ring.sort(key=lambda descriptor: (descriptor["tag"], descriptor["last"]))
            assert driver.run(2) == DONE
            cycles[name] = {counter: driver.read(counter) for counter, *_ in counters(driver.config)}
    assert {name: value for name, value in cycles[LINKED].items() if name in cycles[FAST]} == cycles[FAST]
    assert {name for name, value in cycles[LINKED].items() if value == 0} >= cycles[LINKED].keys() - cycles[FAST].keys()


def one_collective(driver: Driver, run: int, *, node: int = 0, **fields: int) -> dict[str, int]:
    """STATUS after a run of one collective of ten words; ``fields``: what is other than it should be in the job of the sender."""
    driver.forget()
    driver.load(1, HostSelect.P, 0, some_words(CONFIG, HostSelect.P, 10, 3))
    add_collective(driver, 0, 0, moved(CollectiveKind.P, 10, (1, 0), (2, 50), **fields), node=node)
    driver.end(0)
    driver.end(1)
    driver.write("FIRST_COLLECTIVE", VALUE=0)
    driver.write("LINK_RUN", VALUE=run)
    driver.write("LINK_TIMEOUT", VALUE=300)
    return driver.run(1)


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        (LinkError.TIMEOUT, {"follows": 1, "needs": 1}),
        (LinkError.ILLEGAL_JOB, {"n0": 0}),
        (LinkError.ILLEGAL_JOB, {"n0": 9}),
        (LinkError.WRONG_LENGTH, {"n0": 9, "words": 9}),
        (LinkError.WRONG_MANAGER, {"node": 2}),
    ],
)
def test_a_collective_that_fails_ends_the_run_and_the_next_is_clean(code: LinkError, faults: dict[str, int]) -> None:
    with driven(LINKED) as driver:
        assert one_collective(driver, 1, **faults) == FAILED
        assert driver.fields("ERROR_SOURCE") == {"SOURCE": ErrorSource.LINK, "MANAGER": 0}
        assert driver.fields("LINK_ERROR") == {"CODE": code, "ID": 0}
        assert driver.read("EPOCHS_DONE") == 0
        assert one_collective(driver, 2) == DONE
        found = driver.bus.node_array(HostSelect.P, 2)[50:60]
        np.testing.assert_array_equal(found, some_words(CONFIG, HostSelect.P, 10, 3))
        driver.write("FIRST_COLLECTIVE", VALUE=NO_COLLECTIVE)
        assert_clean_run(driver, 9)


def test_an_abort_in_a_collective_ends_it() -> None:
    with driven(LINKED) as driver:
        driver.write("LINK_TIMEOUT", VALUE=0)
        jobs: Any = moved(CollectiveKind.P, 10, (1, 0), (2, 50), follows=1, needs=1)
        add_collective(driver, 0, 0, jobs)
        driver.end(0)
        driver.end(1)
        driver.write("FIRST_COLLECTIVE", VALUE=0)
        driver.write("LINK_RUN", VALUE=1)
        driver.start(1)
        assert not driver.bus.wait_interrupt(3000)
        driver.write("CONTROL", ABORT=1)
        assert driver.finish() == DONE | {"ABORTED": 1}
        assert driver.read("EPOCHS_DONE") == 0
        assert driver.read("COLLECTIVE_CYCLES") > 2000
        driver.write("FIRST_COLLECTIVE", VALUE=NO_COLLECTIVE)
        assert_clean_run(driver, 9)
