"""Simulators, kept by content: of the same sources, blocks, flags and tools one is built once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from .blocks import Block, block_table, build_block, quicken, traceable
from .instrument import current_instrument
from .make import RUNTIME_OPTIMIZATION, Progress, Workshop, content_key, cores, kept_file, optimization
from .runtime import CPP, SHARED, headers, own_sources, runtime, unpack
from .toolchain import find_toolchain

HARNESS_DIRECTORY = CPP.parent
_VERILOG = (".v", ".sv")


@dataclass(frozen=True)
class Assembly:
    """A design that is simulated block by block.

    Parameters
    ----------
    blocks : sequence of Block
        Each distinct one.
    circuit : str
        Who is wired to whom (`tb.build.circuit.Circuit.text`).
    scope : str
        Where in the harness the stub of the design is (`stub`).
    """

    blocks: Sequence[Block]
    circuit: str
    scope: str


@dataclass(frozen=True)
class Build:
    """A simulator ready to run.

    Parameters
    ----------
    directory : Path
        Where it is.
    top : str
        Its harness, and the name of the program.
    seconds : float
        What making it took; 0 if it was there.
    made : list of str
        Blocks that were compiled now, and ``top`` if the program was made now.
    traced : bool
        It can write waveforms.
    scope : str
        Of a design that is simulated block by block, with its circuit in the file ``circuit``; else empty.
    changed : bool
        The `Instrument` that was on has changed its Verilog.
    """

    directory: Path
    top: str
    seconds: float
    made: list[str]
    traced: bool
    scope: str = ""
    changed: bool = False

    @property
    def fresh(self) -> bool:
        """The program was made now."""
        return self.top in self.made


def build(
    sources: Mapping[str, str],
    *,
    top: str,
    public_inputs: list[str],
    control: str = "",
    parameters: Mapping[str, int] | None = None,
    optimize: str = "speed",
    random_initial_state: bool = False,
    waves: bool = False,
    assembly: Assembly | None = None,
    progress: Progress | None = None,
) -> Build:
    """Make a simulator of ``sources`` (file name -> text) with module ``top``, or find the one made before.

    ``assembly``: a design beside them, of which the sources have a `stub`. Only ``public_inputs`` of the top module are visible to
    cocotb; arrays are reached through ``tb/cpp/backdoor.cpp``, which like all of ``tb/cpp`` is part of every simulator.
    """
    toolchain = find_toolchain()
    began = time.perf_counter()
    instrument = current_instrument()
    given, parts = sources, assembly
    sources = {name: instrument.changed(text) if name.endswith(_VERILOG) else text for name, text in given.items()}
    if assembly:
        blocks_now = [replace(block, verilog=instrument.changed(block.verilog)) for block in assembly.blocks]
        assembly = replace(assembly, blocks=blocks_now)
    changed = sources != given or assembly != parts
    blocks = _built(assembly, optimize, random_initial_state, waves, progress) if assembly else {}
    made = [block.name for block, (_, fresh) in blocks.items() if fresh]
    public = [f'public_flat_rw -module "{top}" -var "{name}"' for name in public_inputs]
    texts = {
        "control.vlt": "`verilator_config\n" + "\n".join(public) + "\n",
        **({"design.vlt": control} if control else {}),
        **sources,
        "blocks.cpp": block_table(list(blocks)),
        **({"circuit": assembly.circuit} if assembly else {}),
    }
    own = own_sources()
    flags = [
        *("--cc", "--exe", "--vpi", "--assert", "--top-module", top, "--prefix", "Vtop", "-o", top),
        *("--timescale", "1ns/1ps", "-O3", "--x-assign", "fast"),
        *("--x-initial", "unique" if random_initial_state else "fast"),
        *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
        *(["--trace"] if waves else []),
        *(f"-G{name}={value}" for name, value in (parameters or {}).items()),
        *instrument.flags,
    ]
    # One file of C++ is less to read for the compiler, and has its headers precompiled; several are compiled side by side.
    one_file = assembly is not None or optimize != "speed"
    variables = {
        "OPT_FAST": optimization(toolchain, optimize),
        "OPT_SLOW": "-O0",
        "OPT_GLOBAL": RUNTIME_OPTIMIZATION,
        "VM_TRACE": str(int(waves)),
        **({"VM_PARALLEL_BUILDS": "0"} if one_file else {}),
    }
    tools = (*toolchain.identity, version("cocotb"))
    # An object that is kept has its key in its path.
    objects = [str(path.parent.name) for path, _ in blocks.values()]
    key = content_key(list(texts.items()), list(own.items()), flags, sorted(variables.items()), tools, objects)

    def link_in(work: Path) -> list[Path]:
        if progress:
            progress("building the simulator")
        shop = Workshop(work, toolchain)
        for name, text in {**texts, **own}.items():
            Path(work, name).write_text(text, encoding="utf-8")
        linked = [str(shop.link(f"block_{i}.o", path)) for i, (path, _) in enumerate(blocks.values())]
        link = f"{' '.join(linked)} -L{shop.tools / 'libraries'} -lcocotbvpi_verilator -rdynamic"
        here = f"-fmacro-prefix-map={work}/= -I{work}"
        if one_file:
            first = headers(toolchain, optimize, waves, instrument.flags)
            here += f" -include {shop.link('headers', first.parent) / first.name}"
        # Verilator reads its control files before the sources that they are about.
        ordered = sorted((name for name in texts if name.endswith((*_VERILOG, ".vlt"))), key=lambda name: not name.endswith(".vlt"))
        shared = [str(work / name) for name in SHARED]
        shop.verilate(*flags, "--Mdir", "obj", "-CFLAGS", here, "-LDFLAGS", link, *shared, *ordered)
        # In one file with its class is what depends on the model.
        depends = (shop.tools / "main" / "verilator.cpp", "backdoor.cpp", "blocks.cpp")
        with (work / "obj" / "Vtop.cpp").open("a", encoding="utf-8") as model:
            model.writelines(f'#include "{file}"\n' for file in depends)
        quicken(work / "obj", "Vtop", large_pages=False)
        traceable(work / "obj" / "Vtop.h")
        unpack(runtime(toolchain, optimize, waves), work / "obj")
        shop.make("Vtop.mk", variables)
        return [work / "obj" / top, *(work / name for name in texts)]

    program, fresh = kept_file("builds", key, top, link_in)
    made += [top] if fresh else []
    seconds = time.perf_counter() - began if made else 0.0
    return Build(program.parent, top, seconds, made, waves, assembly.scope if assembly else "", changed)


def _built(
    assembly: Assembly, optimize: str, random_initial_state: bool, waves: bool, progress: Progress | None
) -> dict[Block, tuple[Path, bool]]:
    """The object of each block, and whether it was compiled now; as many at once as there are cores, the largest first."""
    done, flags = 0, current_instrument().flags

    def one(block: Block) -> tuple[Path, bool]:
        nonlocal done
        found = build_block(block, optimize=optimize, random_initial_state=random_initial_state, waves=waves, flags=flags)
        done += 1
        if progress:
            progress(f"building the simulator (block {done}/{len(assembly.blocks)})")
        return found

    largest = sorted(assembly.blocks, key=lambda block: -len(block.verilog))
    with ThreadPoolExecutor(cores()) as pool:
        made = dict(zip(largest, pool.map(one, largest), strict=True))
    return {block: made[block] for block in assembly.blocks}


def stub(name: str, ports: Sequence[Mapping[str, object]], taps: Mapping[str, int]) -> tuple[str, str]:
    """What stands for a design in its harness, and the lines of a control file that make its ports public.

    ``ports``: of the design, as its sidecar lists them. ``taps``: widths of signals in it that the harness reads.
    """
    lines, control = [], []
    for port in ports:
        wire = "input wire" if port["direction"] == "input" else "output reg"
        lines.append(f"  {wire} [{int(str(port['width'])) - 1}:0] {port['name']}")
        access = "rd" if port["direction"] == "input" else "rw"
        control.append(f'public_flat_{access} -module "{name}" -var "{port["name"]}"')
    inside = [f"  reg [{width - 1}:0] {tap};" for tap, width in taps.items()]
    control += [f'public_flat_rw -module "{name}" -var "{tap}"' for tap in taps]
    text = f"module {name}(\n" + ",\n".join(lines) + "\n);\n" + "\n".join([*inside, "endmodule", ""])
    return text, "\n".join(control) + "\n"
