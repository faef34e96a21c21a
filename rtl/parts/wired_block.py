"""Blocks that are nothing but instances and wires, written as Verilog without Amaranth's and Yosys' work on every single bit."""

from __future__ import annotations

import re
from typing import Any

from amaranth.hdl import ClockSignal, Const, Fragment, Instance, ResetSignal, Shape, Signal, Value
from amaranth.lib import wiring

from .amaranth_internals import Assign, Concat, Operator, Slice
from .blocks import Block
from .chunks import Chunk, cut
from .prefix import KEYWORDS

Wiring = dict[str, Any]
"""A module that is only wires, JSON-ready.

``inputs``, ``outputs``: names of its ports, ``clk`` and ``rst`` among them. ``widths``: bits of each signal. ``assigns``: pairs of
chunks that are driven and chunks that drive them. ``sums``: by signal, the operands added. ``instances``: by name, ``module``,
``ports`` (by name the chunks connected) and ``outputs`` (names of those that are). Chunks go from the least significant up:
[signal, first bit, last bit + 1], the signal of a constant is its Verilog (``4'd9``).
"""


class WiredBlock(Block):
    """A block whose ``elaborate`` places blocks and assigns signals, slices and concatenations (in domain comb) to each other.

    Beside these only additions are understood. Every bit of every signal must be driven exactly once.

    Errors
    ------
    RuntimeError
        A bit is driven never or twice, or ``elaborate`` has something that is not understood (when the Verilog is written).
    """

    def structure(self) -> tuple[str, Wiring]:
        """The Verilog module, and the same as data; must be called where the blocks it places are collected."""
        writer = _Writer(self)
        return writer.text(), writer.wiring()


