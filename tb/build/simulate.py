"""Runs a cocotb test module on a build, in a process of its own, and reports what happened."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cocotb_tools.config
import find_libpython

from .verilate import Build

_RESULTS, _LOG = "results.xml", "simulation.log"


class SimulationError(RuntimeError):
    """The simulation found a failure, or ended without a verdict; the message carries what it said."""


def simulate(
    build: Build,
    module: str,
    directory: Path,
    *,
    test: str | None = None,
    seed: int = 0,
    plusargs: list[str] | None = None,
    waves: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Run the cocotb tests of ``module``, or only ``test``, on ``build`` in ``directory``, where they find their input.

    What a test writes into the file ``progress`` there is passed on to ``progress`` while it runs.

    Raises `SimulationError` unless every test passed. A missing results file is a failure: a simulator without a root handle
    ends with exit code 0.
    """
    process = start_simulator(build, module, directory, test=test, seed=seed, plusargs=plusargs, waves=waves)
    try:
        _wait(process, directory / "progress", progress)
    except BaseException:
        process.kill()
        raise
    check_verdict(module, directory)


def start_simulator(
    build: Build,
    module: str,
    directory: Path,
    *,
    test: str | None = None,
    seed: int = 0,
    plusargs: list[str] | None = None,
    waves: Path | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen:
    """The process of `simulate`, which only starts here; with more ``environment``, and open files ``pass_fds``, if asked for."""
    results = directory / _RESULTS
    results.unlink(missing_ok=True)
    env = dict(os.environ)
    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise SimulationError("libpython was not found: this Python has no shared library for the simulator to load")
    env |= {
        "PATH": env.get("PATH", "") + os.pathsep + str(cocotb_tools.config.libs_dir),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{cocotb_tools.config.pygpi_entry_point()}",
        "COCOTB_TOPLEVEL": build.top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_LOG_LEVEL": "WARNING",
        # cocotb would start pytest with all its plugins to rewrite asserts: half a second per simulation.
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        "TOPLEVEL_LANG": "verilog",
        # One simulation per core: NumPy inside must not start threads of its own.
        "OPENBLAS_NUM_THREADS": env.get("OPENBLAS_NUM_THREADS", "1"),
    }
    env |= environment or {}
    if test:
        env["COCOTB_TEST_FILTER"] = rf"\.{test}$"
    command = [str(build.directory / build.top), *(plusargs or [])]
    if waves:
        command += ["--trace", "--trace-file", str(waves)]
    logging.getLogger(__name__).debug("running %s", command)
    with (directory / _LOG).open("w") as output:
        return subprocess.Popen(command, cwd=directory, env=env, stdout=output, stderr=subprocess.STDOUT, pass_fds=pass_fds)


def check_verdict(module: str, directory: Path) -> None:
    """Raise `SimulationError` unless every test that ran in ``directory`` passed."""
    results = directory / _RESULTS
    if not results.exists():
        raise SimulationError(f"the simulation ended without a verdict:\n{log_tail(directory)}")
    cases = ElementTree.parse(results).getroot().iter("testcase")
    outcomes = list(cases)
    if not outcomes:
        raise SimulationError(f"no test ran in {module}:\n{log_tail(directory)}")
    for case in outcomes:
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failure is not None:
            message = (failure.get("error_msg") or failure.get("message") or failure.text or "").strip()
            raise SimulationError(message or log_tail(directory))


def log_tail(directory: Path, lines: int = 40) -> str:
    """The end of what the simulator in ``directory`` has printed."""
    return "\n".join((directory / _LOG).read_text(errors="replace").splitlines()[-lines:])


def _wait(process: subprocess.Popen, file: Path, progress: Callable[[str], None] | None) -> None:
    shown = ""
    while True:
        try:
            process.wait(timeout=0.2 if progress else None)
            return
        except subprocess.TimeoutExpired:
            text = file.read_text() if file.exists() else ""
            if progress and text and text != shown:
                progress(text)
                shown = text
