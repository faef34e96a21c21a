"""A device as software sees it: on a bus of dictionaries, what is written and said; in RTL, that a fault ends with its run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.memory_image import MemoryImage, Ring, TensorMap
from golden.cycle.hbm import DECERR, SLVERR, ErrorRange
from podweave.accelerator_model import Prediction, predict_accelerator
from podweave.accelerator_runs import Compiled, compile_for_device
from podweave.chip_runs import Job
from podweave.device import Device, DeviceError
from podweave.reference import evaluate
from rtl.dma_layouts import DescriptorKind, DmaError, memory_stride
from rtl.layouts import BankError, Counter, HostSelect, NetworkId, NodeErrors, PodError, PostError
from rtl.register_types import MANAGER_PITCH, Access, NodeWords, Refusal
from rtl.registers import ErrorSource, RegisterMap, counters
from rtl.run_control import RESET_CYCLES
from tb.hbm import HbmTiming
from tb.simulated_bus import SimulatedBus
from tests.podweave.random_networks import CONFIG, random_job, small_bench

CHANNEL = 4096
Effect = Callable[["FakeBus"], None]


class FakeBus:
    """Registers that keep what is written, memory, and what the test says: ``commands`` by name of the bit, ``interrupts``."""

    def __init__(self) -> None:
        self.map = RegisterMap(CONFIG)
        self.memory = np.full(CONFIG.managers * CHANNEL, 0xA5, np.uint8)
        self.words: dict[int, int] = {}
        self.access: dict[int, Access] = {}
        for register in self.map.registers.values():
            for copy in range(register.copies):
                for word in range(register.words):
                    offset = register.offset + MANAGER_PITCH * copy + 4 * word
                    self.words[offset] = register.reset >> 32 * word & 0xFFFFFFFF
                    self.access[offset] = register.access
        self.node_words: dict[tuple[int, NodeWords, int], int] = {}
        self.log: list[tuple[str, int]] = []
        """("read" or "write", offset) of registers, in order."""
        self.commands: dict[str, Effect] = {"START": lambda bus: bus.set("STATUS", DONE=1)}
        self.interrupts = True
        self.waits: list[tuple[int, Any]] = []

    def set(self, name: str, manager: int | None = None, **fields: int) -> None:
        offset, value = self.map.offset(name, manager), self.map.pack(name, **fields)
        for word in range(self.map[name].words):
            self.words[offset + 4 * word] = value >> 32 * word & 0xFFFFFFFF

    def value(self, name: str, manager: int | None = None) -> int:
        offset = self.map.offset(name, manager)
        return sum(self.words[offset + 4 * word] << 32 * word for word in range(self.map[name].words))

    def read32(self, offset: int) -> int:
        self.log.append(("read", offset))
        if offset == self.map.offset("NODE_DATA"):
            chosen = self.map.unpack("NODE_SELECT", self.value("NODE_SELECT"))
            return self.node_words.get((chosen["NODE"], NodeWords(chosen["WORDS"]), chosen["INDEX"]), 0)
        return self.words[offset]

    def write32(self, offset: int, value: int) -> None:
        assert self.access[offset] != Access.RO
        assert 0 <= value < 1 << 32
        self.log.append(("write", offset))
        if offset == self.map.offset("CONTROL"):
            for command in (name for name, on in self.map.unpack("CONTROL", value).items() if on):
                self.commands[command](self)
        elif self.access[offset] == Access.W1C:
            self.words[offset] &= ~value
        else:
            self.words[offset] = value

    def read_memory(self, address: int, size: int) -> NDArray[np.uint8]:
        assert 0 <= address <= address + size <= len(self.memory)
        return self.memory[address : address + size].copy()

    def write_memory(self, address: int, data: NDArray[np.uint8]) -> None:
        assert 0 <= address <= address + len(data) <= len(self.memory)
        assert data.dtype == np.uint8
        self.memory[address : address + len(data)] = data

    def wait_interrupt(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        self.waits.append((max_cycles, progress))
        return self.interrupts


def tensor_map(shape: tuple[int, ...], addresses: list[int], elements: list[int]) -> TensorMap:
    return TensorMap(shape, np.array(addresses), np.array(elements))


def small_image(base: int = 0) -> MemoryImage:
    """An image that nothing could run, with a tensor of six elements that is in memory twice, in both channels."""

    def rings(first: int, lengths: tuple[int, int]) -> tuple[Ring, ...]:
        return tuple(Ring(base + m * CHANNEL + first, {"kind": np.zeros(n)}) for m, n in enumerate(lengths))

    places = [100, 102, 104, CHANNEL + 7, CHANNEL + 9, CHANNEL + 8, CHANNEL + 20, CHANNEL + 21]
    inputs = {
        "image": tensor_map((1, 1, 2, 3), places, [0, 1, 2, 3, 4, 5, 0, 5]),
        "other": tensor_map((1, 1, 1, 1), [300], [0]),
    }
    outputs = {"logits": tensor_map((1, 2, 1, 2), [CHANNEL + 50, 61, 60, CHANNEL + 40], [3, 0, 1, 2])}
    content = ((8, np.arange(4, dtype=np.uint8)), (CHANNEL + 1000, np.full(2, 77, np.uint8)))
    return MemoryImage(CONFIG, 5, CHANNEL, content, rings(512, (3, 4)), rings(1024, (5, 6)), inputs, outputs)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def device(bus: FakeBus) -> Device:
    found = Device(bus, CONFIG)
    found.load(small_image())
    bus.log.clear()
    return found


def test_accelerator_of_another_kind_is_refused(bus: FakeBus) -> None:
    bus.set("CHIP", PODS=64, MANAGERS=8)
    bus.set("CONFIG_HASH", VALUE=0x1234)
    with pytest.raises(
        DeviceError, match=r"of another configuration than chip2x4: it has 64 pods, 8 managers, and hash 0x00001234, "
    ):
        Device(bus, CONFIG)
    # Nothing else is believed of a bus without an accelerator.
    bus.set("ID", VALUE=0xDEAD)
    with pytest.raises(DeviceError, match=r"^no accelerator on this bus: ID reads 0x0000dead, expected 0x57646f50$"):
        Device(bus, CONFIG)


def test_load_tells_where_everything_is(bus: FakeBus) -> None:
    Device(bus, CONFIG).load(small_image(base=1 << 32))
    assert bus.memory[8:12].tolist() == [0, 1, 2, 3]
    assert bus.memory[CHANNEL + 999 : CHANNEL + 1003].tolist() == [0xA5, 77, 77, 0xA5]
    assert int((bus.memory != 0xA5).sum()) == 6
    assert (bus.value("EPOCHS"), bus.value("MEMORY_BYTES")) == (5, 2 * CHANNEL)
    for manager, lengths in enumerate(((3, 5), (4, 6))):
        for ring, first, length in zip(("DEMAND", "PREFETCH"), (512, 1024), lengths, strict=True):
            assert bus.value(f"{ring}_BASE", manager) == (1 << 32) + manager * CHANNEL + first
            assert bus.value(f"{ring}_SIZE", manager) == bus.value(f"{ring}_TAIL", manager) == length


def test_load_refuses_what_would_not_run(bus: FakeBus) -> None:
    device = Device(bus, CONFIG)
    other = dataclasses.replace(small_image(), config=CONFIG.replace(x_words=128, name="tiny"))
    with pytest.raises(DeviceError, match=r"^the image is for tiny, the device is a chip2x4 of another configuration$"):
        device.load(other)
    bus.set("STATUS", BUSY=1)
    with pytest.raises(DeviceError, match=r"^no program can be loaded while a run is on$"):
        device.load(small_image())
    assert (bus.memory == 0xA5).all()
    assert all(what == "read" for what, _ in bus.log)
    for call in (device.start, lambda: device.read_output("logits"), lambda: device.write_input("image", np.zeros(1, np.int8))):
        with pytest.raises(DeviceError, match=r"^no program is loaded$"):
            call()


def test_input_is_put_wherever_it_is_needed(bus: FakeBus, device: Device) -> None:
    values = np.array([-1, 2, -3, 4, -5, 6], np.int8)
    # In any order in memory of the host.
    device.write_input("image", np.asfortranarray(values.reshape(1, 1, 2, 3)))
    assert bus.memory[98:106].view(np.int8).tolist() == [-91, -91, -1, -91, 2, -91, -3, -91]
    assert bus.memory[CHANNEL + 6 : CHANNEL + 11].view(np.int8).tolist() == [-91, 4, 6, -5, -91]
    assert bus.memory[CHANNEL + 20 : CHANNEL + 23].view(np.int8).tolist() == [-1, 6, -91]
    assert not bus.log


def test_output_is_put_together_from_all_channels(bus: FakeBus, device: Device) -> None:
    bus.memory[[61, 60, CHANNEL + 40, CHANNEL + 50]] = [1, 254, 3, 252]
    found = device.read_output("logits")
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, np.array([1, -2, 3, -4]).reshape(1, 2, 1, 2))


@pytest.mark.parametrize(
    ("name", "tensor", "sentence"),
    [
        ("image", np.zeros((1, 2, 1, 3), np.int8), "input image is int8 (1, 1, 2, 3), got int8 (1, 2, 1, 3)"),
        ("image", np.zeros((2, 1, 2, 3), np.int8), "input image is int8 (1, 1, 2, 3), got int8 (2, 1, 2, 3)"),
        ("image", np.zeros((1, 1, 2, 3), np.uint8), "input image is int8 (1, 1, 2, 3), got uint8 (1, 1, 2, 3)"),
        ("image", np.zeros((1, 1, 2, 3)), "input image is int8 (1, 1, 2, 3), got float64 (1, 1, 2, 3)"),
        ("logits", np.zeros((1, 2, 1, 2), np.int8), "the network has no input 'logits'; it has image, other"),
    ],
)
def test_wrong_tensor_is_refused(bus: FakeBus, device: Device, name: str, tensor: NDArray, sentence: str) -> None:
    before = bus.memory.copy()
    with pytest.raises(DeviceError) as caught:
        device.write_input(name, tensor)
    assert str(caught.value) == sentence
    assert (bus.memory == before).all()


def test_unknown_output_is_refused(device: Device) -> None:
    with pytest.raises(DeviceError, match=r"^the network has no output 'image'; it has logits$"):
        device.read_output("image")


@pytest.mark.parametrize(("prefetch", "cap"), [(True, 0), (False, 0), (True, 1 << 20)])
def test_start_sets_options_and_waits_for_one_event(bus: FakeBus, device: Device, prefetch: bool, cap: int) -> None:
    bus.set("IRQ_PENDING", DONE=1, ERROR=1, EPOCH=1, REFUSED=1)
    seen: list[tuple[int, ...]] = []
    names = ("OPTIONS", "CAP", "IRQ_ENABLE", "IRQ_PENDING")
    bus.commands["START"] = lambda bus: seen.append(tuple(bus.value(name) for name in names))
    device.start(prefetch=prefetch, cap=cap)
    assert seen == [(int(prefetch), cap, 1, 0)]


@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason])
def test_refused_start_says_why(bus: FakeBus, device: Device, reason: Refusal) -> None:
    bus.commands["START"] = lambda bus: bus.set("STATUS", REFUSED=1, REASON=reason)
    sentence = {Refusal.BUSY: "busy", Refusal.EPOCHS: "epochs", Refusal.RING_BASE: "ring base", Refusal.RING_SIZE: "ring size"}
    with pytest.raises(DeviceError, match=f"^the device refused to start: {sentence[reason]}$"):
        device.run()
    assert not bus.waits


def test_run_ends_with_its_interrupt(bus: FakeBus, device: Device) -> None:
    told: list[int] = []
    bus.commands["START"] = lambda bus: (bus.set("STATUS", DONE=1), bus.set("IRQ_PENDING", DONE=1, EPOCH=1))
    device.run(max_cycles=1234, progress=told.append)
    assert bus.waits == [(1234, told.append)]
    assert device.fields("IRQ_PENDING") == {"DONE": 0, "ERROR": 0, "EPOCH": 1, "REFUSED": 0}


def test_run_without_end_is_given_up(bus: FakeBus, device: Device) -> None:
    bus.interrupts = False
    bus.set("EPOCHS_DONE", VALUE=3)
    with pytest.raises(DeviceError, match=r"^no interrupt within 99 cycles: 3 epochs are done$"):
        device.run(max_cycles=99)


def test_aborted_run(bus: FakeBus, device: Device) -> None:
    bus.commands |= {"START": lambda bus: None, "ABORT": lambda bus: bus.set("STATUS", DONE=1, ABORTED=1)}
    device.start()
    device.abort()
    with pytest.raises(DeviceError, match=r"^the run was aborted$"):
        device.wait()


def test_reset(bus: FakeBus, device: Device) -> None:
    done: list[str] = []
    bus.commands["SOFT_RESET"] = lambda bus: done.append("reset")
    device.reset()
    assert done == ["reset"]
    bus.commands["SOFT_RESET"] = lambda bus: bus.set("STATUS", BUSY=1, REFUSED=1, REASON=Refusal.BUSY)
    with pytest.raises(DeviceError, match=r"^the device refused to reset: busy$"):
        device.reset()


def engine_error(bus: FakeBus) -> None:
    bus.set("ERROR_SOURCE", SOURCE=ErrorSource.ENGINE, MANAGER=1)
    bus.set("ERROR", 1, CODE=DmaError.READ_SLVERR, RING=1, TAG=4)
    bus.set("ERROR_ADDRESS", 1, VALUE=0x1_2345_6780)


def two_engine_errors(bus: FakeBus) -> None:
    engine_error(bus)
    bus.set("ERROR", 0, CODE=DmaError.BAD_TARGET, TAG=2)
    bus.set("ERROR_ADDRESS", 0, VALUE=0x40)


def network_error(bus: FakeBus) -> None:
    bus.set("ERROR_SOURCE", SOURCE=ErrorSource.NETWORK)
    bus.set("CHIP_ERROR", ANY=1, NETWORK=1)
    bus.set("NETWORK_ERROR", VALID=1, NETWORK=NetworkId.P, STAGE=1, PORT=3)


def node_errors(bus: FakeBus) -> None:
    bus.set("ERROR_SOURCE", SOURCE=ErrorSource.NODE)
    bus.set("CHIP_ERROR", ANY=1)
    pod = 1 << PodError.LATE_LOAD | 1 << PodError.ILLEGAL_STREAM
    words = {NodeErrors.POD: pod, NodeErrors.POD_TIME: 77, NodeErrors.BANK: 1 << BankError.P_BUSY}
    bus.node_words |= {(2, NodeWords.ERRORS, index): value for index, value in words.items()}
    bus.node_words |= {(3, NodeWords.ERRORS, NodeErrors.POST): 1 << PostError.X_ADDRESS}
    bus.node_words |= {(3, NodeWords.ERRORS, NodeErrors.POST_TIME): 1234}


def error_without_record(bus: FakeBus) -> None:
    bus.set("ERROR_SOURCE", SOURCE=ErrorSource.NODE)


_ENGINE_1 = "prefetch engine 1: read slverr (tag 4 of the prefetch ring, address 0x123456780)"


@pytest.mark.parametrize(
    ("happens", "sentences"),
    [
        (engine_error, [_ENGINE_1]),
        (two_engine_errors, ["prefetch engine 0: bad target (tag 2 of the demand ring, address 0x40)", _ENGINE_1]),
        (network_error, ["network P, plane 0: two words met at stage 1, port 3"]),
        (
            node_errors,
            ["pod 2, time 77: late_load, illegal_stream", "bank 2: p_busy", "post-processor 3, time 1234: x_address"],
        ),
        (error_without_record, ["error of source node"]),
    ],
)
def test_error_of_a_run_is_told(bus: FakeBus, device: Device, happens: Effect, sentences: list[str]) -> None:
    def start(bus: FakeBus) -> None:
        bus.set("STATUS", DONE=1, ERROR=1)
        happens(bus)

    assert device.errors() == []
    bus.commands["START"] = start
    with pytest.raises(DeviceError) as caught:
        device.run()
    assert str(caught.value) == "; ".join(sentences)
    assert device.errors() == sentences


def test_counters_are_read_whole(bus: FakeBus, device: Device) -> None:
    expected: dict[str, int] = {}
    for number, (name, bits, _) in enumerate(counters(), start=1):
        expected[name] = (1 << bits) - number
        bus.set(name, VALUE=expected[name])
    for node in range(CONFIG.pods):
        bus.node_words |= {(node, NodeWords.COUNTERS, counter): 100 * node + counter for counter in Counter}
    found = device.counters()
    assert found.device == expected
    assert list(found.nodes) == [counter.name.lower() for counter in Counter]
    for counter in Counter:
        assert found.nodes[counter.name.lower()].tolist() == [100 * node + counter for node in range(CONFIG.pods)]
    # The second word of a counter is held only until something else is read.
    cycles = device.registers.offset("CYCLES")
    at = bus.log.index(("read", cycles))
    assert bus.log[at + 1] == ("read", cycles + 4)


# In RTL.
TIMING = HbmTiming(latency=30, row_miss=7, jitter=3, refresh_interval=700, refresh_cycles=60)


@functools.cache
def network() -> tuple[Job, Compiled]:
    """Six epochs, a node that is split, a residual, a pooling, two outputs."""
    job = random_job(21)
    return job, compile_for_device(job.graph, CONFIG, job.parameters)


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


def assert_clean(device: Device, *, resets: bool) -> None:
    """A run with right outputs, in the cycles that it takes; ``resets``: after a run that did not end well."""
    job, compiled = network()
    device.run(max_cycles=2 * cycles())
    found = compiled.split.join({name: device.read_output(name) for name in compiled.image.outputs})
    expected = evaluate(job.graph, job.parameters, job.inputs)
    assert len(found) == 2
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert device.errors() == []
    assert device.read("CYCLES") == cycles() + RESET_CYCLES * resets


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
        assert wrong - int(told, 16) < CONFIG.dma.max_burst * CONFIG.host_bits // 8
        assert device.errors() == [str(caught.value)]
        assert device.read("EPOCHS_DONE") <= tag
        bus.inject([])
        forget_outputs(bus)
        assert_clean(device, resets=True)
        forget_outputs(bus)
        assert_clean(device, resets=False)


def test_descriptor_that_cannot_be_read() -> None:
    ring = network()[1].image.prefetch[0]
    with running() as (bus, device):
        bus.inject([ErrorRange(ring.base + 64 * 2, ring.base + 64 * 2 + 1, SLVERR)])
        with pytest.raises(DeviceError, match=rf"^prefetch engine 0: descriptor response .*, address {ring.base + 128:#x}\)$"):
            device.run(max_cycles=2 * cycles())
        bus.inject([])
        assert_clean(device, resets=True)


def test_abort_at_any_time() -> None:
    with running(seed=1) as (bus, device):
        assert_clean(device, resets=False)
        for share in (0.01, 0.2, 0.45, 0.7, 0.95):
            device.start()
            bus.advance(after := int(share * cycles()))
            with pytest.raises(DeviceError, match=r"^the device refused to start: busy$"):
                device.start()
            device.abort()
            with pytest.raises(DeviceError, match=r"^the run was aborted$"):
                device.wait(2 * cycles())
            # An epoch that is on comes to its end.
            assert ended(after) <= device.read("EPOCHS_DONE") <= ended(after) + 1
            assert device.errors() == []
            forget_outputs(bus)
            assert_clean(device, resets=True)


def test_reset_in_mid_run() -> None:
    with running(seed=2) as (bus, device):
        for share in (0.1, 0.5, 0.8):
            device.start()
            bus.advance(int(share * cycles()))
            with pytest.raises(DeviceError, match=r"^the device refused to reset: busy$"):
                device.reset()
            with pytest.raises(DeviceError, match=r"^no program can be loaded while a run is on$"):
                device.load(network()[1].image)
            bus.reset()
            # Registers are as at the beginning; memory is as it was.
            with pytest.raises(DeviceError, match=r"^the device refused to start: ring size$"):
                device.start()
            forget_outputs(bus)
            load(device)
            assert_clean(device, resets=False)
        device.reset()
        assert device.fields("STATUS") == dict.fromkeys(device.fields("STATUS"), 0)
        forget_outputs(bus)
        assert_clean(device, resets=False)


def test_run_that_takes_too_long_can_be_waited_for() -> None:
    with running(seed=3) as (_, device):
        with pytest.raises(DeviceError, match=r"^no interrupt within 1000 cycles: \d epochs are done$"):
            device.run(max_cycles=1000)
        device.wait()
        assert_clean(device, resets=False)


def test_image_for_another_accelerator_is_refused_by_the_hash() -> None:
    with small_bench().session(channel_bytes=CHANNEL) as bus:
        other = dataclasses.replace(CONFIG, dma=dataclasses.replace(CONFIG.dma, buffer_beats=64))
        with pytest.raises(
            DeviceError, match=r"^the accelerator is of another configuration than chip2x4: it has 4 pods, 2 managers"
        ):
            Device(bus, other)
