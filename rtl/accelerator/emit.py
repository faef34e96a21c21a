"""Emission: a configuration becomes one Verilog file, a Verilator control file and a JSON description of its ports."""

from __future__ import annotations

import collections
import dataclasses
import gc
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Shape
from amaranth.lib import wiring

from podweave.spec.config import ChipConfig

from ..chip.chip import Chip
from ..parts.blocks import Block, collecting_placements, prefixed_names
from ..parts.wired_block import WiredBlock
from .accelerator import Accelerator
from .paths import Flow, combinational_paths, flow_of
from .sidecar import describe
from .yosys import YosysError, run_yosys

_PORT = re.compile(r"^  wire(?: width (\d+))? (input|output) (\d+) +(?:signed +)?\\(\w+)$", re.MULTILINE)
_MODULE = re.compile(r"^module (\w+)\b.*?^endmodule\n", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"^ *function +(?:\[[^\]]*\] +)?(_\d+_);", re.MULTILINE)
_NUMBERED = re.compile(r"\b_\d+_\b")
_INITIAL_VALUE = re.compile(r"^ *attribute \\init .*\n", re.MULTILINE)

# Amaranth's own writer leaves `always @*` blocks, which Verilator handles worse than the expressions of `proc`. `opt_dff`
# gives registers an enable instead of a multiplexer back to themselves; `wreduce` drops the carry bit that nothing reads, which
# would double the machine words of every sum. Amaranth gives every memory an initial value, which hardware does not have.
_YOSYS_SCRIPT = (
    "read_rtlil design.il; delete t:$meminit_v2; proc; opt_expr; opt_clean; opt_dff; wreduce t:$add t:$sub; opt_clean; "
    "write_verilog -noattr design.v; write_json design.json"
)

# Rules of Verilator that what we write does not keep, and why. Only rules that Verilator 5.006 knows: it refuses all others.
LINT_WAIVERS = {
    "DECLFILENAME": "All blocks share one file.",
    "UNUSEDSIGNAL": "Blocks keep their whole boundary (clk and rst included) and words all fields of their layout, used or not.",
    "WIDTH": "Amaranth has resolved all widths; Yosys writes operands trimmed and leaves extension to the rules of Verilog.",
    "CMPCONST": "A limit at the end of what its field can hold makes its check a constant, which synthesis removes.",
    "UNSIGNED": "The same of a limit of 0.",
    "CASEOVERLAP": "Yosys writes a choice between conditions that exclude each other as a case of one bit each.",
}


Converted = dict[str, tuple[str, Flow]]
Convert = Callable[[str], Converted]


