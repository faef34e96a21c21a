"""Runs over AXI4-Lite, with a chip and engines of a few lines: what software sees is what happened on the ports."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

limited_test = cocotb.test(timeout_time=500, timeout_unit="us")
EPOCH_CYCLES = 20
STALLS = ("gate", "cap", "gap", "buffer", "bus")
EVENTS = ("write_beat", *(f"stall_{stall}" for stall in STALLS), "read_beat")
LINK_EVENTS = {"sent": "link_sent", "received": "link_received", "waits": "wait_neighbour"}
NO_COLLECTIVE = 0xFFFF


class Accelerator:
    """The control, its bus, and everything around it. Counts what it sees on the ports, in cycles with a run."""

    def __init__(self, dut: Any):
        self.dut = dut
        self.task = json.loads(Path("task.json").read_text(encoding="utf-8"))
        self.managers: int = self.task["managers"]
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.seen: dict[str, int] = {}
        self.chip = {"waiting": 0, "busy": 0}
        self.links: bool = self.task["links"]
        self.collective = {"busy": 0, "epoch": NO_COLLECTIVE, "next": NO_COLLECTIVE, "cycles": EPOCH_CYCLES}
        self.reads: list[tuple[int, int, int]] = []
        self.cycle = 0

    async def start(self) -> None:
        dut = self.dut
        Clock(dut.clk, 2, "ns").start()
        for name in self.task["inputs"]:
            getattr(dut, name).value = 0
        dut.engine_quiet.value = (1 << self.managers) - 1
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(dut.clk)
        assert int(dut.core_reset.value)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        cocotb.start_soon(self._surroundings())

    async def _surroundings(self) -> None:
        """Every cycle: random events of the engines, the chip's next state, and what is read over its load ports."""
        dut, rng = self.dut, self.rng
        while True:
            await FallingEdge(dut.clk)
            # Every event has a rate of its own, so that none is taken for another.
            events = {name: self._some(rate / 8) for rate, name in enumerate(EVENTS, 1)}
            classes = rng.choices(range(3), [1, 2, 4], k=self.managers)
            for name, value in events.items():
                getattr(dut, f"engine_{name}").value = value
            dut.engine_read_class.value = sum(kind << 2 * i for i, kind in enumerate(classes))
            moves = {name: self.links and rng.random() < rate for name, rate in zip(LINK_EVENTS, (0.9, 0.6, 0.2), strict=True)}
            for name, value in moves.items():
                if self.links:
                    getattr(dut, f"link_{name}").value = int(value)
            self._answer_reads()
            await RisingEdge(dut.clk)
            self.cycle += 1
            if int(dut.core_reset.value):
                self._count(core_reset=1)
                self.chip = {"waiting": 0, "busy": 0}
            if int(dut.engine_start.value):
                # The cycle of START, and the one after it, in which the counters are cleared and the engines not started.
                before = self.seen.get("core_reset", 0)
                self.seen = {"core_reset": before}
                self.began = self.cycle
            reads, writes = events["read_beat"], events["write_beat"]
            self._count(hbm_busy=(reads | writes).bit_count(), write_beats=writes.bit_count())
            for kind, name in enumerate(("descriptor", "demand", "prefetch")):
                self._count(**{f"{name}_beats": sum(reads >> i & 1 for i in range(self.managers) if classes[i] == kind)})
            self._count(**{f"stall_{stall}": events[f"stall_{stall}"].bit_count() for stall in STALLS})
            self._count(**{counter: int(moves[name]) for name, counter in LINK_EVENTS.items()})
            self._step_chip()
            if self.links:
                self._step_collective()

    def _some(self, rate: float) -> int:
        """Bits of managers."""
        return sum((self.rng.random() < rate) << i for i in range(self.managers))

    def _count(self, **events: int) -> None:
        for name, count in events.items():
            self.seen[name] = self.seen.get(name, 0) + count

    def _step_chip(self) -> None:
        """As the sequencer of a chip: an epoch begins one cycle after it is let go."""
        dut, chip = self.dut, self.chip
        if chip["busy"]:
            chip["busy"] -= 1
        elif chip["waiting"] and not int(dut.chip_hold.value):
            chip["busy"], chip["waiting"] = EPOCH_CYCLES, chip["waiting"] - 1
            self._count(run_cycles=EPOCH_CYCLES + 1)
        if int(dut.chip_start.value):
            chip["waiting"] = int(dut.chip_epochs.value)
        dut.chip_busy.value = int(chip["busy"] > 0)

    def _step_collective(self) -> None:
        """As a collective engine: it begins when it is told to, and then is on for some cycles, unless it is stopped."""
        dut, collective = self.dut, self.collective
        if int(dut.engine_start.value):
            collective["epoch"] = int(dut.link_first.value)
        if int(dut.link_stop.value):
            collective["busy"] = 0
        elif collective["busy"]:
            collective["busy"] -= 1
            if not collective["busy"]:
                collective["epoch"] = collective["next"]
        elif int(dut.link_begin.value):
            collective["busy"] = collective["cycles"]
        dut.link_busy.value = int(collective["busy"] > 0)
        dut.link_epoch.value = collective["epoch"]

    def _answer_reads(self) -> None:
        """A node answers with a word that names it and what was asked for, on all the bits above those that are read too."""
        dut, width = self.dut, self.task["host_bits"]
        valid, units, addresses, selects = (
            int(getattr(dut, f"host_{name}").value) for name in ("valid", "unit", "address", "select")
        )
        ports = self.task["port"]
        for i in range(self.managers):
            if valid >> i & 1 and not int(dut.engine_host_valid.value) >> i & 1:
                fields = [
                    word >> ports[name] * i & (1 << ports[name]) - 1
                    for name, word in (("unit", units), ("select", selects), ("address", addresses))
                ]
                word = self.rng.getrandbits(width - 32) << 32 | sum(f << 8 * k for k, f in enumerate([i, *fields]))
                self.reads.append((self.cycle + self.task["latency"], i, word))
        due = [read for read in self.reads if read[0] == self.cycle]
        dut.host_read_data.value = sum(word << width * i for _, i, word in due)

    async def write(self, name: str, value: int, manager: int = 0) -> None:
        entry = self.task["registers"][name]
        data = value.to_bytes(4 * entry["words"], "little")
        answer = await self.bus.write(entry["offset"] + self.task["pitch"] * manager, data)
        assert answer.resp == AxiResp.OKAY, name

    async def read(self, name: str, manager: int = 0) -> int:
        entry = self.task["registers"][name]
        answer = await self.bus.read(entry["offset"] + self.task["pitch"] * manager, 4 * entry["words"])
        assert answer.resp == AxiResp.OKAY, name
        return int.from_bytes(answer.data, "little")

    async def finish(self, cycles: int = 400) -> None:
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
            if int(self.dut.irq.value):
                return
        raise AssertionError(f"no interrupt within {cycles} cycles")

    async def assert_counts(self, counter: str, event: str) -> int:
        """In some cycles a counter grows by as much as was seen of an event; returns by how much."""
        before = dict(self.seen), await self.read(counter.upper()), dict(self.seen)
        for _ in range(200):
            await RisingEdge(self.dut.clk)
        after = dict(self.seen), await self.read(counter.upper()), dict(self.seen)
        grown = after[1] - before[1]
        low, high = after[0][event] - before[2][event], after[2][event] - before[0][event]
        # A read takes a few cycles; other events differ from these by more.
        assert low - 4 * self.managers <= grown <= high + 4 * self.managers, f"{counter}: {low} {grown} {high}"
        return grown

    def complete(self, demand: int, prefetch: int) -> None:
        for name, count in (("demand", demand), ("prefetch", prefetch)):
            getattr(self.dut, f"engine_{name}_complete").value = sum(count << 16 * i for i in range(self.managers))


