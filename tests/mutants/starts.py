"""Starts of simulators that wait: one for each kind of start, and a process forked from it for each simulation."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.mutants import zygote

# Each has as much memory as a simulator.
_MOST = 24
_ROOT = Path(__file__).parents[2]
Key = tuple[object, ...]


class Forked:
    """What is used of a `subprocess.Popen`, of a simulation that was forked."""

    def __init__(self, path: str, task: dict[str, str]):
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(path)
        self._connection.sendall(json.dumps(task).encode() + b"\n")
        self.pid = int(self._connection.makefile("rb").readline() or 0)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        self._connection.settimeout(timeout)
        try:
            while self._connection.recv(64):
                pass
        except TimeoutError as error:
            raise subprocess.TimeoutExpired("a forked simulator", timeout or 0.0) from error
        except OSError:
            pass
        self.returncode = 0
        return 0

    def kill(self) -> None:
        if self.returncode is None and self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()
        self._connection.close()


class Starts:
    """Starts simulators, for `Instrument.start`: the first of each kind also begins one that waits, from which all are forked."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="podweave-zygotes-")
        self._waiting: dict[Key, tuple[str, subprocess.Popen[bytes]]] = {}
        self._owner = os.getpid()

    def __call__(self, command: list[str], *, cwd: Path, env: dict[str, str], **options: Any) -> Any:
        different = {name: value for name, value in env.items() if name not in ("COCOTB_RESULTS_FILE", "PYTEST_CURRENT_TEST")}
        key = (tuple(command), tuple(sorted(different.items())))
        if options.get("pass_fds"):
            return subprocess.Popen(command, cwd=cwd, env=env, **options)
        if key not in self._waiting:
            if len(self._waiting) == _MOST or os.getpid() != self._owner:
                return subprocess.Popen(command, cwd=cwd, env=env, **options)
            self._waiting[key] = self._begun(command, env)
        # Standard output of a simulation is its log, which is open already.
        log = os.readlink(f"/proc/self/fd/{options['stdout'].fileno()}")
        return Forked(self._waiting[key][0], {"directory": str(cwd), "results": env["COCOTB_RESULTS_FILE"], "log": log})

    def _begun(self, command: list[str], env: dict[str, str]) -> tuple[str, subprocess.Popen[bytes]]:
        path = str(Path(self._folder.name, f"{len(self._waiting)}"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(64)
            modules = env["COCOTB_TEST_MODULES"]
            more = {
                zygote.SOCKET: str(listener.fileno()),
                zygote.MODULE: modules,
                "COCOTB_TEST_MODULES": f"{zygote.__name__},{modules}",
                "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [env.get("PYTHONPATH")])]),
            }
            with Path(f"{path}.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    cwd=self._folder.name,
                    env=env | more,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno()],
                )
        return path, process

    def close(self) -> None:
        """End those that wait."""
        for _, process in self._waiting.values():
            process.kill()
            process.communicate()
        self._folder.cleanup()
