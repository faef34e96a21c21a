"""What all builds of simulators share: folders that make can work in, tools at paths without surprises, who builds what."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cocotb_tools.config

from podweave.processes.lifeline import guarded

from .kept import cache_directory, can_be_written, read_json, write_json
from .toolchain import Toolchain, ToolchainError

# Verilator's runtime is not on the way of a clock edge, and takes longer to optimise than a pod.
RUNTIME_OPTIMIZATION = "-O0"

_COMPLETE = "complete.json"
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)

Progress = Callable[[str], None]


class BuildError(RuntimeError):
    """Verilator or the compiler refused a design; the message carries the end of their output."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def optimization(toolchain: Toolchain, optimize: str) -> str:
    """Flags for the model's own code: for long runs ("speed"), for many small builds ("build"), or for one short run ("none").

    ``PODWEAVE_OPTIMIZE`` is the most of these that there is.
    """
    flags = {"none": "-O0", "build": "-O1", "speed": f"-O3 {toolchain.native}".strip()}
    most = os.environ.get("PODWEAVE_OPTIMIZE", "speed")
    if most not in flags:
        raise ToolchainError(f"PODWEAVE_OPTIMIZE must be 'none', 'build' or 'speed', got {most!r}")
    order = list(flags)
    return flags[min(optimize, most, key=order.index)]


def content_key(*parts: object) -> str:
    """Equal for equal parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def kept_file(kind: str, key: str, name: str, make: Callable[[Path], Sequence[Path]]) -> tuple[Path, bool]:
    """The file ``name`` that is kept under a key, and whether it was made now: by ``make`` in an empty folder, which returns what
    is to be kept, the file among it.

    Of several who want it at the same time, one makes it.
    """
    directory = cache_directory() / kind / key
    if _is_whole(directory, name):
        return directory / name, False
    with _exclusively(directory.with_suffix(".lock")):
        if _is_whole(directory, name):
            return directory / name, False
        # What was cut short, and what a build left that was killed: only one at a time is here.
        for left in (directory, *directory.parent.glob(f"{key}-*")):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=_plain_folder(directory.parent)) as work:
            kept = make(Path(work))
            directory.mkdir(parents=True)
            for path in kept:
                shutil.move(path, directory / path.name)
            write_json(directory / _COMPLETE, _fingerprint(directory / name))
        return directory / name, True


def _is_whole(directory: Path, name: str) -> bool:
    """Whether a file is there as it was made."""
    known = read_json(directory / _COMPLETE)
    return known is not None and known == _fingerprint(directory / name)


def _fingerprint(file: Path) -> str | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


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


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Workshop:
    """A folder in which Verilator and make work; ``tools``: links to all that they are given, whatever the paths of those are."""

    def __init__(self, work: Path, toolchain: Toolchain):
        self.work, self.tools, self.toolchain = work, work / "tools", toolchain
        self.tools.mkdir()
        links = {
            "verilator": toolchain.root,
            "libraries": cocotb_tools.config.libs_dir,
            "main": cocotb_tools.config.share_dir / "lib" / "verilator",
        }
        for name, target in links.items():
            if target is not None:
                self.link(name, target)
        # A compiler that is killed leaves its temporary files.
        self.environment = toolchain.environment() | {"TMPDIR": str(work)}
        if toolchain.root:
            self.environment["VERILATOR_ROOT"] = str(self.tools / "verilator")

    def link(self, name: str, target: Path) -> Path:
        (self.tools / name).symlink_to(target)
        return self.tools / name

    def verilate(self, *arguments: str) -> None:
        self._run([str(self.toolchain.verilator), *arguments])

    def make(self, makefile: str, variables: Mapping[str, str], *targets: str) -> None:
        given = {**self.toolchain.make_variables, **variables}
        command = ["make", "-s", f"-j{cores()}", "-C", "obj", "-f", makefile]
        self._run([*command, *(f"{name}={value}" for name, value in given.items()), *targets])

    def _run(self, command: list[str]) -> None:
        # Behind a program that ends it with this process, and with all that it has started.
        with subprocess.Popen(
            guarded(command),
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            output = process.stdout.read().decode(errors="replace")
        if process.returncode:
            end = "\n".join(output.splitlines()[-30:])
            if "Python.h" in end:
                raise ToolchainError(f"the compiler lacks a header:\n{end}")
            raise BuildError(f"{Path(command[0]).name} failed in {self.work} (exit code {process.returncode}):\n{end}")