@dataclass(frozen=True)
class Emitted:
    """Text of an emitted design.

    Parameters
    ----------
    top : str
        Name of the top module.
    verilog : str
        The Verilog of all modules.
    control : str
        Verilator control file, to be read before the Verilog.
    sidecar : dict[str, Any]
        JSON-ready: configuration, ports, layouts, codes, latencies, modules.
    circuit : dict[str, Any]
        JSON-ready: ``wiring``, by module that is only wires (`rtl.parts.wired_block.Wiring`), and ``paths``, by other module that
        has any (`rtl.accelerator.paths.Paths`).
    """

    top: str
    verilog: str
    control: str
    sidecar: dict[str, Any]
    circuit: dict[str, Any]

    def write(self, directory: Path) -> list[Path]:
        """Writes ``TOP.v``, ``TOP.vlt`` and ``TOP.json``, TOP with its prefix, into ``directory``; returns their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        contents = {
            f"{self.top}.v": self.verilog,
            f"{self.top}.vlt": self.control,
            f"{self.top}.json": json.dumps(self.sidecar, indent=1) + "\n",
        }
        for name, content in contents.items():
            (directory / name).write_text(content, encoding="utf-8")
        return [directory / name for name in contents]


def converted(design: str) -> Converted:
    """Verilog of some modules in RTLIL, and what depends on what in them.

    What Yosys writes of a module depends on the others that it has read: only modules that belong together come together.
    """
    with tempfile.TemporaryDirectory(prefix="podweave-emit-") as directory:
        Path(directory, "design.il").write_text(design, encoding="utf-8")
        try:
            run_yosys(_YOSYS_SCRIPT, Path(directory))
        except YosysError as error:
            raise RuntimeError(f"Yosys could not convert the design:\n{error}") from error
        output, netlist = Path(directory, "design.v"), Path(directory, "design.json")
        text, modules = output.read_text(encoding="utf-8"), json.loads(netlist.read_bytes())["modules"]
    texts = {match[1]: match[0] for match in _MODULE.finditer(text)}
    if texts.keys() != modules.keys():
        raise RuntimeError(f"Yosys wrote {sorted(texts)} of the modules {sorted(modules)}")
    found = {}
    for name, module in modules.items():
        try:
            found[name] = _named_functions(name, texts[name]), flow_of(module)
        except RuntimeError as error:
            raise RuntimeError(f"{name}: {error}") from error
    return found


def _named_functions(module: str, text: str) -> str:
    """Yosys numbers functions. Verilator finds one of the same number in a module that this one is in, and warns (VARHIDDEN)."""
    functions = set(_FUNCTION.findall(text))
    return _NUMBERED.sub(lambda found: f"{found[0]}{module}" if found[0] in functions else found[0], text) if functions else text


TOPS: dict[str, Callable[[ChipConfig], Block]] = {"chip": Chip, "accelerator": Accelerator}


def default_top(config: ChipConfig) -> str:
    """What a configuration is for: a chip, or, with prefetch engines, an accelerator."""
    return "accelerator" if config.prefetch else "chip"


def emit(config: ChipConfig, *, top: str | None = None, prefix: str = "", convert: Convert = converted) -> Emitted:
    """Emit the hardware of a configuration: its `default_top`, or ``top``, the chip of an accelerator.

    ``convert``: `converted`, or what returns the same and remembers it.

    ``prefix``: what names of modules and files begin with, and an underscore; `ConfigError` if they cannot. The same configuration
    and prefix always give the same bytes.
    """
    top = top or default_top(config)
    legal = {"chip", default_top(config)}
    if top not in legal:
        raise ValueError(f"{config.name} has no {top}: it can be emitted as {' or '.join(sorted(legal))}")
    with prefixed_names(prefix):
        emitted = emit_block(TOPS[top](config), convert)
    return dataclasses.replace(emitted, sidecar={**describe(config, top), **emitted.sidecar})


def emit_block(top: Block, convert: Convert = converted) -> Emitted:
    """Emit one block with all that it places; every distinct block becomes one module. ``convert``: as of `emit`."""
    modules: dict[str, dict[str, Any]] = {}
    emitted_types: dict[str, type[Block]] = {}
    elaborated: dict[str, str] = {}
    by_hand: list[str] = []
    inlined: set[str] = set()
    wiring: dict[str, Any] = {}
    pending = [top]
    while pending:
        block = pending.pop()
        if block.module_name in modules:
            if type(block) is not emitted_types[block.module_name]:
                raise RuntimeError(f"two different blocks are named {block.module_name}")
            continue
        emitted_types[block.module_name] = type(block)
        text = block.verilog()
        placed: list[Block] = []
        if text is not None:
            by_hand.append(text)
        elif isinstance(block, WiredBlock):
            with collecting_placements() as placed:
                structure, wiring[block.module_name] = block.structure()
            by_hand.append(structure)
        else:
            with collecting_placements() as placed, _no_garbage_collection():
                text = rtlil.convert(block, name=block.module_name, emit_src=False)
            elaborated[block.module_name] = _INITIAL_VALUE.sub("", _complete_boundary(block, text))
        modules[block.module_name] = {
            "kind": block.kind,
            "instances": dict(sorted(collections.Counter(child.module_name for child in placed).items())),
            "sram_bits": block.sram_bits,
        }
        if block.inline:
            inlined.add(block.module_name)
        pending.extend(placed)

    made: Converted = {}
    groups = _groups(top.module_name, modules, wiring, elaborated)
    # Yosys runs outside of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as yosys:
        for part in yosys.map(convert, ("\n".join(elaborated[name] for name in group) for group in groups)):
            made |= part
    verilog = "".join(f"\n{made[name][0]}" for name in sorted(made))
    flows = {name: flow for name, (_, flow) in made.items()}
    header = f"// {top.module_name}: generated by podweave (Amaranth, Yosys). Do not edit.\n"
    # A module that is instantiated more than once becomes one C++ class instead of being inlined at each place.
    repeated = collections.Counter[str]()
    for module in modules.values():
        repeated.update(module["instances"])
    blocks = sorted(name for name, count in repeated.items() if count > 1 and name not in inlined)
    control = _control(f"{top.module_name}.v", blocks)
    sidecar = {"top": top.module_name, "ports": _describe_ports(top), "modules": dict(sorted(modules.items()))}
    paths = {name: found for name, found in combinational_paths(flows).items() if found}
    circuit = {"wiring": wiring, "paths": paths}
    return Emitted(top.module_name, header + verilog + "\n" + "\n".join(sorted(by_hand)), control, sidecar, circuit)


def _groups(top: str, modules: Mapping[str, Any], wiring: Mapping[str, Any], elaborated: Mapping[str, str]) -> list[list[str]]:
    """Modules to convert together: a block that modules of only wires place, or the top, with what only it has. Others alone."""
    units = {top, *(child for name in wiring for child in modules[name]["instances"])} - set(wiring)
    holders: dict[str, set[str]] = {}
    for unit in units:
        reached, pending = {unit}, [unit]
        while pending:
            below = modules[pending.pop()]["instances"].keys() - reached
            reached |= below
            pending.extend(below)
        for name in reached & elaborated.keys():
            holders.setdefault(name, set()).add(unit)
    groups: dict[str, list[str]] = {}
    for name in sorted(holders):
        (first, *others) = sorted(holders[name])
        groups.setdefault(name if others else first, []).append(name)
    # The largest first: processes run side by side.
    return sorted(groups.values(), key=lambda group: -sum(len(elaborated[name]) for name in group))


def _control(file: str, blocks: list[str]) -> str:
    """A Verilator control file, to be read before ``file``, the only one that it says anything of, wherever it lies."""
    lines = ["`verilator_config"]
    for rule, reason in LINT_WAIVERS.items():
        lines += [f"// {reason}", *(f'lint_off -rule {rule} -file "{path}"' for path in (file, f"*/{file}"))]
    return "\n".join([*lines, *(f'no_inline -module "{name}"' for name in blocks), ""])


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Amaranth makes a million small objects that all live to the end of a conversion: looking for garbage takes a fifth of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _complete_boundary(block: Block, text: str) -> str:
    """Hold the emitted ports against the signature, and add inputs that Amaranth dropped because nothing reads them."""
    found = {name: (int(width or 1), flow) for width, flow, _, name in _PORT.findall(text)}
    expected = {"clk": (1, "input"), "rst": (1, "input")}
    for name, member in block.signature.members.items():
        flow = "output" if member.flow is wiring.Out else "input"
        expected[name] = (Shape.cast(member.shape).width, flow)
    for name, port in found.items():
        if expected.get(name) != port:
            raise RuntimeError(f"{block.module_name}: emitted port {name} {port} is not in its signature")
    missing = [name for name in expected if name not in found]
    for name in missing:
        if expected[name][1] == "output":
            raise RuntimeError(f"{block.module_name}: output {name} was not emitted")
    lines = [f"  wire width {expected[name][0]} input {len(found) + i} \\{name}\n" for i, name in enumerate(missing)]
    head, newline, rest = text.partition(f"module \\{block.module_name}\n")
    if not newline:
        raise RuntimeError(f"{block.module_name}: no such module in its own emission")
    return head + newline + "".join(lines) + rest


def _describe_ports(block: Block) -> list[dict[str, Any]]:
    ports = [{"name": "clk", "direction": "input", "width": 1}, {"name": "rst", "direction": "input", "width": 1}]
    for name, member in block.signature.members.items():
        direction = "output" if member.flow is wiring.Out else "input"
        ports.append({"name": name, "direction": direction, "width": Shape.cast(member.shape).width})
    return ports
