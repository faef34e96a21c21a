"""A simulator that has loaded all it needs and waits: for each simulation it is asked for, it forks itself.

The side of the simulator: cocotb imports this module before the one with the test, at time 0, before anything of the model is
evaluated. Python, cocotb and NumPy take most of a second to load, a short simulation a tenth of one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
from typing import Any

import cocotb.regression

SOCKET, MODULE = "PODWEAVE_ZYGOTE", "PODWEAVE_ZYGOTE_MODULE"


def _serve(listener: socket.socket) -> None:
    """Returns in each process that is to simulate, in its folder."""
    # Nobody waits for those that end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        task = json.loads(connection.makefile("rb").readline())
        connection.sendall(f"{os.getpid()}\n".encode())
        # The other side sees its end when this process ends.
        os.dup(connection.fileno())
        connection.detach()
        os.chdir(task["directory"])
        os.environ["COCOTB_RESULTS_FILE"] = task["results"]
        with open(task["log"], "wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _end_with_the_results()
        return


def _end_with_the_results() -> None:
    """At its own end a simulator waits for threads that a fork has not."""
    write = cocotb.regression.XUnitReporter.write

    def write_and_end(self: Any, *arguments: Any) -> None:
        write(self, *arguments)
        os._exit(0)

    cocotb.regression.XUnitReporter.write = write_and_end


if SOCKET in os.environ:
    importlib.import_module(os.environ[MODULE])
    _serve(socket.socket(fileno=int(os.environ.pop(SOCKET))))
