"""Runs a command that does not outlive who started it: python -S -E lifeline.py COMMAND ARGUMENT...

Standard input is a pipe from there. When its other end is closed, by whatever end of that process, the command and all that it
has started are killed. Standard library only. Simulators do the same on their own (tb/cpp/lifeline.cpp).
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """The command's exit code; 128 + n if signal n ended it."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def kill(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        kill()

    signal.signal(signal.SIGTERM, kill)
    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
