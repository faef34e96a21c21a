"""Accelerators in RTL that tests build once, and small runs of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.jobs import load_job_layout, post_job_layout, post_parameters_layout, store_layout, stream_job_layout
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect, host_widths
from podweave.spec.presets import load_config
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_task import Readback
from tests.rtl.accelerator.accelerator_driver import DONE, Driver
from tests.rtl.chip.test_chip import Exchange

CHIP2, CHIP4 = load_config("chip2x4"), load_config("chip4x16")
SMALL_ENGINE: dict[str, int] = {"buffer_beats": 32, "max_burst": 8, "outstanding": 8, "descriptors": 2}
CONFIGS: dict[str, ChipConfig] = {
    "2 managers": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4, x_parts=4),
        prefetch=PrefetchConfig(
            managers=2, data_width=128, address_width=33, base_registers=2, column_words=8, pass_bits=5, **SMALL_ENGINE
        ),
    ),
    "1 pod": CHIP2.replace(pods=1, banks=1, x_parts=2, pass_bits=5, base_registers=2),
    "4 x 16x16": CHIP4,
    "4 x 16x16, 4 managers": dataclasses.replace(CHIP4, prefetch=PrefetchConfig(managers=4, data_width=512)),
    "2 planes of Y, 2 lanes of 4": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4, y_planes=2, rows=8, psum_width=27), prefetch=PrefetchConfig(managers=1, data_width=256)
    ),
}
FAST, LINKED = "2 managers", "2 managers, links"
# The first one as a chip of a ring; P words take four flits.
CONFIGS[LINKED] = dataclasses.replace(CONFIGS[FAST], links=LinksConfig(flit_bits=32, buffer_words=8, jobs=16))
CHANNEL = 1 << 18
TIMING = HbmTiming(latency=40, row_miss=7, jitter=5, refresh_interval=700, refresh_cycles=60)
campaign = [pytest.param(name, marks=pytest.mark.campaign) for name in CONFIGS if name != FAST]


@functools.cache
def bench(name: str) -> AcceleratorBench:
    return AcceleratorBench.of(CONFIGS[name], optimize="build", random_initial_state=True, checking=True)


@contextmanager
def driven(name: str = FAST, seed: int = 1) -> Iterator[Driver]:
    with bench(name).session(timing=TIMING, seed=seed, channel_bytes=CHANNEL) as bus:
        yield Driver(bus, CONFIGS[name])


def some_words(config: ChipConfig, select: HostSelect, count: int, seed: int) -> NDArray[np.uint8]:
    """Random words (n, bytes), bits beyond the width of a word included."""
    size = -(-host_widths(config)[select][1] // 8)
    return np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)


def low_bits(words: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The first ``width`` bits of each word, one per element."""
    return np.unpackbits(words, axis=1, bitorder="little")[:, :width]


def add_jobs(driver: Driver, exchange: Exchange, epoch: int, *, tag: int | None = None, **changes: NDArray[np.int64]) -> None:
    """The program of an exchange behind that of the ``epoch`` exchanges before. ``tag``: if there were collectives as well."""
    epoch_jobs, config = exchange.epoch, driver.config
    for select, layout, jobs in (
        (HostSelect.LOAD_STORE, load_job_layout(config), epoch_jobs.loads),
        (HostSelect.STREAM_STORE, stream_job_layout(config), epoch_jobs.streams | changes),
        (HostSelect.POST_STORE, post_job_layout(config), epoch_jobs.posts),
    ):
        ends = np.ones(config.pods, np.int64)
        words = pack_jobs(store_layout(layout), {**{f.name: jobs[f.name] for f in layout.fields}, "valid": ends, "last": ends})
        for node in range(config.pods):
            driver.load(node, select, epoch, words[node : node + 1], ring="PREFETCH", tag=epoch if tag is None else tag)


def add_constants(driver: Driver, exchange: Exchange) -> None:
    layout = post_parameters_layout(driver.config)
    for node in range(driver.config.pods):
        driver.load(node, HostSelect.W, 3, exchange.w[node].view(np.uint8), ring="PREFETCH")
        lanes = {"bias": exchange.bias[node], "multiplier": exchange.multiplier[node], "shift": exchange.shift[node]}
        packed = pack_jobs(layout, {name: values.astype(np.int64) for name, values in lanes.items()})
        word = np.packbits(low_bits(packed, layout.width).reshape(1, -1), axis=1, bitorder="little")
        driver.load(node, HostSelect.PARAMETERS, 1, word, ring="PREFETCH")
        if node % driver.config.nodes_per_manager == 0:
            driver.load(node, HostSelect.TABLE, 256, exchange.table.view(np.uint8)[:, None], ring="PREFETCH", broadcast=1)


def small_load(driver: Driver, seed: int) -> list[NDArray[np.uint8]]:
    """A run that loads words into all X banks from word 0 on."""
    found = []
    for node in range(driver.config.pods):
        found.append(some_words(driver.config, HostSelect.X, 40, seed + node))
        driver.load(node, HostSelect.X, 0, found[-1])
    driver.end(0)
    return found


def assert_clean_run(driver: Driver, seed: int) -> int:
    """A run after whatever was before leaves nothing but its own words; returns its cycles."""
    driver.forget()
    words = small_load(driver, seed)
    assert driver.run() == DONE
    for node, expected in enumerate(words):
        found = driver.bus.bank(Readback("X", node, 0, len(expected)))
        np.testing.assert_array_equal(found, expected.view(np.int8))
    return driver.read("CYCLES")
