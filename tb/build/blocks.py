"""Blocks of a design, each verilated once, as a class of which a simulator makes objects; kept by the content of the block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .make import RUNTIME_OPTIMIZATION, BuildError, Workshop, content_key, kept_file, optimization
from .runtime import CPP, headers
from .toolchain import find_toolchain

MODULE = re.compile(r"^module (\w+)\b.*?^endmodule\n", re.MULTILINE | re.DOTALL)
"""A module in a text of Verilog as we write it, and its name."""
_CONTROL = re.compile(r'^\w+ -module "(\w+)".*$', re.MULTILINE)
_OBJECT = "block.o"
# What is made of a block depends on what is done here, too.
_OWN = Path(__file__).read_text(encoding="utf-8")

_CLASS = """
#include "{prefix}___024root.h"
#include "{prefix}__Syms.h"
#include "unit.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {{
class Block final : public podweave::Unit {{
public:
    Block(VerilatedContext* context, const char* name) : model_(context, name) {{
        model_.clk = 0;
        model_.eval();
    }}
    void rise() override {{ podweave::rising_edge(model_, *model_.rootp); }}
    void settle() override {{ model_.eval(); }}
    void show_clock(bool high) override {{ model_.clk = high; }}
    std::vector<podweave::Port> ports() override {{
        return {{
{ports}
        }};
    }}
    char* state() override {{ return reinterpret_cast<char*>(&model_.rootp->vlSymsp->TOP); }}
    std::size_t state_bytes() override {{ return reinterpret_cast<char*>(model_.rootp->vlSymsp + 1) - state(); }}
    const void* symbols() override {{ return model_.rootp->vlSymsp; }}
    void trace(VerilatedVcdC* file) override {{
#if VM_TRACE
        model_.traceBaseModel(file, 99, 0);
#else
        (void)file;
#endif
    }}

private:
    {prefix} model_;
}};
}}  // namespace

podweave::Unit* {prefix}_make(VerilatedContext* context, const char* name) {{ return new Block{{context, name}}; }}
"""


@dataclass(frozen=True)
class Block:
    """A module with all that is in it, ready to be verilated.

    Parameters
    ----------
    name : str
        The module.
    verilog : str
        It, and the modules below it.
    control : str
        Lines of a Verilator control file about these modules.
    """

    name: str
    verilog: str
    control: str

    @property
    def prefix(self) -> str:
        """What Verilator calls its class, and what the names of all others begin with."""
        return f"V{self.name}"


def modules_of(verilog: str) -> dict[str, str]:
    """The text of each module of an emitted design."""
    return {match[1]: match[0] for match in MODULE.finditer(verilog)}


def block_of(name: str, modules: Mapping[str, str], below: Mapping[str, Sequence[str]], control: str) -> Block:
    """A block out of the modules of a design. ``below``: by module, those that it has instances of. ``control``: of all."""
    wanted, pending = {name}, [name]
    while pending:
        for child in below[pending.pop()]:
            if child not in wanted:
                wanted.add(child)
                pending.append(child)
    text = "\n".join(modules[each] for each in sorted(wanted))
    return Block(name, text, "\n".join(match[0] for match in _CONTROL.finditer(control) if match[1] in wanted))


def build_block(
    block: Block, *, optimize: str, random_initial_state: bool, waves: bool, flags: Sequence[str] = ()
) -> tuple[Path, bool]:
    """The object file of a block, whose one function ``<prefix>_make`` makes an instance; whether it was compiled now.

    ``flags``: more of Verilator's.
    """
    if "negedge" in block.verilog:
        raise BuildError(f"{block.name} does something at falling edges: they are not evaluated")
    toolchain = find_toolchain()
    more = flags
    flags = [
        *("--cc", "--assert", "--top-module", block.name, "--prefix", block.prefix, "--Mdir", "obj"),
        *("--timescale", "1ns/1ps", "-O3", "--x-assign", "fast"),
        *("--x-initial", "unique" if random_initial_state else "fast"),
        *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
        *(["--trace"] if waves else []),
        *flags,
    ]
    variables = {
        "OPT_FAST": optimization(toolchain, optimize),
        "OPT_GLOBAL": RUNTIME_OPTIMIZATION,
        # One file of C++: less to read for the compiler. Blocks are compiled side by side.
        "VM_PARALLEL_BUILDS": "0",
        "VM_TRACE": str(int(waves)),
    }
    own = [(CPP / name).read_text(encoding="utf-8") for name in ("unit.h", "verilated_fast.h")]
    identity = (block.name, block.verilog, block.control, flags, sorted(variables.items()), _OWN, own)

    def compile_in(work: Path) -> list[Path]:
        shop = Workshop(work, toolchain)
        shop.link("cpp", CPP)
        Path(work, "block.v").write_text(block.verilog, encoding="utf-8")
        Path(work, "block.vlt").write_text(f"`verilator_config\n{block.control}\n", encoding="utf-8")
        first = headers(toolchain, optimize, waves, more)
        here = f"-fmacro-prefix-map={work}/= -I{shop.tools / 'cpp'} -include {shop.link('headers', first.parent) / first.name}"
        shop.verilate(*flags, "-CFLAGS", here, "block.vlt", "block.v")
        model = work / "obj" / f"{block.prefix}.cpp"
        with model.open("a", encoding="utf-8") as source:
            source.write(_CLASS.format(prefix=block.prefix, ports=_port_list(work / "obj" / f"{block.prefix}.h")))
        quicken(work / "obj", block.prefix, large_pages=True)
        traceable(work / "obj" / f"{block.prefix}.h")
        shop.make(f"{block.prefix}.mk", variables, f"{block.prefix}__ALL.o")
        return [(work / "obj" / f"{block.prefix}__ALL.o").rename(work / _OBJECT)]

    key = content_key(*identity, toolchain.identity)
    return kept_file("blocks", key, _OBJECT, compile_in)


def block_table(blocks: Sequence[Block]) -> str:
    """C++ by which a simulator knows its blocks."""
    declared = [f"podweave::Unit* {block.prefix}_make(VerilatedContext*, const char*);" for block in blocks]
    rows = [f'    {{"{block.name}", {block.prefix}_make}},' for block in blocks]
    # An array of nothing is not C++.
    return "\n".join(
        [
            '#include "block_types.h"',
            *declared,
            "const podweave::BlockType podweave::block_types[] = {",
            *rows,
            "    {nullptr, nullptr},",
            "};",
            f"const unsigned podweave::block_type_count = {len(blocks)};",
            "",
        ]
    )


def traceable(header: Path) -> None:
    """Let a class be asked to write waveforms alone: ``trace`` is for all of a simulation."""
    edit(header, lambda text: text.replace("    void traceBaseModel(", "  public:\n    void traceBaseModel("))


def edit(file: Path, change: Callable[[str], str]) -> None:
    """Change a file of Verilator's."""
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")