class _Writer:
    def __init__(self, block: WiredBlock):
        self.block = block
        fragment = Fragment.get(block, None)
        self.names: dict[int, str] = {}
        self.widths: dict[str, int] = {"clk": 1, "rst": 1}
        # Bits of each signal that are driven, as a mask; inputs are, from outside.
        self.driven: dict[str, int] = {"clk": 1, "rst": 1}
        # Holds the signals, whose identities are the keys of `names`.
        self.signals: list[Signal] = []
        self.lines: list[str] = []
        self.flows: dict[str, list[str]] = {"inputs": ["clk", "rst"], "outputs": []}
        self.assigns: list[tuple[list[Chunk], list[Chunk]]] = []
        self.sums: dict[str, list[list[Chunk]]] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.ports: list[str] = ["input wire clk", "input wire rst"]
        for name, member in block.signature.members.items():
            width = Shape.cast(member.shape).width
            signal = getattr(block, name)
            self._declare(Value.cast(signal), name)
            out = member.flow is wiring.Out
            self.flows["outputs" if out else "inputs"].append(name)
            self.driven[name] = 0 if out else _mask(0, width)
            self.ports.append(f"{'output' if out else 'input'} wire {_range(width)}{_written(name)}")
        self.own = set(self.widths)
        if set(fragment.statements) - {"comb"}:
            raise RuntimeError(f"{block.module_name} is structural but has registers")
        for statement in fragment.statements.get("comb", []):
            if not isinstance(statement, Assign):
                raise RuntimeError(f"{block.module_name} is structural but has {type(statement).__name__}")
            self._assign(statement.lhs, statement.rhs)
        for child, name, *_ in fragment.subfragments:
            if not isinstance(child, Instance):
                raise RuntimeError(f"{block.module_name} is structural but has a submodule {name} that is not placed")
            self._instance(child, str(name))
        for name, width in self.widths.items():
            self._refuse(name, _mask(0, width) & ~self.driven.get(name, 0), "never driven")

    def text(self) -> str:
        wires = [f"  wire {_range(width)}{_written(name)};" for name, width in self.widths.items() if name not in self.own]
        head = f"module {self.block.module_name}(\n  " + ",\n  ".join(self.ports) + "\n);"
        return "\n".join([head, *wires, *self.lines, "endmodule", ""])

    def wiring(self) -> Wiring:
        parts = {"widths": self.widths, "assigns": self.assigns, "sums": self.sums, "instances": self.instances}
        return {**self.flows, **parts}

    def _declare(self, signal: Signal, name: str) -> str:
        unique, copy = name, 0
        while unique in self.widths:
            copy += 1
            unique = f"{name}_{copy}"
        self.names[id(signal)] = unique
        self.signals.append(signal)
        self.widths[unique] = len(signal)
        return unique

    def _name(self, signal: Signal) -> str:
        return self.names.get(id(signal)) or self._declare(signal, signal.name)

    def _chunks(self, value: Value) -> list[Chunk]:
        if isinstance(value, Const):
            return [(f"{len(value)}'d{value.value & (1 << len(value)) - 1}", 0, len(value))] if len(value) else []
        if isinstance(value, Signal):
            return [(self._name(value), 0, len(value))]
        if isinstance(value, Concat):
            return [chunk for part in value.parts for chunk in self._chunks(part)]
        if isinstance(value, Slice):
            return cut(self._chunks(value.value), value.start, value.stop)
        if isinstance(value, Operator) and value.operator == "+" and not any(op.shape().signed for op in value.operands):
            name = self._declare(Signal(len(value), name="sum"), "sum")
            self.driven[name] = _mask(0, len(value))
            self.sums[name] = [self._chunks(op) for op in value.operands]
            operands = " + ".join(self._expression(op) for op in value.operands)
            self.lines.append(f"  assign {name} = {operands};")
            return [(name, 0, len(value))]
        raise RuntimeError(f"{self.block.module_name} is structural but has {value!r}")

    def _expression(self, value: Value) -> str:
        return self._joint(self._chunks(value))

    def _joint(self, chunks: list[Chunk]) -> str:
        parts = [self._select(chunk) for chunk in reversed(_joined(chunks))]
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"

    def _select(self, chunk: Chunk) -> str:
        name, start, stop = chunk
        if "'" in name:
            width, number = name.split("'d")
            return name if stop - start == int(width) else f"{stop - start}'d{int(number) >> start & (1 << (stop - start)) - 1}"
        text = _written(name)
        if stop - start == self.widths[name]:
            return text
        return f"{text}[{start}]" if stop - start == 1 else f"{text}[{stop - 1}:{start}]"

    def _drive(self, value: Value) -> None:
        for name, start, stop in self._chunks(value):
            bits, driven = _mask(start, stop), self.driven.get(name, 0)
            self._refuse(name, driven & bits, "driven twice")
            self.driven[name] = driven | bits

    def _refuse(self, name: str, bits: int, what: str) -> None:
        """RuntimeError if a signal has bits of which ``what`` is true."""
        if bits:
            many = "bits" if bits & (bits - 1) else "bit"
            raise RuntimeError(
                f"{self.block.module_name}: {many} {_listed(bits)} of {name} {'are' if many == 'bits' else 'is'} {what}"
            )

    def _assign(self, lhs: Value, rhs: Value) -> None:
        if len(lhs):
            self._drive(lhs)
            driven, driving = self._chunks(lhs), self._chunks(rhs)
            self.assigns.append((_joined(driven), _joined(driving)))
            self.lines.append(f"  assign {self._joint(driven)} = {self._joint(driving)};")

    def _instance(self, instance: Instance, name: str) -> None:
        connections, ports, outputs = [], {}, []
        for port, (value, kind) in instance.ports.items():
            if isinstance(value, ClockSignal | ResetSignal):
                text = "clk" if isinstance(value, ClockSignal) else "rst"
                ports[port] = [(text, 0, 1)]
            else:
                ports[port] = _joined(self._chunks(value))
                text = self._joint(ports[port])
                if kind == "o":
                    self._drive(value)
                    outputs.append(port)
            connections.append(f"    .{_written(port)}({text})")
        self.instances[name] = {"module": instance.type, "ports": ports, "outputs": outputs}
        self.lines.append(f"  {instance.type} {name} (\n" + ",\n".join(connections) + "\n  );")


def _written(name: str) -> str:
    """A name in Verilog: one that means something else there is escaped, up to the blank."""
    return f"\\{name} " if name in KEYWORDS else name


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _mask(start: int, stop: int) -> int:
    return (1 << stop) - (1 << start)


def _listed(bits: int) -> str:
    """Bits of a mask as in Verilog, the highest first."""
    ranges = re.finditer("1+", f"{bits:b}")
    width = bits.bit_length()
    return ", ".join(
        f"{width - 1 - match.start()}" if len(match[0]) == 1 else f"{width - 1 - match.start()}:{width - match.end()}"
        for match in ranges
    )


def _joined(chunks: list[Chunk]) -> list[Chunk]:
    """Adjacent bits of one signal as one chunk."""
    found: list[Any] = []
    for name, start, stop in chunks:
        if found and found[-1][0] == name and found[-1][2] == start and "'" not in name:
            found[-1] = (name, found[-1][1], stop)
        else:
            found.append((name, start, stop))
    return found