async def ready(dut: Any) -> Accelerator:
    """Rings of other places and sizes for each manager, three epochs, interrupts on."""
    accelerator = Accelerator(dut)
    await accelerator.start()
    for i in range(accelerator.managers):
        for k, ring in enumerate(("DEMAND", "PREFETCH")):
            await accelerator.write(f"{ring}_BASE", 0x1000 * (i + 1) + 0x400 * k, i)
            await accelerator.write(f"{ring}_SIZE", 10 * (i + 1) + k, i)
            await accelerator.write(f"{ring}_TAIL", 20 * (i + 1) + k, i)
    for name, value in (("MEMORY_BYTES", 1 << 31), ("EPOCHS", 3), ("CAP", 77), ("IRQ_ENABLE", 1)):
        await accelerator.write(name, value)
    return accelerator


@limited_test
async def settings_reach_the_engines(dut: Any) -> None:
    accelerator = await ready(dut)
    width = accelerator.task["address_width"]
    for i in range(accelerator.managers):
        for k, ring in enumerate(("demand", "prefetch")):
            base, size, tail = (int(getattr(dut, f"engine_{ring}_{what}").value) for what in ("base", "size", "tail"))
            assert base >> width * i & (1 << width) - 1 == 0x1000 * (i + 1) + 0x400 * k
            assert (size >> 32 * i & 0xFFFFFFFF, tail >> 32 * i & 0xFFFFFFFF) == (10 * (i + 1) + k, 20 * (i + 1) + k)
    assert (int(dut.engine_memory_bytes.value), int(dut.engine_cap.value), int(dut.engine_enable.value)) == (1 << 31, 77, 1)
    await accelerator.write("OPTIONS", 0)
    assert not int(dut.engine_enable.value)
    numbers = range(1, accelerator.task["base_registers"] + 1)
    for number in numbers:
        await accelerator.write(f"BASE{number}", number << width - 5 | 7 * number)
    if numbers:
        assert int(dut.engine_bases.value) == sum((n << width - 5 | 7 * n) << width * (n - 1) for n in numbers)


