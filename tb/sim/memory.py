"""Simulated HBM from inside of the simulation: its file, and the tables of its channels, and of links."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable
from pathlib import Path

from .backdoor import contents


def open_memory(path: Path) -> int:
    """Make the bytes of ``path`` the memory of all channels, byte 0 at address 0; returns how many they are.

    They are shared: who maps the file (`numpy.memmap`) sees what the simulation writes, and the other way round, at once.
    """
    opened = ctypes.CDLL(None).podweave_memory
    opened.restype = ctypes.c_longlong
    opened.argtypes = [ctypes.c_char_p]
    size: int = opened(str(path).encode())
    if size < 0:
        raise OSError(f"{path} cannot be mapped as memory: it must exist, be writable and not be empty")
    return size


def configure(scope: str, table: Iterable[int]) -> None:
    """Give the `hbm_channel` or `link` in ``scope`` its table (`HbmTiming.table`, `LinkTiming.table`), while it is in reset or
    idle."""
    words = array("I", table)
    contents(scope, "settings", len(words), 32)[:] = words.tobytes()
