"""How a program of podweave begins and ends: what its output and its folders can be, what ends it, and what it says then."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from podweave.tb.build.kept import cache_directory, can_be_written, user_cache_directory
from podweave.tb.build.toolchain import ToolchainError

EXIT_CODES = {"pass": 0, "fail": 1, "none": 2}
"""By verdict of a run."""
errors = Console(stderr=True)
CANNOT_COMPUTE = "onnxruntime cannot compute it"
"""What `by_others` begins with, of a session of onnxruntime."""


@contextlib.contextmanager
def program() -> Iterator[None]:
    """For all that a program does: what a user can mend is one sentence and exit code 2, a signal n exit code 128 + n.

    After a signal, simulators and compilers are ended and folders removed before the process ends; a second one ends it at once.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names may have letters that a terminal has not.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _ending_on_signals():
        try:
            yield
        except Exception as error:
            if not isinstance(error, for_users()):
                raise
            tell(str(error))
            sys.exit(2)


def tell(sentence: str) -> None:
    errors.print(f"podweave: {sentence}", style="red", highlight=False, markup=False, soft_wrap=True)


def prepare_cache() -> None:
    """Where a cache cannot be written, make one that lasts as long as this process, and say so."""
    # Amaranth's and our own Yosys keep themselves, compiled, in the user's, wherever that of podweave is.
    places = {"XDG_CACHE_HOME": user_cache_directory}
    if os.environ.get("PODWEAVE_CACHE"):
        places["PODWEAVE_CACHE"] = cache_directory
    for name, place in places.items():
        try:
            folder = place()
            problem = can_be_written(folder)
        except RuntimeError as error:
            # There is no home.
            folder, problem = Path("~"), OSError(0, str(error))
        if problem:
            made = tempfile.mkdtemp(prefix="podweave-cache-")
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            os.environ[name] = made
            tell(f"{folder} cannot be written ({problem.strerror}): what is made is not kept for later runs; set {name}")


@contextlib.contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """For imports of packages that only the optional extra ``name`` installs; raises `ToolchainError` if one is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ToolchainError(
            f"{purpose} needs the Python package {package}, which is not installed: pip install podweave[{name}]"
        ) from error


@contextlib.contextmanager
def by_others(what: str) -> Iterator[None]:
    """For what other packages do with a file of a user's: whatever they raise, of kinds that they do not export, is a
    `WorkloadError`. ``what``: the beginning of its sentence."""
    from podweave.ir.layers import WorkloadError

    try:
        yield
    except for_users():
        raise
    except Exception as error:
        why = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        raise WorkloadError(f"{what}: {why}") from error


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # One that is ignored stays so: nohup.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]

    def end(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        tell(f"ended by {signal.Signals(number).name}")
        # Threads that still build something have no more to say.
        errors.quiet = True
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def for_users() -> tuple[type[Exception], ...]:
    """Errors that a user can mend. Some of their modules take long to import."""
    from podweave.compiler.jobs import JobFieldError, ProgramError
    from podweave.formal.errors import FormalError
    from podweave.ir.layers import WorkloadError
    from podweave.spec.config_parts import ConfigError
    from podweave.synth.errors import SynthesisError
    from podweave.tb.build.make import BuildError
    from podweave.tb.build.simulate import NoVerdictError

    found = (ConfigError, WorkloadError, ProgramError, JobFieldError)
    return (*found, ToolchainError, BuildError, NoVerdictError, SynthesisError, FormalError, OSError)
