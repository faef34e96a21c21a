"""The rules of AXI on buses by hand: each is broken once, and told by its name and in its cycle; legal traffic breaks none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from amaranth.sim import Simulator

from podweave.formal.axi import AddressRules, LiteRules, ReadRules, WriteRules

Cycles = Sequence[dict[str, int]]


def told(rules: Any, cycles: Cycles, output: str = "broken") -> list[tuple[int, str]]:
    """(cycle, rule) of each that is broken; signals are 0 where a cycle does not say."""
    names = rules.RULES if output == "broken" else getattr(rules, "MEMORY_RULES", None) or rules.MANAGER_RULES
    found = []

    async def bench(context: Any) -> None:
        inputs = [name for name, member in rules.signature.members.items() if member.flow.name == "In"]
        for number, cycle in enumerate(cycles):
            for name in inputs:
                context.set(getattr(rules, name), cycle.get(name, 0))
            await context.delay(1e-9)
            value = context.get(getattr(rules, output))
            found.extend((number, says) for i, says in enumerate(names) if value >> i & 1)
            await context.tick()

    simulator = Simulator(rules)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def burst(addr: int, length: int = 0, **changes: int) -> dict[str, int]:
    return {"valid": 1, "ready": 1, "addr": addr, "len": length, "size": 3, "burst": 1} | changes


CHANGED = "valid or what comes with it changed before ready"
RESET = "valid in the first cycle behind a reset"


@pytest.mark.parametrize(
    ("cycles", "expected"),
    [
        ([{}, burst(0x0FC0, 7), burst(0x1000, 255), {}], []),
        ([{}, burst(0x40, ready=0), burst(0x40, ready=0), burst(0x40)], []),
        ([burst(0)], [(0, RESET)]),
        ([{}, burst(0x40, ready=0), {}], [(2, CHANGED)]),
        ([{}, burst(0x40, ready=0), burst(0x48)], [(2, CHANGED)]),
        ([{}, burst(0x40, burst=2)], [(1, "not a burst of incrementing addresses")]),
        ([{}, burst(0x40, size=4)], [(1, "beats are wider than the bus")]),
        ([{}, burst(0x0FC0, 8)], [(1, "the burst crosses a multiple of 4 KiB")]),
        ([{}, burst(0x0FFC, 1, size=3)], [(1, "the burst crosses a multiple of 4 KiB")]),
    ],
)
def test_addresses(cycles: Cycles, expected: list[tuple[int, str]]) -> None:
    assert told(AddressRules(32, 64), cycles) == expected


def beat(last: int = 0, **changes: int) -> dict[str, int]:
    return {"valid": 1, "ready": 1, "data": 5, "strb": 255, "last": last} | changes


START, TWO = {"announced": 1, "length": 0}, {"announced": 1, "length": 1}
RESPONSE = {"bvalid": 1, "bready": 1}
LAST = "last is not on the last beat, or on another one"


@pytest.mark.parametrize(
    ("cycles", "broken", "wrong"),
    [
        ([TWO, beat(), START | beat(1), beat(1) | RESPONSE, RESPONSE], [], []),
        ([beat(1)], [(0, RESET), (0, "data before their address")], []),
        ([TWO, beat(ready=0), beat(data=6)], [(2, CHANGED)], []),
        ([TWO, beat(1), beat(1)], [(1, LAST)], []),
        ([TWO, beat(), beat(0)], [(2, LAST)], []),
        ([{}, beat(1)], [(1, "data before their address")], []),
        ([START, START, START, {}], [(3, "more bursts than are allowed")], []),
        ([START, RESPONSE], [], [(1, "response before the last beat was accepted")]),
        ([START, beat(1), {"bvalid": 1}, {}], [], [(3, "response changed before ready")]),
    ],
)
def test_writes(cycles: Cycles, broken: list[tuple[int, str]], wrong: list[tuple[int, str]]) -> None:
    assert told(WriteRules(64, 2), cycles) == broken
    assert told(WriteRules(64, 2), cycles, "wrong") == wrong


ASKED = {"announced": 1, "accepted": 1, "length": 1}


@pytest.mark.parametrize(
    ("cycles", "broken", "wrong"),
    [
        ([ASKED, ASKED, beat(), beat(1), beat(), beat(1)], [], []),
        ([ASKED, ASKED, ASKED, {}], [(3, "more bursts than are allowed")], []),
        ([ASKED, beat(1)], [], [(1, "last is on another beat")]),
        ([ASKED, beat(ready=0), beat(data=1)], [], [(2, CHANGED)]),
        ([{}, beat()], [], [(1, "data that nobody asked for")]),
    ],
)
def test_reads(cycles: Cycles, broken: list[tuple[int, str]], wrong: list[tuple[int, str]]) -> None:
    def without_strobes() -> list[dict[str, int]]:
        return [{name: value for name, value in cycle.items() if name != "strb"} for cycle in cycles]

    assert told(ReadRules(64, 2), without_strobes()) == broken
    assert told(ReadRules(64, 2), without_strobes(), "wrong") == wrong


WRITE = {"awvalid": 1, "awready": 1, "wvalid": 1, "wready": 1}
READ = {"arvalid": 1, "arready": 1}
B, R = {"bvalid": 1, "bready": 1}, {"rvalid": 1, "rready": 1, "rdata": 7}


@pytest.mark.parametrize(
    ("cycles", "expected"),
    [
        ([WRITE | READ, R, {}, B], []),
        ([WRITE, {"bvalid": 1}, B], []),
        ([B], [(0, "a response in the first cycle behind a reset"), (0, "a response without a write")]),
        ([WRITE, {"bvalid": 1}, {}], [(2, "the response of a write changed before ready")]),
        ([READ, {"rvalid": 1}, {"rvalid": 1, "rdata": 1}], [(2, "the response of a read changed before ready")]),
        ([{"awvalid": 1, "awready": 1}, B], [(1, "a response without a write")]),
        ([{}, R], [(1, "a response without a read")]),
        ([WRITE, B | {"bresp": 1}], [(1, "EXOKAY, which AXI4-Lite has not")]),
        ([WRITE, {}, {}, {}, {}], [(4, "a write is not answered in time")]),
        ([READ, {}, {}, {}, {}], [(4, "a read is not answered in time")]),
        ([READ, {"slow": 1}, {"slow": 1}, {"slow": 1}, {"slow": 1}, R], []),
    ],
)
def test_lite(cycles: Cycles, expected: list[tuple[int, str]]) -> None:
    assert told(LiteRules(12, 32, cycles=3), cycles) == expected


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ({"awvalid": 1}, {"awvalid": 1, "awaddr": 4}, "AW changed before ready"),
        ({"wvalid": 1}, {}, "W changed before ready"),
        ({"arvalid": 1}, {"arvalid": 1, "araddr": 8}, "AR changed before ready"),
    ],
)
def test_lite_manager(first: dict[str, int], second: dict[str, int], rule: str) -> None:
    assert told(LiteRules(12, 32, cycles=3), [first, second], "wrong") == [(1, rule)]
