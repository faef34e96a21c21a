"""Whole accelerators in RTL: all they need comes from memory, by rings of hand-made descriptors; errors, aborts and new starts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.golden.cycle.memory.hbm import SLVERR, ErrorRange
from podweave.golden.layers.post import post_process
from podweave.predict.memory_timing import HbmTiming
from podweave.rtl.accelerator.emit import emit
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import DmaConfig
from podweave.spec.descriptors import DescriptorKind, DmaError, memory_stride, words_of
from podweave.spec.errors import NodeErrors, PodError
from podweave.spec.jobs import load_job_layout, post_job_layout, post_parameters_layout, store_layout, stream_job_layout
from podweave.spec.load_port import Counter, HostSelect, host_widths
from podweave.spec.presets import load_config
from podweave.spec.register_types import ErrorSource, NodeWords, Refusal, Ring
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_task import Readback
from podweave.tb.build.emission import emitted_design
from tests.rtl.accelerator.accelerator_driver import DONE, Driver
from tests.rtl.chip.test_chip import WORDS, Exchange

CHIP2, CHIP4 = load_config("chip2x4"), load_config("chip4x16")
SMALL_DMA: dict[str, int] = {"buffer_beats": 32, "max_burst": 8, "outstanding": 8, "descriptors": 2}
CONFIGS: dict[str, ChipConfig] = {
    "2 managers": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4), dma=DmaConfig(managers=2, data_width=128, address_width=33, **SMALL_DMA)
    ),
    "4 x 16x16": CHIP4,
    "4 x 16x16, 4 managers": dataclasses.replace(CHIP4, dma=DmaConfig(managers=4, data_width=512)),
    "2 planes, 2 lanes of 4": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4, planes=2, rows=8, psum_width=27), dma=DmaConfig(managers=1, data_width=256)
    ),
}
FAST = "2 managers"
CHANNEL = 1 << 18
TIMING = HbmTiming(latency=40, row_miss=7, jitter=5, refresh_interval=700, refresh_cycles=60)
LOADED = [select for select in HostSelect if select < HostSelect.COUNTERS]
campaign = [pytest.param(name, marks=pytest.mark.campaign) for name in CONFIGS if name != FAST]


@functools.cache
def bench(name: str) -> AcceleratorBench:
    return AcceleratorBench.of(CONFIGS[name], optimize="build", random_initial_state=True)


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


def contents(driver: Driver, select: HostSelect, node: int) -> NDArray[np.uint8]:
    """(words, bits) of what a select names, past all ports."""
    bus, config = driver.bus, driver.config
    width = host_widths(config)[select][1]
    if select == HostSelect.X:
        slots = config.array.rows // config.post_lanes
        return low_bits(np.concatenate([bus.node_array(("x", i), node) for i in range(slots)], axis=1), width)
    if select != HostSelect.PARAMETERS:
        return low_bits(bus.node_array(select, node), width)
    parts = []
    for field in post_parameters_layout().fields:
        bits = low_bits(bus.node_array(field.name, node), field.width * config.array.cols)
        parts.append(bits.reshape(len(bits), config.array.cols, field.width))
    return np.concatenate(parts, axis=2).reshape(len(parts[0]), -1)


@pytest.mark.parametrize("name", [FAST, *campaign])
def test_words_of_every_select_arrive_in_their_nodes(name: str) -> None:
    with driven(name) as driver:
        config = driver.config
        expected: dict[tuple[HostSelect, int, int], NDArray[np.uint8]] = {}
        for node in range(config.pods):
            for select in LOADED:
                words = some_words(config, select, 5, 100 * node + select)
                base = words_of(config, select) - 5
                # Any byte alignment; the program stores by the other ring.
                driver.load(node, select, base, words, ring="PREFETCH" if select % 2 else "DEMAND", skew=7 * node + select)
                expected[select, node, base] = words
        driver.end(0)
        assert driver.run() == DONE
        assert driver.read("EPOCHS_DONE") == 0
        for (select, node, base), words in expected.items():
            found = contents(driver, select, node)[base : base + len(words)]
            np.testing.assert_array_equal(found, low_bits(words, host_widths(config)[select][1]), err_msg=f"{select!r} {node}")


def test_loops_and_broadcast() -> None:
    with driven() as driver:
        config, select = driver.config, HostSelect.W
        stride = memory_stride(config, select)
        words = some_words(config, select, 24, 5)
        address = driver.place(1, driver.strided(select, words), skew=3)
        # Runs of 3 words 4 apart; to the chip backwards.
        loops = {"n0": 3, "n1": 3, "n2": 2, "step0": -1, "step1": -2, "step2": 30, "stride1": 4 * stride, "stride2": 3 * stride}
        driver.add(1, "PREFETCH", DescriptorKind.LOAD, select=select, broadcast=1, unit=0, base=60, address=address, **loops)
        table = some_words(config, HostSelect.TABLE, 256, 6)
        driver.load(0, HostSelect.TABLE, 0, table, broadcast=1)
        driver.end(0)
        assert driver.run() == DONE
        at, run = 60, 0
        expected: dict[int, int] = {}
        for _ in range(2):
            for middle in range(3):
                start = run + 4 * middle
                for inner in range(3):
                    expected[at] = start + inner
                    at -= 1 if inner < 2 else 0
                at -= 2 if middle < 2 else 0
            at += 30
            run += 8 + 3
        assert len(expected) == 18
        for node in (2, 3):
            found = driver.bus.node_array(select, node)
            np.testing.assert_array_equal(found[list(expected)], words[list(expected.values())])
            assert not (driver.bus.node_array(HostSelect.TABLE, node)[:256] == table).all()
        for node in (0, 1):
            np.testing.assert_array_equal(driver.bus.node_array(HostSelect.TABLE, node)[:256], table)


@pytest.mark.parametrize("name", [FAST, *campaign])
def test_banks_are_stored_and_nothing_beside(name: str) -> None:
    with driven(name) as driver:
        config = driver.config
        stored = []
        for node in range(config.pods):
            for select in (HostSelect.X, HostSelect.W, HostSelect.P):
                words = some_words(config, select, 9, 100 * node + select)
                driver.load(node, select, 3, words)
                skew = 13 * node + 5 * select + 1
                address, size = driver.store(node, select, 3, len(words), skew=skew)
                stored.append((select, words, address, size, skew))
        driver.end(0)
        assert driver.run() == DONE
        for select, words, address, size, skew in stored:
            whole = driver.bus.read_memory(address - skew, skew + size + 64)
            found = whole[skew : skew + size].reshape(len(words), -1)
            width = host_widths(config)[select][1]
            np.testing.assert_array_equal(low_bits(found, width), low_bits(words, width))
            assert not low_bits(found, 8 * found.shape[1])[:, width:].any()
            assert (whole[:skew] == 0xA5).all()
            assert (whole[skew + size :] == 0xA5).all()


def add_jobs(driver: Driver, exchange: Exchange, epoch: int, **changes: NDArray[np.int64]) -> None:
    """The program of an exchange behind that of the epochs before."""
    epoch_jobs, config = exchange.epoch, driver.config
    for select, layout, jobs in (
        (HostSelect.LOAD_STORE, load_job_layout(config), epoch_jobs.loads),
        (HostSelect.STREAM_STORE, stream_job_layout(config), epoch_jobs.streams | changes),
        (HostSelect.POST_STORE, post_job_layout(config), epoch_jobs.posts),
    ):
        ends = np.ones(config.pods, np.int64)
        words = pack_jobs(store_layout(layout), {**{f.name: jobs[f.name] for f in layout.fields}, "valid": ends, "last": ends})
        for node in range(config.pods):
            driver.load(node, select, epoch, words[node : node + 1], ring="PREFETCH", tag=epoch)


def add_constants(driver: Driver, exchange: Exchange) -> None:
    layout = post_parameters_layout()
    for node in range(driver.config.pods):
        driver.load(node, HostSelect.W, 3, exchange.w[node].view(np.uint8), ring="PREFETCH")
        lanes = {"bias": exchange.bias[node], "multiplier": exchange.multiplier[node], "shift": exchange.shift[node]}
        packed = pack_jobs(layout, {name: values.astype(np.int64) for name, values in lanes.items()})
        word = np.packbits(low_bits(packed, layout.width).reshape(1, -1), axis=1, bitorder="little")
        driver.load(node, HostSelect.PARAMETERS, 1, word, ring="PREFETCH")
        if node % driver.config.nodes_per_manager == 0:
            driver.load(node, HostSelect.TABLE, 256, exchange.table.view(np.uint8)[:, None], ring="PREFETCH", broadcast=1)


def expected_outputs(exchange: Exchange, x: NDArray[np.int8]) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int8]]]:
    """What the epoch of an exchange leaves in the P banks, and in the X banks, with activations ``x``."""
    sums, outputs = [], []
    for bank in range(exchange.config.pods):
        total = x[bank].astype(np.int64) @ exchange.w[bank ^ exchange.across].astype(np.int64)
        sums.append(total.astype(np.int32))
        done = post_process(sums[-1], exchange.bias[bank], exchange.multiplier[bank], exchange.shift[bank], exchange.table)
        lanes = exchange.config.post_lanes
        outputs.append(done[:, exchange.slice * lanes : (exchange.slice + 1) * lanes])
    return sums, [outputs[bank ^ exchange.back] for bank in range(exchange.config.pods)]


@pytest.mark.parametrize("name", [FAST, *campaign])
def test_two_epochs_on_data_from_memory(name: str) -> None:
    with driven(name) as driver:
        config, bus = driver.config, driver.bus
        exchange = Exchange(config)
        other = np.roll(exchange.x, 1, axis=1) ^ 85
        add_constants(driver, exchange)
        add_jobs(driver, exchange, 0)
        add_jobs(driver, exchange, 1)
        sums = []
        for tag, x in enumerate((exchange.x, other)):
            for node in range(config.pods):
                if tag:
                    sums.append(driver.store(node, HostSelect.P, 2, WORDS, tag=tag, after=tag))
                driver.load(node, HostSelect.X, 5, x[node].view(np.uint8), tag=tag, after=tag)
            driver.end(tag)
        outputs = [driver.store(node, HostSelect.X, 100, WORDS, tag=2, after=2, skew=node) for node in range(config.pods)]
        driver.end(2)
        # Descriptors of a ring are in the order of their tags.
        for ring in driver.rings.values():
            ring.sort(key=lambda descriptor: (descriptor["tag"], descriptor["last"]))
        assert driver.run(2) == DONE
        assert driver.read("EPOCHS_DONE") == 2
        assert driver.read("EPOCH_CYCLES") == exchange.cycles
        assert driver.read("TOTAL_CYCLES") == 2 * exchange.cycles

        first_sums, _ = expected_outputs(exchange, exchange.x)
        second_sums, second_outputs = expected_outputs(exchange, other)
        width, lanes = config.array.psum_width, config.post_lanes
        for node in range(config.pods):
            raw = bus.read_memory(*sums[node]).reshape(WORDS, -1)
            bits = low_bits(raw, width * config.array.cols).reshape(WORDS, config.array.cols, width).astype(np.int64)
            values = (bits << np.arange(width)).sum(axis=2) - (bits[:, :, -1] << width)
            np.testing.assert_array_equal(values, first_sums[node])
            np.testing.assert_array_equal(bus.bank(Readback("P", node, 2, WORDS)), second_sums[node])
            written = bus.read_memory(*outputs[node]).view(np.int8).reshape(WORDS, -1)
            slot = written[:, exchange.slot * lanes : (exchange.slot + 1) * lanes]
            np.testing.assert_array_equal(slot, second_outputs[node])
            counted = {counter: driver.node_word(node, NodeWords.COUNTERS, counter) for counter in Counter}
            assert counted[Counter.X_WORDS] == counted[Counter.P_STORES] == counted[Counter.POST_WORDS] == 2 * WORDS
            assert counted[Counter.W_WORDS] == 2 * config.array.rows
            assert counted[Counter.WAITING] == 2 * (config.array.rows + 1)
            assert not any(driver.node_word(node, NodeWords.ERRORS, word) for word in NodeErrors)


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
        assert driver.fields("ERROR", 1) == {"CODE": DmaError.READ_SLVERR, "RING": Ring.DEMAND, "TAG": 0}
        address = driver.read("ERROR_ADDRESS", 1)
        assert failing["address"] // 16 * 16 <= address <= failing["address"] + 32
        assert driver.fields("ERROR", 0)["CODE"] == DmaError.NONE
        assert driver.fields("CHIP_ERROR")["ANY"] == 0
        driver.bus.inject([])
        assert_clean_run(driver, 6)
        assert driver.fields("ERROR", 1)["CODE"] == DmaError.NONE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": 9}, DmaError.UNKNOWN_KIND),
        ({"n1": 0}, DmaError.ZERO_LENGTH),
        ({"address": 1 << 32}, DmaError.BEYOND_MEMORY),
        ({"unit": 2}, DmaError.BAD_TARGET),
    ],
)
def test_wrong_descriptor_is_refused(change: dict[str, int], code: DmaError) -> None:
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


def test_chip_and_engines_are_reset_together() -> None:
    verilog, *_ = emitted_design(CONFIGS[FAST])
    _, _, text = verilog.partition("\nmodule accelerator(")
    instances: dict[str, str] = {}
    for part in text.partition("endmodule")[0].split("\n  );"):
        name = next((word for word in ("control control", "chip chip", "engine_0", "engine_1") if f" {word} (" in part), None)
        if name:
            instances[name] = part.partition(".rst(")[2].partition(")")[0]
    assert instances == {
        "control control": "rst",
        **dict.fromkeys(("chip chip", "engine_0", "engine_1"), "control__core_reset"),
    }


def test_configurations_without_dma_have_no_accelerator() -> None:
    bare = dataclasses.replace(CHIP2, dma=None)
    assert emit(bare).top == "chip"
    with pytest.raises(ValueError, match=r"chip2x4 has no table \[dma\]: it is no accelerator"):
        AcceleratorBench.of(bare)
    with pytest.raises(ValueError, match="chip2x4 has no accelerator: it can be emitted as chip"):
        emit(bare, top="accelerator")
    with pytest.raises(ValueError, match="pod4 has no chip: it can be emitted as pod"):
        emit(load_config("pod4"), top="chip")
    with pytest.raises(ValueError, match="chip2x4 has no pod: it can be emitted as accelerator or chip"):
        emit(CHIP2, top="pod")


def test_ports() -> None:
    *_, sidecar = emitted_design(CONFIGS[FAST])
    ports = {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]}
    assert ports["irq"] == ("output", 1)
    assert ports["s_axil_awaddr"] == ("input", 12)
    for manager in (0, 1):
        widths: dict[str, Any] = {"araddr": ("output", 33), "rdata": ("input", 128), "wstrb": ("output", 16), "bid": ("input", 1)}
        assert {name: ports[f"m{manager}_axi_{name}"] for name in widths} == widths
    assert not any(name.startswith(("m2_axi", "m_axi", "host_")) for name in ports)
