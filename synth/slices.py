"""Areas of blocks that carry wide words through switches, from a few bits of the words.

A butterfly of 16 ports of 1,038 bits has 66,000 multiplexers, which abc would need hours for; but all bits of a word go the same
way. Its area is that of what finds the way, plus, for every bit of the words, that of as many multiplexers and registers: a straight
line over the width. So the block is put into a wrapper that connects only the low bits of each word, twice, with `NARROW` and with
`WIDE` bits; Yosys removes what leads nowhere; and the line through the two areas gives that of the whole. What is not switched alike
(valid bits, routes, the payloads of reads, which are compared with each other) stays in both as it is.

The line is checked where the whole block can be synthesised: ``tests/synth/test_slices.py`` holds it against whole small blocks, and
a campaign test against 64 bits of a real one.
"""

from __future__ import annotations

import re

from .blocks import BlockModule
from .cells import Cells, synthesise
from .errors import SynthesisError
from .liberty import Liberty

# By kind: the vectors (in, out) of as many equal words as there are valid bits, all of whose bits are treated alike.
SLICED_KINDS = {
    "read_butterfly": ("bank_data", "data"),
    "read_crossbar": ("bank_data", "data"),
    "write_butterfly": ("write_payload", "bank_payload"),
    "write_crossbar": ("write_payload", "bank_payload"),
}
NARROW, WIDE = 8, 24
_VALID = "bank_valid"

_PORT = re.compile(r"\b(input|output)\s+(?:(?:wire|reg)\s+)?(?:\[(\d+):0\]\s*)?(\w+)\s*[;,\n)]")


def synthesise_sliced(module: BlockModule, boxes: str, *, flow: str, liberty: Liberty) -> Cells:
    """Cells of a module of one of `SLICED_KINDS`, on the line through two widths; as it is if it is no wider than `WIDE`.

    The number of cells is rounded.
    """
    width = word_width(module)
    if width <= WIDE:
        return synthesise(module, boxes, flow=flow, liberty=liberty)
    narrow, wide = (synthesise(slice_of(module, bits), boxes, flow=flow, liberty=liberty) for bits in (NARROW, WIDE))
    steps = (width - NARROW) / (WIDE - NARROW)
    return Cells(
        narrow.area + steps * (wide.area - narrow.area),
        narrow.sequential_area + steps * (wide.sequential_area - narrow.sequential_area),
        round(narrow.cells + steps * (wide.cells - narrow.cells)),
    )


def word_width(module: BlockModule) -> int:
    """Bits of each word that a module of one of `SLICED_KINDS` switches."""
    ports = _ports(module)
    return ports[SLICED_KINDS[module.kind][0]][1] // ports[_VALID][1]


def slice_of(module: BlockModule, bits: int) -> BlockModule:
    """The module with only the low ``bits`` of each word connected, under a name of its own."""
    ports = _ports(module)
    sliced = SLICED_KINDS[module.kind]
    words = ports[_VALID][1]
    width = word_width(module)
    name = f"{module.name}_low{bits}"
    declared, wires, connections = [], [], []
    for port, (direction, size) in ports.items():
        if port not in sliced:
            declared.append(f"  {direction} {_range(size)}{port}")
            connections.append(f".{port}({port})")
            continue
        declared.append(f"  {direction} {_range(words * bits)}{port}")
        wires.append(f"  wire {_range(size)}whole_{port};")
        connections.append(f".{port}(whole_{port})")
        for word in range(words):
            whole, part = (f"{vector}[{word * step} +: {bits}]" for vector, step in ((f"whole_{port}", width), (port, bits)))
            wires.append(f"  assign {whole} = {part};" if direction == "input" else f"  assign {part} = {whole};")
    wrapper = [f"module {name}(", ",\n".join(declared), ");", *wires, f"  {module.name} whole({', '.join(connections)});", "endmodule"]
    return BlockModule(name, module.kind, module.source + "\n".join(wrapper) + "\n", module.children, module.sram_bits)


def _ports(module: BlockModule) -> dict[str, tuple[str, int]]:
    """Direction and bits of each port."""
    ports = {name: (direction, int(last or 0) + 1) for direction, last, name in _PORT.findall(module.source)}
    missing = {*SLICED_KINDS[module.kind], _VALID} - ports.keys()
    if missing:
        raise SynthesisError(f"{module.name} is a {module.kind} without {', '.join(sorted(missing))}")
    return ports


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""
