"""Whether a mutant is equivalent to its module: whether no input, in any state that both can be in, ever shows a difference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from .errors import SynthesisError
from .mutants import CHOICE, Mutants, Mutation
from .yosys import run_yosys

STEPS = (0, 1, 2, 4)
"""Cycles after which outputs must agree, in whatever state registers that may differ were before: tried in turn."""
INDUCTION = 9
"""And then, cycles in which outputs are assumed to have agreed."""
# Bits of registers as narrow as a code, of which it is looked whether others are equal while they have a value.
_CONTROLS, _NARROW = 40, 2
# So few of them that two, and three, of their values at once are looked at, too.
_TOGETHER = {2: 12, 3: 6}
_ROUNDS = 40
_SAT_S = 20
_SRAM = "sram_"
# Of an SRAM: what is read of its inputs only while another one is 1.
_ONLY_WHILE = {"write_address": "write_enable", "write_data": "write_enable", "read_address": "read_enable"}
# What is not seen of an SRAM: a read that the other does not make shows in the data that it gives.
_UNSEEN = {"rst", "read_enable"}
Bit = int | str
Condition = tuple[tuple[int, int], ...]
"""Bits of registers, and values that they have at once."""


def is_equivalent(mutants: Mutants, mutation: Mutation) -> int:
    """Prove that a mutant is no fault, by induction over cycles.

    Module and mutant begin in the same state, whichever it is, and have the same inputs. What stays true from then on is found by
    assuming all that may be, and dropping what is then not true a cycle later, until nothing is left to drop: that bits of
    registers are equal, or, of those that are not, that a register is equal whenever certain bits of narrow ones, up to three, have
    certain values. Outputs have to agree in every state that such states lead to in some cycles, or in every one behind some cycles
    in which they did, and in all cycles before.

    What modules that it places are given is an output; of an SRAM, address and data only while it is enabled. What they give is an
    input; of an SRAM, what it gives is a register, which takes a word, whichever it is, while it is read. A read more, of which
    nothing is seen, is no fault.

    Returns
    -------
    int
        Cycles of the proof and one more; 0 if there is none.
    """
    try:
        pair = _Pair.of(mutants, mutation)
        if not pair.settle():
            return 0
        for steps in STEPS:
            if pair.outputs_agree(steps):
                return steps + 1
        if pair.outputs_agree(INDUCTION, induction=True):
            return INDUCTION + 1
    except SynthesisError:
        # SAT, or what makes its question, took longer than it may: no proof.
        return 0
    return 0


@dataclass
class _Pair:
    """A netlist with a control: 0 is the module, 1 the mutant.

    ``differ``: bits of registers that may not be equal. ``when``: by register of such bits, conditions with which its bits are
    equal after all.
    """

    netlist: dict[str, Any]
    what: str
    differ: set[int] = field(default_factory=set)
    when: dict[int, set[Condition]] = field(default_factory=dict)

    @classmethod
    def of(cls, mutants: Mutants, mutation: Mutation) -> _Pair:
        what = f"comparing mutant {mutation.number} of {mutants.module}"
        changed = mutation.line.replace("mutate ", f"mutate -ctrl {CHOICE} 1 1 ", 1)
        commands = [
            *("read_rtlil netlist.il", changed, "memory_map", "opt_clean", "dffunmap", "opt_clean", "write_json pair.json"),
        ]
        files = {"netlist.il": mutants.netlist}
        made = run_yosys(commands, files, ["pair.json"], purpose=what, timeout=120)["pair.json"]
        return cls(json.loads(made)["modules"][mutants.module], what)

    def __post_init__(self) -> None:
        self.cells: dict[str, dict[str, Any]] = self.netlist["cells"]
        self.logic: list[dict[str, Any]] = []
        self.flops: list[dict[str, Any]] = []
        self.boxes: list[dict[str, Any]] = []
        for cell in self.cells.values():
            kind = cell["type"]
            if "port_directions" not in cell:
                raise SynthesisError(f"ports of {kind} are not known while {self.what}")
            found = self.flops if kind == "$dff" else self.logic if kind.startswith("$") else self.boxes
            found.append(cell)
        self.control: int = self.netlist["ports"][CHOICE]["bits"][0]
        self.free = 1 + max(
            (bit for cell in self.cells.values() for bits in cell["connections"].values() for bit in bits if isinstance(bit, int)),
            default=1,
        )
        self.free = max(
            self.free, 1 + max(bit for port in self.netlist["ports"].values() for bit in port["bits"] if isinstance(bit, int))
        )
        for box in self.boxes:
            if box["type"].startswith(_SRAM):
                self._add_word(box)
        self.next_of: dict[int, Bit] = {}
        self.register_of: dict[int, int] = {}
        for index, cell in enumerate(self.flops):
            self.next_of |= dict(zip(cell["connections"]["Q"], cell["connections"]["D"], strict=True))
            self.register_of |= dict.fromkeys(cell["connections"]["Q"], index)
        narrow = [cell["connections"]["Q"] for cell in self.flops if len(cell["connections"]["Q"]) <= _NARROW]
        # Those of one bit first.
        self.controls: list[int] = [bit for bits in sorted(narrow, key=len) for bit in bits][:_CONTROLS]
        values = [(control, value) for control in self.controls for value in (0, 1)]
        self.conditions: set[Condition] = {(one,) for one in values}
        for number, most in _TOGETHER.items():
            if len(self.controls) <= most:
                together = (some for some in combinations(values, number) if len({control for control, _ in some}) == number)
                self.conditions |= set(together)

    def _add_word(self, box: Mapping[str, Any]) -> None:
        """A register for what an SRAM gives."""
        ports = box["connections"]
        held, width = ports["read_data"], len(ports["read_data"])
        read, after = ([self.free + first + i for i in range(width)] for first in (0, width))
        self.free += 2 * width
        self.logic.append(
            {
                "type": "$mux",
                "parameters": {"WIDTH": width},
                "port_directions": {"A": "input", "B": "input", "S": "input", "Y": "output"},
                "connections": {"A": held, "B": read, "S": ports["read_enable"], "Y": after},
            }
        )
        self.flops.append(
            {
                "type": "$dff",
                "parameters": {"CLK_POLARITY": 1, "WIDTH": width},
                "port_directions": {"CLK": "input", "D": "input", "Q": "output"},
                "connections": {"CLK": ports["clk"], "D": after, "Q": held},
            }
        )

    def settle(self) -> bool:
        """Find ``differ``; whether it was found."""
        for _ in range(_ROUNDS):
            cone = self._cone()
            other = self._other(cone)
            watched = {bit: after for bit, after in self.next_of.items() if bit not in self.differ and after in other}
            question = _Question(self, cone, other, registers=False)
            bits = {question.differs([(after, other[after])]): bit for bit, after in watched.items()}
            conditions: dict[str, tuple[int, Condition]] = {}
            for register, some in self.when.items():
                ends = [self.next_of[bit] for bit in self._differing(register)]
                pairs = [(end, other.get(end, end)) for end in ends]
                for condition in sorted(some):
                    now = question.holds([(self.next_of[control], value) for control, value in condition])
                    conditions[question.differs(pairs, ("$or", now, now))] = register, condition
            if not bits and not conditions:
                return True
            broken = question.ask([*bits, *conditions], steps=0)
            if not broken:
                return True
            for name in broken:
                if name in conditions:
                    register, condition = conditions[name]
                    self.when[register].discard(condition)
                else:
                    self.differ.add(bits[name])
                    self.when.setdefault(self.register_of[bits[name]], set(self.conditions))
            # What is not equal itself says nothing of others.
            for some in self.when.values():
                some -= {condition for condition in some if any(control in self.differ for control, _ in condition)}
        return False

    def _differing(self, register: int) -> list[int]:
        return [bit for bit in self.flops[register]["connections"]["Q"] if bit in self.differ]

    def outputs_agree(self, steps: int, *, induction: bool = False) -> bool:
        """Whether outputs do, ``steps`` cycles after registers in ``differ`` had any values, and before; with ``induction``, if
        they did in those cycles."""
        cone = self._cone()
        other = self._other(cone)
        seen = list(self._seen(other))
        if not seen:
            return True
        if not self.differ and steps and not induction:
            return False
        for first in (False, True) if steps else (False,):
            question = _Question(self, cone, other, registers=steps > 0)
            names = [question.any_of([question.differs(pairs, enable) for pairs, enable in seen])]
            # From equal states the cycles before, and from any the one after.
            if question.ask(names, steps=steps - 1 if first else steps, from_equal=first, induction=induction and not first):
                return False
        return True

    def _seen(self, other: Mapping[Bit, int]) -> Iterable[tuple[list[tuple[Bit, int]], tuple[str, Bit, int] | None]]:
        """Bits that are seen outside and may differ, as in module and mutant, and what must be 1 in one of them for it to count; of
        an address that is read, in both."""
        for port in self.netlist["ports"].values():
            if port["direction"] == "output":
                pairs = [(bit, other[bit]) for bit in port["bits"] if bit in other]
                if pairs:
                    yield pairs, None
        for cell in self.boxes:
            for name, bits in cell["connections"].items():
                pairs = [(bit, other[bit]) for bit in bits if bit in other]
                if cell["type"].startswith(_SRAM) and name in _UNSEEN:
                    continue
                if cell["port_directions"][name] == "input" and pairs:
                    enable = None
                    if cell["type"].startswith(_SRAM) and name in _ONLY_WHILE:
                        bit = cell["connections"][_ONLY_WHILE[name]][0]
                        enable = "$and" if name == "read_address" else "$or", bit, other.get(bit, bit)
                    yield pairs, enable

    def _cone(self) -> list[dict[str, Any]]:
        """Cells whose outputs may differ within a cycle."""
        reached: set[Bit] = {self.control, *self.differ}
        readers: dict[Bit, list[int]] = {}
        for index, cell in enumerate(self.logic):
            for name, bits in cell["connections"].items():
                if cell["port_directions"][name] == "input":
                    for bit in bits:
                        readers.setdefault(bit, []).append(index)
        pending, found = list(reached), set()
        while pending:
            for index in readers.get(pending.pop(), []):
                if index not in found:
                    found.add(index)
                    cell = self.logic[index]
                    for name, bits in cell["connections"].items():
                        if cell["port_directions"][name] == "output":
                            pending += bits
        return [self.logic[index] for index in sorted(found)]

    def _other(self, cone: Sequence[dict[str, Any]]) -> dict[Bit, int]:
        """By bit that may differ, that of the mutant."""
        outputs = [
            bit
            for cell in cone
            for name, bits in cell["connections"].items()
            if cell["port_directions"][name] == "output"
            for bit in bits
        ]
        bits = [self.control, *sorted(self.differ), *(bit for bit in outputs if isinstance(bit, int))]
        return {bit: self.free + index for index, bit in enumerate(dict.fromkeys(bits))}


class _Question:
    """A module for SAT: the netlist, what may differ of it a second time for the mutant, and comparisons.

    ``registers``: the next cycle's values follow from those of this; else they are all inputs.
    """

    def __init__(self, pair: _Pair, cone: Sequence[dict[str, Any]], other: Mapping[Bit, int], *, registers: bool):
        self.pair, self.other, self.sequential = pair, other, registers
        self.free = pair.free + len(other)
        self.cells: dict[str, Any] = {}
        self.ports: dict[str, Any] = {}
        for cell in pair.logic:
            self._add(cell["type"], cell.get("parameters", {}), cell["port_directions"], cell["connections"])
        for cell in cone:
            self._add(cell["type"], cell.get("parameters", {}), cell["port_directions"], self._of_mutant(cell["connections"]))
        self.unequal: list[str] = []
        # What is known of states: these are 0.
        self.known = [
            self.differs([(bit, other[bit]) for bit in pair._differing(register)], ("$or", now, now))
            for register, some in pair.when.items()
            for now in map(self.holds, sorted(some))
        ]
        if registers:
            for cell in pair.flops:
                self._add("$dff", cell["parameters"], cell["port_directions"], cell["connections"])
            for bit in sorted(pair.differ):
                after = pair.next_of[bit]
                self._flop(other.get(after, after), other[bit])
                self.unequal.append(self.differs([(bit, other[bit])]))

    def _of_mutant(self, connections: Mapping[str, Sequence[Bit]]) -> dict[str, list[Bit]]:
        return {name: [self.other.get(bit, bit) for bit in bits] for name, bits in connections.items()}

    def _new(self) -> int:
        self.free += 1
        return self.free - 1

    def _add(self, kind: str, parameters: Any, directions: Any, connections: Any) -> None:
        self.cells[f"c{len(self.cells)}"] = {
            "type": kind,
            "parameters": parameters,
            "attributes": {},
            "port_directions": directions,
            "connections": connections,
        }

    def _flop(self, data: Bit, output: int) -> None:
        clock = self.pair.flops[0]
        parameters = {**clock["parameters"], "WIDTH": 1}
        connections = {"CLK": clock["connections"]["CLK"], "D": [data], "Q": [output]}
        self._add("$dff", parameters, {"CLK": "input", "D": "input", "Q": "output"}, connections)

    def _gate(self, kind: str, a: Sequence[Bit], b: Sequence[Bit] | None = None, width: int = 1) -> list[int]:
        outputs = [self._new() for _ in range(width)]
        parameters: dict[str, int] = {"A_SIGNED": 0, "A_WIDTH": len(a), "Y_WIDTH": width}
        directions, connections = {"A": "input", "Y": "output"}, {"A": list(a), "Y": outputs}
        if b is not None:
            parameters |= {"B_SIGNED": 0, "B_WIDTH": len(b)}
            directions["B"], connections["B"] = "input", list(b)
        self._add(kind, parameters, directions, connections)
        return outputs

    def holds(self, condition: Iterable[tuple[Bit, int]]) -> Bit:
        """A bit that is 1 while others have values."""
        bits = [bit if value else self._gate("$not", [bit])[0] for bit, value in condition]
        return bits[0] if len(bits) == 1 else self._gate("$reduce_and", bits)[0]

    def differs(self, pairs: Sequence[tuple[Bit, Bit]], enable: tuple[str, Bit, Bit] | None = None) -> str:
        """The name of an output that is 1 if one of ``pairs`` is not equal (and ``enable`` is 1: in either or in both)."""
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        found = self._gate("$reduce_bool", self._gate("$xor", first, second, len(pairs)))
        if enable:
            found = self._gate("$and", found, self._gate(enable[0], [enable[1]], [enable[2]]))
        return self._output(found)

    def any_of(self, names: Iterable[str]) -> str:
        return self._output(self._gate("$reduce_bool", [bit for name in names for bit in self.ports[name]["bits"]]))

    def _output(self, bits: list[int]) -> str:
        name = f"differs_{len(self.ports)}"
        self.ports[name] = {"direction": "output", "bits": bits}
        return name

    def ask(self, names: Iterable[str], *, steps: int, from_equal: bool = False, induction: bool = False) -> list[str]:
        """Those of ``names`` that a counterexample shows, after ``steps`` cycles (``induction``: in which it shows none) or,
        ``from_equal`` registers, until then."""
        names = list(names)
        controls = {"module_is": [self.pair.control], "mutant_is": [self.other[self.pair.control]]}
        ports = {name: {"direction": "input", "bits": bits} for name, bits in controls.items()}
        design = {"modules": {"question": {"attributes": {}, "ports": ports | self.ports, "cells": self.cells, "netnames": {}}}}
        options = [f"-timeout {_SAT_S}", "-set module_is 1'0", "-set mutant_is 1'1", *(f"-set {name} 1'0" for name in self.known)]
        if self.sequential:
            options.append(f"-seq {steps + 1}")
            if not from_equal:
                options.append(f"-prove-skip {steps}")
        if from_equal:
            options += [f"-set-at 1 {name} 1'0" for name in self.unequal]
        if induction:
            options += [f"-set-at {step} {name} 1'0" for name in names for step in range(1, steps + 1)]
        options += [f"-prove {name} 1'0 -show {name}" for name in names]
        commands = [
            "read_json question.json",
            "opt_expr",
            "opt_merge",
            "opt_clean",
            "cd question",
            f"tee -q -o sat.txt sat {' '.join(options)}",
        ]
        report = run_yosys(
            commands, {"question.json": json.dumps(design)}, ["sat.txt"], purpose=self.pair.what, timeout=4 * _SAT_S
        )["sat.txt"]
        if "FAIL!" in report:
            return [name for name in names if re.search(rf"\\{name} +1 ", report)] or names
        if "SUCCESS!" not in report:
            raise SynthesisError(f"SAT did not end while {self.pair.what}")
        return []
