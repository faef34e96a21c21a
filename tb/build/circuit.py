"""Who is wired to whom in an emitted design: its blocks as units, wires between their ports, an order to evaluate them in.

Made of the structure from which the emitter has written the Verilog of the blocks that only wire (`rtl.parts.wired_block.Wiring`),
all the way down to blocks that are not such. What is around the design is a unit too, whose outputs all come from registers.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podweave.rtl.parts.chunks import cut

HARNESS = "harness"
"""Name of the unit around the design, whose ports are those of the design."""

Wiring = Mapping[str, Any]


class CircuitError(RuntimeError):
    """A design cannot be evaluated block by block; the message says where."""


@dataclass(frozen=True)
class Piece:
    """Bits that drive others.

    Parameters
    ----------
    unit, port : str
        From a port of a unit; both empty: of a constant.
    low, width : int
        Bits ``low`` to ``low + width``.
    value : int
        The constant. Of bits of a unit: what is added to them.
    taken : int
        With something added, bits of the port that are added to, from ``low`` on; else 0.
    """

    unit: str
    port: str
    low: int
    width: int
    value: int = 0
    taken: int = 0

    def cut(self, start: int, stop: int) -> Piece:
        """Bits ``start`` to ``stop`` of it."""
        if self.taken:
            if start:
                raise CircuitError(f"{self.unit}.{self.port}: not the lowest bits of a sum")
            return replace(self, width=stop)
        return Piece(self.unit, self.port, self.low + start, stop - start, self.value >> start & (1 << stop - start) - 1)


@dataclass
class Circuit:
    """A design, ready to be evaluated.

    Parameters
    ----------
    units : dict of str to str
        The block of each, by name: its place in the hierarchy, dots between levels. The harness has none.
    inputs : dict of (str, str) to list of Piece
        What drives an input port, by unit and port, from the least significant bit up.
    ports : dict of str to dict of str to int
        Width of each port but the clock, by block and port.
    order : list of str
        Units with paths from input to output, as they are to be evaluated after an edge; some more than once.
    """

    units: dict[str, str] = field(default_factory=dict)
    inputs: dict[tuple[str, str], list[Piece]] = field(default_factory=dict)
    ports: dict[str, dict[str, int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For ``tb/cpp/engine.cpp``: a line for each unit, wire, constant, and unit of the order."""
        number = {name: i for i, name in enumerate(self.units)}
        lines = [f"unit {block or '-'} {name}" for name, block in self.units.items()]
        for (unit, port), pieces in self.inputs.items():
            at = 0
            for piece in pieces:
                to = f"{number[unit]} {port} {at}"
                if piece.taken:
                    source = f"{number[piece.unit]} {piece.port} {piece.low} {piece.taken}"
                    lines.append(f"sum {to} {source} {piece.width} {piece.value}")
                elif piece.unit:
                    lines.append(f"wire {to} {number[piece.unit]} {piece.port} {piece.low} {piece.width}")
                else:
                    # Constants are as wide as they must be: one of a thousand bits is mostly zeros.
                    for low in range(0, piece.width, 32):
                        width = min(32, piece.width - low)
                        lines.append(f"constant {to} {width} {piece.value >> low & (1 << width) - 1}")
                        to = f"{number[unit]} {port} {at + low + width}"
                at += piece.width
        lines += [f"order {number[name]}" for name in self.order]
        return "\n".join(lines) + "\n"


def circuit_of(
    wiring: Mapping[str, Wiring], paths: Mapping[str, Mapping[str, Sequence[str]]], top: str, scope: str, taps: Sequence[str] = ()
) -> Circuit:
    """The circuit of a design in a harness.

    Parameters
    ----------
    wiring, paths
        Of the modules of the design, as `rtl.accelerator.emit.Emitted.circuit` has them.
    top : str
        The design; a module of ``wiring``.
    scope : str
        Its place in the hierarchy.
    taps : sequence of str
        Signals of the top module, or of modules of only wires in it (dots between levels), that the harness reads beside its
        outputs: as port `tap_port` of the design.

    Raises `CircuitError` if there is a loop of paths through blocks; the message has it.
    """
    circuit = Circuit({HARNESS: ""})
    root = _Instance(wiring, top, scope, None, {})
    for instance in root.below():
        for name, made in instance.wiring["instances"].items():
            if made["module"] not in wiring:
                unit = f"{instance.scope}.{name}"
                circuit.units[unit] = made["module"]
                widths = {port: sum(stop - start for _, start, stop in chunks) for port, chunks in made["ports"].items()}
                circuit.ports[made["module"]] = {port: width for port, width in widths.items() if port != "clk"}
                for port, chunks in made["ports"].items():
                    if port not in made["outputs"] and port != "clk":
                        circuit.inputs[unit, port] = instance.sources(chunks)
    for port in root.wiring["outputs"]:
        circuit.inputs[HARNESS, port] = root.signal(port)
    for tap in taps:
        *levels, name = tap.split(".")
        instance = root
        for level in levels:
            instance = instance.children[level]
        circuit.inputs[HARNESS, tap_port(tap)] = instance.signal(name)
    circuit.order = _order(circuit, paths)
    return circuit


def tap_port(tap: str) -> str:
    """The name, without dots, of a signal that a harness reads."""
    return tap.replace(".", "__")


def tap_width(wiring: Mapping[str, Wiring], top: str, tap: str) -> int:
    """The bits of a signal that a harness reads of the design ``top``."""
    *levels, name = tap.split(".")
    for level in levels:
        top = wiring[top]["instances"][level]["module"]
    width: int = wiring[top]["widths"][name]
    return width


