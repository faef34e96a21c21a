"""What every simulator has besides its own model: Verilator's runtime and our engine, compiled once for all; its headers, too."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .make import RUNTIME_OPTIMIZATION, Workshop, content_key, kept_file, optimization
from .toolchain import Toolchain

CPP = Path(__file__).parents[1] / "cpp"
# C++ of ours that is compiled once: the rest depends on the model.
SHARED = ("engine.cpp", "large_pages.cpp", "lifeline.cpp", "memory.cpp")
HEADERS = "headers.h"
_ARCHIVE = "runtime.a"
# A model that needs all parts of the runtime.
_MODEL = """\
module top(input wire clk);
  import "DPI-C" function void podweave_nothing();
  always @(posedge clk) podweave_nothing();
endmodule
"""
_INCLUDED = """\
#include "verilated_fast.h"
#include "verilated_dpi.h"
#include "verilated_syms.h"
#include "verilated_vpi.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif
#include "block_types.h"
#include "unit.h"
#include <cstring>
#include <memory>
#include <string>
#include <vector>
"""


def own_sources() -> dict[str, str]:
    """The C++ that is part of every simulator, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(CPP.iterdir()) if path.is_file()}


def runtime(toolchain: Toolchain, optimize: str, waves: bool) -> Path:
    """An archive of its objects, for builds with this optimization, traced or not."""
    flags = _flags(waves)
    own = own_sources()
    variables = _variables(toolchain, optimize, waves)

    def compile_in(work: Path) -> list[Path]:
        compiled = [str(work / name) for name in SHARED]
        shop = _verilated(work, toolchain, [*flags, "--exe", *compiled])
        listed = (work / "obj" / "Vtop_classes.mk").read_text(encoding="utf-8")
        parts = [f"{name}.o" for name in sorted({*re.findall(r"\bverilated\w*", listed), *(Path(name).stem for name in SHARED)})]
        shop.make("Vtop.mk", variables, *parts)
        subprocess.run(["ar", "rcs", _ARCHIVE, *parts], cwd=work / "obj", check=True, capture_output=True)
        return [work / "obj" / _ARCHIVE]

    key = content_key(sorted(own.items()), flags, sorted(variables.items()), _MODEL, toolchain.identity)
    return kept_file("runtime", key, _ARCHIVE, compile_in)[0]


def unpack(archive: Path, obj: Path) -> None:
    """Put its objects where make will find that they are there, newer than their sources."""
    subprocess.run(["ar", "x", str(archive)], cwd=obj, check=True, capture_output=True)


def headers(toolchain: Toolchain, optimize: str, waves: bool, flags: Sequence[str]) -> Path:
    """A header with all that is the same in every model, precompiled beside it: compilers take a second to read that of Verilator.

    It is for C++ that make compiles in one file, with this optimization, traced or not, with more ``flags`` of Verilator's, and
    that includes it first. A compiler that cannot use what is precompiled reads its text.
    """
    own = own_sources()
    flags = [*_flags(waves), *flags]
    variables = _variables(toolchain, optimize, waves)
    precompiled = f"{HEADERS}.gch"

    def compile_in(work: Path) -> list[Path]:
        shop = _verilated(work, toolchain, flags)
        header = work / "obj" / HEADERS
        header.write_text(_INCLUDED, encoding="utf-8")
        # A rule of Verilator's Makefile, with the flags of its models.
        shop.make("Vtop.mk", variables, f"{HEADERS}.fast.gch")
        return [header.with_name(f"{HEADERS}.fast.gch").rename(work / precompiled), header]

    key = content_key(sorted(own.items()), flags, sorted(variables.items()), _INCLUDED, toolchain.identity)
    return kept_file("headers", key, precompiled, compile_in)[0].with_name(HEADERS)


def _flags(waves: bool) -> list[str]:
    return ["--cc", "--vpi", "--assert", "--top-module", "top", "--prefix", "Vtop", *(["--trace"] if waves else [])]


def _variables(toolchain: Toolchain, optimize: str, waves: bool) -> dict[str, str]:
    return {"OPT_FAST": optimization(toolchain, optimize), "OPT_GLOBAL": RUNTIME_OPTIMIZATION, "VM_TRACE": str(int(waves))}


def _verilated(work: Path, toolchain: Toolchain, flags: Sequence[str]) -> Workshop:
    """A folder in which the small model is ready for make."""
    shop = Workshop(work, toolchain)
    for name, text in {**own_sources(), "top.sv": _MODEL}.items():
        (work / name).write_text(text, encoding="utf-8")
    shop.verilate(*flags, "--Mdir", "obj", "-CFLAGS", f"-fmacro-prefix-map={work}/= -I{work}", "top.sv")
    return shop
