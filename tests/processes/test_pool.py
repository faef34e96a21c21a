"""processes.pool: processes that do not outlive who uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podweave.processes.pool import pool_of
from tests.processes.test_lifeline import ends


def test_results() -> None:
    with pool_of(2) as pool:
        assert list(pool.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]
        other = pool.submit(os.getpid).result()
    assert other != os.getpid()
    assert ends(other)


def test_nobody_waits_for_them_if_the_body_fails() -> None:
    begin, found = time.monotonic(), []

    def fails() -> None:
        with pool_of(1) as pool:
            found.append(pool.submit(os.getpid).result())
            pool.submit(time.sleep, 600)
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fails()
    assert ends(*found)
    assert time.monotonic() - begin < 300


def test_they_end_if_who_uses_them_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\n"
        "from podweave.processes.pool import pool_of\n"
        "if __name__ == '__main__':\n"
        "    with pool_of(1) as pool:\n"
        "        process = pool.submit(os.getpid).result()\n"
        "        pool.submit(time.sleep, 600)\n"
        "        print(process, flush=True)\n"
        "        time.sleep(600)\n"
    )
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, encoding="utf-8") as user:
        assert user.stdout is not None
        process = int(user.stdout.readline())
        assert not ends(process, 0.5)
        user.send_signal(signal.SIGKILL)
    assert ends(process)
