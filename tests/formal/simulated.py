"""Harnesses of proofs in Amaranth's simulator: random inputs that keep to what a harness assumes.

A proof sees every input and takes a solver's minutes; this sees some thousand cycles in a second. It tells early whether rules are
true of the block, whether what they are about happens, and whether faults break them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Cat, ClockDomain, Elaboratable, Module, ResetInserter, Shape, Signal, Value
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from podweave.formal.harness import Harness
from podweave.formal.property import Property
from podweave.rtl.parts import blocks
from podweave.rtl.parts.amaranth_internals import mark_used
from podweave.rtl.parts.blocks import Block
from podweave.rtl.parts.sram import Sram

Usual = dict[str, tuple[int, ...]]
_TRACES = (8, 40, 160)
"""Cycles from a reset to the next one."""
_LONGER = 8
"""By how much a simulation is longer whose covers are not all reached."""
_TRIES = 50
"""Resets that are tried before it is said that what is assumed cannot be."""
_REPAIRS = 12
"""How often each input is looked at until a cycle is given up in which something assumed does not hold."""


class SimulatedHarness(Harness):
    """A harness whose rules are signals that a test bench reads, as it chooses inputs, constants and the reset itself."""

    def __init__(self) -> None:
        super().__init__()
        self.reset = Signal(name="rst", init=1)
        self.m.domains.sync = sync = ClockDomain("sync")
        sync.rst = self.reset
        self.inputs: list[tuple[Signal, list[tuple[str, int, int]]]] = []
        self.constants: list[Signal] = []
        self.rules: dict[str, list[Signal]] = {"assume": [], "check": [], "cover": []}

    def free(self, name: str, shape: Any = 1) -> Any:
        signal = super().free(name, shape)
        self.inputs.append((Value.cast(signal), list(_fields(name.removeprefix("free_dut_"), shape))))
        return signal

    def constant(self, name: str, width: int) -> Signal:
        self.constants.append(Signal(width, name=name))
        return self.constants[-1]

    def check(self, fact: Value, says: str) -> None:
        self.facts.append(says)
        self._rule("check", fact)

    def assume(self, premise: Value) -> None:
        self._rule("assume", premise)

    def cover(self, happens: Value, says: str) -> None:
        self.covers.append(says)
        self._rule("cover", happens)

    def whole(self) -> dict[str, Signal]:
        """By kind, a signal with a bit of each rule, in the order in which they were stated."""
        found = {kind: Signal(len(bits), name=f"all_{kind}") for kind, bits in self.rules.items()}
        self.m.d.comb += [found[kind].eq(Cat(bits)) for kind, bits in self.rules.items()]
        return found

    def _rule(self, kind: str, value: Value) -> None:
        signal = Signal(name=kind)
        self.m.d.comb += signal.eq(Value.cast(value).bool())
        self.rules[kind].append(signal)


@dataclass
class Seen:
    """What a simulation has seen.

    Members
    -------
    cycles : int
        Cycles without reset in which everything assumed held.
    reached : dict[str, int]
        In how many of them each cover happened.
    broken : list[str]
        Facts that did not hold in the first cycle in which one did not, which is the last one.
    """

    cycles: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


@contextmanager
def placed_inside() -> Iterator[None]:
    """In the ``with`` body, blocks are submodules of what places them, and not instances of Verilog beside it."""

    def place(m: Module, name: str, block: Block, *, reset: Value | None = None) -> dict[str, Any]:
        inner = _SimulatedSram(block) if isinstance(block, Sram) else block
        m.submodules[name] = inner if reset is None else ResetInserter(reset)(inner)
        return {port: getattr(block, port) for port in block.signature.members}

    instance = blocks.place
    users = [module for module in list(sys.modules.values()) if vars(module).get("place") is instance]
    for module in users:
        vars(module)["place"] = place
    try:
        yield
    finally:
        for module in users:
            vars(module)["place"] = instance


def simulate(prop: Property, cycles: int, seed: int, usual: Usual | None = None, traces: tuple[int, ...] = _TRACES) -> Seen:
    """Until a fact is broken, or ``cycles`` cycles are over and all covers were reached; some times as many at the latest.

    ``usual``: values that an input, a constant or a field of one mostly has, by its name. ``traces``: how many cycles there may be
    from a reset, when constants become others, to the next one.
    """
    harness, rng = SimulatedHarness(), random.Random(f"{prop.name} {seed}")
    with placed_inside():
        prop.build(harness)
        whole = harness.whole()
        simulator = Simulator(harness.m)
    seen = Seen(reached=dict.fromkeys(harness.covers, 0))

    async def bench(context: Any) -> None:
        stimulus = _Stimulus(harness, whole["assume"], context, rng, usual or {})
        while seen.cycles < cycles or (seen.cycles < _LONGER * cycles and not all(seen.reached.values())):
            # Nobody knows what registers hold, so that constants may become others at a reset.
            tries = 0
            while not stimulus.choose(reset=True):
                if (tries := tries + 1) == _TRIES:
                    raise RuntimeError(f"{prop.name}: no inputs were found with which all that is assumed holds")
            await context.tick()
            for _ in range(rng.choice(traces)):
                if not stimulus.choose(reset=False):
                    break
                seen.cycles += 1
                happens, facts = context.get(whole["cover"]), context.get(whole["check"])
                for i, says in enumerate(harness.covers):
                    seen.reached[says] += happens >> i & 1
                seen.broken = [says for i, says in enumerate(harness.facts) if not facts >> i & 1]
                if seen.broken:
                    return
                await context.tick()

    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


class _Stimulus:
    """Inputs, cycle by cycle. A bit is set as often as the trace says; wider fields have few values, so that they meet."""

    def __init__(self, harness: SimulatedHarness, assumed: Signal, context: Any, rng: random.Random, usual: Usual):
        self.harness, self.assumed, self.context, self.rng, self.usual = harness, assumed, context, rng, usual
        self.values = [0] * len(harness.inputs)
        self.odds: list[float] = []
        self.pool: list[int] = []
        self.calm = False
        self.wanted = (1 << len(assumed)) - 1

    def choose(self, reset: bool) -> bool:
        """Whether inputs were found with which all that is assumed holds."""
        context, rng = self.context, self.rng
        context.set(self.harness.reset, int(reset))
        if reset:
            self.odds = [rng.choice((0.05, 0.3, 0.5, 0.8, 0.97)) for _ in self.values]
            self.calm = rng.random() < 0.5
            self.pool = [0, 1, 1, 2, 2, 3] if self.calm else [*(rng.getrandbits(64) for _ in range(3)), 0, 1, 2, 3, (1 << 64) - 1]
            for constant in self.harness.constants:
                context.set(constant, self._field(len(constant), 0, constant.name))
        before = list(self.values)
        for i in range(len(self.values)):
            self._set(i, self._value(i))
        wrong = self._wrong()
        # First as little as need be stays as it was, or is 0; then anything goes.
        for attempt in range(_REPAIRS):
            order = rng.sample(range(len(self.values)), len(self.values))
            size = -(-len(order) // 8) if attempt < 2 else 1
            for start in range(0, len(order), size):
                if not wrong:
                    return True
                some = order[start : start + size]
                old = [self.values[i] for i in some]
                for i in some:
                    options = (before[i], 0, before[i] if rng.random() < 0.5 else self._value(i) & ~63, self._value(i))
                    self._set(i, options[min(attempt, 2 + attempt % 2)])
                now = self._wrong()
                if now > wrong:
                    for i, value in zip(some, old, strict=True):
                        self._set(i, value)
                else:
                    wrong = now
            for constant in self.harness.constants if reset and wrong else ():
                context.set(constant, rng.getrandbits(len(constant)))
                wrong = self._wrong()
        return not wrong

    def _wrong(self) -> int:
        return (self.wanted & ~self.context.get(self.assumed)).bit_count()

    def _set(self, i: int, value: int) -> None:
        self.values[i] = value
        self.context.set(self.harness.inputs[i][0], value)

    def _value(self, i: int) -> int:
        _, fields = self.harness.inputs[i]
        if self.rng.random() < 0.2:
            return self.values[i]
        return sum(self._field(width, i, name) << start for name, start, width in fields)

    def _field(self, width: int, i: int, name: str = "") -> int:
        rng = self.rng
        if name in self.usual and rng.random() < 0.9:
            return rng.choice(self.usual[name]) & (1 << width) - 1
        if width == 1:
            return int(rng.random() < self.odds[i])
        way = 1.0 if self.calm and rng.random() < 0.9 else rng.random()
        if way < 0.2:
            return rng.getrandbits(width)
        if way < 0.3:
            return sum(int(rng.random() < self.odds[i]) << bit for bit in range(width))
        value = rng.choice(self.pool)
        if way < 0.4:
            # The same in all parts, if it has some.
            part = rng.choice((1, 2, 3, 4, 8))
            value = sum((value & (1 << part) - 1) << start for start in range(0, width, part))
        return value & (1 << width) - 1


class _SimulatedSram(Elaboratable):
    """What the Verilog of an SRAM does."""

    def __init__(self, sram: Sram):
        self.sram = sram
        mark_used(sram)

    def elaborate(self, platform: object) -> Module:
        m, sram = Module(), self.sram
        m.submodules.words = words = Memory(shape=sram.width, depth=sram.depth, init=[])
        write, read = words.write_port(), words.read_port()
        m.d.comb += [write.en.eq(sram.write_enable), write.addr.eq(sram.write_address), write.data.eq(sram.write_data)]
        m.d.comb += [read.en.eq(sram.read_enable), read.addr.eq(sram.read_address), sram.read_data.eq(read.data)]
        return m


def _fields(name: str, shape: Any, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Name, first bit and width of everything that is not made of others."""
    if isinstance(shape, data.Layout):
        for part, each in shape:
            yield from _fields(str(part), each.shape, start + each.offset)
    else:
        yield name, start, Shape.cast(shape).width
