"""Combinational paths through blocks, from the netlists that Yosys has made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Paths = dict[str, list[str]]
"""By output, the inputs that it depends on in the same cycle; outputs that depend on none are not in it."""
Flow = dict[str, Any]
"""What a module does in one cycle, JSON-ready. ``instances``: by name, their modules. ``reads``: by output, or by input of an
instance (``instance.port``), the inputs and outputs of instances that it depends on through the module itself."""

_REGISTERS = ("$dff", "$sdff", "$adff", "$aldff", "$dffsr")
# Cells that are there for the simulator and drive nothing.
_CHECKS = ("$check", "$print", "$assert", "$assume", "$cover", "$scopeinfo")


def flow_of(module: Mapping[str, Any]) -> Flow:
    """``module``: of Yosys' ``write_json``, its processes made cells.

    A cell counts as a path from every bit of its inputs to every bit of its outputs: what is found is never too little. Raises
    `RuntimeError` for a latch and for a loop of cells.
    """
    # What drives a bit: the cell, and for each cell the bits that it reads.
    driver: dict[int, int] = {}
    reads: list[set[int]] = []
    sources: defaultdict[int, set[str]] = defaultdict(set)
    sinks: dict[str, list[Any]] = {}
    instances = {}
    for port, facts in module["ports"].items():
        if facts["direction"] == "input":
            for bit in facts["bits"]:
                sources[bit].add(port)
        else:
            sinks[port] = facts["bits"]
    driven_within = set()
    for label, cell in module["cells"].items():
        kind, connections = cell["type"], cell["connections"]
        if not kind.startswith("$"):
            instances[label] = kind
            continue
        directions = cell["port_directions"]
        outputs = [
            bit for port, bits in connections.items() if directions[port] == "output" for bit in bits if isinstance(bit, int)
        ]
        driven_within.update(outputs)
        registered = kind.startswith(_REGISTERS) or (kind == "$memrd_v2" and int(cell["parameters"]["CLK_ENABLE"], 2))
        if registered or kind.startswith(_CHECKS):
            continue
        if "latch" in kind:
            raise RuntimeError(f"{label} is a latch")
        inputs = {bit for port, bits in connections.items() if directions[port] == "input" for bit in bits if isinstance(bit, int)}
        driver.update(dict.fromkeys(outputs, len(reads)))
        reads.append(inputs)
    inputs_of_module = set(sources)
    for label in instances:
        for port, bits in module["cells"][label]["connections"].items():
            # Whether an unknown module reads or drives a port shows by who else drives it.
            numbers = [bit for bit in bits if isinstance(bit, int)]
            if len(numbers) == len(bits) and not any(bit in driven_within or bit in inputs_of_module for bit in numbers):
                for bit in numbers:
                    sources[bit].add(f"{label}.{port}")
            sinks[f"{label}.{port}"] = bits
    reached: dict[int, frozenset[str]] = {}
    return {
        "instances": instances,
        "reads": {sink: sorted(_sources(bits, driver, reads, sources, reached) - {sink}) for sink, bits in sinks.items()},
    }


def _sources(
    bits: list[Any],
    driver: Mapping[int, int],
    reads: list[set[int]],
    sources: Mapping[int, set[str]],
    reached: dict[int, frozenset[str]],
) -> set[str]:
    """What some bits come from, through cells. ``reached``: what is known of each cell, added to."""
    under_way: set[int] = set()
    numbers = {driver[bit] for bit in bits if bit in driver}
    # Without recursion: a chain of cells is longer than Python's stack.
    stack = list(numbers)
    while stack:
        top = stack[-1]
        if top in reached:
            stack.pop()
            continue
        below = {driver[bit] for bit in reads[top] if bit in driver}
        missing = below - reached.keys()
        if not missing:
            direct = {source for bit in reads[top] for source in sources.get(bit, ())}
            reached[top] = frozenset(direct.union(*(reached[each] for each in below)))
            under_way.discard(top)
            stack.pop()
        elif top in under_way:
            raise RuntimeError("cells depend on each other in one cycle")
        else:
            under_way.add(top)
            stack.extend(missing)
    direct = {source for bit in bits if isinstance(bit, int) for source in sources.get(bit, ())}
    return direct.union(*(reached[number] for number in numbers))


def combinational_paths(flows: Mapping[str, Flow]) -> dict[str, Paths]:
    """By module. Modules that are not in ``flows`` are written by hand (`Block.verilog`) and have registers at all their outputs.

    Raises `RuntimeError` for a loop inside of a block.
    """
    found: dict[str, Paths] = {}

    def visit(name: str) -> Paths:
        if name not in found:
            flow = flows[name]
            for module in flow["instances"].values():
                if module in flows:
                    visit(module)
            known: dict[str, frozenset[str]] = {}
            outputs = (sink for sink in flow["reads"] if "." not in sink)
            reached = {output: _inputs(name, output, flow, found, known, []) for output in outputs}
            found[name] = {output: sorted(inputs) for output, inputs in reached.items() if inputs}
        return found[name]

    for name in flows:
        visit(name)
    return found


def _inputs(
    name: str, sink: str, flow: Flow, paths: Mapping[str, Paths], known: dict[str, frozenset[str]], under_way: list[str]
) -> frozenset[str]:
    """Inputs of a module that one of its outputs, or an input of an instance in it, depends on."""
    if sink not in known:
        if sink in under_way:
            raise RuntimeError(f"{name} has a combinational loop: {' <- '.join([*under_way[under_way.index(sink) :], sink])}")
        inputs: set[str] = set()
        for source in flow["reads"][sink]:
            instance, dot, port = source.partition(".")
            if not dot:
                inputs.add(source)
                continue
            for through in paths.get(flow["instances"][instance], {}).get(port, ()):
                inputs |= _inputs(name, f"{instance}.{through}", flow, paths, known, [*under_way, sink])
        known[sink] = frozenset(inputs)
    return known[sink]