class _Instance:
    """A module of only wires, in its place."""

    def __init__(self, modules: Mapping[str, Wiring], module: str, scope: str, parent: _Instance | None, ports: Mapping[str, Any]):
        self.modules, self.wiring, self.scope, self.parent, self.ports = modules, modules[module], scope, parent, ports
        # What drives the bits of each signal: (first bit, last bit + 1, where from), by first bit.
        self.segments: dict[str, list[tuple[int, int, Any]]] = {}
        for name in self.wiring["inputs"]:
            self._add(name, 0, self.wiring["widths"][name], ("outside", name))
        for driven, driving in self.wiring["assigns"]:
            at = 0
            for name, start, stop in driven:
                self._add(name, start, stop, ("chunks", cut(driving, at, at + stop - start)))
                at += stop - start
        for name in self.wiring["sums"]:
            self._add(name, 0, self.wiring["widths"][name], ("sum", name))
        self.children: dict[str, _Instance] = {}
        for name, made in self.wiring["instances"].items():
            if made["module"] in modules:
                self.children[name] = _Instance(modules, made["module"], f"{scope}.{name}", self, made["ports"])
            for port in made["outputs"]:
                at = 0
                for signal, start, stop in made["ports"][port]:
                    self._add(signal, start, stop, ("instance", name, port, at))
                    at += stop - start
        for segments in self.segments.values():
            segments.sort(key=lambda segment: segment[0])

    def _add(self, signal: str, start: int, stop: int, origin: Any) -> None:
        self.segments.setdefault(signal, []).append((start, stop, origin))

    def below(self) -> Iterator[_Instance]:
        yield self
        for child in self.children.values():
            yield from child.below()

    def signal(self, name: str) -> list[Piece]:
        """What drives all of a signal."""
        return self.sources([(name, 0, self.wiring["widths"][name])])

    def sources(self, chunks: Sequence[Any]) -> list[Piece]:
        """What drives some bits, from the least significant up."""
        found: list[Piece] = []
        for name, start, stop in chunks:
            for piece in self._driving(name, start, stop):
                last = found[-1] if found else None
                plain = last and last.unit and not last.taken and not piece.taken
                if last and plain and (last.unit, last.port, last.low + last.width) == (piece.unit, piece.port, piece.low):
                    found[-1] = Piece(last.unit, last.port, last.low, last.width + piece.width)
                else:
                    found.append(piece)
        return found

    def _driving(self, name: str, start: int, stop: int) -> Iterator[Piece]:
        if "'" in name:
            width, value = name.split("'d")
            yield Piece("", "", 0, int(width), int(value)).cut(start, stop)
            return
        segments = self.segments[name]
        first = bisect.bisect_right(segments, start, key=lambda segment: segment[0]) - 1
        for low, high, origin in segments[first:]:
            if low >= stop:
                break
            begin, end = max(start, low), min(stop, high)
            yield from self._origin(origin, begin - low, end - low)

    def _origin(self, origin: Any, start: int, stop: int) -> Iterator[Piece]:
        match origin:
            case ("chunks", chunks):
                yield from self.sources(cut(chunks, start, stop))
            case ("sum", name):
                yield self._sum(name).cut(start, stop)
            case ("outside", port) if self.parent is None:
                yield Piece(HARNESS, port, start, stop - start)
            case ("outside", port):
                assert self.parent is not None
                yield from self.parent.sources(cut(self.ports[port], start, stop))
            case ("instance", name, port, at) if name in self.children:
                yield from self.children[name].sources([(port, at + start, at + stop)])
            case ("instance", name, port, at):
                yield Piece(f"{self.scope}.{name}", port, at + start, stop - start)

    def _sum(self, name: str) -> Piece:
        """Bits of one port, and constants, added."""
        width = self.wiring["widths"][name]
        operands = [self.sources(chunks) for chunks in self.wiring["sums"][name]]
        added = sum(pieces[0].value for pieces in operands if not pieces[0].unit)
        found = [pieces for pieces in operands if pieces[0].unit]
        if len(found) != 1 or any(len(pieces) != 1 or pieces[0].taken for pieces in operands) or width > 64:
            raise CircuitError(f"{self.scope}.{name}: between blocks only bits of one port and constants are added, up to 64 bits")
        ((piece,),) = found
        return replace(piece, width=width, value=added, taken=piece.width)


def _order(circuit: Circuit, paths: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Units with paths, each as often as there are depths of paths to its outputs."""
    depths: dict[tuple[str, str], int] = {}
    under_way: list[str] = []

    def depth(unit: str, port: str) -> int:
        """0 for an output from a register, else one more than the deepest output that it depends on."""
        key = unit, port
        if key not in depths:
            inputs = paths.get(circuit.units[unit], {}).get(port, ())
            place = f"{unit}.{port}"
            if place in under_way:
                loop = [*under_way[under_way.index(place) :], place]
                raise CircuitError(f"outputs of blocks depend on each other in one cycle: {' <- '.join(loop)}")
            under_way.append(place)
            above = [depth(piece.unit, piece.port) for name in inputs for piece in circuit.inputs[unit, name] if piece.unit]
            under_way.pop()
            depths[key] = 1 + max(above, default=0) if inputs else 0
        return depths[key]

    wanted: set[tuple[int, str]] = set()
    for unit, block in circuit.units.items():
        wanted.update((depth(unit, port), unit) for port in paths.get(block, ()))
    place = {unit: i for i, unit in enumerate(circuit.units)}
    return [unit for _, unit in sorted(wanted, key=lambda item: (item[0], place[item[1]]))]
