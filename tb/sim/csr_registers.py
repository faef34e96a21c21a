"""The registers as a bench knows them: driven over AXI4-Lite, held against a table of what each word is, on their ports too."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp
from cocotbext.axi.axil_channels import AxiLiteAWTransaction, AxiLiteWTransaction

OKAY, SLVERR = AxiResp.OKAY, AxiResp.SLVERR


class Registers:
    """The registers as they should be. ``words``: by offset, a table entry with access, reset value, mask and ports."""

    def __init__(self, dut: Any):
        self.dut = dut
        self.task = json.loads(Path("task.json").read_text(encoding="utf-8"))
        self.words: dict[int, dict[str, Any]] = {word["offset"]: word for word in self.task["words"]}
        self.values = {offset: word["reset"] for offset, word in self.words.items() if word["access"] in ("rw", "w1c")}
        self.inputs: dict[str, int] = {}
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.pulses: dict[str, int] = {}

    async def start(self) -> None:
        dut = self.dut
        Clock(dut.clk, 2, "ns").start()
        for name, width in self.task["inputs"].items():
            self.drive(name, 0 if name.startswith(("irq_pending", "status_busy", "node_data_")) else self.rng.getrandbits(width))
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        cocotb.start_soon(self._watch_protocol())
        cocotb.start_soon(self._watch_pulses())

    def drive(self, name: str, value: int) -> None:
        self.inputs[name] = value
        getattr(self.dut, name).value = value

    def stall(self, probability: float) -> None:
        """Let all channels pause at random."""

        def pauses() -> Iterator[bool]:
            while True:
                yield self.rng.random() < probability

        write, read = self.master.write_if, self.master.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(pauses())

    async def _watch_protocol(self) -> None:
        """What is offered stays as it is until it is taken."""
        dut = self.dut
        before: dict[str, int] = {}
        while True:
            await FallingEdge(dut.clk)
            for channel, payload in (("b", "bresp"), ("r", "rdata")):
                valid, ready = (int(getattr(dut, f"s_axil_{channel}{name}").value) for name in ("valid", "ready"))
                content = int(getattr(dut, f"s_axil_{payload}").value)
                if channel in before:
                    assert valid, f"{channel}valid fell before it was taken"
                    assert content == before[channel], f"{payload} changed before it was taken"
                before.pop(channel, None)
                if valid and not ready:
                    before[channel] = content

    async def _watch_pulses(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            for name in self.task["pulses"]:
                self.pulses[name] = self.pulses.get(name, 0) + int(getattr(self.dut, name).value)

    async def raw_write(self, address: int, data: int, strobes: int) -> AxiResp:
        write = self.master.write_if
        await write.aw_channel.send(AxiLiteAWTransaction(awaddr=address, awprot=0))
        await write.w_channel.send(AxiLiteWTransaction(wdata=data, wstrb=strobes))
        return AxiResp(int((await write.b_channel.recv()).bresp))

    async def write(self, address: int, data: int, strobes: int = 15) -> None:
        """Write, and check the response, the effect on all outputs and that nothing else changed."""
        word = self.words.get(address & ~3)
        allowed = word is not None and word["access"] != "ro" and not (word["locked"] and self.inputs["status_busy"])
        self.pulses.clear()
        response = await self.raw_write(address, data, strobes)
        assert response == (OKAY if allowed else SLVERR), f"write of {address:#x}: {response.name}"
        await RisingEdge(self.dut.clk)
        mask = sum(0xFF << 8 * i for i in range(4) if strobes >> i & 1)
        pulses = dict.fromkeys(self.task["pulses"], 0)
        if allowed:
            assert word is not None
            offset, kind = word["offset"], word["access"]
            if kind == "rw":
                self.values[offset] = ((self.values[offset] & ~mask) | (data & mask)) & word["mask"]
            elif kind == "w1c":
                self.values[offset] &= ~(data & mask)
            elif kind == "pulse":
                pulses |= {port["name"]: (data & mask) >> port["low"] & 1 for port in word["ports"]}
            elif strobes:
                pulses[word["valid"]] = 1
                for port in word["ports"]:
                    assert int(getattr(self.dut, port["name"]).value) == (data & mask) >> port["low"] & (1 << port["width"]) - 1
        assert {name: self.pulses.get(name, 0) for name in pulses} == pulses, f"write of {address:#x}"
        self.check_outputs()

    def check_outputs(self) -> None:
        for offset, word in self.words.items():
            if word["access"] == "rw":
                for port in word["ports"]:
                    found = int(getattr(self.dut, port["name"]).value) >> port["first"] & (1 << port["width"]) - 1
                    expected = self.values[offset] >> port["low"] & (1 << port["width"]) - 1
                    assert found == expected, f"{port['name']} shows {found:#x}, expected {expected:#x}"
        pending, enable = (self.task[name] for name in ("pending", "enable"))
        assert int(self.dut.irq.value) == bool(self.values[pending] & self.values[enable]), "irq"

    def expected(self, offset: int) -> int:
        word = self.words[offset]
        if word["access"] in ("rw", "w1c"):
            return self.values[offset]
        if word["constant"] or word["access"] != "ro":
            return word["reset"] if word["constant"] else 0
        fields = ((self.inputs[port["name"]] >> port["first"] & (1 << port["width"]) - 1) << port["low"] for port in word["ports"])
        return sum(fields)

    async def read(self, address: int) -> int:
        """Read; what is unknown answers SLVERR and 0."""
        answer = await self.master.read(address, 4)
        known = address & ~3 in self.words
        assert answer.resp == (OKAY if known else SLVERR), f"read of {address:#x}: {answer.resp.name}"
        value = int.from_bytes(answer.data, "little")
        assert known or value == 0
        return value

    async def check_read(self, offset: int) -> None:
        """Read a word that does not need the one before it."""
        expected, found = self.expected(offset), await self.read(offset)
        assert found == expected, f"register at {offset:#x} reads {found:#x}, expected {expected:#x}"

    def plain(self) -> list[int]:
        """Words that can be read by themselves."""
        return [offset for offset, word in self.words.items() if not word["second"] and not word["slow"]]
