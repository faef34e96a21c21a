"""Programs of podweave as processes of their own: started, waited for, looked at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

GEMM = ["run", "gemm:5x6x7", "--config", "pod4", "--layers-alone"]
OVER_AXI = ["run", "gemm:200x40x40", "--config", "pod4"]
# A memory that takes its time.
LONG = [*OVER_AXI, "--memory", "latency=1048576"]
SIMULATOR = "accelerator_har"
"""Its name, as far as the system keeps one."""
PATIENCE = 120


def as_from_a_terminal() -> None:
    """Signals end a program: a shell in the background, or nohup around the tests, may have them ignored."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def started(*arguments: str, start_new_session: bool = False, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "podweave", *arguments],
        preexec_fn=as_from_a_terminal,
        start_new_session=start_new_session,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(*arguments: str, **variables: str) -> tuple[int, str, str]:
    process = started(*arguments, **variables)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out.decode(), err.decode()


def processes() -> Iterator[tuple[int, int, str, str]]:
    """(process, its parent, its state, its name) of all that run."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            head, _, rest = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
            state, parent = rest.split()[:2]
            yield int(folder.name), int(parent), state, head.partition("(")[2]


def below(root: int) -> dict[int, str]:
    """Processes that one has started, and those that these have started, with their names."""
    found: dict[int, str] = {}
    table = list(processes())
    while more := {pid: name for pid, parent, _, name in table if parent in {root, *found} and pid not in found}:
        found |= more
    return found


def alive(pids: Iterator[int] | dict[int, str]) -> dict[int, str]:
    return {pid: name for pid, _, state, name in processes() if pid in pids and state != "Z"}


def until(reached: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)
