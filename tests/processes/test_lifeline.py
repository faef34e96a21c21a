"""processes.lifeline: commands that end with who started them; whatever ends a program, `tests/podweave/test_ends.py`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podweave.processes import lifeline


def ends(process: int, seconds: float = 20) -> bool:
    """Whether a process is over within so many seconds; one that nobody has waited for is."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_what_a_command_says_and_how_it_ends(tmp_path: Path) -> None:
    program = "import os, sys; print(os.getcwd(), os.environ['WHOSE'], sys.argv[1]); print('é', file=sys.stderr); sys.exit(3)"
    environment = {**os.environ, "WHOSE": "mine", "PYTHONIOENCODING": "utf-8"}
    done = lifeline.run([sys.executable, "-c", program, "a b"], cwd=tmp_path, env=environment)
    assert (done.stdout, done.stderr, done.returncode) == (f"{tmp_path.resolve()} mine a b\n", "é\n", 3)
    killed = lifeline.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    assert killed.returncode == 128 + 9


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory") as found:
        lifeline.run([str(tmp_path / "nothing")])
    assert found.value.filename == str(tmp_path / "nothing")


def test_all_that_it_started_ends_when_time_is_over(tmp_path: Path) -> None:
    program = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        lifeline.run([sys.executable, "-c", program, str(tmp_path / "child")], timeout=5)
    assert ends(int((tmp_path / "child").read_text(encoding="utf-8")))
