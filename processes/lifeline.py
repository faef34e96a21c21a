"""Runs a command that does not outlive who started it: python -P -S -E lifeline.py COMMAND ARGUMENT...

Standard input is a pipe from there. When its other end is closed, by whatever end of that process, the command and all that it
has started are killed. Standard library only. Simulators do the same on their own (tb/cpp/lifeline.cpp).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

NOT_STARTED = 127
"""Exit code if the command could not be started, which standard error explains, as of a shell."""


def guarded(command: Sequence[str]) -> list[str]:
    """The command line that runs a command so; standard input must be a pipe."""
    return [sys.executable, "-P", "-S", "-E", __file__, *command]


def run(
    command: Sequence[str], *, cwd: str | Path | None = None, env: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which is that of this process at the latest; all that it started ends with it.

    Raises `subprocess.TimeoutExpired`, in seconds, and `OSError` if it could not be started.
    """
    source, kept = os.pipe()
    try:
        process = subprocess.Popen(
            guarded(command),
            cwd=cwd,
            env=env,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except BaseException:
        os.close(kept)
        raise
    finally:
        os.close(source)
    with process:
        try:
            output, error = process.communicate(timeout=timeout)
        finally:
            os.close(kept)
    if process.returncode == NOT_STARTED:
        raise OSError(0, error.strip(), command[0])
    return subprocess.CompletedProcess(list(command), process.returncode, output, error)


def main(command: list[str]) -> int:
    """The command's exit code; 128 + n if signal n ended it."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return NOT_STARTED

    def kill(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        kill()

    # A terminal sends them to this process, too, and the command is in a session of its own.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, kill)
    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
