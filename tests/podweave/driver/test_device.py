"""A device as software sees it, on a bus of dictionaries: what it writes, reads, says and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.memory.image import OffsetMap
from podweave.driver.device import Device, DeviceError, Start
from podweave.spec.descriptors import PrefetchError
from podweave.spec.errors import BankError, NetworkId, NodeErrors, PodError, PostError
from podweave.spec.links import NO_COLLECTIVE, LinkError
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import Counter
from podweave.spec.register_map import ErrorSource, NodeWords, Refusal, counters
from tests.podweave.driver.fake_bus import CHANNEL, Effect, FakeBus, small_image
from tests.podweave.runs.small_accelerator import CONFIG


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


def test_base_registers(bus: FakeBus, device: Device) -> None:
    device.set_base(1, (1 << 33) - 1)
    device.set_base(2, 0x1_0000_0004)
    assert (bus.value("BASE1"), bus.value("BASE2")) == ((1 << 33) - 1, 0x1_0000_0004)
    bus.log.clear()
    wrong = {
        (0, 1): "chip2x4 has no base register BASE0: it has BASE1 to BASE2",
        (3, 1): "chip2x4 has no base register BASE3: it has BASE1 to BASE2",
        (1, -1): "BASE1 holds 0 to 0x1ffffffff, got -0x1",
        (2, 1 << 33): "BASE2 holds 0 to 0x1ffffffff, got 0x200000000",
    }
    for (number, value), sentence in wrong.items():
        with pytest.raises(DeviceError, match=f"^{sentence}$"):
            device.set_base(number, value)
    assert not bus.log
    device.load(small_image())
    assert (bus.value("BASE1"), bus.value("BASE2")) == (0, 0)


def test_load_refuses_what_would_not_run(bus: FakeBus) -> None:
    device = Device(bus, CONFIG)
    other = dataclasses.replace(small_image(), config=CONFIG.replace(x_words=128, name="tiny"))
    with pytest.raises(DeviceError, match=r"^the image is for tiny, the device is a chip2x4 of another configuration$"):
        device.load(other)
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
    assert all(what == "read" for what, _ in bus.log)


def write_zeros(device: Device) -> None:
    device.write_input("image", np.zeros((1, 1, 2, 3), np.int8))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda device: device.load(small_image()), "no program can be loaded"),
        (lambda device: device.select(small_image()), "no program can be selected"),
        (write_zeros, "no input can be written"),
        (lambda device: device.read_input("image"), "no input can be read"),
        (lambda device: device.read_output("logits"), "no output can be read"),
        (lambda device: device.start(Start(prefetch=False, cap=7)), "no other run can be started"),
        (lambda device: device.run(), "no other run can be started"),
        (lambda device: device.set_base(2, 8), "BASE2 cannot be set"),
    ],
)
def test_what_would_disturb_a_run_is_refused(bus: FakeBus, device: Device, call: Callable[[Device], None], what: str) -> None:
    bus.commands["START"] = lambda bus: bus.set("STATUS", BUSY=1)
    device.start()
    bus.set("IRQ_PENDING", EPOCH=1)
    bus.log.clear()
    registers, memory = dict(bus.words), bus.memory.copy()
    with pytest.raises(DeviceError, match=f"^{what} while a run is on: wait for its end, or abort it and wait$"):
        call(device)
    assert bus.words == registers
    assert (bus.memory == memory).all()
    assert all(kind == "read" for kind, _ in bus.log)
    assert not bus.waits
    bus.set("STATUS", DONE=1)
    call(device)


def test_what_only_looks_is_legal_during_a_run(bus: FakeBus, device: Device) -> None:
    bus.commands |= {"START": lambda bus: bus.set("STATUS", BUSY=1), "ABORT": lambda bus: bus.set("STATUS", DONE=1, ABORTED=1)}
    device.start()
    assert device.counters().device["CYCLES"] == 0
    assert device.errors() == []
    device.abort()
    assert device.fields("STATUS")["ABORTED"]


def test_program_that_is_not_all_in_memory_is_not_loaded(bus: FakeBus, device: Device) -> None:
    image = small_image()
    with pytest.raises(AssertionError):
        device.load(dataclasses.replace(image, content=(*image.content, (2 * CHANNEL, np.zeros(1, np.uint8)))))
    with pytest.raises(DeviceError, match=r"^no program is loaded$"):
        device.start()


def test_output_that_is_not_all_in_memory_is_refused(bus: FakeBus) -> None:
    device, image = Device(bus, CONFIG), small_image()
    whole = image.outputs["logits"]
    for elements, missing in (([3, 0, 1], 1), ([3, 0], 2), ([3, 3, 1], 2), ([], 4)):
        part = dataclasses.replace(whole, addresses=whole.addresses[: len(elements)], elements=np.array(elements, np.int64))
        device.load(dataclasses.replace(image, outputs={"logits": part}))
        sentence = f"output logits is not all in memory: {missing} of its 4 bytes are stored nowhere"
        with pytest.raises(DeviceError, match=f"^{sentence}$"):
            device.read_output("logits")


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
    device.start(Start(prefetch=prefetch, cap=cap))
    assert seen == [(int(prefetch), cap, 1, 0)]


@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason])
def test_refused_start_says_why(bus: FakeBus, device: Device, reason: Refusal) -> None:
    bus.commands["START"] = lambda bus: bus.set("STATUS", REFUSED=1, REASON=reason)
    sentence = {Refusal.BUSY: "busy", Refusal.EPOCHS: "epochs", Refusal.RING_BASE: "ring base", Refusal.RING_SIZE: "ring size"}
    sentence[Refusal.PASSES] = "passes"
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
    bus.set("ERROR", 1, CODE=PrefetchError.READ_SLVERR, RING=1, TAG=4)
    bus.set("ERROR_ADDRESS", 1, VALUE=0x1_2345_6780)


def two_engine_errors(bus: FakeBus) -> None:
    engine_error(bus)
    bus.set("ERROR", 0, CODE=PrefetchError.BAD_TARGET, TAG=2)
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


LINKED = dataclasses.replace(CONFIG, links=LinksConfig(flit_bits=32))


def linked(first_collective: int = NO_COLLECTIVE) -> tuple[FakeBus, Device]:
    bus = FakeBus(LINKED)
    device = Device(bus, LINKED)
    device.load(dataclasses.replace(small_image(), config=LINKED, first_collective=first_collective))
    return bus, device


def test_a_run_with_collectives_has_a_first_one_and_a_number() -> None:
    bus, device = linked()
    device.start()
    assert (bus.value("FIRST_COLLECTIVE"), bus.value("LINK_RUN")) == (NO_COLLECTIVE, 1)
    assert bus.value("OPTIONS") == 3
    bus, device = linked(3)
    device.run(Start(link_run=15, beneath=False))
    assert (bus.value("FIRST_COLLECTIVE"), bus.value("LINK_RUN")) == (3, 15)
    assert bus.value("OPTIONS") == 1
    # The number after the last is the first one again.
    device.run(Start(prefetch=False))
    assert (bus.value("FIRST_COLLECTIVE"), bus.value("LINK_RUN")) == (3, 0)
    assert bus.value("OPTIONS") == 2
    with pytest.raises(DeviceError, match="LINK_RUN holds 0 to 15, got 16"):
        device.start(Start(link_run=16))
    assert (bus.value("FIRST_COLLECTIVE"), bus.value("LINK_RUN")) == (3, 0)


def test_without_links_there_are_no_collectives(bus: FakeBus, device: Device) -> None:
    with pytest.raises(DeviceError, match="chip2x4 has no links: no run of it has collectives"):
        device.start(Start(link_run=1))
    assert bus.value("CONTROL") == 0
    device.run()
    assert bus.value("OPTIONS") == 1


def test_an_error_of_a_collective_is_told_with_its_id() -> None:
    bus, device = linked()

    def start(bus: FakeBus) -> None:
        bus.set("STATUS", DONE=1, ERROR=1)
        bus.set("ERROR_SOURCE", SOURCE=ErrorSource.LINK)
        bus.set("LINK_ERROR", CODE=LinkError.WRONG_LENGTH, ID=12)

    assert device.errors() == []
    bus.commands["START"] = start
    with pytest.raises(DeviceError, match=r"^collective engine: wrong length \(collective 12\)$"):
        device.run()
    bus.set("COLLECTIVE_CYCLES", VALUE=77)
    assert device.counters().device["COLLECTIVE_CYCLES"] == 77


def test_counters_are_read_whole(bus: FakeBus, device: Device) -> None:
    expected: dict[str, int] = {}
    for number, (name, bits, _) in enumerate(counters(CONFIG), start=1):
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


def test_an_offset_is_base_registers(bus: FakeBus, device: Device) -> None:
    device.load(dataclasses.replace(small_image(), offsets={"offset": OffsetMap(1, 2, 16, 3)}))
    device.write_input("offset", np.full((1, 1, 1, 1), 3, np.int32))
    assert [bus.value(f"BASE{number}") for number in (1, 2)] == [3, 48]
    for wrong in (-1, 4):
        with pytest.raises(DeviceError, match=f"input offset is one number from 0 to 3, got .*{wrong}"):
            device.write_input("offset", np.full((1, 1, 1, 1), wrong, np.int32))
    with pytest.raises(DeviceError, match=r"it has image, other, offset$"):
        device.write_input("y", np.zeros((1, 1, 1, 1), np.int8))
