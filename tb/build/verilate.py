"""Verilator builds, kept by content: the same sources, flags and tools are built once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cocotb_tools.config

from .toolchain import Toolchain, ToolchainError, find_toolchain

HARNESS_DIRECTORY = Path(__file__).parents[1]
# Optimisation of the model's own code: for long runs, and for many small builds.
_OPTIMIZATION = {"speed": "-O3", "build": "-O1"}
# Verilator's runtime is not on the way of a clock edge, and takes longer to optimise than a pod.
_RUNTIME_OPTIMIZATION = "-O0"
# Of the top of a hierarchical build: words of 32 bits up to which a value is handled word by word, and its optimisation.
_TOP_EXPAND_LIMIT = 4
_TOP_OPTIMIZATION = "-O1"

Progress = Callable[[str], None]


class BuildError(RuntimeError):
    """Verilator or the compiler refused a design; the message carries the end of their output."""


@dataclass(frozen=True)
class Build:
    """A simulator ready to run. ``seconds``: what making it took (0 if it was there); ``fresh``: it was made now."""

    directory: Path
    top: str
    seconds: float
    fresh: bool
    traced: bool


def cache_directory() -> Path:
    """Where builds are kept: ``PODWEAVE_CACHE``, or podweave's folder in the user's cache."""
    chosen = os.environ.get("PODWEAVE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else base / "podweave"


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
    hierarchical: Sequence[str] = (),
    progress: Progress | None = None,
) -> Build:
    """Make a simulator of ``sources`` (file name -> text) with module ``top``, or find the one made before.

    ``hierarchical``: modules that are verilated once each, as libraries, and not once per instance: builds faster where large
    modules repeat, runs slower. Only ``public_inputs`` of the top module are visible to cocotb; arrays are reached through
    ``tb/cpp/backdoor.cpp``, which like all of ``tb/cpp`` is part of every simulator.
    """
    toolchain = find_toolchain()
    public = [f'public_flat_rw -module "{top}" -var "{name}"' for name in public_inputs]
    public += [f'hier_block -module "{name}"' for name in hierarchical]
    texts = {
        "control.vlt": "`verilator_config\n" + "\n".join(public) + "\n",
        **({"design.vlt": control} if control else {}),
        **sources,
        **{path.name: path.read_text() for path in sorted((HARNESS_DIRECTORY / "cpp").glob("*.cpp"))},
    }
    flags = [
        *("--cc", "--exe", "--vpi", "--assert", "--top-module", top, "--prefix", "Vtop", "-o", top),
        *("--timescale", "1ns/1ps", "-O3", "--x-assign", "fast"),
        *("--x-initial", "unique" if random_initial_state else "fast"),
        *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
        *(["--trace"] if waves else []),
        *(["--hierarchical"] if hierarchical else []),
        *(f"-G{name}={value}" for name, value in (parameters or {}).items()),
    ]
    make = {
        **toolchain.make_variables,
        "OPT_FAST": _OPTIMIZATION[optimize],
        "OPT_SLOW": "-O0",
        "OPT_GLOBAL": _RUNTIME_OPTIMIZATION,
    }
    identity = repr((sorted(texts.items()), flags, sorted(make.items()), toolchain.version, toolchain.compiler))
    if hierarchical:
        identity += f"{_TOP_EXPAND_LIMIT} {_TOP_OPTIMIZATION}"
    identity += version("cocotb") + str(cocotb_tools.config.libs_dir)
    key = hashlib.sha256(identity.encode()).hexdigest()[:24]
    directory = cache_directory() / "builds" / key
    marker = directory / "complete"
    if marker.exists():
        return Build(directory, top, 0.0, False, waves)
    with _exclusively(directory.with_suffix(".lock")):
        if marker.exists():
            return Build(directory, top, 0.0, False, waves)
        if progress:
            progress("building the simulator")
        began = time.perf_counter()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, text in texts.items():
            (directory / name).write_text(text)
        _compile(directory, toolchain, flags, list(texts), make, waves, hierarchical)
        _discard_intermediates(directory, top)
        marker.touch()
        return Build(directory, top, time.perf_counter() - began, True, waves)


def _compile(
    directory: Path,
    toolchain: Toolchain,
    flags: list[str],
    files: list[str],
    make: dict[str, str],
    waves: bool,
    hierarchical: Sequence[str],
) -> None:
    libraries = cocotb_tools.config.libs_dir
    main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    link = f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator -rdynamic"
    # Verilator reads its control files before the sources that they are about.
    ordered = sorted((name for name in files if not name.endswith(".cpp")), key=lambda name: not name.endswith(".vlt"))
    verilate = [str(toolchain.verilator), *flags, "--Mdir", "obj", "-LDFLAGS", link, str(main)]
    verilate += [*(str(directory / name) for name in files if name.endswith(".cpp")), *ordered]
    _run(verilate, directory, toolchain)
    objects = cache_directory() / "objects"
    launcher = f"{sys.executable} -S -E {Path(__file__).with_name('objcache.py')} {objects}"
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    command = ["make", "-s", f"-j{jobs}", "-C", "obj", "-f", "Vtop.mk", f"VM_TRACE={int(waves)}", f"OBJCACHE={launcher}"]
    if not hierarchical:
        _run([*command, *_assignments(make)], directory, toolchain)
        return
    # The top only carries words from block to block: word by word, that would be a hundred megabytes of C++ for a large chip.
    with (directory / "obj" / "Vtop__hierMkArgs.f").open("a") as arguments:
        arguments.write(f"--expand-limit {_TOP_EXPAND_LIMIT}\n")
    _run([*command, *_assignments(make), *(f"V{name}/lib{name}.a" for name in hierarchical)], directory, toolchain)
    _run([*command, *_assignments(make | {"OPT_FAST": _TOP_OPTIMIZATION}), "hier_build"], directory, toolchain)


def _assignments(make: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in make.items()]


def _run(command: list[str], directory: Path, toolchain: Toolchain) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        env=toolchain.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if result.returncode:
        end = "\n".join(result.stdout.splitlines()[-30:])
        if "Python.h" in end:
            raise ToolchainError(f"the compiler lacks a header:\n{end}")
        raise BuildError(f"{Path(command[0]).name} failed in {directory} (exit code {result.returncode}):\n{end}")


def _discard_intermediates(directory: Path, top: str) -> None:
    (directory / "obj" / top).rename(directory / top)
    shutil.rmtree(directory / "obj")


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """Tests run in parallel; one of them makes the build that several need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
