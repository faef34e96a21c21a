"""What is kept from run to run: where, and files that appear whole or not at all and are made anew when they are damaged."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def user_cache_directory() -> Path:
    """The user's cache, of all programs. Raises `RuntimeError` if the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()


def cache_directory() -> Path:
    """Where emitted designs, builds and figures are kept: ``PODWEAVE_CACHE``, or podweave's folder in the user's cache.

    Absolute, whatever was given: compilers and simulators run in folders of their own.
    """
    chosen = os.environ.get("PODWEAVE_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_directory() / "podweave"


def can_be_written(folder: Path) -> OSError | None:
    """Why no file can be made in ``folder``, which is made if it is not there; None if one can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error


def write_whole(path: Path, content: bytes) -> None:
    """Only whole files may appear: tests run in parallel, and a run may be ended at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value).encode())


def read_json(path: Path) -> Any:
    """What `write_json` wrote; None if there is nothing, or nothing that can be read: JSON that was cut short is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