def quicken(obj: Path, prefix: str, *, large_pages: bool) -> None:
    """Put what is faster of ours (tb/cpp/verilated_fast.h) into the C++ of a class."""
    first, end = '#include "verilated.h"\n', f"~{prefix}__Syms();\n"
    edit(obj / f"{prefix}__pch.h", lambda text: text.replace(first, f'{first}#include "verilated_fast.h"\n', 1))
    if large_pages:
        edit(obj / f"{prefix}__Syms.h", lambda text: text.replace(end, f"{end}    PODWEAVE_LARGE_PAGES\n", 1))
    for source in obj.glob("*.cpp"):
        edit(source, with_bytes)


_VALUE = r"((?:[A-Za-z_]\w*(?:\.|->))*[A-Za-z_]\w*)\[(0x[0-9a-f]+|\d+)U\]"
_BYTE = re.compile(rf"VL_EXTENDS_II\(32,8,\s*\((?:0x000000ffU\s*&\s*)?\(?\s*{_VALUE}(?:\s*>>\s*(0x[0-9a-f]+|\d+)U)?\s*\)?\)\)")


def with_bytes(source: str) -> str:
    """C++ of Verilator in which bytes of words are read as bytes: a compiler then takes many at once."""

    def byte(match: re.Match[str]) -> str:
        name, word, shift = match[1], int(match[2], 0), int(match[3] or "0", 0)
        if shift % 8 or match[0].count("(") != match[0].count(")"):
            return match[0]
        return f"podweave::signed_byte({name}, {4 * word + shift // 8})"

    return _BYTE.sub(byte, source)


_PORT = re.compile(r"^\s*VL_(IN|OUT)(?:8|16|64|W)?\(&(\w+),(\d+),(\d+)(?:,\d+)?\);", re.MULTILINE)


def _port_list(header: Path) -> str:
    """The ports of a class, as its header declares them."""
    rows = []
    for direction, name, high, low in _PORT.findall(header.read_text(encoding="utf-8")):
        output = "true" if direction == "OUT" else "false"
        # Names that mean something in C++, and double underscores, are written otherwise there.
        plain = name.removeprefix("__SYM__").replace("___05F", "__")
        rows.append(f'            {{"{plain}", {int(high) - int(low) + 1}, {output}, static_cast<void*>(&model_.{name})}},')
    return "\n".join(rows)