@limited_test
async def a_run(dut: Any) -> None:
    """Two runs in a row: status, interrupt, and every counter against what was on the ports."""
    accelerator = await ready(dut)
    dut.chip_cycles.value, dut.chip_total_cycles.value = 123, 456
    for _ in range(2):
        accelerator.complete(9, 9)
        await accelerator.write("CONTROL", 1)
        await accelerator.finish()
        assert await accelerator.read("STATUS") == 2
        assert await accelerator.read("EPOCHS_DONE") == 3
        assert (await accelerator.read("EPOCH_CYCLES"), await accelerator.read("TOTAL_CYCLES")) == (123, 456)
        assert [await accelerator.read(f"PREFETCH_{name}") for name in ("HITS", "LATE", "UNUSED")] == [2, 1, 0]
        # Start and launch, three gaps of a cycle and a last one, epochs, and four cycles of quiet.
        assert await accelerator.read("CYCLES") == 2 + 4 + 3 * (EPOCH_CYCLES + 1) + 4
        assert await accelerator.read("RUN_CYCLES") == 3 * (EPOCH_CYCLES + 1) == accelerator.seen["run_cycles"]
        assert await accelerator.read("IRQ_PENDING") == 0b101
        await accelerator.write("IRQ_PENDING", 0xF)
        assert not int(dut.irq.value)
    assert accelerator.seen["core_reset"] == 0


@limited_test
async def events_are_counted_by_their_names(dut: Any) -> None:
    """Counters grow between two reads by what was on the ports between them."""
    accelerator = await ready(dut)
    await accelerator.write("CONTROL", 1)
    names = ["write_beats", "hbm_busy", *(f"{kind}_beats" for kind in ("descriptor", "demand", "prefetch"))]
    names += [f"stall_{stall}" for stall in STALLS]
    for _ in range(10):
        await RisingEdge(dut.clk)
    for name in names:
        await accelerator.assert_counts(name, name)
    assert await accelerator.read("WAIT_PREFETCH") > 1000
    accelerator.complete(0, 9)
    first = await accelerator.read("WAIT_DEMAND")
    assert await accelerator.read("WAIT_DEMAND") > first
    accelerator.complete(3, 3)
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert await accelerator.read("WAIT_STORE") > 10
    accelerator.complete(4, 4)
    await accelerator.finish()


@limited_test
async def errors_and_resets(dut: Any) -> None:
    accelerator = await ready(dut)
    last = accelerator.managers - 1
    await accelerator.write("CONTROL", 1)
    dut.engine_unconsumed.value = sum(11 << 40 * i for i in range(accelerator.managers))
    dut.engine_error.value = 8 << 4 * last
    dut.engine_error_tag.value = 0x1234 << 16 * last
    dut.engine_error_ring.value = 1 << last
    dut.engine_error_address.value = 0xCAFE40 << accelerator.task["address_width"] * last
    dut.chip_network_error.value = 0b0101011
    await accelerator.finish()
    assert await accelerator.read("STATUS") == 0b110
    assert await accelerator.read("ERROR_SOURCE") == 1 | last << 8
    assert await accelerator.read("ERROR", last) == 0x1234_0108
    assert await accelerator.read("ERROR_ADDRESS", last) == 0xCAFE40
    assert (await accelerator.read("NETWORK_ERROR"), await accelerator.read("CHIP_ERROR")) == (0b0101011, 0b10)
    assert await accelerator.read("PREFETCH_UNUSED") == 11 * accelerator.managers
    assert await accelerator.read("IRQ_PENDING") == 0b11
    await accelerator.write("IRQ_PENDING", 0xF)
    dut.engine_error.value = 0
    await accelerator.write("CONTROL", 1)
    accelerator.complete(9, 2)
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert accelerator.seen["core_reset"] == 4
    assert await accelerator.read("EPOCHS_DONE") == 2
    assert await accelerator.read("COMPLETE", last) == 9 | 2 << 16
    # A start during the run is refused; cancelling reaches the engine that it names.
    await accelerator.write("CONTROL", 1)
    assert await accelerator.read("STATUS") == 0x111
    cancelling = cocotb.start_soon(accelerator.write("CANCEL", 0x55 | last << 16))
    while not int(dut.engine_cancel_valid.value):
        await FallingEdge(dut.clk)
    assert (int(dut.engine_cancel_valid.value), int(dut.engine_cancel_tag.value)) == (1 << last, 0x55)
    await cancelling
    await accelerator.write("CONTROL", 2)
    await accelerator.finish()
    assert int(dut.engine_stop.value)
    assert await accelerator.read("STATUS") == 0x11A
    await accelerator.write("CONTROL", 8)
    assert (await accelerator.read("STATUS"), await accelerator.read("CYCLES")) == (0, 0)
    await accelerator.write("CONTROL", 4)
    for _ in range(10):
        await RisingEdge(dut.clk)
    assert await accelerator.read("STATUS") == 0
    assert accelerator.seen["core_reset"] == 8


