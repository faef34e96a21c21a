"""Verilator builds, kept by content: the same sources, flags and tools are built once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cocotb_tools.config

from .kept import cache_directory, can_be_written, read_json, write_json
from .toolchain import Toolchain, ToolchainError, find_toolchain

HARNESS_DIRECTORY = Path(__file__).parents[1]
# Optimisation of the model's own code: for long runs, and for many small builds.
_OPTIMIZATION = {"speed": "-O3", "build": "-O1"}
# Verilator's runtime is not on the way of a clock edge, and takes longer to optimise than a pod.
_RUNTIME_OPTIMIZATION = "-O0"
# Of the top of a hierarchical build: words of 32 bits up to which a value is handled word by word, and its optimisation.
_TOP_EXPAND_LIMIT = 4
_TOP_OPTIMIZATION = "-O1"

_COMPLETE = "complete.json"
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)

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
        **{path.name: path.read_text(encoding="utf-8") for path in sorted((HARNESS_DIRECTORY / "cpp").glob("*.cpp"))},
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
    identity = repr((list(texts.items()), flags, sorted(make.items()), toolchain.version, toolchain.compiler))
    if hierarchical:
        identity += f"{_TOP_EXPAND_LIMIT} {_TOP_OPTIMIZATION}"
    identity += version("cocotb")
    key = hashlib.sha256(identity.encode()).hexdigest()[:24]
    directory = cache_directory() / "builds" / key
    if _is_whole(directory, top):
        return Build(directory, top, 0.0, False, waves)
    with _exclusively(directory.with_suffix(".lock")):
        if _is_whole(directory, top):
            return Build(directory, top, 0.0, False, waves)
        if progress:
            progress("building the simulator")
        began = time.perf_counter()
        # What was cut short, and what a build left that was killed: only one at a time is here.
        for left in (directory, *directory.parent.glob(f"{key}-*")):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=_plain_folder(directory.parent)) as work:
            for name, text in texts.items():
                Path(work, name).write_text(text, encoding="utf-8")
            _compile(Path(work), toolchain, flags, list(texts), make, waves, hierarchical)
            _keep(Path(work), directory, top, texts)
        return Build(directory, top, time.perf_counter() - began, True, waves)


def _is_whole(directory: Path, top: str) -> bool:
    """Whether a simulator is there, as it was made."""
    known = read_json(directory / _COMPLETE)
    return known is not None and known == _fingerprint(directory / top)


def _fingerprint(executable: Path) -> str | None:
    try:
        with executable.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _keep(work: Path, directory: Path, top: str, texts: Mapping[str, str]) -> None:
    directory.mkdir(parents=True)
    for name in texts:
        shutil.move(work / name, directory / name)
    shutil.move(work / "obj" / top, directory / top)
    write_json(directory / _COMPLETE, _fingerprint(directory / top))


def _plain_folder(wanted: Path) -> Path:
    """``wanted``, or a folder for temporary files if make cannot work there: it takes no path with a space, a colon or a dollar."""
    folders = [wanted, *map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"))]
    for folder in folders:
        if _PLAIN.fullmatch(str(folder)) and can_be_written(folder) is None:
            return folder
    raise ToolchainError(
        f"make needs a folder that can be written and whose path has only letters, digits and ._+-/; none of "
        f"{', '.join(map(str, folders))} is one: set PODWEAVE_CACHE or TMPDIR"
    )


def _compile(
    work: Path,
    toolchain: Toolchain,
    flags: list[str],
    files: list[str],
    make: dict[str, str],
    waves: bool,
    hierarchical: Sequence[str],
) -> None:
    # Paths that make and its shells can take, whatever those of the tools are.
    tools, objects = work / "tools", cache_directory() / "objects"
    tools.mkdir()
    objects.mkdir(parents=True, exist_ok=True)
    for name, target in {
        "verilator": toolchain.root,
        "libraries": cocotb_tools.config.libs_dir,
        "main": cocotb_tools.config.share_dir / "lib" / "verilator",
        "objcache.py": Path(__file__).with_name("objcache.py"),
        "python": sys.executable,
        "objects": objects,
    }.items():
        if target is not None:
            (tools / name).symlink_to(target)
    link = f"-L{tools / 'libraries'} -lcocotbvpi_verilator -rdynamic"
    # Objects are kept by content, and some have the names of their sources in them.
    here = f"-fmacro-prefix-map={work}/="
    # Verilator reads its control files before the sources that they are about.
    ordered = sorted((name for name in files if not name.endswith(".cpp")), key=lambda name: not name.endswith(".vlt"))
    verilate = [str(toolchain.verilator), *flags, "--Mdir", "obj", "-CFLAGS", here, "-LDFLAGS", link]
    verilate += [str(tools / "main" / "verilator.cpp"), *(str(work / name) for name in files if name.endswith(".cpp")), *ordered]
    # A compiler that is killed leaves its temporary files.
    environment = toolchain.environment() | {"TMPDIR": str(work)}
    if toolchain.root:
        environment["VERILATOR_ROOT"] = str(tools / "verilator")
    _run(verilate, work, environment)
    launcher = f"{tools / 'python'} -S -E {tools / 'objcache.py'} {tools / 'objects'}"
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    command = ["make", "-s", f"-j{jobs}", "-C", "obj", "-f", "Vtop.mk", f"VM_TRACE={int(waves)}", f"OBJCACHE={launcher}"]
    if not hierarchical:
        _run([*command, *_assignments(make)], work, environment)
        return
    # The top only carries words from block to block: word by word, that would be a hundred megabytes of C++ for a large chip.
    with (work / "obj" / "Vtop__hierMkArgs.f").open("a", encoding="utf-8") as arguments:
        arguments.write(f"--expand-limit {_TOP_EXPAND_LIMIT}\n")
    _run([*command, *_assignments(make), *(f"V{name}/lib{name}.a" for name in hierarchical)], work, environment)
    _run([*command, *_assignments(make | {"OPT_FAST": _TOP_OPTIMIZATION}), "hier_build"], work, environment)


def _assignments(make: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in make.items()]


def _run(command: list[str], work: Path, environment: Mapping[str, str]) -> None:
    # Behind a program that ends it with this process, and with all that it has started.
    guarded = [sys.executable, "-S", "-E", str(Path(__file__).with_name("lifeline.py")), *command]
    with subprocess.Popen(
        guarded, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode(errors="replace")
    if process.returncode:
        end = "\n".join(output.splitlines()[-30:])
        if "Python.h" in end:
            raise ToolchainError(f"the compiler lacks a header:\n{end}")
        raise BuildError(f"{Path(command[0]).name} failed in {work} (exit code {process.returncode}):\n{end}")


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """Tests run in parallel; one of them makes the build that several need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
