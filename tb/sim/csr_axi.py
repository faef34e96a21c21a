"""Tests of the registers over AXI4-Lite."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi.axil_channels import AxiLiteARTransaction, AxiLiteAWTransaction, AxiLiteWTransaction

from .csr_registers import OKAY, SLVERR, Registers

limited_test = cocotb.test(timeout_time=500, timeout_unit="us")


async def started(dut: Any) -> Registers:
    registers = Registers(dut)
    await registers.start()
    return registers


@limited_test
async def every_register(dut: Any) -> None:
    """Reset values, read back, strobes, read-only and unknown addresses, locks; every word of the page."""
    registers = await started(dut)
    registers.check_outputs()
    for offset in registers.plain():
        await registers.check_read(offset)
    await _inputs_and_their_opposites(registers)
    for offset in range(0, 0x1000, 4):
        if offset not in registers.words:
            await registers.read(offset)
            if offset % 64 == 0 or offset - 4 in registers.words:
                await registers.write(offset, 0xFFFFFFFF)
    for busy in (0, 1):
        registers.drive("status_busy", busy)
        for offset in registers.words:
            for data, strobes in ((0xFFFFFFFF, 15), (0, 15), (registers.rng.getrandbits(32), registers.rng.getrandbits(4))):
                await registers.write(offset, data, strobes)
    for offset in registers.plain():
        await registers.check_read(offset)


async def _inputs_and_their_opposites(registers: Registers) -> None:
    """Whatever a register shows, each other bit is 0 in one reading of it and 1 in another."""
    inputs = {
        name: (width, registers.rng.getrandbits(width))
        for name, width in registers.task["inputs"].items()
        if not name.startswith(("irq_pending", "node_data_"))
    }
    for flip in (0, -1):
        for name, (width, value) in inputs.items():
            registers.drive(name, (value ^ flip) & (1 << width) - 1)
        for offset in registers.plain():
            await registers.check_read(offset)


@limited_test
async def random_traffic(dut: Any) -> None:
    """Reads and writes at once, with stalls on all channels and any strobes."""
    registers = await started(dut)
    rng, plain = registers.rng, registers.plain()
    for step in range(registers.task["steps"]):
        if step % 50 == 0:
            registers.stall(rng.choice([0, 0.3, 0.8]))
            for name, width in registers.task["inputs"].items():
                if not name.startswith(("irq_pending", "node_data_")):
                    registers.drive(name, rng.getrandbits(width))
        writable = [offset for offset, word in registers.words.items() if word["access"] != "ro"]
        target = rng.choice(writable) if rng.random() < 0.8 else 4 * rng.randrange(1024)
        reading = None
        if rng.random() < 0.5:
            reading = cocotb.start_soon(registers.check_read(rng.choice([offset for offset in plain if offset != target])))
        await registers.write(target + rng.choice([0, 0, 1, 3]), rng.getrandbits(32), rng.getrandbits(4))
        if reading:
            await reading
        if target in plain:
            await registers.check_read(target)


@limited_test
async def address_and_data_in_any_order(dut: Any) -> None:
    registers = await started(dut)
    write, offset = registers.master.write_if, registers.task["enable"]
    for late, early in ((write.aw_channel, "w"), (write.w_channel, "aw")):
        for value in (5, 10):
            late.pause = True
            writing = cocotb.start_soon(registers.write(offset, value))
            for _ in range(10):
                await FallingEdge(dut.clk)
                assert not int(dut.s_axil_bvalid.value)
            # The one that was early has been accepted and no second one is.
            assert not int(getattr(dut, f"s_axil_{early}ready").value)
            assert registers.values[offset] != value
            registers.check_outputs()
            late.pause = False
            await writing


@limited_test
async def every_transfer_has_its_response(dut: Any) -> None:
    """Several writes, and several reads, before the first response is taken; with a rest in between, or none."""
    registers = await started(dut)
    write, read, offset = registers.master.write_if, registers.master.read_if, registers.task["enable"]
    for rest in (0, 8):
        write.b_channel.pause = read.r_channel.pause = True
        for address, value in ((offset, 1), (0xFFC, 2), (offset, 3)):
            await write.aw_channel.send(AxiLiteAWTransaction(awaddr=address, awprot=0))
            await write.w_channel.send(AxiLiteWTransaction(wdata=value, wstrb=15))
        for address in (0, 0xFFC, 0):
            await read.ar_channel.send(AxiLiteARTransaction(araddr=address, arprot=0))
        for _ in range(rest):
            await RisingEdge(dut.clk)
        assert int(dut.irq_enable_done.value) == 1 or not rest
        assert not int(dut.irq_enable_error.value) or not rest
        write.b_channel.pause = read.r_channel.pause = False
        assert [int((await write.b_channel.recv()).bresp) for _ in range(3)] == [OKAY, SLVERR, OKAY]
        answers = [await read.r_channel.recv() for _ in range(3)]
        assert [int(answer.rresp) for answer in answers] == [OKAY, SLVERR, OKAY]
        assert [int(answer.rdata) for answer in answers] == [registers.expected(0), 0, registers.expected(0)]
        registers.values[offset] = 3
        registers.check_outputs()
        await registers.write(offset, 0)
        for _ in range(10):
            await RisingEdge(dut.clk)
            assert not int(dut.s_axil_bvalid.value)
            assert not int(dut.s_axil_rvalid.value)


@limited_test
async def both_words_are_of_one_moment(dut: Any) -> None:
    registers = await started(dut)
    pairs = [offset for offset, word in registers.words.items() if word["second"] and word["access"] == "ro"]
    assert pairs
    for offset in pairs:
        low, high = registers.expected(offset - 4), registers.expected(offset)
        assert await registers.read(offset - 4) == low
        for port in registers.words[offset]["ports"]:
            registers.drive(port["name"], ~registers.inputs[port["name"]] & (1 << port["total"]) - 1)
        assert await registers.read(offset) == high != registers.expected(offset)


@limited_test
async def interrupts(dut: Any) -> None:
    """An event sets its bit, stays until it is cleared, and is not lost while it is being cleared."""
    registers = await started(dut)
    pending, enable = registers.task["pending"], registers.task["enable"]
    ports = registers.words[pending]["ports"]
    for port in ports:
        bit = 1 << port["low"]
        await registers.write(enable, 15 & ~bit)
        registers.drive(port["name"], 1)
        await RisingEdge(dut.clk)
        registers.drive(port["name"], 0)
        await RisingEdge(dut.clk)
        registers.values[pending] |= bit
        await registers.check_read(pending)
        registers.check_outputs()
        await registers.write(enable, bit)
        await registers.write(pending, 15 & ~bit)
        await registers.write(pending, bit)
        writing = cocotb.start_soon(registers.raw_write(pending, bit, 15))
        # Both are held: this is the cycle in which the write takes effect.
        while int(dut.s_axil_awready.value) or int(dut.s_axil_wready.value):
            await FallingEdge(dut.clk)
        registers.drive(port["name"], 1)
        await FallingEdge(dut.clk)
        registers.drive(port["name"], 0)
        assert await writing == OKAY
        registers.values[pending] |= bit
        await RisingEdge(dut.clk)
        await registers.check_read(pending)
        await registers.write(pending, bit)


@limited_test
async def slow_reads(dut: Any) -> None:
    """NODE_DATA is answered when the node has; other registers can be written meanwhile."""
    registers = await started(dut)
    (slow,) = (offset for offset, word in registers.words.items() if word["slow"])
    for wait, error in ((1, 0), (2, 0), (20, 0), (3, 1)):
        reading = cocotb.start_soon(registers.master.read(slow, 4))
        while not int(dut.node_data_read.value):
            await FallingEdge(dut.clk)
        await registers.write(registers.task["enable"], wait & 15) if wait == 20 else None
        for _ in range(wait):
            await FallingEdge(dut.clk)
            assert not int(dut.node_data_read.value)
            assert not int(dut.s_axil_rvalid.value)
        registers.drive("node_data", 1000 + wait)
        registers.drive("node_data_error", error)
        registers.drive("node_data_done", 1)
        await FallingEdge(dut.clk)
        registers.drive("node_data_done", 0)
        registers.drive("node_data", 0)
        answer = await reading
        assert answer.resp == (SLVERR if error else OKAY)
        assert int.from_bytes(answer.data, "little") == (0 if error else 1000 + wait)


@limited_test
async def reset_in_mid_transfer(dut: Any) -> None:
    registers = await started(dut)
    registers.master.write_if.w_channel.pause = True
    cocotb.start_soon(registers.master.write(registers.task["enable"], b"\x0f\0\0\0"))
    for _ in range(6):
        await RisingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    assert not int(dut.s_axil_bvalid.value)
    assert not int(dut.s_axil_rvalid.value)
    dut.rst.value = 0
    registers.master.write_if.w_channel.pause = False
    for _ in range(5):
        await RisingEdge(dut.clk)
    await registers.write(registers.task["enable"], 6)
    await registers.check_read(registers.task["enable"])
