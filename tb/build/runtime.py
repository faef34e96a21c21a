"""What every simulator has besides its own model: Verilator's runtime and our engine, compiled once for all."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .make import Workshop, content_key, kept_file
from .toolchain import Toolchain

CPP = Path(__file__).parents[1] / "cpp"
# The rest depends on the model.
_SOURCES = ("engine.cpp", "large_pages.cpp", "lifeline.cpp", "memory.cpp")
_ARCHIVE = "runtime.a"
# A model that needs all parts of the runtime.
_MODEL = """\
module top(input wire clk);
  import "DPI-C" function void podweave_nothing();
  always @(posedge clk) podweave_nothing();
endmodule
"""


def own_sources() -> dict[str, str]:
    """The C++ that is part of every simulator, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(CPP.iterdir()) if path.is_file()}


def runtime(toolchain: Toolchain, variables: Mapping[str, str], waves: bool) -> Path:
    """An archive of its objects, for builds with these variables of make."""
    flags = ["--cc", "--exe", "--vpi", "--assert", "--top-module", "top", "--prefix", "Vtop", *(["--trace"] if waves else [])]
    own = own_sources()

    def compile_in(work: Path) -> list[Path]:
        shop = Workshop(work, toolchain)
        for name, text in {**own, "top.sv": _MODEL}.items():
            (work / name).write_text(text, encoding="utf-8")
        compiled = [str(work / name) for name in _SOURCES]
        shop.verilate(*flags, "--Mdir", "obj", "-CFLAGS", f"-fmacro-prefix-map={work}/= -I{work}", *compiled, "top.sv")
        listed = (work / "obj" / "Vtop_classes.mk").read_text(encoding="utf-8")
        parts = [f"{name}.o" for name in sorted({*re.findall(r"\bverilated\w*", listed), *(Path(name).stem for name in _SOURCES)})]
        shop.make("Vtop.mk", variables, *parts)
        subprocess.run(["ar", "rcs", _ARCHIVE, *parts], cwd=work / "obj", check=True, capture_output=True)
        return [work / "obj" / _ARCHIVE]

    key = content_key(sorted(own.items()), flags, sorted(variables.items()), _MODEL, toolchain.identity)
    return kept_file("runtime", key, _ARCHIVE, compile_in)[0]


def unpack(archive: Path, obj: Path) -> None:
    """Put its objects where make will find that they are there, newer than their sources."""
    subprocess.run(["ar", "x", str(archive)], cwd=obj, check=True, capture_output=True)
