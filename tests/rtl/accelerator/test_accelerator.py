"""rtl.accelerator.accelerator: all that a whole accelerator needs comes from memory, by rings of hand-made descriptors."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.layers.post import post_process
from podweave.rtl.accelerator.emit import emit
from podweave.spec.descriptors import DescriptorKind, memory_stride, words_of
from podweave.spec.errors import NodeErrors
from podweave.spec.jobs import post_parameters_layout
from podweave.spec.load_port import Counter, HostSelect, host_widths
from podweave.spec.register_types import NodeWords
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_task import Readback
from podweave.tb.build.emission import emitted_design
from tests.rtl.accelerator.accelerator_driver import DONE, Driver
from tests.rtl.accelerator.accelerator_runs import (
    CHIP2,
    CONFIGS,
    FAST,
    LINKED,
    add_constants,
    add_jobs,
    campaign,
    driven,
    low_bits,
    some_words,
)
from tests.rtl.chip.test_chip import WORDS, Exchange

LOADED = [select for select in HostSelect if select < HostSelect.COUNTERS]


def contents(driver: Driver, select: HostSelect, node: int) -> NDArray[np.uint8]:
    """(words, bits) of what a select names, past all ports."""
    bus, config = driver.bus, driver.config
    width = host_widths(config)[select][1]
    if select == HostSelect.X:
        slots = config.array.rows // config.post_lanes
        parts = [
            np.concatenate([bus.node_array(("x", i, part), node) for i in range(slots)], axis=1)
            for part in range(config.memory.x_parts)
        ]
        return low_bits(np.concatenate(parts), width)
    if select != HostSelect.PARAMETERS:
        return low_bits(bus.node_array(select, node), width)
    parts = []
    for field in post_parameters_layout(config).fields:
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


@pytest.mark.parametrize("name", [FAST, LINKED])
def test_chip_and_engines_are_reset_together(name: str) -> None:
    _, _, text = emitted_design(CONFIGS[name]).verilog.partition("\nmodule accelerator(")
    resets = dict(re.findall(r"^  \w+ (\w+) \($.*?\.rst\((\w+)\)", text.partition("endmodule")[0], re.MULTILINE | re.DOTALL))
    # Neighbours of a ring may be in another run: the port to them goes on.
    links = {"link_port": "rst", "collective_engine": "control__core_reset", "stray_jobs": "control__core_reset"}
    assert resets == {
        "control": "rst",
        **dict.fromkeys(("chip", "engine_0", "engine_1"), "control__core_reset"),
        **(links if name == LINKED else {}),
    }


def test_configurations_without_prefetch_have_no_accelerator() -> None:
    bare = dataclasses.replace(CHIP2, prefetch=None)
    assert emit(bare).top == "chip"
    with pytest.raises(ValueError, match=r"chip2x4 has no table \[prefetch\]: it is no accelerator"):
        AcceleratorBench.of(bare)
    with pytest.raises(ValueError, match="chip2x4 has no accelerator: it can be emitted as chip"):
        emit(bare, top="accelerator")
    with pytest.raises(ValueError, match="chip2x4 has no pod: it can be emitted as accelerator or chip"):
        emit(CHIP2, top="pod")


def test_ports() -> None:
    ports = {port["name"]: (port["direction"], port["width"]) for port in emitted_design(CONFIGS[FAST]).sidecar["ports"]}
    assert ports["irq"] == ("output", 1)
    assert ports["s_axil_awaddr"] == ("input", 12)
    for manager in (0, 1):
        widths: dict[str, Any] = {"araddr": ("output", 33), "rdata": ("input", 128), "wstrb": ("output", 16), "bid": ("input", 1)}
        assert {name: ports[f"m{manager}_axi_{name}"] for name in widths} == widths
    assert not any(name.startswith(("m2_axi", "m_axi", "host_")) for name in ports)