@limited_test
async def nodes_are_read_between_loads(dut: Any) -> None:
    """NODE_DATA comes from the node that it names, when its engine leaves the load port alone."""
    accelerator = await ready(dut)
    each = accelerator.task["nodes"] // accelerator.managers
    for node in range(accelerator.task["nodes"]):
        for what, index in ((0, 9), (1, 4), (0, 2)):
            manager = node // each
            dut.engine_host_valid.value = 1 << manager
            dut.engine_host_select.value = 0
            await accelerator.write("NODE_SELECT", node | what << 8 | index << 16)
            reading = cocotb.start_soon(accelerator.read("NODE_DATA"))
            for _ in range(30):
                await RisingEdge(dut.clk)
            assert not int(dut.s_axil_rvalid.value)
            dut.engine_host_valid.value = 0
            assert await reading == manager | node % each << 8 | (8 + what) << 16 | index << 24
    for wrong in (accelerator.task["nodes"], 255, 10 << 16, 1 << 8 | 5 << 16):
        await accelerator.write("NODE_SELECT", wrong)
        answer = await accelerator.bus.read(accelerator.task["registers"]["NODE_DATA"]["offset"], 4)
        assert answer.resp == AxiResp.SLVERR


@limited_test
async def collectives(dut: Any) -> None:
    """Epoch 1 of three is a collective: settings, its cycles, and events that are counted by their names."""
    accelerator = await ready(dut)
    for name, value in (("FIRST_COLLECTIVE", 1), ("LINK_RUN", 9), ("LINK_TIMEOUT", 0x12345678)):
        await accelerator.write(name, value)
        assert await accelerator.read(name) == value
    settings = [int(getattr(dut, f"link_{name}").value) for name in ("first", "run", "timeout")]
    assert settings == [1, 9, 0x12345678]
    accelerator.collective["cycles"] = 2000
    accelerator.complete(2, 2)
    await accelerator.write("CONTROL", 1)
    while not int(dut.link_busy.value):
        await RisingEdge(dut.clk)
    names = {counter: counter for counter in LINK_EVENTS.values()} | {"beneath_beats": "prefetch_beats"}
    for name, event in names.items():
        assert await accelerator.assert_counts(name, event) > 20, name
    while int(dut.link_busy.value):
        await RisingEdge(dut.clk)
    # What comes while the next epoch waits is beneath nothing.
    beneath = await accelerator.read("BENEATH_BEATS")
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert await accelerator.read("BENEATH_BEATS") == beneath
    accelerator.complete(9, 9)
    await accelerator.finish()
    assert await accelerator.read("STATUS") == 2
    assert await accelerator.read("EPOCHS_DONE") == 3
    assert await accelerator.read("COLLECTIVE_CYCLES") == 2000 + 1
    assert await accelerator.read("RUN_CYCLES") == 2 * (EPOCH_CYCLES + 1) == accelerator.seen["run_cycles"]


@limited_test
async def a_collective_fails(dut: Any) -> None:
    accelerator = await ready(dut)
    await accelerator.write("FIRST_COLLECTIVE", 0)
    accelerator.collective["cycles"] = 2000
    accelerator.complete(9, 9)
    await accelerator.write("CONTROL", 1)
    for _ in range(50):
        await RisingEdge(dut.clk)
    assert int(dut.link_busy.value)
    dut.link_error.value, dut.link_error_id.value = 7, 0x321
    await accelerator.finish()
    assert int(dut.link_stop.value)
    assert await accelerator.read("STATUS") == 0b110
    assert await accelerator.read("ERROR_SOURCE") == 4
    assert await accelerator.read("LINK_ERROR") == 0x0321_0007
    assert await accelerator.read("EPOCHS_DONE") == 0
