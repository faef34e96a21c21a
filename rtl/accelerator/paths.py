"""Combinational paths through blocks, from the netlist that Yosys has made of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

Paths = dict[str, list[str]]
"""By output, the inputs that it depends on in the same cycle; outputs that depend on none are not in it."""

_REGISTERS = ("$dff", "$sdff", "$adff", "$aldff", "$dffsr")
# Cells that are there for the simulator and drive nothing.
_CHECKS = ("$check", "$print", "$assert", "$assume", "$cover", "$scopeinfo")


def combinational_paths(netlist: dict[str, Any]) -> dict[str, Paths]:
    """By module, for those that Yosys has read.

    ``netlist``: of ``write_json``, its processes made cells. Modules that are not in it are written by hand (`Block.verilog`) and
    have registers at all their outputs. A cell counts as a path from every bit of its inputs to every bit of its outputs: what is
    found is never too little.

    Raises `RuntimeError` for a loop inside of a block, and for a latch.
    """
    modules = netlist["modules"]
    found: dict[str, Paths] = {}

    def visit(name: str) -> Paths:
        if name not in found:
            for cell in modules[name]["cells"].values():
                if cell["type"] in modules:
                    visit(cell["type"])
            found[name] = _paths(name, modules[name], found)
        return found[name]

    for name in modules:
        visit(name)
    return found


def _paths(name: str, module: dict[str, Any], known: dict[str, Paths]) -> Paths:
    # What drives a bit: the outputs, and for each the bits that it depends on, of cells and of instances.
    driver: dict[int, int] = {}
    reads: list[set[int]] = []

    def drive(outputs: list[Any], inputs: list[list[Any]]) -> None:
        number = len(reads)
        reads.append({bit for bits in inputs for bit in bits if isinstance(bit, int)})
        driver.update((bit, number) for bit in outputs if isinstance(bit, int))

    for label, cell in module["cells"].items():
        kind, connections = cell["type"], cell["connections"]
        if kind in known:
            for output, inputs in known[kind].items():
                drive(connections[output], [connections[port] for port in inputs])
        elif kind == "$memrd_v2" and int(cell["parameters"]["CLK_ENABLE"], 2):
            continue
        elif kind.startswith("$") and not kind.startswith((*_REGISTERS, *_CHECKS)):
            if "latch" in kind:
                raise RuntimeError(f"{name}: {label} is a latch")
            directions = cell["port_directions"]
            inputs = [bits for port, bits in connections.items() if directions[port] == "input"]
            for port, bits in connections.items():
                if directions[port] == "output":
                    drive(bits, inputs)

    sources: defaultdict[int, set[str]] = defaultdict(set)
    for port, facts in module["ports"].items():
        if facts["direction"] == "input":
            for bit in facts["bits"]:
                sources[bit].add(port)

    reached: dict[int, frozenset[str]] = {}
    under_way: set[int] = set()

    def inputs_of(number: int) -> frozenset[str]:
        # Without recursion: a chain of cells is longer than Python's stack.
        stack = [number]
        while stack:
            top = stack[-1]
            if top in reached:
                stack.pop()
                continue
            below = {driver[bit] for bit in reads[top] if bit in driver}
            missing = below - reached.keys()
            if not missing:
                direct = {port for bit in reads[top] for port in sources.get(bit, ())}
                reached[top] = frozenset(direct.union(*(reached[each] for each in below)))
                under_way.discard(top)
                stack.pop()
            elif top in under_way:
                raise RuntimeError(f"{name} has a combinational loop")
            else:
                under_way.add(top)
                stack.extend(missing)
        return reached[number]

    paths = {}
    for port, facts in module["ports"].items():
        if facts["direction"] == "output":
            bits = [bit for bit in facts["bits"] if isinstance(bit, int)]
            numbers = {driver[bit] for bit in bits if bit in driver}
            direct = {source for bit in bits for source in sources.get(bit, ())}
            inputs = sorted(direct.union(*(inputs_of(number) for number in numbers)))
            if inputs:
                paths[port] = inputs
    return paths

