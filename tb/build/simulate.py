"""Runs a cocotb test module on a build, in a process of its own, and reports what happened."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cocotb_tools.config
import find_libpython

from .environment import clean_environment
from .instrument import current_instrument
from .verilate import Build

_RESULTS, _LOG = "results.xml", "simulation.log"
# What a test raises when the hardware is wrong, by name. Anything else is a test that could not do its work.
_FINDINGS = {"AssertionError", "LockstepError", "ModelStoppedError", "SimFailure"}


class SimulationError(RuntimeError):
    """The simulation found a failure, or ended without a verdict (`NoVerdictError`); the message carries what it said."""


class NoVerdictError(SimulationError):
    """The simulation could not run, was killed, or broke down: it says nothing of the hardware."""


def verdict(verdicts: Sequence[str], runs: int, failure: Exception | None) -> str:
    """The verdict of ``runs``, of which these have one, and whose simulation may have ended with ``failure``.

    "pass", "fail", or "none" if nothing was found wrong and not all could be run.
    """
    if "fail" in verdicts:
        return "fail"
    if isinstance(failure, NoVerdictError):
        return "none"
    return "pass" if failure is None and len(verdicts) == runs else "fail"


def simulate(
    build: Build,
    module: str,
    directory: Path,
    *,
    test: str | None = None,
    seed: int = 0,
    plusargs: list[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Run the cocotb tests of ``module``, or only ``test``, on ``build`` in ``directory``, where they find their input.

    What a test writes into the file ``progress`` there is passed on to ``progress`` while it runs.

    Raises `SimulationError` unless every test passed. A missing results file is no verdict, whatever the exit code: that of a
    simulator without a root handle is 0.
    """
    with running_simulator(build, module, directory, test=test, seed=seed, plusargs=plusargs) as process:
        _wait(process, directory / "progress", progress)
    check_verdict(module, directory, process.returncode)


@contextlib.contextmanager
def running_simulator(
    build: Build,
    module: str,
    directory: Path,
    *,
    test: str | None = None,
    seed: int = 0,
    plusargs: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen]:
    """The process of `simulate`, for the body of the ``with``, with more ``environment`` and open files ``pass_fds``.

    It is killed at the end, if it has not ended, and whenever this process ends: also if that is killed (tb/cpp/lifeline.cpp).
    """
    results = directory / _RESULTS
    results.unlink(missing_ok=True)
    env = clean_environment()
    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise NoVerdictError("libpython was not found: this Python has no shared library for the simulator to load")
    libraries = str(cocotb_tools.config.libs_dir)
    env |= {
        # The simulator is linked without a place for cocotb's libraries: it may be kept longer than they stay there.
        "LD_LIBRARY_PATH": os.pathsep.join([libraries, *filter(None, [env.get("LD_LIBRARY_PATH")])]),
        "PATH": env.get("PATH", "") + os.pathsep + libraries,
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{cocotb_tools.config.pygpi_entry_point()}",
        "PYGPI_USERS": "podweave.tb.sim.start:start",
        "COCOTB_TOPLEVEL": build.top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_LOG_LEVEL": "WARNING",
        "TOPLEVEL_LANG": "verilog",
        "PODWEAVE_LIFELINE": "1",
        # One simulation per core: NumPy inside must not start threads of its own.
        "OPENBLAS_NUM_THREADS": env.get("OPENBLAS_NUM_THREADS", "1"),
    }
    if build.scope:
        env |= {"PODWEAVE_CIRCUIT": str(build.directory / "circuit"), "PODWEAVE_DESIGN": build.scope}
    env |= environment or {}
    if test:
        env["COCOTB_TEST_FILTER"] = rf"\.{test}$"
    command = [str(build.directory / build.top), *(plusargs or [])]
    logging.getLogger(__name__).debug("running %s", command)
    with (directory / _LOG).open("wb") as output:
        process = current_instrument().start(
            command,
            changed=build.changed,
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def check_verdict(module: str, directory: Path, code: int) -> None:
    """Raise `SimulationError` unless every test that ran in ``directory`` passed; ``code``: with which its simulator ended."""
    try:
        outcomes = list(ElementTree.parse(directory / _RESULTS).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise NoVerdictError(f"the simulator {_ending(code)} before its test did:\n{log_tail(directory)}") from error
    if not outcomes:
        raise NoVerdictError(f"no test ran in {module}:\n{log_tail(directory)}")
    for case in outcomes:
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failure is not None:
            message = (failure.get("message") or failure.text or "").strip() or log_tail(directory)
            kind = failure.get("type", "")
            raise SimulationError(message) if kind in _FINDINGS else NoVerdictError(f"{kind}: {message}")


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended, with exit code {code},"


def log_tail(directory: Path, lines: int = 40) -> str:
    """The end of what the simulator in ``directory`` has printed."""
    return "\n".join((directory / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _wait(process: subprocess.Popen, file: Path, progress: Callable[[str], None] | None) -> None:
    shown = ""
    while True:
        try:
            process.wait(timeout=0.2 if progress else None)
            return
        except subprocess.TimeoutExpired:
            text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
            if progress and text and text != shown:
                progress(text)
                shown = text
