"""A device in RTL: what goes wrong ends its run with a sentence, and the next run is as if nothing had been."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, compile_network, in_channels
from podweave.compiler.memory.rings import Ring
from podweave.driver.device import Device, DeviceError, Start
from podweave.fuzz.random_layers import random_job
from podweave.golden.cycle.memory.hbm import DECERR, SLVERR, ErrorRange
from podweave.golden.graph import evaluate
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.jobs import Job
from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect
from podweave.spec.register_map import counters
from podweave.tb.benches.chip_task import Readback
from podweave.tb.benches.simulated_bus import SimulatedBus
from tests.fast import fast_of
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY, small_bench

# All that are predicted but HBM_BUSY.
EXACT = [name for name, *_ in counters(CONFIG) if name != "HBM_BUSY"]
ACCESS = 40
"""Cycles of a few accesses to registers, at most."""
TIMING = HbmTiming(latency=30, row_miss=7, jitter=3, refresh_interval=700, refresh_cycles=60)


@functools.cache
def network() -> tuple[Job, CompiledNetwork]:
    """Six epochs, a node that is split, a residual, a pooling, two outputs."""
    job = random_job(21)
    return job, compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)


@functools.cache
def prediction() -> Prediction:
    return predict_accelerator(network()[1], TIMING)


def cycles() -> int:
    return prediction().cycles


def ended(cycle: int) -> int:
    """Epochs that have ended by then."""
    return sum(epoch["ends"] < cycle for epoch in prediction().timeline)


@contextmanager
def running(seed: int = 0) -> Iterator[tuple[SimulatedBus, Device]]:
    """A device with the network and its inputs."""
    with small_bench().session(timing=TIMING, seed=seed, channel_bytes=network()[1].image.channel_bytes) as bus:
        device = Device(bus, CONFIG)
        load(device)
        yield bus, device


def load(device: Device) -> None:
    job, compiled = network()
    device.load(compiled.image)
    for name, tensor in job.inputs.items():
        device.write_input(name, tensor)


def assert_clean(device: Device) -> None:
    """A cold run with right outputs, in the cycles that it takes after a reset, whatever was before it."""
    device.start(Start(warm=False))
    assert_ends_well(device)


def assert_ends_well(device: Device) -> None:
    job, compiled = network()
    device.wait(2 * cycles())
    found = compiled.split.join({name: device.read_output(name) for name in compiled.image.outputs})
    expected = evaluate(job.graph, job.constants, job.inputs)
    assert found.keys() == set(job.graph.outputs)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert device.errors() == []
    counters = device.counters().device
    assert counters["CYCLES"] - cycles() == 0
    assert {name: counters[name] for name in EXACT} == {name: prediction().counters[name] for name in EXACT}


def test_base_registers_move_a_program() -> None:
    """Words of X banks by BASE1, all others by BASE2; what is moved lies in memory twice."""
    job, compiled = network()
    compiled = in_channels(compiled, 2 * compiled.image.channel_bytes)
    image, span = compiled.image, compiled.image.channel_bytes // 2

    bases = 96, 1000

    def based(ring: Ring) -> Ring:
        fields = {name: column.copy() for name, column in ring.fields.items()}
        number = np.where(fields["select"] == HostSelect.X, 1, 2)
        base = np.array(bases)[number - 1]
        chosen = (fields["kind"] != DescriptorKind.NOP) & (fields["address"] >= base)
        assert chosen.any()
        fields["base_register"][chosen] = number[chosen]
        fields["address"][chosen] -= base[chosen]
        return Ring(ring.base, fields)

    rings = {name: tuple(map(based, found)) for name, found in (("demand", image.demand), ("prefetch", image.prefetch))}
    written = [(ring.base, ring.packed()) for found in rings.values() for ring in found]
    kept = [(address, data) for address, data in image.content if address not in dict(written)]
    compiled = dataclasses.replace(compiled, image=dataclasses.replace(image, content=(*kept, *written), **rings))
    expected = evaluate(job.graph, job.constants, job.inputs)
    with small_bench().session(timing=TIMING, seed=4, channel_bytes=image.channel_bytes) as bus:
        device = Device(bus, CONFIG)
        device.load(compiled.image)
        for name, tensor in job.inputs.items():
            device.write_input(name, tensor)
        channels = bus.memory.reshape(CONFIG.managers, 2, span)
        channels[:, 1] = channels[:, 0]
        for offsets in ((0, 0), (span, 0), (0, span), (span, span)):
            moved = tuple(base + offset for base, offset in zip(bases, offsets, strict=True))
            for number, value in enumerate(moved, start=1):
                device.set_base(number, value)
            for where in image.outputs.values():
                bus.memory[where.addresses] = bus.memory[where.addresses + span] = 0x55
            predicted = predict_accelerator(compiled, TIMING, bases=moved)
            device.run(Start(warm=False), max_cycles=2 * predicted.cycles)
            for where in image.outputs.values():
                assert (bus.memory[where.addresses + (span - offsets[0])] == 0x55).all()
                bus.memory[where.addresses] = bus.memory[where.addresses + offsets[0]]
            for name, tensor in compiled.split.join({name: device.read_output(name) for name in image.outputs}).items():
                np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
            counters = device.counters().device
            assert {name: counters[name] for name in EXACT} == {name: predicted.counters[name] for name in EXACT}
        device.set_base(2, (1 << 33) - 1)
        with pytest.raises(DeviceError, match="beyond memory"):
            device.run(Start(warm=False), max_cycles=2 * cycles())


def test_a_column_store_comes_back_as_weights() -> None:
    """Behind the last epoch, words of an X bank go out as columns of a tile, by BASE1, and come back; in the predicted cycles."""
    job, compiled = network()
    compiled = in_channels(compiled, 2 * compiled.image.channel_bytes)
    image, span = compiled.image, compiled.image.channel_bytes // 2
    ring, width = image.demand[0], memory_stride(CONFIG, HostSelect.W)
    rows, words = CONFIG.array.rows, 7
    places = {"tiles": span + 0x1000, "plain": span + 0x2000, "ring": span + 0x4000}
    move = {"n0": words, "n1": 1, "n2": 1, "step0": 1, "tag": image.epochs, "base": 3}
    store = move | {"kind": DescriptorKind.STORE, "select": HostSelect.X, "base_register": 1}
    added = [
        # Columns 1 to 7 of a tile whose rows are two words of W; then the same words as rows.
        store | {"address": places["tiles"] + 1 - 0x800, "column": 1, "lane_stride": 2 * width},
        store | {"address": places["plain"] - 0x800},
        move | {"kind": DescriptorKind.LOAD, "select": HostSelect.W, "unit": 1, "address": places["tiles"], "n0": 2 * rows},
    ]
    at = int(np.flatnonzero(ring.fields["tag"] == image.epochs)[0])
    columns = {name: [descriptor.get(name, 0) for descriptor in added] for name in ring.fields}
    longer = Ring(places["ring"], {name: np.insert(old, at, columns[name]) for name, old in ring.fields.items()})
    content = (*image.content, (places["ring"], longer.packed()))
    demand = (longer, *image.demand[1:])
    compiled = dataclasses.replace(compiled, image=dataclasses.replace(image, content=content, demand=demand))
    predicted = predict_accelerator(compiled, TIMING, bases=(0x800,))
    with small_bench().session(timing=TIMING, seed=5, channel_bytes=image.channel_bytes) as bus:
        device = Device(bus, CONFIG)
        device.load(compiled.image)
        device.set_base(1, 0x800)
        for name, tensor in job.inputs.items():
            device.write_input(name, tensor)
        bus.memory[span : 2 * span][0x1000:0x2000] = 0xEE
        device.run(max_cycles=2 * predicted.cycles)
        counters = device.counters().device
        assert {name: counters[name] for name in EXACT} == {name: predicted.counters[name] for name in EXACT}
        assert counters["WRITE_BEATS"] == prediction().counters["WRITE_BEATS"] + rows + 2
        stored = bus.memory[places["plain"] :][: words * memory_stride(CONFIG, HostSelect.X)].reshape(words, -1)[:, :rows]
        tile = np.full((rows, 2 * width), 0xEE, np.uint8)
        tile[:, 1 : 1 + words] = stored.T
        np.testing.assert_array_equal(bus.memory[places["tiles"] :][: tile.size].reshape(tile.shape), tile)
        found = bus.bank(Readback("W", 1, 3, 2 * rows))
        np.testing.assert_array_equal(found.view(np.uint8).reshape(rows, -1), tile)


def forget_outputs(bus: SimulatedBus) -> None:
    """So that what is read afterwards was written afterwards."""
    for where in network()[1].image.outputs.values():
        bus.memory[where.addresses] ^= 0x55


def words_of(rings: tuple[Ring, ...], kind: DescriptorKind, select: HostSelect, least: int) -> tuple[int, int, int, int]:
    """Manager, the last one that has any, tag, first byte and bytes of a descriptor with a tag from ``least`` on."""
    for manager, ring in reversed(list(enumerate(rings))):
        fields = ring.fields
        chosen = (fields["kind"] == kind) & (fields["select"] == select) & (fields["tag"] >= least)
        for i in np.flatnonzero(chosen)[:1].tolist():
            return manager, int(fields["tag"][i]), int(fields["address"][i]), int(fields["n0"][i]) * memory_stride(CONFIG, select)
    raise AssertionError("there is no such descriptor")


@pytest.mark.parametrize(
    ("ring", "least", "kind", "select", "response", "what"),
    [
        ("prefetch", 0, DescriptorKind.LOAD, HostSelect.W, SLVERR, "read slverr"),
        ("prefetch", 2, DescriptorKind.LOAD, HostSelect.STREAM_STORE, DECERR, "read decerr"),
        ("demand", 1, DescriptorKind.LOAD, HostSelect.X, DECERR, "read decerr"),
        ("demand", 1, DescriptorKind.STORE, HostSelect.X, SLVERR, "write slverr"),
    ],
)
def test_error_of_the_memory_ends_its_run_only(
    ring: str, least: int, kind: DescriptorKind, select: HostSelect, response: int, what: str
) -> None:
    image = network()[1].image
    rings = {"demand": image.demand, "prefetch": image.prefetch}[ring]
    manager, tag, address, size = words_of(rings, kind, select, least)
    wrong = address + size // 2
    with running() as (bus, device):
        bus.inject([ErrorRange(wrong, wrong + 1, response)])
        with pytest.raises(DeviceError) as caught:
            device.run(max_cycles=2 * cycles())
        sentence, _, told = str(caught.value).removesuffix(")").rpartition("0x")
        assert sentence == f"prefetch engine {manager}: {what} (tag {tag} of the {ring} ring, address "
        # That of the burst.
        assert address <= int(told, 16) <= wrong
        assert wrong - int(told, 16) < CONFIG.prefetch.max_burst * CONFIG.host_bits // 8
        assert device.errors() == [str(caught.value)]
        assert device.read("EPOCHS_DONE") <= tag
        bus.inject([])
        forget_outputs(bus)
        assert_clean(device)
        forget_outputs(bus)
        assert_clean(device)


def test_descriptor_that_cannot_be_read() -> None:
    ring = network()[1].image.prefetch[0]
    with running() as (bus, device):
        bus.inject([ErrorRange(ring.base + 64 * 2, ring.base + 64 * 2 + 1, SLVERR)])
        with pytest.raises(DeviceError, match=rf"^prefetch engine 0: descriptor response .*, address {ring.base + 128:#x}\)$"):
            device.run(max_cycles=2 * cycles())
        bus.inject([])
        assert_clean(device)


# Cycles from the return of the start on: the first ones, in the preparation; some of each epoch; the last ones, in the end.
ABORTS = (0, 1, 2, 3, 5, 11, *(0.01, 0.13, 0.2, 0.31, 0.45, 0.58, 0.7, 0.83, 0.95), -60, -40, -30)


@pytest.mark.parametrize("seed", fast_of([1, 2, 3], "1"))
def test_run_after_an_abort_at_any_time_takes_as_long_as_after_a_reset(seed: int) -> None:
    with running(seed=seed) as (bus, device):
        assert_clean(device)
        for moment in ABORTS[seed - 1 :: 3]:
            device.start(Start(warm=False))
            bus.advance(after := int(moment * cycles()) if isinstance(moment, float) else moment % cycles())
            with pytest.raises(DeviceError, match=r"^no other run can be started while a run is on: "):
                device.start()
            device.abort()
            with pytest.raises(DeviceError, match=r"^the run was aborted$"):
                device.wait(2 * cycles())
            # An epoch that is on comes to its end.
            assert ended(after) <= device.read("EPOCHS_DONE") <= ended(after + ACCESS) + 1
            assert device.errors() == []
            counted = device.counters().device
            bus.advance(100)
            # A run that is over counts nothing more.
            assert device.counters().device == counted
            forget_outputs(bus)
            assert_clean(device)
        device.start(Start(warm=False))
        bus.advance(cycles() // 2)
        device.abort()
        with pytest.raises(DeviceError, match=r"^the run was aborted$"):
            device.wait(2 * cycles())
        device.reset()
        forget_outputs(bus)
        assert_clean(device)


def test_what_is_refused_during_a_run_leaves_it_alone() -> None:
    job, compiled = network()
    with running(seed=4) as (bus, device):
        forget_outputs(bus)
        device.start()
        for _ in range(4):
            bus.advance(cycles() // 6)
            for name, tensor in job.inputs.items():
                with pytest.raises(DeviceError, match=r"^no input can be written while a run is on: "):
                    device.write_input(name, ~tensor)
            with pytest.raises(DeviceError, match=r"^no program can be loaded while a run is on: "):
                device.load(compiled.image)
            with pytest.raises(DeviceError, match=r"^no output can be read while a run is on: "):
                device.read_output(next(iter(compiled.image.outputs)))
            with pytest.raises(DeviceError, match=r"^no other run can be started while a run is on: "):
                device.start(Start(prefetch=False, cap=1))
            with pytest.raises(DeviceError, match=r"^the device refused to reset: busy$"):
                device.reset()
        assert_ends_well(device)


def test_reset_in_mid_run() -> None:
    with running(seed=2) as (bus, device):
        for share in (0.1, 0.5, 0.8):
            device.start(Start(warm=False))
            bus.advance(int(share * cycles()))
            with pytest.raises(DeviceError, match=r"^the device refused to reset: busy$"):
                device.reset()
            with pytest.raises(DeviceError, match=r"^no program can be loaded while a run is on: "):
                device.load(network()[1].image)
            bus.reset()
            # Registers are as at the beginning; memory is as it was.
            with pytest.raises(DeviceError, match=r"^the device refused to start: ring size$"):
                device.start()
            forget_outputs(bus)
            load(device)
            assert_clean(device)
        device.reset()
        assert device.fields("STATUS") == dict.fromkeys(device.fields("STATUS"), 0)
        forget_outputs(bus)
        assert_clean(device)


def test_run_that_takes_too_long_can_be_waited_for() -> None:
    with running(seed=3) as (_, device):
        with pytest.raises(DeviceError, match=r"^no interrupt within 1000 cycles: \d epochs are done$"):
            device.run(max_cycles=1000)
        device.wait()
        assert_clean(device)


def test_image_for_another_accelerator_is_refused_by_the_hash() -> None:
    with small_bench().session(channel_bytes=4096) as bus:
        other = dataclasses.replace(CONFIG, prefetch=dataclasses.replace(CONFIG.prefetch, buffer_beats=64))
        with pytest.raises(
            DeviceError, match=r"^the accelerator is of another configuration than chip2x4: it has 4 pods, 2 managers"
        ):
            Device(bus, other)
